"""The fixed sample that a loss is taken over: batches of any size, nested inputs, right weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ..specs import InputError
from .counting import Path, dense, entries, layout, take
from .trees import is_movable, map_tensors, tensors

MOST_BATCHES, MOST_BYTES = 5_000, 2 << 30  # that are drawn from what does not say how long it is
LABELS = ("labels", "label", "targets", "target", "y")  # keys of the targets in a batch that is one mapping

Weights = Sequence[float] | Callable[[Any, Any], float] | None
Takes = Callable[[tuple[Any, ...], Mapping[str, Any]], bool]  # whether a model's forward can be called with such arguments


@dataclass(frozen=True)
class Batch:
    """Inputs and targets: `rows` of the inputs, `size` samples by the targets, and the batch's weight in a mean over batches.

    `cuts` names the dimension in which samples lie, by the path from `(inputs, targets)` down.
    """

    inputs: Any
    targets: Any
    rows: int
    size: int
    weight: float
    name: str = "batches[0]"  # the caller's
    cuts: Mapping[Path, int] = field(default_factory=dict)

    def chunks(self, rows: int) -> Iterator[Batch]:
        """The batch in pieces of at most `rows` rows; what has no samples is passed along whole."""
        per_row = self.size // self.rows if self.rows else 0
        if rows >= self.rows or per_row * self.rows != self.size or not self.cuts or not dense((self.inputs, self.targets)):
            yield self
            return
        for i in range(0, self.rows, rows):
            n = min(rows, self.rows - i)
            yield self._part(slice(i, i + n), slice(i * per_row, (i + n) * per_row), n, n * per_row)

    def pick(self, places: Tensor) -> Batch:
        """The samples at `places` `(n,)`; raises InputError where inputs and targets are not rows of one another."""
        if self.rows != self.size or not self.cuts or not dense((self.inputs, self.targets)):
            raise InputError("single samples can only be drawn from batches with one row of inputs and one target a sample")
        return self._part(places, places, len(places), len(places))

    def _part(self, rows: slice | Tensor, targets: slice | Tensor, count: int, size: int) -> Batch:
        return replace(
            self,
            inputs=take(self.inputs, (0,), self.cuts, rows),
            targets=take(self.targets, (1,), self.cuts, targets),
            rows=count,
            size=size,
            weight=self.weight * size / self.size,
        )


@dataclass(frozen=True)
class Sample:
    """The batches of a split, and how their samples were counted."""

    batches: tuple[Batch, ...]
    counted: str = ""  # where samples lie, in words
    guessed: bool = False  # whether several dimensions would have weighed the batches differently
    weighted: bool = False  # whether the caller gave the weights
    summed: bool = False  # whether the loss is their sum, though nobody said so

    @property
    def size(self) -> int:
        """Number of samples."""
        return sum(batch.size for batch in self.batches)

    @property
    def words(self) -> str:
        """How many samples there are and what weighs a batch, in one line."""
        many = len(self.batches)
        said = f"{self.size:,} sample{'s' * (self.size != 1)} in {many:,} batch{'es' * (many != 1)}"
        if self.weighted:
            return f"{said}, weighed by the weights given"
        return f"{said}, {self.counted}" if self.counted else said

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be said of the weights of batches."""
        if self.summed:
            return ("the loss adds up over the samples of a batch: L is their sum, not their mean",)
        if self.guessed:
            return (f"what weighs a batch was guessed among several dimensions: {self.words} (weights= says it)",)
        return ()


