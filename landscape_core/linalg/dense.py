"""Eigenpairs, and the dense solver that is the referee of all others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..specs import InputError


@dataclass(frozen=True)
class Eigenpairs:
    """Algebraically largest (`top`, descending) and smallest (`bottom`, ascending) eigenvalues with their vectors.

    Residuals: |H v - l v| / |l| at the top, / |H| at the bottom, where |H| is the largest absolute Ritz value, `norm`. At the
    top, |l| counts as no less than what rounding makes of a zero eigenvalue.
    """

    top: Tensor  # (k,) float64
    top_vectors: Tensor  # (p, k)
    top_residuals: Tensor  # (k,)
    bottom: Tensor  # (k',)
    bottom_vectors: Tensor
    bottom_residuals: Tensor
    top_converged: Tensor  # (k,) bool
    bottom_converged: Tensor
    products: int
    norm: float


def dense_eigenpairs(matrix: Tensor, top: int, bottom: int = 0) -> tuple[Eigenpairs, Tensor]:
    """Eigenpairs of a dense symmetric matrix `(p, p)` in float64, and all its eigenvalues `(p,)`, descending."""
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1] or not 0 <= top + bottom <= len(matrix):
        raise InputError(f"{top} + {bottom} eigenpairs of a square matrix are wanted (got shape {tuple(matrix.shape)})")
    if not bool(torch.isfinite(matrix).all()):
        raise InputError("the matrix is not finite: the loss overflows or is undefined at these weights")
    a = matrix.double()
    values, vectors = torch.linalg.eigh(a)
    places = torch.cat([torch.arange(len(a) - 1, len(a) - 1 - top, -1), torch.arange(bottom)])
    chosen, columns = values[places], vectors[:, places]
    errors = (a @ columns - columns * chosen).norm(dim=0)
    norm = float(values.abs().max()) if len(values) else 0.0
    floor = max(torch.finfo(torch.float64).eps * norm, torch.finfo(torch.float64).tiny)
    relative = errors[:top] / chosen[:top].abs().clamp_min(floor)
    good = torch.ones(top + bottom, dtype=torch.bool)
    found = Eigenpairs(
        chosen[:top], columns[:, :top], relative, chosen[top:], columns[:, top:], errors[top:] / (norm or 1.0),
        good[:top], good[top:], len(a), norm,
    )  # fmt: skip
    return found, values.flip(0)
