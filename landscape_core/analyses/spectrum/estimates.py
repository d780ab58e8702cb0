"""The two ways to a spectrum: the exact matrix, or Lanczos with quadrature and probes. Both fill the same arrays."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...linalg import Lanczos, Quadrature, Trace, density
from ...measuring.critical import gradient_measure, newton_decrement
from ...measuring.growing import STATE_BYTES, Arrays
from ...measuring.symmetries import equal_diagonals
from ...specs import InputError, Progress
from .operators import Scaled
from .work import MEASURE_STEPS, Work

COLUMNS = 32  # of the matrix between two reports
GRID = 1001  # points of the density
WIDTH = 0.007  # of the range: standard deviation of the kernel
BLOCK, SMALL = 4, 20_000  # probes advanced together, in networks small enough for that to be cheaper
MAX_PROBES = 400  # products that the trace may take


def whole_matrix(work: Work, stage: str, operator: Any, words: str) -> Generator[Progress, None, Tensor]:
    """The whole matrix, column by column; the columns so far are kept for another attempt while they are few bytes."""
    size = work.size
    matrix = torch.zeros(size, size, dtype=work.objective.dtype, device=work.objective.device)
    known = work.state_of(stage).get("columns")
    start = 0
    if known is not None and known.shape[0] == size:
        start = known.shape[1]
        matrix[:, :start] = torch.from_numpy(np.array(known)).to(matrix)
    work.done[stage] = start
    small = matrix.element_size() * size * size <= STATE_BYTES
    for i in range(start, size, COLUMNS):
        n = min(COLUMNS, size - i)
        columns = torch.zeros(size, n, dtype=matrix.dtype, device=matrix.device)
        columns[i : i + n].fill_diagonal_(1)
        matrix[:, i : i + n] = operator @ columns
        work.done[stage] = i + n
        if work.due:
            if small:
                work.keep(stage, {"columns": matrix[:, : i + n].cpu().numpy()})
            yield work.report(words)
    if not bool(matrix.isfinite().all()):
        raise InputError("the curvature is not finite here: the weights overflow; look at an earlier checkpoint")
    return (matrix + matrix.T) / 2


def exact_spectrum(work: Work, prefix: str, kind: str) -> Arrays:
    """All eigenvalues of one operator, in the arrays under `prefix`."""
    spec, operator = work.spec, work.operator(kind)
    matrix = (yield from whole_matrix(work, f"{prefix}matrix", operator, "matrix")).double()
    yield work.report("eigenvalues")
    values, vectors = torch.linalg.eigh(matrix)
    k, low = min(spec.k, work.size), min(spec.k_bottom, work.size)
    norm = float(values.abs().max())
    errors = [float((matrix @ v - t * v).norm()) for t, v in ((values[-1], vectors[:, -1]), (values[0], vectors[:, 0]))]
    floor = max(errors) / norm if norm else 0.0  # what rounding leaves, beside which nothing is resolved
    top, bottom = values.flip(0)[:k], values[:low]
    tiny = torch.finfo(torch.float64).tiny
    traces = [float(part.sum()) for part in matrix.diagonal().split([entry.size for entry in work.entries])]
    found: dict[str, Any] = {
        "eigenvalues_top": top.cpu().numpy(),
        "residuals_top": (floor * norm / top.abs().clamp_min(tiny)).clamp_max(1.0).cpu().numpy(),
        "eigenvalues_bottom": bottom.cpu().numpy(),
        "residuals_bottom": np.full(low, floor),
        "converged_top": np.ones(k, bool),
        "converged_bottom": np.ones(low, bool),
        "norm": norm,
        "nodes": values.cpu().numpy()[None],
        "weights": np.full((1, work.size), 1 / work.size),
        "trace": float(matrix.trace()),
        "trace_operator": kind,
        "trace_standard_error": 0.0,
        **_layer_traces(work, traces, np.zeros(len(traces))),
    }
    work.put(**{f"{prefix}{name}": value for name, value in found.items()}, **{f"{prefix}kind": kind})
    work.note(operator)
    if not prefix:
        gradient = work.gradient().double()
        weights = (vectors.T @ gradient) ** 2 / (gradient @ gradient).clamp_min(tiny)
        size = gradient.norm().clamp_min(tiny)
        _put_gradient(work, gradient, values, weights, float((matrix @ (gradient / size)).norm()))
        scale = work.objective.theta[work.coordinates].double().abs()
        work.put(sharpness_invariant=float(torch.linalg.eigvalsh(scale[:, None] * matrix * scale)[-1]))
        if spec.vectors:
            work.put(eigenvectors=vectors.flip(1)[:, :k].cpu().numpy())
    return work.arrays


def _layer_traces(work: Work, traces: Any, errors: Any) -> dict[str, Any]:
    """The traces of the diagonal blocks, as the Result names them."""
    return {
        "trace_layers": np.asarray(traces),
        "trace_layers_standard_error": np.asarray(errors),
        "layer_names": np.array([entry.name for entry in work.entries]),
        "layer_sizes": np.array([entry.size for entry in work.entries]),
    }


def estimated_spectrum(work: Work, prefix: str, kind: str) -> Arrays:
    """Both ends by Lanczos, the density by quadrature, the trace by deflated probes, in the arrays under `prefix`."""
    spec, operator = work.spec, work.operator(kind)
    size, theta = work.size, work.objective.theta
    label = "" if not prefix else f"{kind.replace('_', ' ')}, "

    def put(**values: Any) -> None:
        work.put(**{f"{prefix}{name}": value for name, value in values.items()}, **{f"{prefix}kind": kind})

    lanczos = Lanczos(
        operator,
        min(spec.k, size),
        min(spec.k_bottom, size - min(spec.k, size)),
        tolerance=spec.tolerance,
        seed=spec.seed,
        multiples=spec.multiples,
        state=work.state_of(f"{prefix}lanczos") or None,
    )

    def ends() -> None:
        put(**value_arrays(lanczos))

    yield from work.drive(f"{prefix}lanczos", f"{label}eigenvalues", lanczos, ends)
    pairs = lanczos.pairs()
    put(**pair_arrays(pairs))
    if not prefix:
        _measure(work, operator, float(pairs.norm))
        yield work.report("gradient")
        if spec.vectors:
            work.put(eigenvectors=pairs.top_vectors.cpu().numpy())
    quadrature = Quadrature(
        operator,
        spec.probes,
        min(spec.lanczos_steps, size),
        seed=spec.seed + 1,
        block=BLOCK if size <= SMALL else 1,
        state=work.state_of(f"{prefix}quadrature") or None,
    )

    def nodes() -> None:
        if len(quadrature.nodes):
            put(nodes=quadrature.nodes, weights=quadrature.weights)
            if not prefix:
                densities(work)

    yield from work.drive(f"{prefix}quadrature", f"{label}density", quadrature, nodes)
    # Without the Hessian's many small eigenvalues of both signs far fewer probes will do.
    convex = kind == "hessian" and equal_diagonals(work.objective)
    put(trace_operator="ggn" if convex else kind)
    trace = Trace(
        work.operator("ggn") if convex else operator,
        known=pairs.top_vectors if convex else (pairs.top, pairs.top_vectors),
        relative=spec.trace_tolerance,
        max_products=MAX_PROBES,
        seed=spec.seed + 2,
        block=BLOCK if size <= SMALL else 1,
        segments=[entry.size for entry in work.entries],
        state=work.state_of(f"{prefix}trace") or None,
    )

    def sums() -> None:
        put(
            trace=trace.estimate,
            trace_standard_error=trace.standard_error,
            **_layer_traces(work, trace.segments, trace.segments_standard_error),
        )

    yield from work.drive(f"{prefix}trace", f"{label}trace", trace, sums)
    if not prefix:
        scaled = Scaled(operator, theta[work.coordinates].abs())
        sharpest = Lanczos(scaled, 1, tolerance=spec.tolerance, seed=spec.seed, state=work.state_of("invariant") or None)
        yield from work.drive("invariant", "invariant sharpness", sharpest)
        work.put(sharpness_invariant=float(sharpest.pairs().top[0]))
    work.note(operator)
    return work.arrays


def value_arrays(lanczos: Lanczos) -> dict[str, Any]:
    """Eigenvalues as they stand, with estimated residuals: without vectors, so that it may be asked often."""
    top, high, bottom, low = lanczos.values()
    found = {"eigenvalues_top": top, "residuals_top": high, "eigenvalues_bottom": bottom, "residuals_bottom": low}
    return found | {"norm": float(np.abs(lanczos.ritz()).max(initial=0.0))}


def pair_arrays(pairs: Any) -> dict[str, Any]:
    """Eigenpairs as the Result names them."""
    found: dict[str, Any] = {"norm": float(pairs.norm)}
    for end in ("top", "bottom"):
        found[f"eigenvalues_{end}"] = getattr(pairs, end).cpu().numpy()
        found[f"residuals_{end}"] = getattr(pairs, f"{end}_residuals").double().cpu().numpy()
        found[f"converged_{end}"] = getattr(pairs, f"{end}_converged").cpu().numpy()
    return found


def _measure(work: Work, operator: Any, norm: float) -> None:
    """The gradient's length and how it spreads over the spectrum, from a Krylov space of its own."""
    gradient = work.gradient()
    work.put(zero_threshold=work.spec.zero_tolerance * norm)
    nodes, weights, bend = gradient_measure(operator, gradient, MEASURE_STEPS)
    work.done["gradient"] = len(nodes)
    _put_gradient(work, gradient, nodes, weights, bend)


