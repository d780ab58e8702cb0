"""What the loss of an Objective is, found once by asking it at outputs like the model's: mean or sum, of classes or not."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..specs import InputError
from .accuracy import Classes, find_classes, scores
from .batches import Batch
from .counting import take
from .recognised import is_torchs_own, noise
from .trees import all_tensors, children, map_tensors, with_tensors

ROWS = 8  # of a batch that outputs are asked of
PARTS, FEW = (3, 4), (1, 2)  # rows whose losses are compared with that of all; of rows with more than LONG numbers
LONG = 1 << 16
ADDS = {torch.float64: 1e-9, torch.float32: 1e-4}  # relative deviation that rounding explains
Reduction = Literal["mean", "sum"]
Loss = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Nature:
    """`reduction`: what the loss does over the samples of a batch, None if neither; `classes`: what its scores are of, if any.

    `scores`: the shape of the scores of a few samples, None where outputs hold no tensor. `spread`: in words, the shapes of
    outputs and targets that the loss compares each with each.
    """

    reduction: Reduction | None = None
    classes: Classes | None = None
    scores: tuple[int, ...] | None = None
    spread: str = ""


def nature(loss: Loss, model: Callable[[Batch], Any], outputs: Any, batch: Batch, every: Sequence[Batch]) -> Nature:
    """What `loss` is, for the `outputs` of `model` for `batch` and the targets of `every` one.

    Nothing of the caller's is changed.
    """
    devices = [t.device for t in all_tensors(outputs) if t.is_cuda][:1]
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices=devices),
        warnings.catch_warnings(action="ignore"),  # of what is made up here
    ):
        losses = _losses(loss)
        return Nature(
            _reduction(loss, losses, model, outputs, batch),
            _classes(loss, losses, outputs, batch, every),
            tuple(z.shape) if isinstance(z := scores(outputs), Tensor) else None,
            _spread(losses, outputs, batch),
        )


def _losses(loss: Loss) -> dict[torch.dtype, Loss]:
    """The loss in float64, and in float32 for one that holds tensors which we cannot see."""
    if isinstance(loss, nn.Module):
        own = copy.deepcopy(loss)
        return {torch.float64: own.double()}
    return {torch.float64: loss, torch.float32: loss}


def _value(loss: Loss, outputs: Any, targets: Any) -> float | None:
    try:
        return float(loss(outputs, map_tensors(targets, torch.clone)))
    except Exception:  # whatever a loss does with numbers it was not made for
        return None


def _cast(tree: Any, dtype: torch.dtype) -> Any:
    """A copy, which a loss may write into."""
    return map_tensors(tree, lambda t: t.to(dtype, copy=True) if t.is_floating_point() else t.clone())


# -- mean or sum ------------------------------------------------------------------------------------------------------


def _reduction(
    loss: Loss, losses: dict[torch.dtype, Loss], model: Callable[[Batch], Any], outputs: Any, batch: Batch
) -> Reduction | None:
    if is_torchs_own(loss):
        return "mean"
    found = next(filter(None, (_adds(own, outputs, batch, dtype) for dtype, own in losses.items())), "")
    found = found or _adds_up(loss, model, outputs, batch)
    said = getattr(loss, "reduction", None) if isinstance(loss, nn.Module) else None
    found = str(said) if found not in ("sum", "mean") else found
    return "sum" if found == "sum" else "mean" if found == "mean" else None


def _adds_up(loss: Loss, model: Callable[[Batch], Any], outputs: Any, batch: Batch) -> str:
    """The same at the model's own outputs, in its arithmetic: for outputs that cannot be made up, such as distributions."""
    parts = list(batch.chunks(PARTS[0]))
    if len(parts) < 2:
        return ""
    try:
        values = [_value(loss, model(part), part.targets) for part in parts]
    except InputError:
        return ""
    return _told(_value(loss, outputs, batch.targets), values, [part.size for part in parts], ADDS[torch.float32])


