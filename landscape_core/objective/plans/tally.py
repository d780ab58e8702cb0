"""Losses and right answers of several points at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..accuracy import is_largest
from ..batches import Batch
from ..plain import PlainObjective

Found = tuple[Tensor, dict[str, Tensor]]  # for each point: what the batch adds to the sums of losses and of measures


class Tally:
    """What a batch adds to loss and accuracy, for the outputs of several points.

    Many points take one call if the loss is a mean cross-entropy, which the caller says.
    """

    def __init__(self, objective: PlainObjective, batch: Batch, *, cross_entropy: bool):
        self.objective, self.batch, self.classes = objective, batch, objective.classes
        self.names = [*(["accuracy"] if self.classes else []), *objective.metrics]
        self._one_call = cross_entropy and not objective.metrics and int(batch.targets.min()) >= 0
        if self._one_call:
            self._targets = batch.targets.reshape(1, -1)
            self._width = int(batch.targets.max()) + 1

    def mass(self, name: str) -> float:
        """What a measure's sum counts of this batch: the targets that count, or its weight."""
        if name in self.objective.metrics or self.classes is None:
            return self.batch.weight
        return self.classes.count(self.batch.targets)

    def __call__(self, points: Sequence[Tensor] | Tensor, *, samples_last: bool) -> Found:
        """`points`: outputs `(samples, ...)` of each point, or `(points, classes, samples)` if `samples_last`."""
        if self._one_call and _fit(points[0], self.batch.targets, self._width, samples_last):
            if samples_last or points[0].dim() == 2:
                scores = points if isinstance(points, Tensor) else torch.stack(list(points))
                return self._cross_entropy(scores if samples_last else scores.transpose(1, 2).contiguous(), 1)
            flat = (p.movedim(1, -1).reshape(1, -1, p.shape[1]) for p in points)  # several targets a sample
            return _stacked([self._cross_entropy(p, 2) for p in flat], torch.cat)
        return _stacked([self._plain(p.T.contiguous() if samples_last else p) for p in points], torch.stack)

    def _plain(self, outputs: Tensor) -> Found:
        found = self.objective.measured(outputs, self.batch)
        if self.classes is not None:
            found["accuracy"] = self.classes.right(outputs, self.batch.targets)[0].double()
        return self.objective.term(outputs, self.batch).double(), found

    def _cross_entropy(self, scores: Tensor, dim: int) -> Found:
        """For scores `(points, classes, samples)` or `(points, samples, classes)`, the classes along `dim`."""
        targets = self._targets.expand(len(scores), -1).unsqueeze(dim)
        costs = -F.log_softmax(scores, dim).gather(dim, targets)
        losses = costs.sum((1, 2), dtype=torch.float64) * (self.batch.weight / self._targets.numel())
        if self.classes is None:
            return losses, {}
        return losses, {"accuracy": is_largest(scores, targets, dim).sum((1, 2), dtype=torch.float64)}


def _stacked(found: list[Found], join: Callable[[list[Tensor]], Tensor]) -> Found:
    return join([loss for loss, _ in found]), {name: join([m[name] for _, m in found]) for name in found[0][1]}


def _fit(outputs: Any, targets: Tensor, width: int, samples_last: bool) -> bool:
    """Whether outputs are scores `(samples, classes, ...)` of all classes up to `width`, for targets `(samples, ...)`."""
    if not isinstance(outputs, Tensor) or outputs.dim() != targets.dim() + 1:
        return False
    classes, *others = (
        (outputs.shape[0], outputs.shape[1]) if samples_last else (outputs.shape[1], outputs.shape[0], *outputs.shape[2:])
    )
    return classes >= max(2, width) and tuple(others) == tuple(targets.shape)