def _put_gradient(work: Work, gradient: Tensor, nodes: Tensor, weights: Tensor, bend: float) -> None:
    norm = float(gradient.double().norm())
    zero = work.spec.zero_tolerance * float(work.arrays["norm"])
    work.put(gradient_norm=norm, gradient_curvature=bend, newton_decrement=newton_decrement(nodes, weights, norm, zero))


def densities(work: Work) -> None:
    """The density on one grid for both operators, with a kernel that is a fixed share of the range; never rescaled."""
    arrays = work.arrays
    names = [prefix for prefix in ("", "beside_") if f"{prefix}nodes" in arrays]
    ends = [arrays[f"{prefix}{name}"] for prefix in names for name in ("nodes", "eigenvalues_top", "eigenvalues_bottom")]
    values = np.concatenate([np.ravel(end) for end in ends])
    low, high = float(values.min()), float(values.max())
    width = WIDTH * (high - low) or max(abs(high), 1.0) * 1e-6
    grid = np.linspace(low - 5 * width, high + 5 * width, GRID)
    work.put(density_grid=grid, density_width=width)
    for prefix in names:
        mean, error, mass = density(arrays[f"{prefix}nodes"], arrays[f"{prefix}weights"], grid, width)
        work.put(
            **{
                f"{prefix}density": mean,
                f"{prefix}density_error": np.zeros(GRID) if work.exact else error,
                f"{prefix}density_mass": mass,
            }
        )
    if work.spec.beside == "ggn" and "beside_trace" in arrays:
        work.put(trace_ggn=arrays["beside_trace"])