def _told(whole: float | None, parts: Sequence[float | None], sizes: Sequence[int], allowed: float) -> str:
    """What a loss does, by its value and those of the parts; "neither", or "" where one is no number."""
    known = [value for value in parts if value is not None and math.isfinite(value)]
    if whole is None or not math.isfinite(whole) or len(known) < len(parts):
        return ""
    allowed *= sum(abs(value) for value in known)
    mean = sum(value * size for value, size in zip(known, sizes, strict=True)) / sum(sizes)
    adds, averages = abs(whole - sum(known)) <= allowed, abs(whole - mean) <= allowed
    return "neither" if adds == averages else "sum" if adds else "mean"


def _adds(loss: Loss, outputs: Any, batch: Batch, dtype: torch.dtype) -> str:
    """Whether the loss of some rows is the sum, or the weighted mean, of those of its parts, where it is a number."""
    long = sum(t.numel() for t in all_tensors(outputs)) > LONG * max(1, batch.rows)
    first, second = FEW if long else PARTS
    n = first + second
    for made in _random(outputs, batch, dtype, n):
        whole, a, b = (_value(loss, *made(slice(i, j))) for i, j in ((0, n), (0, first), (first, n)))
        if found := _told(whole, [a, b], [first, second], ADDS[dtype]):
            return found
    return ""


def _random(outputs: Any, batch: Batch, dtype: torch.dtype, n: int) -> Iterator[Callable[[slice], tuple[Any, Any]]]:
    """Functions from rows, of `n`, to outputs and targets of them: random outputs, then random mixtures of real ones."""
    if not any(path[0] == 1 for path in batch.cuts) or not batch.size or (batch.rows and batch.size % batch.rows):
        return
    rows = batch.rows or batch.size
    each = batch.size // rows
    places = torch.arange(n) % rows
    places_of_targets = (places[:, None] * each + torch.arange(each)).reshape(-1)
    targets = _cast(take(batch.targets, (1,), batch.cuts, places_of_targets), dtype)
    cuts = {path: dim for path, dim in batch.cuts.items() if path[0] == 1}
    hint = max(0, next(iter(cuts.values())))
    known = [(t, _axis(t, rows, batch.size, hint)) for t in all_tensors(outputs)]
    if all(axis is None for _, axis in known):
        return
    for mixed in (False, True):
        full: list[tuple[Tensor, Tensor, int | None, int]] = []
        for t, axis in known:
            value = t.detach()
            if axis is None:
                full.append((t, value.to(dtype) if value.is_floating_point() else value, None, 1))
                continue
            per = each if t.shape[axis] == batch.size and batch.size != rows else 1
            value = value.index_select(axis, (places_of_targets if per > 1 else places).to(value.device))
            if value.is_floating_point():
                value = value.to(dtype)
                value = _mixed(value, axis) if mixed else value.nan_to_num(0.0, 0.0, 0.0).clamp(-3, 3) + noise(value)
            full.append((t, value, axis, per))

        def made(part: slice, full: list[Any] = full) -> tuple[Any, Any]:
            found = {}
            for t, value, axis, per in full:
                length = (part.stop - part.start) * per
                found[id(t)] = value if axis is None else value.narrow(axis, part.start * per, length)
            return with_tensors(outputs, found), take(targets, (1,), cuts, slice(part.start * each, part.stop * each))

        yield made


def _mixed(value: Tensor, axis: int) -> Tensor:
    """Rows between others, so that positive numbers and probabilities stay what they are."""
    shape = [1] * value.dim()
    shape[axis] = value.shape[axis]
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=value.dtype).to(value)
    return weight * value + (1 - weight) * value.flip(axis)


def _axis(tensor: Tensor, rows: int, size: int, hint: int) -> int | None:
    dims = [*dict.fromkeys((hint, *range(tensor.dim())))]
    return next((d for wanted in (rows, size) for d in dims if d < tensor.dim() and tensor.shape[d] == wanted), None)


