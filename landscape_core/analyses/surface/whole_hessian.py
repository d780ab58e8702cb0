"""A slice beside the whole Hessian: what its curvature shows of the spectrum, and where the loss is convex at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ...linalg import Lanczos, Quadrature, Trace, share_below
from ...measuring.symmetries import equal_diagonals
from ...objective import Objective, Slice
from ...specs import Array, InputError

KNOWN = 10  # eigenpairs that the trace takes exactly
PROBES, STEPS = 8, 24  # of the quadrature
TRACE_PRODUCTS = 100
ZERO = 1e-3  # of the largest absolute eigenvalue: below that a curvature has no sign here
EXTREMES = {"tolerance": 1e-2, "max_products": 200}


def spectrum_card(objective: Objective, part: Slice, plane_trace: float, seed: int) -> Iterator[dict[str, Any]]:
    """The slice's curvature held against the Hessian at its centre; yields what is known so far after each product.

    hessian_top, hessian_bottom: largest and smallest eigenvalue, with relative residuals; hessian_trace with its standard
    error; trace_share tr(Q'HQ) / tr H beside k/p, what random axes hold on average; hessian_negative: share of eigenvalues
    below -1e-3 |H|, with its error. Boettcher & Wheeler 2022, arXiv:2208.13219.
    """
    card: dict[str, Any] = {}
    operator = objective.hessian(part.origin)
    p = len(part.origin)
    pairs = Lanczos(operator, min(KNOWN, p - 1) or 1, min(1, p - 1), seed=seed, max_products=300)
    for _ in pairs:
        yield card
    found = pairs.pairs()
    norm = found.norm
    bottom = found.bottom if len(found.bottom) else found.top
    residual = found.bottom_residuals if len(found.bottom) else found.top_residuals
    card |= {
        "hessian_top": float(found.top[0]),
        "hessian_top_residual": float(found.top_residuals[0]),
        "hessian_bottom": float(bottom[0]),
        "hessian_bottom_residual": float(residual[0]),
    }
    yield card
    convex = equal_diagonals(objective)  # then with far less noise
    trace = Trace(
        objective.gauss_newton(part.origin) if convex else operator,
        known=found.top_vectors if convex else (found.top, found.top_vectors),
        max_products=TRACE_PRODUCTS,
        seed=seed,
    )
    for _ in trace:
        yield card
    share = plane_trace / trace.estimate if trace.estimate else float("nan")
    card |= {
        "hessian_trace": trace.estimate,
        "hessian_trace_standard_error": trace.standard_error,
        "trace_share": share,
        "trace_share_baseline": len(part.directions) / p,
    }
    yield card
    quadrature = Quadrature(operator, PROBES, STEPS, seed=seed)
    for _ in quadrature:
        yield card
    negative, error = share_below(quadrature.nodes, quadrature.weights, -ZERO * norm)
    card |= {"hessian_negative": negative, "hessian_negative_error": error}
    yield card


def convexity_map(objective: Objective, part: Slice, alphas: Array, betas: Array) -> Iterator[tuple[Array, Array]]:
    """(smallest, largest) eigenvalue `(n, m)` of the whole Hessian at the points of a grid; yields after each point.

    Each point starts from the eigenvectors of the one before. Where the Hessian is not finite both are NaN.
    """
    low, high = (np.full((len(alphas), len(betas)), np.nan) for _ in range(2))
    start: torch.Tensor | None = None
    for i, a in enumerate(alphas):
        for j, b in enumerate(betas if i % 2 == 0 else betas[::-1]):
            column = j if i % 2 == 0 else len(betas) - 1 - j
            solver = Lanczos(objective.hessian(part.point([a, b])), 1, 1, start=start, **EXTREMES)  # type: ignore[arg-type]
            try:
                for _ in solver:
                    pass
            except InputError:
                start = None
            else:
                pairs = solver.pairs()
                low[i, column], high[i, column] = float(pairs.bottom[0]), float(pairs.top[0])
                start = torch.cat([pairs.top_vectors, pairs.bottom_vectors], 1)
            yield low, high
