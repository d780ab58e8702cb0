"""Nested data: every tensor in it, and the same nesting with other tensors."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


def tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor in nested mappings, lists, tuples and dataclasses."""
    if isinstance(tree, Tensor):
        yield tree
    else:
        for _, item in children(tree):
            yield from tensors(item)


def children(tree: Any) -> Iterator[tuple[Any, Any]]:
    """What a mapping, list, tuple or dataclass holds, by key; nothing for all else."""
    if isinstance(tree, Mapping):
        yield from tree.items()
    elif isinstance(tree, (tuple, list)):
        yield from enumerate(tree)
    elif is_record(tree):
        yield from ((f.name, getattr(tree, f.name)) for f in dataclasses.fields(tree))


def map_tensors(tree: Any, function: Callable[..., Tensor]) -> Any:
    """The same nesting with `function` applied to every tensor and numeric array; mappings become dicts.

    Objects that can be moved (they have `.to`) are copied with what they hold: by their `apply`, as graphs have it, or
    attribute by attribute.
    """
    if isinstance(tree, Tensor):
        return function(tree)
    if is_numeric(tree):
        return function(torch.as_tensor(tree))
    if isinstance(tree, Mapping):
        return {key: map_tensors(item, function) for key, item in tree.items()}
    if isinstance(tree, PackedSequence):
        # The lengths stay on the CPU, where PyTorch wants them.
        orders = (None if order is None else function(order) for order in (tree.sorted_indices, tree.unsorted_indices))
        return PackedSequence(function(tree.data), tree.batch_sizes, *orders)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tensors(item, function) for item in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_tensors(item, function) for item in tree)
    if is_record(tree):
        return with_fields(tree, {key: map_tensors(item, function) for key, item in children(tree)})
    if is_movable(tree):
        if callable(getattr(tree, "apply", None)):
            return copy.copy(tree).apply(function)
        if hasattr(tree, "__dict__"):
            return with_fields(tree, {key: map_tensors(item, function) for key, item in vars(tree).items()})
    return tree


def all_tensors(outputs: Any) -> list[Tensor]:
    """Every tensor in a model's outputs, of whatever class they are."""
    return [*_everywhere(outputs, set())]


def with_tensors(outputs: Any, found: Mapping[int, Tensor]) -> Any:
    """A copy of a model's outputs with other tensors, by the identity of those they take the place of."""
    others = {id(t): t.detach() for t in all_tensors(outputs)}
    return copy.deepcopy(outputs, {**others, **found})


def is_record(tree: Any) -> bool:
    """Whether it is an instance of a dataclass."""
    return dataclasses.is_dataclass(tree) and not isinstance(tree, type)


def is_numeric(tree: Any) -> bool:
    """Whether it is an array that can become a tensor."""
    return isinstance(tree, np.ndarray) and tree.dtype.kind in "biufc"


def is_movable(tree: Any) -> bool:
    """Whether it is an object of another library's, or a user's, that says how it is moved to a device."""
    return callable(getattr(tree, "to", None)) and not isinstance(tree, (nn.Module, type))


def with_fields(tree: Any, values: Mapping[str, Any]) -> Any:
    """A copy of an object with other values of some attributes."""
    found = copy.copy(tree)
    for name, value in values.items():
        object.__setattr__(found, name, value)  # a frozen dataclass too
    return found


def _everywhere(tree: Any, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor in nested containers and plain objects, each object once."""
    if id(tree) in seen:
        return
    seen.add(id(tree))
    if isinstance(tree, Tensor):
        yield tree
        return
    items = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, (tuple, list)) else ()
    for item in (*items, *getattr(tree, "__dict__", {}).values()):
        if isinstance(item, (Tensor, Mapping, tuple, list)) or hasattr(item, "__dict__"):
            yield from _everywhere(item, seen)