# -- classes ----------------------------------------------------------------------------------------------------------


def _classes(loss: Loss, losses: dict[torch.dtype, Loss], outputs: Any, batch: Batch, every: Sequence[Batch]) -> Classes | None:
    z = scores(outputs)
    if not isinstance(z, Tensor) or not z.is_floating_point() or not z.numel():
        return None
    for path in _integers(batch.targets):
        targets = [_at(b.targets, path) for b in (batch, *every)]
        if any(not isinstance(t, Tensor) for t in targets):
            continue
        if is_torchs_own(loss) and not path and z.dim() == targets[0].dim() + 1:
            low, high = (int(getattr(torch.cat([t.reshape(-1) for t in targets]), end)()) for end in ("min", "max"))
            if low >= 0 and high < z.shape[1] > 1 and z.shape[:1] + z.shape[2:] == targets[0].shape:
                return Classes(1)

        def asked(leaf: Tensor, labels: Tensor, path: tuple[Any, ...] = path) -> Any:
            own = losses.get(leaf.dtype, loss)
            given = with_tensors(outputs, {id(z): leaf}) if z is not outputs else leaf
            return own(given, _put(_cast(batch.targets, leaf.dtype), path, labels))

        found = find_classes(asked, targets, z.shape, list(losses))
        if found is not None:
            return Classes(found.dim, found.ignored, path)
    return None


def _integers(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where nested targets hold integers that could be labels."""
    if isinstance(tree, Tensor):
        if not tree.is_floating_point() and not tree.is_complex() and tree.dim():
            yield path
    elif isinstance(tree, (dict, list, tuple)):
        for key, item in children(tree):
            yield from _integers(item, (*path, key))


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    try:
        for key in path:
            tree = tree[key]
    except (KeyError, IndexError, TypeError):
        return None
    return tree


def _put(tree: Any, path: tuple[Any, ...], value: Tensor) -> Any:
    if not path:
        return value
    parts = {key: _put(item, path[1:], value) if key == path[0] else item for key, item in children(tree)}
    if isinstance(tree, dict):
        return parts
    return type(tree)(*parts.values()) if hasattr(tree, "_fields") else type(tree)(parts.values())


# -- each with each -----------------------------------------------------------------------------------------------------


def _spread(losses: dict[torch.dtype, Loss], outputs: Any, batch: Batch) -> str:
    """Shapes of outputs and targets, `(N, 1)` and `(N,)` or so, if the loss compares each output with every target.

    Then it does not know which target belongs to which output, and does know once both have one shape.
    """
    targets = batch.targets
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or outputs.shape == targets.shape:
        return ""
    if outputs.numel() != targets.numel() or outputs.numel() < 2 or targets.is_complex() or not outputs.is_floating_point():
        return ""
    try:
        wide = torch.broadcast_shapes(outputs.shape, targets.shape)
    except RuntimeError:
        return ""
    if torch.Size(wide).numel() == outputs.numel():
        return ""
    for dtype, loss in losses.items():
        z, t = (noise(part[:64].to(dtype)) for part in (outputs.detach(), targets))
        plain, turned, matched = (_value(loss, z, other) for other in (t, t.flatten().roll(1).view_as(t), t.reshape(z.shape)))
        every = _value(loss, *(part.contiguous() for part in torch.broadcast_tensors(z, t)))
        if plain is not None and turned is not None and matched is not None:
            allowed = ADDS[dtype] * abs(plain)
            each = every is not None and max(abs(every - plain), abs(turned - plain)) <= allowed
            if each and abs(matched - plain) > allowed:
                own, other = (", ".join(["N", *map(str, t.shape[1:])]) + "," * (t.dim() == 1) for t in (outputs, targets))
                return f"shape ({own}) and targets of shape ({other})"
            return ""
    return ""
