"""A slice beside the whole Hessian: what its curvature shows of the spectrum, and where the loss is convex at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ...linalg import Lanczos, Quadrature, Trace
from ...measuring.symmetries import equal_diagonals
from ...objective import Objective, Slice
from ...specs import Array, InputError

KNOWN = 10  # eigenpairs that the trace takes exactly
PROBES, STEPS = 2, 96  # of the quadrature
MIN_PROBES, TRACE_PRODUCTS = 12, 100  # of the trace
VAGUE = 0.25  # relative standard error of a trace from which on no share of it is given
ZERO = 1e-3  # of the largest absolute eigenvalue: below that a curvature has no sign here
EXTREMES = {"tolerance": 1e-2, "max_products": 200}


def spectrum_card(objective: Objective, part: Slice, plane_trace: float, seed: int) -> Iterator[dict[str, Any]]:
    """The slice's curvature held against the Hessian at its centre; yields what is known so far after each product.

    hessian_top, hessian_bottom: largest and smallest eigenvalue, with relative residuals; hessian_trace with its standard
    error; trace_share tr(Q'HQ) / tr H with that of the trace, NaN where it is vague, beside k/p, what random axes hold on
    average; hessian_negative: share of eigenvalues below -1e-3 |H| with its standard error, NaN where the quadrature does not
    resolve it, and bounds that hold in 95 of 100 sets of probes. Boettcher & Wheeler 2022, arXiv:2208.13219.
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
        min_probes=MIN_PROBES,
        max_products=TRACE_PRODUCTS,
        seed=seed,
    )
    for _ in trace:
        yield card
    known = trace.standard_error < VAGUE * abs(trace.estimate) or trace.standard_error == 0 != trace.estimate
    share = plane_trace / trace.estimate if known else float("nan")
    card |= {
        "hessian_trace": trace.estimate,
        "hessian_trace_standard_error": trace.standard_error,
        "trace_share": share,
        "trace_share_error": abs(share) * trace.standard_error / abs(trace.estimate or 1.0),
        "trace_share_baseline": len(part.directions) / p,
    }
    yield card
    flags = torch.cat([found.top_converged, found.bottom_converged]).cpu()
    vectors = torch.cat([found.top_vectors, found.bottom_vectors], 1)[:, flags.to(found.top_vectors.device)][:, : p - 1]
    values = torch.cat([found.top, found.bottom]).cpu()[flags][: p - 1]
    quadrature = Quadrature(operator, PROBES, STEPS, known=vectors, seed=seed)
    for _ in quadrature:
        yield card
    measure = quadrature.measure(values)
    negative = measure.share_below(-ZERO * norm)
    least, most = measure.share_bounds(-ZERO * norm)
    card |= {
        "hessian_negative": negative.value if negative.resolved else float("nan"),
        "hessian_negative_error": negative.error if negative.resolved else float("nan"),
        "hessian_negative_bounds": np.array([max(least, float((values < -ZERO * norm).sum()) / p), most]),
    }
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
