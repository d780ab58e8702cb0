"""The loss functions of tasks: means over the batch of what integer class targets cost."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ..objective.accuracy import is_largest

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch of -log softmax(outputs)[target]; outputs (N, C), targets (N,) integer classes."""
    return F.cross_entropy(outputs, targets)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch and the C outputs of (outputs - onehot(targets))^2; outputs (N, C), targets (N,) classes.

    Written out because forward-over-reverse products through `F.mse_loss` fail in torch 2.13.
    """
    wanted = F.one_hot(targets, outputs.shape[-1]).to(outputs.dtype)
    return ((outputs - wanted) ** 2).mean()


def class_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of targets with the largest output; outputs (N, C), targets (N,) classes. NaN is never right."""
    return is_largest(outputs, targets[:, None], 1).double().mean()


LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy, "squared-error": squared_error}
