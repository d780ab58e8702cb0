"""Which targets a model's outputs get right, where the loss says that outputs are scores of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .recognised import noise

SAME = {torch.float64: 1e-9, torch.float32: 1e-4}  # relative deviation of slopes that rounding explains
MOST = 1 << 19  # numbers that a loss is asked at
FAR = 1e4  # a score so far above others has all the probability, whatever the temperature
Form = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor, float], bool]


def scores(outputs: Any) -> Tensor:
    """The tensor of class scores in a model's outputs: itself, or its `logits`."""
    found = outputs["logits"] if isinstance(outputs, dict) and "logits" in outputs else getattr(outputs, "logits", outputs)
    return found[0] if isinstance(found, (tuple, list)) else found


@dataclass(frozen=True)
class Classes:
    """Scores of classes along `dim` (-1: the last) for integer targets; labels in `ignored` do not count.

    `path` are the keys of the labels in targets that hold more than them.
    """

    dim: int
    ignored: tuple[int, ...] = ()
    path: tuple[Any, ...] = ()

    def right(self, outputs: Any, targets: Any) -> tuple[Tensor, Tensor | int]:
        """How many targets have the largest score, and how many count. NaN scores are never right."""
        found, targets = scores(outputs), self.labels(targets)
        found = found if found.is_floating_point() else found.double()
        dim = self.dim % found.dim()
        labels = targets.long().reshape(found.shape[:dim] + found.shape[dim + 1 :]).unsqueeze(dim)
        if not self.ignored:
            return is_largest(found, labels, dim).sum(), labels.numel()
        counted = ~torch.isin(labels, torch.tensor(self.ignored, device=labels.device))
        return (is_largest(found, labels.clamp(0, found.shape[dim] - 1), dim) & counted).sum(), counted.sum()

    def count(self, targets: Any) -> int:
        """How many targets count."""
        labels = self.labels(targets)
        return labels.numel() - sum(int((labels == label).sum()) for label in self.ignored)

    def labels(self, targets: Any) -> Tensor:
        """The labels in a batch's targets."""
        for key in self.path:
            targets = targets[key]
        found: Tensor = targets
        return found


def is_largest(found: Tensor, targets: Tensor, dim: int) -> Tensor:
    """Whether the score of each target is the largest along `dim`, in which `targets` has one element.

    The first of equal scores counts; NaN is never right. PyTorch finds the largest score several times faster than its place.
    """
    own = found.gather(dim, targets)
    others = found.scatter(dim, targets, -torch.inf).amax(dim, keepdim=True)
    if (own == others).any():
        value, index = found.max(dim, keepdim=True)
        return (index == targets) & ~value.isnan()
    return own > others


def find_classes(
    loss: Callable[[Tensor, Tensor], Any], targets: Sequence[Tensor], shape: Sequence[int], dtypes: Sequence[torch.dtype]
) -> Classes | None:
    """The classes that `loss(scores, targets)` tells apart, for scores like `shape`; None if it is no loss of classes.

    Found by its slope at random scores, in the first of `dtypes` that it takes: that of cross-entropy is a (softmax(z) - q) in
    each row of scores, with the largest entry of q at the target, a and q free of z (weights of classes, smoothing; with a
    temperature, softmax(b z)); that of a negative log-likelihood is one negative number, at the target, free of z (or, of
    probabilities, over the score). Targets without a slope are ignored, if that is a matter of their value: every value in
    `targets`, integers of each batch, the first of them the one whose outputs have `shape`, is tried as far as there is room.
    """
    if len(shape) < 2 or any(t.is_floating_point() or t.is_complex() or not t.dim() for t in targets):
        return None
    values, counts = torch.cat([t.reshape(-1) for t in targets]).unique(return_counts=True)
    # Negative ones and the most frequent first: padding is among them.
    rank = counts + counts.sum() * (values < 0)
    values = values[rank.argsort(descending=True, stable=True)]
    for dim in dict.fromkeys((1, len(shape) - 1)):
        if (wanted := _wanted(values, targets[0].shape, shape, dim)) is None:
            continue
        for dtype in dtypes:
            ignored = _along(loss, *wanted, dim, dtype)
            if ignored is not None:
                return Classes(1 if dim == 1 else -1, ignored)
    return None


