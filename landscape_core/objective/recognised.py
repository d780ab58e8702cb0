"""Losses known by what they do, never by name: random outputs to ask them at, and what the known ones answer there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXACT = {torch.float32: 1e-5, torch.float64: 1e-12}  # relative deviation that rounding explains
SCALES = (1.0, 30.0, 1e4, 1e12)  # of outputs: small numbers added, clamps and exponentials that overflow show at one of them
SURE = (8.0, 30.0)  # by how much outputs may prefer their targets: floors under a small loss show there
LARGEST = 1 << 22  # numbers that a loss is asked at


def beside(z: Tensor) -> Tensor:
    """Random outputs near z that are sure of nothing: where z is, a loss has next to no slope and curvature to be known by."""
    return z.detach().nan_to_num(0.0, 0.0, 0.0).clamp(-3, 3) + noise(z)


def noise(z: Tensor) -> Tensor:
    """Standard normal numbers like z, the same at every call."""
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(0), dtype=z.dtype).to(z)


def one_hot(targets: Tensor, z: Tensor, dim: int) -> Tensor | None:
    """Class targets as rows of an identity along `dim` of z, zero where a target is negative; None if they do not fit.

    Targets may have their own shape, if they are as many as z has rows of scores: a loss that flattens both.
    """
    if targets.is_floating_point() or targets.dtype == torch.bool or z.dim() < 2 or not 1 <= dim < z.dim():
        return None
    classes = z.shape[dim]
    shape = (*z.shape[:dim], *z.shape[dim + 1 :])
    if targets.numel() != z.numel() // classes or bool((targets >= classes).any()):
        return None
    labels = targets.reshape(shape).long()
    found = F.one_hot(labels.clamp(min=0), classes).to(z) * (labels >= 0)[..., None]
    return found.movedim(-1, dim)


def is_cross_entropy(loss: Callable[[Any, Any], Any], targets: Sequence[Any], shape: Sequence[int]) -> bool:
    """Whether `loss` is the mean of -log softmax(outputs)[target] for outputs like `shape` `(n, classes, ...)`.

    Compared in float64 at random outputs of several sizes, at some that are nearly right, and in two numbers of samples. Every
    class of the batches of `targets` `(n, ...)` is there, none as often as the next, so that weights of classes or counts show,
    ignored classes too.
    """
    known = all(isinstance(t, Tensor) and t.dtype == torch.int64 and t.shape[1:] == tuple(shape[2:]) for t in targets)
    if not known or len(shape) < 2 or any(t.dim() != len(shape) - 1 for t in targets):
        return False
    classes = torch.cat([t.reshape(-1) for t in targets]).unique()
    classes = classes[classes >= 0]
    if not len(classes) or shape[1] < max(2, int(classes[-1]) + 1):
        return False
    if is_torchs_own(loss):
        return True
    listed = torch.cat([classes, classes[::2], classes[::3]])
    each = torch.Size(shape[2:]).numel()
    rows = max(3, -(-len(listed) // max(1, each)))
    if not 0 < rows * shape[1] * each <= LARGEST:
        return False
    wanted = listed.repeat(-(-rows * each // len(listed)))[: rows * each].view(rows, *shape[2:])
    z = noise(torch.empty(rows, *shape[1:], dtype=torch.float64, device=wanted.device))
    right = F.one_hot(wanted, shape[1]).movedim(-1, 1)
    asked = (*(scale * z for scale in SCALES), *(z + sure * right for sure in SURE))
    return all(_is_mean(loss, outputs, wanted) for outputs in asked) and _is_mean(loss, z[1:], wanted[1:])


def is_torchs_own(loss: Callable[[Any, Any], Any]) -> bool:
    """Whether it is the very function of PyTorch, which need not be asked, with all its classes counted alike."""
    if not isinstance(loss, nn.CrossEntropyLoss):
        return loss is F.cross_entropy
    plain = type(loss) is nn.CrossEntropyLoss and loss.weight is None and loss.label_smoothing == 0 and loss.ignore_index < 0
    return plain and loss.reduction == "mean" and not loss._forward_hooks and not loss._forward_pre_hooks


def _is_mean(loss: Callable[[Any, Any], Any], z: Tensor, targets: Tensor) -> bool:
    with torch.no_grad():
        expected = float(-z.log_softmax(1).gather(1, targets.unsqueeze(1)).mean())
        try:
            found = float(loss(z.clone(), targets.clone()))
        except Exception:  # whatever a loss does with numbers it was not made for
            return False
    rounding = 8 * torch.finfo(torch.float64).eps * float(z.abs().max())
    return abs(found - expected) <= EXACT[torch.float64] * abs(expected) + rounding
