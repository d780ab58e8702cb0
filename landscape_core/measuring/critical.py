"""Is this point critical, and of which kind: the gradient against the curvature, and the signs of the eigenvalues."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..linalg import Quadrature, SpectralMeasure
from ..specs import Array

Kind = Literal[
    "minimum", "maximum", "strict saddle", "degenerate", "degenerate, downhill", "not critical", "unresolved", "none"
]


SETTLED = 0.05  # relative: to what a Newton decrement from Ritz values must have settled


@dataclass(frozen=True)
class Signs:
    """How many eigenvalues are negative, zero and positive: all of them where `known`, else at least so many."""

    negative: int
    zero: int
    positive: int
    known: bool

    @classmethod
    def of(cls, values: Array, zero: float, *, known: bool) -> Signs:
        """The signs of eigenvalues, or of Ritz values: j of these beyond zero prove j eigenvalues there (interlacing)."""
        below, above = int((values < -zero).sum()), int((values > zero).sum())
        return cls(below, len(values) - below - above, above, known)


def relative_gradient(gradient: float, curvature: float, theta: float) -> float:
    """|g| / (|H| |theta|), |theta| = 1 where it is 0: the same in any units of loss and weights; inf on a tilted plane."""
    if not gradient > 0:
        return gradient
    scale = curvature * (theta or 1.0)
    return gradient / scale if scale > 0 else math.inf


def classify(gradient: float, signs: Signs, *, tolerance: float, whole: bool = True, bottom: bool = True) -> Kind:
    """The kind of a point from its `relative_gradient` and the signs of the eigenvalues.

    "none" unless they are of the whole Hessian. "not critical" unless the gradient is at most `tolerance`. A negative beside a
    positive eigenvalue makes a strict saddle, whatever else there is. Every other class needs all signs; without them, or where
    nobody looked at the bottom, the point is unresolved. Without such a pair zero eigenvalues make it degenerate: to second
    order it may be anything, but no minimum where some are negative.
    """
    if not whole:
        return "none"
    if not gradient <= tolerance:
        return "not critical"
    if not bottom:
        return "unresolved"
    if signs.negative and signs.positive:
        return "strict saddle"
    if not signs.known:
        return "unresolved"
    if signs.zero:
        return "degenerate, downhill" if signs.negative else "degenerate"
    return "maximum" if signs.negative else "minimum"


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
    nodes, weights = (torch.from_numpy(values[0]) for values in (found.nodes, found.weights))
    return nodes, weights, float((weights @ nodes**2).sqrt())


def newton_decrement(nodes: Tensor, weights: Tensor, gradient_norm: float, zero: float, size: int | None = None) -> float:
    """1/2 g'|H|^-1 g over the eigenvalues that are not zero: how far a saddle-free Newton step would lower a quadratic.

    Of all eigenvalues; or of Ritz values from g, in a space of dimension `size`: then NaN unless it has settled, since what
    small eigenvalues add comes last: unless the last quarter of the steps, and half of them, agree within 5 %.
    """

    def inverse(values: np.ndarray) -> np.ndarray:
        return np.where(np.abs(values) > zero, 1 / np.maximum(np.abs(values), zero or 1e-300), 0.0)

    found = 0.5 * gradient_norm**2 * float((weights.numpy() * inverse(nodes.numpy())).sum())
    if size is None or not gradient_norm:
        return found
    late, early = SpectralMeasure(nodes[None].numpy(), weights[None].numpy(), size).course(inverse)
    settled = float(late.std()) <= SETTLED * late.mean() and abs(late.mean() - early.mean()) <= SETTLED * late.mean()
    return found if settled else float("nan")
