"""Which dimension of nested data counts samples: the one that inputs and targets share and that differs between batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .trees import children, is_movable, is_record, tensors, with_fields

Path = tuple[Any, ...]  # keys from the pair (inputs, targets) down
LIST = -1  # in place of a dimension: the entries of a list or tuple
PARTS = ("inputs", "targets")


@dataclass(frozen=True)
class Axis:
    """A dimension that could count samples: of the tensor (or the list) at a path, with its size in every batch."""

    path: Path
    dim: int
    sizes: tuple[int, ...]

    @property
    def varies(self) -> bool:
        """Whether batches differ in it, so that it weighs them."""
        return len(set(self.sizes)) > 1

    @property
    def shares(self) -> tuple[tuple[int, int], ...]:
        """The weights that it gives to the batches, as exact fractions."""
        total = max(1, sum(self.sizes))
        return tuple((size // math.gcd(size, total), total // math.gcd(size, total)) for size in self.sizes)


@dataclass(frozen=True)
class Layout:
    """`rows` of inputs and `sizes` (samples) of every batch; `cuts`: where they lie, by path, as a dimension or LIST.

    `guessed`: another dimension would weigh the batches otherwise. `words` name the one that was taken.
    """

    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    cuts: Mapping[Path, int]
    guessed: bool
    words: str


def layout(pairs: Sequence[tuple[Any, Any]]) -> Layout:
    """Where samples are counted in batches of nested `(inputs, targets)`.

    A dimension of the targets that inputs have too, in every batch, and that differs between batches, goes first; then one
    that differs, then one that both have. Among several: the place where both have it, then the first dimension of the first
    tensor. Batches without targets are counted in the inputs.
    """
    axes = _axes(pairs)
    inputs, targets = ([axis for axis in axes if axis.path[0] == part] for part in (0, 1))
    known = {axis.sizes for axis in inputs}
    common = [axis for axis in targets if axis.sizes in known]
    pools = [
        [axis for axis in common if axis.varies],
        [axis for axis in targets if axis.varies],
        common,
        targets,
        [axis for axis in inputs if axis.varies and axis.dim != LIST],
        inputs,
    ]
    pool: list[Axis] = next(filter(None, pools), [])
    ones = tuple(1 for _ in pairs)
    if not pool:
        return Layout(ones, ones, {}, len(pairs) > 1, "one a batch")
    aligned = {(axis.sizes, max(axis.dim, 0)) for axis in inputs}
    # False sorts before True; the order in the data settles the rest.
    chosen = min(pool, key=lambda axis: ((axis.sizes, max(axis.dim, 0)) not in aligned, axis.dim == LIST, axis.dim))
    numbers = chosen.path[0] == 0 and next(tensors(pairs[0][1]), None) is not None  # targets without any dimension
    if numbers and len(pairs) > 1 and not chosen.varies:
        return Layout(ones, ones, {}, False, "one a batch")
    row = _row(chosen, _within(chosen, inputs)) or (chosen if chosen.path[0] == 0 else None)
    cuts = _cuts(chosen, targets) | ({} if row is None else _cuts(row, inputs))
    rows = row.sizes if row is not None else inputs[0].sizes if inputs else tuple(0 for _ in pairs)
    others = {axis.shares for axis in pool}
    if set(chosen.sizes) == {1} and (chosen.sizes, max(chosen.dim, 0)) not in aligned:
        # One target a batch, beside inputs that differ.
        others |= {axis.shares for axis in inputs if axis.varies}
        unsure = len(others) > 1
    else:
        unsure = chosen.varies and (numbers or len(others) > 1)
    return Layout(rows, chosen.sizes, cuts, unsure, f"counted along {_words(chosen)}")


def entries(pairs: Sequence[tuple[Any, Any]]) -> bool:
    """Whether inputs are lists (or tuples) with one entry a sample, not one an argument of the model."""
    if not all(isinstance(x, (list, tuple)) and not isinstance(x, PackedSequence) and len(x) for x, _ in pairs):
        return False
    lengths = tuple(len(x) for x, _ in pairs)
    if len(set(lengths)) > 1:
        return True
    if not all(type(x) is list for x, _ in pairs):
        return False  # a tuple has the arguments of the model
    axes = _axes(pairs)
    samples = [axis for axis in axes if axis.path[0] == 1 and axis.sizes == lengths and axis.dim in (0, LIST)]
    return bool(samples) and any(axis.path == (0,) for axis in _within(samples[0], axes) if axis.dim == LIST)


def _axes(pairs: Sequence[tuple[Any, Any]]) -> list[Axis]:
    """Every dimension that all batches have, in the order of the data; tensors of another number of dimensions are left out."""
    shapes = [dict(_shapes(pair, ())) for pair in pairs]
    found = []
    for path, shape in shapes[0].items():
        every = [other.get(path) for other in shapes]
        if all(other is not None and len(other) == len(shape) for other in every):
            kind = range(len(shape)) if path[-1] != LIST else [LIST]
            place = path if path[-1] != LIST else path[:-1]
            found += [Axis(place, dim, tuple(other[max(dim, 0)] for other in every if other)) for dim in kind]
    return found


def _shapes(tree: Any, path: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    if isinstance(tree, Tensor):
        yield path, (tree.size(0),) if tree.is_nested else tuple(tree.shape)
    elif isinstance(tree, PackedSequence):
        yield path, (int(tree.batch_sizes[0]) if len(tree.batch_sizes) else 0,)
    elif not is_movable(tree):
        if path and isinstance(tree, (list, tuple)):
            yield (*path, LIST), (len(tree),)
        for key, item in children(tree):
            yield from _shapes(item, (*path, key))


def _row(chosen: Axis, inputs: Sequence[Axis]) -> Axis | None:
    """The dimension of the inputs that counts what `chosen` does, or of which every row has as many."""
    ranked = sorted(inputs, key=lambda axis: (axis.dim != chosen.dim, axis.dim == LIST, axis.dim))
    equal = [axis for axis in ranked if axis.sizes == chosen.sizes]
    if equal:
        return equal[0]
    tensor = next((axis for axis in inputs if axis.dim == 0), None)
    if tensor is None or not min(tensor.sizes):
        return None
    each = {(size // rows, size % rows) for size, rows in zip(chosen.sizes, tensor.sizes, strict=True)}
    return tensor if len(each) == 1 and next(iter(each))[1] == 0 and next(iter(each))[0] > 0 else None


def _cuts(chosen: Axis, axes: Sequence[Axis]) -> dict[Path, int]:
    """For each tensor or list that has the samples of `chosen`, in which dimension: its own if there is a choice."""
    found: dict[Path, int] = {}
    for axis in _within(chosen, axes):
        if axis.sizes == chosen.sizes and (axis.path not in found or axis.dim == chosen.dim):
            found[axis.path] = axis.dim
    return found


def _within(chosen: Axis, axes: Sequence[Axis]) -> list[Axis]:
    """Dimensions that can be those of samples: of a list with an entry a sample its own, of all else those of its tensors.

    Where each entry of a list has the samples itself, as far as that can be seen, the list is none of samples.
    """
    inner = {axis.path for axis in axes if axis.sizes == chosen.sizes and axis.dim == max(chosen.dim, 0)}
    lists = {
        axis.path
        for axis in axes
        if axis.dim == LIST
        and axis.sizes == chosen.sizes
        and (axis.varies or not all((*axis.path, i) in inner for i in range(axis.sizes[0])))
    }
    whole = [axis for axis in axes if not any(axis.path[:n] in lists for n in range(len(axis.path)))]
    return [axis for axis in whole if axis.dim != LIST or axis.path in lists]


def _words(axis: Axis) -> str:
    part = PARTS[axis.path[0]] + "".join(f"[{key!r}]" for key in axis.path[1:])
    return f"the entries of the {part}" if axis.dim == LIST else f"dimension {axis.dim} of the {part}"


def take(tree: Any, path: Path, cuts: Mapping[Path, int], places: slice | Tensor) -> Any:
    """The samples at `places` of nested data; what has no samples is passed along whole."""
    dim = cuts.get(path)
    if isinstance(tree, Tensor):
        if dim is None:
            return tree
        if isinstance(places, slice):
            return tree.narrow(dim, places.start, places.stop - places.start)
        return tree.index_select(dim, places.to(tree.device))
    if dim == LIST:
        chosen = tree[places] if isinstance(places, slice) else [tree[i] for i in places.tolist()]
        return type(tree)(chosen)
    if isinstance(tree, (Mapping, list, tuple)) and not isinstance(tree, PackedSequence):
        parts = {key: take(item, (*path, key), cuts, places) for key, item in children(tree)}
        if isinstance(tree, Mapping):
            return parts
        return type(tree)(*parts.values()) if hasattr(tree, "_fields") else type(tree)(parts.values())
    if is_record(tree):
        return with_fields(tree, {key: take(item, (*path, key), cuts, places) for key, item in children(tree)})
    return tree


def dense(tree: Any) -> bool:
    """Whether a tree's tensors can be cut: no sparse or nested ones among them."""
    if isinstance(tree, Tensor):
        return tree.layout == torch.strided and not tree.is_nested
    return all(dense(item) for _, item in children(tree))
