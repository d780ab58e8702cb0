"""Is this point critical, and of which kind: the gradient against the curvature along it, and the signs of the eigenvalues."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ..linalg import Quadrature

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
    """How the gradient g spreads over the eigenvalues: nodes and weights `(m,)`, sum w f(node) = g'f(H)g / |g|^2.

    By `Quadrature` from g, m <= steps: exact for polynomials of degree 2m - 1, so also the third value, |Hg| / |g|, whose
    square is the second moment. Both in float64. All zero for a zero gradient.
    """
    if not bool(gradient.norm() > 0):
        return torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), 0.0
    found = Quadrature(operator, 1, steps, start=gradient)
    for _ in found:
        pass
    nodes, weights = (torch.from_numpy(values[0, : found.products]) for values in (found.nodes, found.weights))
    return nodes, weights, float((weights @ nodes**2).sqrt())


def newton_decrement(nodes: Tensor, weights: Tensor, gradient_norm: float, zero: float) -> float:
    """1/2 g'|H|^-1 g over the eigenvalues that are not zero: how far a saddle-free Newton step would lower a quadratic."""
    keep = nodes.abs() > zero
    return 0.5 * gradient_norm**2 * float((weights[keep] / nodes[keep].abs()).sum())
