"""The fixed sample that a loss is taken over: batches of any size, nested inputs, right weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

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
        if rows >= self.rows or per_row * self.rows != self.size:
            yield self
            return
        for i in range(0, self.rows, rows):
            n = min(rows, self.rows - i)
            inputs = _map(self.inputs, lambda t, i=i, n=n: t[i : i + n] if _first(t) == self.rows else t)
            targets = _map(
                self.targets, lambda t, i=i, n=n: t[i * per_row : (i + n) * per_row] if _first(t) == self.size else t
            )
            yield Batch(inputs, targets, n, n * per_row)


def as_batches(batches: Any, *, device: torch.device, dtype: torch.dtype) -> tuple[Batch, ...]:
    """The batches that a caller gave: a list of (inputs, targets) pairs, one such pair, or an iterable like a DataLoader.

    Floating-point tensors take `dtype`; everything moves to `device`. Raises InputError if a batch is not a pair.
    """
    pairs = [batches] if _is_pair(batches) else batches
    if not isinstance(pairs, Iterable):
        raise InputError("batches must be a list of (inputs, targets) pairs, or one such pair")
    found = []
    for i, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InputError(f"batches[{i}] is not an (inputs, targets) pair")
        inputs, targets = (_map(part, lambda t: t.to(device, dtype if t.is_floating_point() else t.dtype)) for part in pair)
        tensors = next(_tensors(inputs), None), next(_tensors(targets), None)
        if tensors[0] is None:
            raise InputError(f"batches[{i}]: the inputs hold no tensor")
        rows = _first(tensors[0])
        size = rows if tensors[1] is None else _first(tensors[1])
        if size > 0:
            found.append(Batch(inputs, targets, rows, size))
    if not found:
        raise InputError("batches hold no sample")
    return tuple(found)


def _is_pair(batches: Any) -> bool:
    if not isinstance(batches, tuple) or len(batches) != 2:
        return False
    return not all(isinstance(b, (tuple, list)) and len(b) == 2 for b in batches)


def _first(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.dim() else 1


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from _tensors(item)
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            yield from _tensors(item)


def _map(tree: Any, function: Any) -> Any:
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: _map(item, function) for key, item in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_map(item, function) for item in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(_map(item, function) for item in tree)
    return tree
