"""Which targets a model's outputs get right."""

from __future__ import annotations

from typing import Any

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
            value, index = found.max(dim)
            return (index == targets) & ~value.isnan()
    return None
