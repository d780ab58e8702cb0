"""A call made a function of what it is given: the same value every time, and nothing of the caller's changed."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from .kept import Kept
from .trees import all_tensors

_ALONE = threading.Lock()  # the random generators of PyTorch, numpy and Python are one for all threads


class Still:
    """`function(*args)`, watched at its first call and cared for in every later one as far as that showed a need.

    `drawn`: it draws random numbers; every call then begins at the same place of all generators, and draws in float64, so that
    both arithmetics see one draw. `written`: it writes into its arguments, or marks them for derivatives; every call takes
    copies. `moving`: the names of what it keeps between calls (reached from `roots`) and changed; every call begins with what
    was there before the first. A `loss` is called with outputs and targets: outputs are no caller's, and copies of them would
    not be what it may derive by; what it changes is put back at the end of each call as it was at the beginning of that call,
    since it may clear what the model leaves for it.
    """

    def __init__(self, function: Callable[..., Any], roots: Iterable[Any], device: torch.device, *, loss: bool = False):
        self._function, self._roots, self._cuda = function, tuple(roots), [device] if device.type == "cuda" else []
        self._loss = loss
        self.drawn = False
        self.written: frozenset[int] = frozenset()  # places of arguments
        self.moving: tuple[str, ...] = ()
        self.watched = False
        self._kept: Kept | None = None

    @property
    def steady(self) -> bool:
        """Whether the calls so far showed a function as it is."""
        return self.watched and not (self.drawn or self.written or self.moving)

    def __call__(self, *args: Any) -> Any:
        if self.steady:
            return self._function(*args)
        with ExitStack() as stack:
            if not self.watched or self.drawn or self._loss:  # a loss is one for all threads
                stack.enter_context(_ALONE)
            if not self.watched or self.drawn:
                stack.enter_context(_same_draws(self._cuda))
                stack.enter_context(_InDouble())
            if self._kept is not None and self._loss:
                self._kept.again()
                stack.callback(self._kept.restore)
            else:
                self.reset()
            given = tuple(_copied(arg) if i in self.written else arg for i, arg in enumerate(args))
            return self._function(*given) if self.watched else self._watch(args)

    @property
    def shared(self) -> bool:
        """Whether what moves is kept outside a module, where its copies meet."""
        return self._kept is not None and self._kept.shared

    def reset(self) -> None:
        """Put back what it keeps."""
        if self._kept is not None:
            self._kept.restore()

    def _watch(self, args: tuple[Any, ...]) -> Any:
        kept = Kept(self._roots)
        own = tuple(arg if self._loss and not i else _copied(arg) for i, arg in enumerate(args))
        marks = [
            (i, t, t._version, t.requires_grad) for i, arg in enumerate(own) for t in all_tensors(arg) if not t.is_inference()
        ]
        forms = [_form(arg) for arg in own]
        before = _states(self._cuda)
        try:
            value = self._function(*own)
        except BaseException:
            if self._loss and kept.changed():
                kept.restore()
            raise
        after = _states(self._cuda)
        self.drawn = not all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(before, after, strict=True))
        self.written = frozenset(i for i, t, version, asked in marks if t._version != version or t.requires_grad != asked)
        self.written |= {i for i, arg in enumerate(own) if _form(arg) != forms[i]}
        self.moving = tuple(kept.changed())
        self.drawn |= kept.draws
        self._kept = kept if self.moving else None
        self.watched = True
        if self._loss:
            self.reset()
        return value


def _copied(tree: Any) -> Any:
    """The same with copies of its tensors, through which derivatives pass."""
    with torch.inference_mode(False):  # ordinary copies count the writes into them
        memo = {id(t): t.clone() for t in all_tensors(tree)}
        return copy.deepcopy(tree, memo) if memo else tree


def _form(tree: Any) -> Any:
    """The keys and entries of nested containers, by identity: what a call that fills or empties them changes."""
    if isinstance(tree, Mapping):
        return [(key, _form(item)) for key, item in tree.items()]
    return [_form(item) for item in tree] if isinstance(tree, (tuple, list)) else id(tree)


def _states(cuda: list[torch.device]) -> list[Any]:
    """Where the generators of PyTorch, Python and numpy are."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in cuda), random.getstate(), str(np.random.get_state())]


@contextmanager
def _same_draws(cuda: list[torch.device]) -> Iterator[None]:
    """Inside, every generator begins at one place; the caller's go on from where they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(0)
        for device in cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class _InDouble(TorchDispatchMode):
    """Random operations in float32 are made in float64 and rounded: the generators give the two arithmetics other numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        asked = kwargs.get("dtype")
        first = next((a for a in args if isinstance(a, Tensor) and a.is_floating_point()), None)
        kind = asked or (first.dtype if first is not None else torch.get_default_dtype())
        if kind != torch.float32:
            return func(*args, **kwargs)
        wide, named = tree_map(_widened, (args, kwargs))
        if asked is not None or (first is None and any(argument.name == "dtype" for argument in func._schema.arguments)):
            named["dtype"] = torch.float64
        found = func(*wide, **named)
        if func._schema.is_mutable:
            return args[0].copy_(wide[0])
        return tree_map(lambda t: t.float() if isinstance(t, Tensor) and t.dtype == torch.float64 else t, found)


def _widened(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.dtype == torch.float32 else value