def as_sample(
    batches: Any,
    *,
    device: torch.device,
    dtype: torch.dtype,
    weights: Weights = None,
    takes: Takes | None = None,
    name: str = "batches",
) -> Sample:
    """The batches that a caller gave: a list of (inputs, targets) pairs, one such pair, or an iterable like a DataLoader.

    A batch that is one mapping gives its inputs to the model as they are, and its labels, where there is one key for them,
    also to the loss. Floating-point tensors take `dtype` (complex ones its complex partner), numpy arrays become tensors,
    everything moves to `device`. Raises InputError if a batch is not a pair, or if the two cannot be told apart.
    """
    if isinstance(batches, tuple) and batches and all(isinstance(b, Batch) for b in batches):
        move = _mover(device, dtype)
        return Sample(
            tuple(replace(b, inputs=map_tensors(b.inputs, move), targets=map_tensors(b.targets, move)) for b in batches)
        )
    pairs = []
    for i, (inputs, targets) in enumerate(_drawn(batches, name, takes)):
        pair = _moved(inputs, device, dtype, f"{name}[{i}]"), _moved(targets, device, dtype, f"{name}[{i}]")
        if next(_held(pair), None) is None:
            raise InputError(f"{name}[{i}] holds no tensor")
        pairs.append(pair)
    if not pairs:
        raise InputError(f"{name} hold no sample")
    one = entries(pairs) and (len({len(x) for x, _ in pairs}) > 1 or takes is None or takes((None,), {}))
    # In a tuple of its own, what a model takes as one argument is not spread over several.
    found = [((x,), y) for x, y in pairs] if one or any(isinstance(x, PackedSequence) for x, _ in pairs) else pairs
    where = layout(found)
    given = _weights(weights, pairs, where.sizes)
    made = [
        Batch(x, y, rows, size, weight, f"{name}[{i}]", where.cuts)
        for i, ((x, y), rows, size, weight) in enumerate(zip(found, where.rows, where.sizes, given, strict=True))
        if size > 0
    ]
    if not made:
        raise InputError(f"{name} hold no sample")
    if not sum(batch.weight for batch in made) > 0:
        raise InputError("weights must not all be zero")
    return Sample(tuple(made), where.words, where.guessed and weights is None, weights is not None)


# -- what is a batch --------------------------------------------------------------------------------------------------


def _drawn(batches: Any, name: str, takes: Takes | None) -> Iterator[tuple[Any, Any]]:
    """The pairs in what a caller gave, whatever its form."""
    if isinstance(batches, tuple) and len(batches) == 2 and all(_two(b) for b in batches):
        raise InputError(
            f"{name} is a tuple of two pairs, which could be one pair or two: put it in a list, [(inputs, targets), ...]"
        )
    if _two(batches) and all(isinstance(b, Mapping) for b in batches) and set(batches[0]) & set(batches[1]):
        if isinstance(batches, tuple) or set(batches[0]) != set(batches[1]):
            raise InputError(
                f"{name} is a {type(batches).__name__} of two dicts, which could be one pair or two batches: write "
                "[(inputs, targets)] for a pair, [{...}, {...}, ...] with the same keys for batches"
            )
        given: Any = batches
    else:
        given = [batches] if isinstance(batches, Mapping) or _is_pair(batches) else batches
    if not isinstance(given, Iterable):
        raise InputError(f"{name} must be a list of (inputs, targets) pairs, one such pair, or a DataLoader of a data set")
    # A shuffling loader draws its order from the global generator: the caller's is left as it was.
    with torch.random.fork_rng(devices=[]):
        total = 0
        most = MOST_BATCHES if (length := _length(given)) is None else max(length, MOST_BATCHES)
        for i, batch in enumerate(given):
            if isinstance(batch, Mapping):
                pair = _of_mapping(batch, takes)
            elif _two(batch):
                pair = tuple(batch)
            else:
                raise InputError(f"{name}[{i}] is not an (inputs, targets) pair: {_advice(batch, name)}")
            total += 0 if length is not None else sum(t.numel() * t.element_size() for t in tensors(pair))
            if i >= most or total > MOST_BYTES:
                much = f"{most:,} batches" if i >= most else f"{MOST_BYTES >> 30} GiB"
                raise InputError(
                    f"{name} did not end after {much}, as if it were endless: give some of them, "
                    "list(itertools.islice(loader, n))"
                )
            yield pair[0], pair[1]


def _of_mapping(batch: Mapping[Any, Any], takes: Takes | None) -> tuple[Any, Any]:
    """A batch that is one mapping: the model gets it, without its labels if it takes all but those; the loss gets those."""
    own = dict(batch)
    labels = [key for key in LABELS if key in own]
    targets = own[labels[0]] if len(labels) == 1 else None
    if len(labels) == 1 and takes is not None and not takes((), own):
        rest = {key: value for key, value in own.items() if key != labels[0]}
        if takes((), rest):
            return rest, targets
    return own, targets


