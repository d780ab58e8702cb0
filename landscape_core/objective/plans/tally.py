"""Losses and right answers of several points at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..accuracy import correct, is_largest
from ..batches import Batch
from ..plain import PlainObjective

Found = tuple[Tensor, Tensor | None]  # for each point: what the batch adds to the sum of losses, and right answers


class Tally:
    """What a batch adds to loss and accuracy, for the outputs of several points.

    Many points take one call if the loss is a mean cross-entropy, which the caller says.
    """

    def __init__(self, objective: PlainObjective, batch: Batch, *, cross_entropy: bool):
        self.objective, self.batch = objective, batch
        self._one_call = cross_entropy and int(batch.targets.min()) >= 0
        if self._one_call:
            self._targets = batch.targets.reshape(1, -1)
            self._width = int(batch.targets.max()) + 1

    def __call__(self, points: Sequence[Tensor] | Tensor, *, samples_last: bool) -> Found:
        """`points`: outputs `(samples, ...)` of each point, or `(points, classes, samples)` if `samples_last`."""
        if self._one_call and _fit(points[0], self.batch.targets, self._width, samples_last):
            if samples_last or points[0].dim() == 2:
                scores = points if isinstance(points, Tensor) else torch.stack(list(points))
                return self._cross_entropy(scores if samples_last else scores.transpose(1, 2).contiguous(), 1)
            flat = (p.movedim(1, -1).reshape(1, -1, p.shape[1]) for p in points)  # several targets a sample
            each = [self._cross_entropy(p, 2) for p in flat]
            return torch.cat([loss for loss, _ in each]), torch.cat([right for _, right in each])
        found = [self._plain(p.T.contiguous() if samples_last else p) for p in points]
        rights = [right for _, right in found if right is not None]
        return torch.stack([loss for loss, _ in found]), torch.stack(rights) if len(rights) == len(found) else None

    def _plain(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        right = correct(outputs, self.batch.targets)
        return self.objective.term(outputs, self.batch).double(), None if right is None else right.sum().double()

    def _cross_entropy(self, scores: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """For scores `(points, classes, samples)` or `(points, samples, classes)`, the classes along `dim`."""
        targets = self._targets.expand(len(scores), -1).unsqueeze(dim)
        costs = -F.log_softmax(scores, dim).gather(dim, targets)
        losses = costs.sum((1, 2), dtype=torch.float64) * (self.batch.size / self._targets.numel())
        return losses, is_largest(scores, targets, dim).sum((1, 2), dtype=torch.float64)


def _fit(outputs: Any, targets: Tensor, width: int, samples_last: bool) -> bool:
    """Whether outputs are scores `(samples, classes, ...)` of all classes up to `width`, for targets `(samples, ...)`."""
    if not isinstance(outputs, Tensor) or outputs.dim() != targets.dim() + 1:
        return False
    classes, *others = (
        (outputs.shape[0], outputs.shape[1]) if samples_last else (outputs.shape[1], outputs.shape[0], *outputs.shape[2:])
    )
    return classes >= max(2, width) and tuple(others) == tuple(targets.shape)
