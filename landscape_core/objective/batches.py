"""The fixed sample that a loss is taken over: batches of any size, nested inputs, right weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..specs import InputError


@dataclass(frozen=True)
class Batch:
    """Inputs and targets; `rows` is the first dimension of the inputs, `size` that of the targets: the batch's weight."""

    inputs: Any
    targets: Any
    rows: int
    size: int

    def chunks(self, rows: int) -> Iterator[Batch]:
        """The batch in pieces of at most `rows` rows; tensors without the row dimension are passed along whole."""
        per_row = self.size // self.rows if self.rows else 0
        dense = all(t.layout == torch.strided for t in tensors((self.inputs, self.targets)))
        if rows >= self.rows or per_row * self.rows != self.size or not dense:
            yield self
            return
        for i in range(0, self.rows, rows):
            n = min(rows, self.rows - i)
            inputs = map_tensors(self.inputs, lambda t, i=i, n=n: t[i : i + n] if _first(t) == self.rows else t)
            targets = map_tensors(
                self.targets, lambda t, i=i, n=n: t[i * per_row : (i + n) * per_row] if _first(t) == self.size else t
            )
            yield Batch(inputs, targets, n, n * per_row)

    def pick(self, places: Tensor) -> Batch:
        """The samples at `places` `(n,)`; raises InputError where inputs and targets are not rows of one another."""
        if self.rows != self.size or any(t.layout != torch.strided for t in tensors((self.inputs, self.targets))):
            raise InputError("single samples can only be drawn from batches with one row of inputs and one target a sample")
        inputs, targets = (
            map_tensors(part, lambda t: t[places.to(t.device)] if _first(t) == self.rows else t)
            for part in (self.inputs, self.targets)
        )
        return Batch(inputs, targets, len(places), len(places))


def as_batches(batches: Any, *, device: torch.device, dtype: torch.dtype) -> tuple[Batch, ...]:
    """The batches that a caller gave: a list of (inputs, targets) pairs, one such pair, or an iterable like a DataLoader.

    Floating-point tensors take `dtype` (complex ones its complex partner), numpy arrays become tensors, everything moves to
    `device`. Raises InputError if a batch is not a pair, or if the two cannot be told apart.
    """
    if isinstance(batches, tuple) and len(batches) == 2 and all(_two(b) for b in batches):
        raise InputError(
            "batches is a tuple of two pairs, which could be one pair or two: put it in a list, [(inputs, targets), ...]"
        )
    pairs = [batches] if _is_pair(batches) else batches
    if not isinstance(pairs, Iterable):
        raise InputError("batches must be a list of (inputs, targets) pairs, one such pair, or a DataLoader of a data set")

    def convert(tensor: Tensor) -> Tensor:
        kind = dtype if tensor.is_floating_point() else dtype.to_complex() if tensor.is_complex() else tensor.dtype
        found = tensor.detach().to(device, kind)
        return found.clone() if found.is_inference() else found  # an inference tensor could not enter a gradient

    found = []
    # A shuffling loader draws its order from the global generator: the caller's is left as it was.
    with torch.random.fork_rng(devices=[]):
        for i, pair in enumerate(pairs):
            if not _two(pair):
                raise InputError(f"batches[{i}] is not an (inputs, targets) pair")
            inputs, targets = (map_tensors(part, convert) for part in pair)
            first, target = next(tensors(inputs), None), next(tensors(targets), None)
            if first is None and target is None:
                raise InputError(f"batches[{i}] holds no tensor")
            rows = 0 if first is None else _first(first)
            size = rows if target is None else _first(target)
            if size > 0:
                found.append(Batch(inputs, targets, rows, size))
    if not found:
        raise InputError("batches hold no sample")
    return tuple(found)


def tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor in nested mappings, lists and tuples."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from tensors(item)
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            yield from tensors(item)


def map_tensors(tree: Any, function: Callable[..., Tensor]) -> Any:
    """The same nesting with `function` applied to every tensor and numeric array; mappings become dicts."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, np.ndarray) and tree.dtype.kind in "biufc":
        return function(torch.as_tensor(tree))
    if isinstance(tree, Mapping):
        return {key: map_tensors(item, function) for key, item in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tensors(item, function) for item in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_tensors(item, function) for item in tree)
    return tree


def _two(pair: Any) -> bool:
    return isinstance(pair, (tuple, list)) and len(pair) == 2


def _is_pair(batches: Any) -> bool:
    return _two(batches) and (isinstance(batches, tuple) or isinstance(batches[0], (Tensor, np.ndarray, Mapping)))


def _first(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.dim() else 1
