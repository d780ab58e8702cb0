"""Losses and right answers of several points at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..accuracy import correct
from ..batches import Batch

if TYPE_CHECKING:
    from ..objective import Objective

Found = tuple[Tensor, Tensor | None]  # for each point: what the batch adds to the sum of losses, and right answers
CROSS_ENTROPIES = {("torch.nn.functional", "cross_entropy"), ("landscape_core.tasks.losses", "cross_entropy")}


class Measure:
    """What a batch adds to loss and accuracy, for the outputs of several points."""

    def __init__(self, objective: Objective, batch: Batch):
        self.objective, self.batch = objective, batch
        self._one_call = _is_cross_entropy(objective, batch)
        if self._one_call:
            self._targets = batch.targets[None, None]
            self._width = int(batch.targets.max()) + 1

    def __call__(self, points: Sequence[Tensor] | Tensor, *, samples_last: bool) -> Found:
        """`points`: outputs `(samples, ...)` of each point, or `(points, classes, samples)` if `samples_last`."""
        first = points[0]
        classes = first.shape[-2 if samples_last else -1] if isinstance(first, Tensor) and first.dim() == 2 else 0
        if self._one_call and classes >= max(2, self._width):
            scores = points if isinstance(points, Tensor) else torch.stack(list(points))
            return self._cross_entropy(scores if samples_last else scores.transpose(1, 2).contiguous())
        found = [self._plain(p.T.contiguous() if samples_last else p) for p in points]
        rights = [right for _, right in found if right is not None]
        return torch.stack([loss for loss, _ in found]), torch.stack(rights) if len(rights) == len(found) else None

    def _plain(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        right = correct(outputs, self.batch.targets)
        return self.objective.term(outputs, self.batch).double(), None if right is None else right.sum().double()

    def _cross_entropy(self, scores: Tensor) -> Found:
        """For scores `(points, classes, samples)`; the classes are reduced along contiguous samples. Overwrites the scores."""
        targets = self._targets.expand(len(scores), -1, -1)
        losses = -F.log_softmax(scores, 1).gather(1, targets).sum((1, 2), dtype=torch.float64)
        own = scores.gather(1, targets)
        others = scores.scatter(1, targets, -torch.inf).amax(1, keepdim=True)
        if (own == others).any():  # the first of equal scores counts
            value, index = scores.max(1, keepdim=True)
            right = (index == targets) & ~value.isnan()
        else:
            right = own > others
        return losses, right.sum((1, 2), dtype=torch.float64)


def _is_cross_entropy(objective: Objective, batch: Batch) -> bool:
    """Whether the loss is the mean of -log softmax(scores)[target] over samples with one class each."""
    loss, targets = objective.loss_function, batch.targets
    if isinstance(loss, nn.CrossEntropyLoss):
        plain = type(loss) is nn.CrossEntropyLoss and loss.weight is None and loss.label_smoothing == 0
        known = plain and loss.reduction == "mean" and not loss._forward_hooks and not loss._forward_pre_hooks
    else:
        known = (getattr(loss, "__module__", ""), getattr(loss, "__qualname__", "")) in CROSS_ENTROPIES
    classes = isinstance(targets, Tensor) and targets.dtype == torch.int64 and targets.dim() == 1
    return known and classes and objective.reduction == "mean" and int(targets.min()) >= 0
