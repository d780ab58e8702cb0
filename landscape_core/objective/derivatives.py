"""Functions of PyTorch whose derivative is not that of their value: rewritten where a model calls them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch.overrides import TorchFunctionMode

PLACES = {
    F.embedding: ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse"),
    F.embedding_bag: (
        *("input", "weight", "offsets", "max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse"),
        *("per_sample_weights", "include_last_offset", "padding_idx"),
    ),
}
GRADIENT_ALONE: dict[str, Any] = {"padding_idx": None, "scale_grad_by_freq": False, "sparse": False}  # of a value nothing
_CHECKPOINT = torch.utils.checkpoint.CheckpointFunction


class TrueDerivatives(TorchFunctionMode):
    """Inside, the derivatives of embeddings and checkpoints are those of what they compute.

    An embedding's `padding_idx` and `scale_grad_by_freq` change its gradient alone, `sparse` the form of it: left out.
    Checkpoints that re-enter autograd (`use_reentrant=True`) know no gradient by inputs and drop it where their inputs have
    none: they are computed at once. `used` says whether there was anything of the kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.used = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        places = PLACES.get(func)
        if places is None:
            return func(*args, **kwargs)
        given = dict(zip(places, args, strict=False)) | kwargs
        for name, plain in GRADIENT_ALONE.items():
            if given.get(name) not in (plain, None) and not (name == "padding_idx" and func is F.embedding_bag):
                given[name], self.used = plain, True
        return func(**given)

    def __enter__(self) -> TrueDerivatives:
        _checkpoints.enter(self)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        _checkpoints.leave(self)


class _Checkpoints:
    """The one place where checkpoints that re-enter are made, for all threads: changed while anybody is inside."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._own: Callable[..., Any] = _CHECKPOINT.apply
        self._here = threading.local()

    def enter(self, watch: TrueDerivatives) -> None:
        stack = self._here.__dict__.setdefault("stack", [])
        stack.append(watch)
        with self._lock:
            self._inside += 1
            _CHECKPOINT.apply = self._apply  # type: ignore[method-assign]

    def leave(self, watch: TrueDerivatives) -> None:
        self._here.stack.remove(watch)
        with self._lock:
            self._inside -= 1
            if not self._inside:
                del _CHECKPOINT.apply

    def _apply(self, function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        stack = self._here.__dict__.get("stack", [])
        if not stack:  # another thread's, outside
            return self._own(function, preserve, *args)
        for watch in stack:
            watch.used = True
        return function(*args)


_checkpoints = _Checkpoints()