def _advice(batch: Any, name: str) -> str:
    if isinstance(batch, (tuple, list)):
        if len(batch) == 1:
            return f"it has one entry; give (inputs, None) if the loss needs no targets, [(x, None) for (x,) in {name}]"
        count = f"it has {len(batch)} entries; give what belongs to the loss as one of two, for instance "
        return count + f"[(x, (y, *rest)) for x, y, *rest in {name}] or [(x, y) for x, y, *_ in {name}]"
    said = f"it is a {type(batch).__name__}; "
    if isinstance(batch, (Tensor, np.ndarray)):
        return said + "give a list of pairs, [(inputs, targets)], or one pair of all inputs and all targets"
    return said + "give a DataLoader of the data set, or [(batch, targets), ...] for the model and the loss"


def _length(batches: Any) -> int | None:
    try:
        return len(batches)
    except (TypeError, NotImplementedError):
        return None


def _two(pair: Any) -> bool:
    return isinstance(pair, (tuple, list)) and len(pair) == 2


def _is_pair(batches: Any) -> bool:
    return _two(batches) and (isinstance(batches, tuple) or isinstance(batches[0], (Tensor, np.ndarray, Mapping)))


# -- moving and weighing ----------------------------------------------------------------------------------------------


def _mover(device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    def convert(tensor: Tensor) -> Tensor:
        kind = dtype if tensor.is_floating_point() else dtype.to_complex() if tensor.is_complex() else tensor.dtype
        found = tensor.detach().to(device, kind)
        return found.clone() if found.is_inference() else found  # an inference tensor could not enter a gradient

    return convert


def _moved(tree: Any, device: torch.device, dtype: torch.dtype, name: str) -> Any:
    """The same data in this arithmetic on this device. Raises InputError for what cannot be moved."""
    try:
        found = map_tensors(tree, _mover(device, dtype))
    except Exception as error:
        line = " ".join(str(error).split())
        raise InputError(
            f"{name} cannot be moved to {device} as {dtype} ({type(error).__name__}: {line}): give tensors in tuples or dicts"
        ) from None
    for item in _foreign(found):
        inside = [t for t in tensors(vars(item)) if isinstance(t, Tensor)]
        if any(t.device.type != device.type or (t.is_floating_point() and t.dtype != dtype) for t in inside):
            raise InputError(
                f"{name} holds a {type(item).__name__}, whose tensors cannot be moved to {device} as {dtype}: give it a method "
                "to(device), or give a dict, tuple or dataclass"
            )
    return found


def _foreign(tree: Any) -> Iterator[Any]:
    """The objects in nested data that say nothing of how they are moved."""
    if isinstance(tree, (Tensor, Mapping, list, tuple)):
        items = () if isinstance(tree, (Tensor, PackedSequence)) else tree.values() if isinstance(tree, Mapping) else tree
        for item in items:
            yield from _foreign(item)
    elif hasattr(tree, "__dict__") and not is_movable(tree) and not isinstance(tree, (type, torch.nn.Module)):
        yield tree


def _held(tree: Any) -> Iterator[Any]:
    """Tensors, and objects that may hold some."""
    found: list[Any] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(tree, keep)
    yield from itertools.chain(found, _foreign(tree))


def _weights(weights: Weights, pairs: list[tuple[Any, Any]], sizes: Sequence[int]) -> list[float]:
    """What each batch counts for in a mean: the numbers given, what the function given says, or else its samples."""
    if weights is None:
        return [float(size) for size in sizes]
    if callable(weights):
        source = "weights(inputs, targets)"
        try:
            found = [weights(x, y) for x, y in pairs]
        except Exception as error:
            line = " ".join(str(error).split())
            raise InputError(f"weights(inputs, targets) fails ({type(error).__name__}: {line})") from error
    else:
        source = "weights"
        try:
            found = list(weights)
        except TypeError:
            raise InputError("weights must be numbers, one a batch, or a function of (inputs, targets)") from None
        if len(found) != len(pairs):
            raise InputError(f"weights must be one number a batch, {len(pairs)} (got {len(found)})")
    try:
        values = [float(value) for value in found]
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{source} must give one number a batch") from None
    bad = [value for value in values if not (math.isfinite(value) and value >= 0)]
    if bad:
        raise InputError(f"{source} must be finite and not negative (got {bad[0]:g})")
    return values
