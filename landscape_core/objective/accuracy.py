"""Which targets a model's outputs get right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def scores(outputs: Any) -> Tensor:
    """The tensor of class scores in a model's outputs: itself, or its `logits`."""
    found = outputs["logits"] if isinstance(outputs, dict) and "logits" in outputs else getattr(outputs, "logits", outputs)
    return found[0] if isinstance(found, (tuple, list)) else found


def correct(outputs: Any, targets: Any) -> Tensor | None:
    """Which targets the largest score gets right; None where targets are not classes.

    Classes lie along dimension 1, as `cross_entropy` has them, or else along the last. NaN scores are never right.
    """
    found = scores(outputs)
    if not isinstance(found, Tensor) or not isinstance(targets, Tensor) or targets.is_floating_point():
        return None
    for dim in (1, found.dim() - 1):
        if 1 <= dim < found.dim() and found.shape[dim] > 1 and found.shape[:dim] + found.shape[dim + 1 :] == targets.shape:
            found = found if found.is_floating_point() else found.double()
            known = (targets >= 0) & (targets < found.shape[dim])
            return is_largest(found, targets.long().clamp(0, found.shape[dim] - 1).unsqueeze(dim), dim).squeeze(dim) & known
    return None


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
