"""Is this point critical, and of which kind: the gradient against the curvature along it, and the signs of the eigenvalues."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["not critical", "minimum", "maximum", "strict saddle", "degenerate"]


def classify(gradient_norm: float, negative: float, zero: float, positive: float, *, tolerance: float) -> Kind:
    """The kind of a point from its gradient and the numbers of negative, zero and positive eigenvalues.

    Not critical unless the gradient is shorter than `tolerance`. A negative beside a positive eigenvalue makes a strict saddle,
    whatever is zero. Without such a pair zero eigenvalues make it degenerate: to second order it may be anything.
    """
    if not gradient_norm < tolerance:
        return "not critical"
    if negative > 0 and positive > 0:
        return "strict saddle"
    if zero > 0 or (not negative and not positive):
        return "degenerate"
    return "maximum" if negative > 0 else "minimum"


def gradient_measure(operator: Any, gradient: Tensor, steps: int) -> tuple[Tensor, Tensor, float]:
    """How the gradient g spreads over the spectrum: nodes and weights `(m,)`, sum w f(node) = g'f(H)g / |g|^2.

    Lanczos from g with full re-orthogonalisation (two passes), m <= steps; exact for polynomials of degree 2m - 1.
    Both in float64. The third value is |Hg| / |g|. All zero for a zero gradient.
    """
    norm = gradient.norm()
    if not bool(norm > 0):
        return torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), 0.0
    basis = [gradient / norm]
    diagonal: list[float] = []
    off: list[float] = []
    bend = 0.0
    for _ in range(min(steps, len(gradient))):
        product = operator @ basis[-1]
        if not diagonal:
            bend = float(product.norm())
        diagonal.append(float(product @ basis[-1]))
        known = torch.stack(basis)
        for _ in range(2):
            product = product - known.T @ (known @ product)
        beta = float(product.norm())
        if beta <= 1e-6 * max(map(abs, [*diagonal, *off])):
            break
        off.append(beta)
        basis.append(product / product.norm())
    m = len(diagonal)
    small = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for i, beta in enumerate(off[: m - 1]):
        small[i, i + 1] = small[i + 1, i] = beta
    nodes, vectors = torch.linalg.eigh(small)
    return nodes, vectors[0] ** 2, bend


def newton_decrement(nodes: Tensor, weights: Tensor, gradient_norm: float, zero: float) -> float:
    """1/2 g'|H|^-1 g over the eigenvalues that are not zero: how far a saddle-free Newton step would lower a quadratic."""
    keep = nodes.abs() > zero
    return 0.5 * gradient_norm**2 * float((weights[keep] / nodes[keep].abs()).sum())