def _wanted(values: Tensor, own: Sequence[int], shape: Sequence[int], dim: int) -> tuple[Tensor, list[int]] | None:
    """Targets of all values, and the shape of few scores for them with the classes along `dim`; None where these do not fit."""
    classes, places = shape[dim], [*shape[1:dim], *shape[dim + 1 :]]
    if classes < 2 or torch.Size(own).numel() * classes != torch.Size(shape).numel() or not torch.Size(own).numel():
        return None
    inner = places or list(own[1:])  # of a loss, or a model, that flattens
    if list(own[1:]) not in ([], inner):
        return None
    if torch.Size(inner).numel() * classes > MOST:  # few places stand for many
        inner = [min(n, max(2, int((MOST / classes) ** (1 / len(inner))))) for n in inner]
    each = torch.Size(inner).numel()
    # Each value in two places, so that a loss of some places is not taken for one that ignores values.
    values = values[: max(2, MOST // (2 * classes))]
    twice = torch.cat([values, values.flip(0)])
    rows = max(1, min(max(3, -(-len(twice) // each)), MOST // (each * classes)))
    wanted = twice.repeat(-(-rows * each // len(twice)))[: rows * each]
    size = [rows, *inner] if places else [rows * each]
    size.insert(dim, classes)
    return wanted.view(rows, *inner) if len(own) > 1 else wanted, size


def _along(
    loss: Callable[[Tensor, Tensor], Any], wanted: Tensor, size: Sequence[int], dim: int, dtype: torch.dtype
) -> tuple[int, ...] | None:
    """The ignored labels of a loss with classes along `dim`; None if it has none there."""
    labels, same = wanted.reshape(-1).long(), SAME[dtype]
    for points, forms in _questions(noise(torch.empty(size, dtype=dtype, device=wanted.device)), dim):
        slopes = [slope for slope in (_slope(loss, z, wanted) for z in points) if slope is not None]
        if len(slopes) < len(points):
            continue
        z, r = ([t.movedim(dim, -1).flatten(0, -2).double() for t in part] for part in (points, slopes))
        scale = r[0].abs().amax(-1)
        heard = scale > same * scale.max()
        ignored, own = labels[~heard].unique(), labels[heard]
        if bool(torch.isin(own, ignored).any()) or bool(((own < 0) | (own >= size[dim])).any()):
            continue
        z, r = [t[heard] for t in z], [t[heard] for t in r]
        if any(form(z, r, own[:, None], same) for form in forms):
            return tuple(ignored.tolist())
    return None


def _questions(noise: Tensor, dim: int) -> Iterator[tuple[Sequence[Tensor], Sequence[Form]]]:
    """Scores to ask a loss at, and the kinds of loss that their slopes tell."""
    yield (noise, noise.flip(0) - 0.5 * noise), (_is_cross_entropy, _is_likelihood)
    far = FAR * F.one_hot(noise.argmax(dim), noise.shape[dim]).movedim(-1, dim).to(noise)
    yield (noise / 16, torch.zeros_like(noise), far), (_is_tempered,)
    yield (noise.softmax(dim), (2 * noise).softmax(dim)), (_is_likelihood_of_probabilities,)


def _slope(loss: Callable[[Tensor, Tensor], Any], z: Tensor, targets: Tensor) -> Tensor | None:
    leaf = z.clone().requires_grad_()
    try:
        value = loss(leaf, targets.clone())
        slope = torch.autograd.grad(value.reshape(()), leaf, allow_unused=True)[0]
    except Exception:  # whatever a loss does with numbers it was not made for
        return None
    return slope if slope is not None and bool(slope.isfinite().all()) and bool(slope.any()) else None


# Each says whether slopes r at several scores z `(rows, classes)` are those of one kind of loss of the targets `(rows, 1)`.


def _is_likelihood(_z: Sequence[Tensor], r: Sequence[Tensor], own: Tensor, same: float) -> bool:
    """One negative number at the target, the same at all scores."""
    at = r[0].gather(-1, own)
    others = r[0].scatter(-1, own, 0.0).abs().amax(-1, keepdim=True)
    moved = (r[0] - r[1]).abs().amax(-1, keepdim=True)
    return bool((at < 0).all() and (others <= same * -at).all() and (moved <= same * -at).all())


def _is_likelihood_of_probabilities(z: Sequence[Tensor], r: Sequence[Tensor], own: Tensor, same: float) -> bool:
    """One negative number over the score of the target."""
    return _is_likelihood(z, [slope * point for slope, point in zip(r, z, strict=True)], own, same)


def _is_cross_entropy(z: Sequence[Tensor], r: Sequence[Tensor], own: Tensor, same: float) -> bool:
    """Slopes a (softmax(z) - q) with a > 0, and q largest at the target."""
    p = z[0].softmax(-1)
    change, moved = p - z[1].softmax(-1), r[0] - r[1]
    a = (change * moved).sum(-1, keepdim=True) / (change * change).sum(-1, keepdim=True)
    if not bool((a > 0).all()) or not bool(((moved - a * change).abs().amax(-1, keepdim=True) <= same * a).all()):
        return False
    return _is_largest_at(p - r[0] / a, own, same)


def _is_tempered(z: Sequence[Tensor], r: Sequence[Tensor], own: Tensor, same: float) -> bool:
    """Slopes a (softmax(b z) - q), one b > 0: where all scores are equal, and where one is far above, the softmax is known."""
    count = z[0].shape[-1]
    certain = z[2] / FAR
    change, moved = certain - 1 / count, r[2] - r[1]
    a = (change * moved).sum(-1, keepdim=True) / (change * change).sum(-1, keepdim=True)
    if not bool((a > 0).all()) or not bool(((moved - a * change).abs().amax(-1, keepdim=True) <= same * a).all()):
        return False
    q = certain - r[2] / a
    p = r[0] / a + q
    weight = p.clamp(min=0) / p.clamp(min=0).sum(-1, keepdim=True)  # what is next to no probability tells nothing
    heights, spread = (t - (weight * t).sum(-1, keepdim=True) for t in (p.clamp(min=1e-30).log(), z[0]))
    b = (weight * heights * spread).sum() / (weight * spread * spread).sum()
    return bool(b > 0) and bool(((b * z[0]).softmax(-1) - p).abs().max() <= same) and _is_largest_at(q, own, same)


def _is_largest_at(q: Tensor, own: Tensor, same: float) -> bool:
    """Whether rows are probabilities with the largest at the target."""
    others = q.scatter(-1, own, -torch.inf).amax(-1, keepdim=True)
    proper = (q >= -same).all() & ((q.sum(-1) - 1).abs() <= same * q.shape[-1]).all()
    return bool(proper) and bool((q.gather(-1, own) > others + same).all())
