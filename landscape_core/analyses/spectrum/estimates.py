"""The two ways to a spectrum: the exact matrix, or Lanczos with quadrature and probes. Both fill the same arrays."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...linalg import Lanczos, Quadrature, Trace, density
from ...measuring.critical import gradient_measure, newton_decrement
from ...measuring.growing import STATE_BYTES, Running
from ...measuring.symmetries import equal_diagonals
from ...specs import InputError, Progress
from .growing import MEASURE_STEPS, SpectrumGrowing
from .kind import asymmetry
from .operators import Scaled

COLUMNS = 32  # of the matrix between two reports
GRID = 1001  # points of the density
WIDTH = 0.007  # of the range: standard deviation of the kernel
BLOCK, SMALL = 4, 20_000  # probes advanced together, in networks small enough for that to be cheaper
MIN_PROBES, MAX_PROBES = 12, 400  # of the trace: products that its error rests on, and that it may take


def whole_matrix(growing: SpectrumGrowing, stage: str, operator: Any, words: str) -> Generator[Progress, None, Tensor]:
    """The whole matrix, column by column; the columns so far are kept for another attempt while they are few bytes."""
    size = growing.size
    matrix = torch.zeros(size, size, dtype=growing.objective.dtype, device=growing.objective.device)
    known = growing.state_of(stage).get("columns")
    start = 0
    if known is not None and known.shape[0] == size:
        start = known.shape[1]
        matrix[:, :start] = torch.from_numpy(np.array(known)).to(matrix)
    growing.done[stage] = start
    small = matrix.element_size() * size * size <= STATE_BYTES
    for i in range(start, size, COLUMNS):
        n = min(COLUMNS, size - i)
        columns = torch.zeros(size, n, dtype=matrix.dtype, device=matrix.device)
        columns[i : i + n].fill_diagonal_(1)
        matrix[:, i : i + n] = operator @ columns
        growing.done[stage] = i + n
        if growing.due:
            if small:
                growing.keep(stage, {"columns": matrix[:, : i + n].cpu().numpy()})
            yield growing.report(words)
    if not bool(matrix.isfinite().all()):
        raise InputError("the curvature is not finite at this point")
    return matrix


def symmetric(matrix: Tensor) -> Tensor:
    """(A + A') / 2 in float64."""
    return (matrix + matrix.T).double() / 2


def exact_spectrum(growing: SpectrumGrowing, prefix: str, kind: str) -> Running:
    """All eigenvalues of one operator, in the arrays under `prefix`."""
    spec, operator = growing.spec, growing.operator(kind)
    given = yield from whole_matrix(growing, f"{prefix}matrix", operator, "matrix")
    matrix = symmetric(given)
    yield growing.report("eigenvalues")
    values, vectors = torch.linalg.eigh(matrix)
    k, low = min(spec.k, growing.size), min(spec.k_bottom, growing.size)
    norm = float(values.abs().max())
    if not prefix and norm:
        growing.asymmetry = asymmetry(given) / norm
    if not prefix:
        growing.matrix = matrix
    errors = [float((matrix @ v - t * v).norm()) for t, v in ((values[-1], vectors[:, -1]), (values[0], vectors[:, 0]))]
    floor = max(errors) / norm if norm else 0.0  # what rounding leaves, beside which nothing is resolved
    top, bottom = values.flip(0)[:k], values[:low]
    tiny = torch.finfo(torch.float64).tiny
    traces = [float(part.sum()) for part in matrix.diagonal().split([entry.size for entry in growing.entries])]
    found: dict[str, Any] = {
        "eigenvalues_top": top.cpu().numpy(),
        "residuals_top": (floor * norm / top.abs().clamp_min(tiny)).clamp_max(1.0).cpu().numpy(),
        "eigenvalues_bottom": bottom.cpu().numpy(),
        "residuals_bottom": np.full(low, floor),
        "converged_top": np.ones(k, bool),
        "converged_bottom": np.ones(low, bool),
        "norm": norm,
        "nodes": values.cpu().numpy()[None],
        "weights": np.full((1, growing.size), 1 / growing.size),
        "trace": float(matrix.trace()),
        "trace_operator": kind,
        "trace_standard_error": 0.0,
        **_layer_traces(growing, traces, np.zeros(len(traces))),
    }
    growing.put(**{f"{prefix}{name}": value for name, value in found.items()}, **{f"{prefix}kind": kind})
    growing.note(operator)
    if not prefix:
        gradient = growing.gradient().double()
        weights = (vectors.T @ gradient) ** 2 / (gradient @ gradient).clamp_min(tiny)
        size = gradient.norm().clamp_min(tiny)
        _put_gradient(growing, gradient, values, weights, float((matrix @ (gradient / size)).norm()))
        scale = growing.objective.theta[growing.coordinates].double().abs()
        growing.put(sharpness_invariant=float(torch.linalg.eigvalsh(scale[:, None] * matrix * scale)[-1]))
        if spec.vectors:
            growing.put(eigenvectors=vectors.flip(1)[:, :k].cpu().numpy())
    return growing.arrays


def _layer_traces(growing: SpectrumGrowing, traces: Any, errors: Any) -> dict[str, Any]:
    """The traces of the diagonal blocks, as the Result names them."""
    return {
        "trace_layers": np.asarray(traces),
        "trace_layers_standard_error": np.asarray(errors),
        "layer_names": np.array([entry.name for entry in growing.entries]),
        "layer_sizes": np.array([entry.size for entry in growing.entries]),
    }


def estimated_spectrum(growing: SpectrumGrowing, prefix: str, kind: str) -> Running:
    """Both ends by Lanczos, the density by quadrature, the trace by deflated probes, in the arrays under `prefix`."""
    spec, operator = growing.spec, growing.operator(kind)
    size, theta = growing.size, growing.objective.theta
    label = "" if not prefix else f"{kind.replace('_', ' ')}, "

    def put(**values: Any) -> None:
        growing.put(**{f"{prefix}{name}": value for name, value in values.items()}, **{f"{prefix}kind": kind})

    lanczos = Lanczos(
        operator,
        min(spec.k, size),
        min(spec.k_bottom, size - min(spec.k, size)),
        tolerance=spec.tolerance,
        seed=spec.seed,
        multiples=spec.multiples,
        state=growing.state_of(f"{prefix}lanczos") or None,
    )

    def ends() -> None:
        put(**value_arrays(lanczos))

    yield from growing.drive(f"{prefix}lanczos", f"{label}eigenvalues", lanczos, ends)
    pairs = lanczos.pairs()
    put(**pair_arrays(pairs))
    if not prefix:
        _measure(growing, operator, float(pairs.norm))
        yield growing.report("gradient")
        if spec.vectors:
            growing.put(eigenvectors=pairs.top_vectors.cpu().numpy())
    # What is known needs no probe: its part is exact, and the rest has less to be read from few steps.
    known, vectors = _known(pairs, size)
    quadrature = Quadrature(
        operator,
        spec.probes,
        min(spec.lanczos_steps, size),
        known=vectors,
        seed=spec.seed + 1,
        block=BLOCK if size <= SMALL else 1,
        state=growing.state_of(f"{prefix}quadrature") or None,
    )

    def nodes() -> None:
        before = growing.measures.get(prefix)
        if len(quadrature.nodes) > (before.probes if before else 0):
            measure = growing.measures[prefix] = quadrature.measure(known)
            places, shares = measure.rows()
            put(nodes=places, weights=shares, nodes_known=len(known))
            if not prefix:
                densities(growing)

    yield from growing.drive(f"{prefix}quadrature", f"{label}density", quadrature, nodes)
    # Without the Hessian's many small eigenvalues of both signs far fewer probes will do.
    convex = kind == "hessian" and equal_diagonals(growing.objective)
    put(trace_operator="ggn" if convex else kind)
    trace = Trace(
        growing.operator("ggn") if convex else operator,
        known=pairs.top_vectors if convex else (pairs.top, pairs.top_vectors),
        relative=spec.trace_tolerance,
        min_probes=MIN_PROBES,
        max_products=MAX_PROBES,
        seed=spec.seed + 2,
        block=BLOCK if size <= SMALL else 1,
        segments=[entry.size for entry in growing.entries],
        state=growing.state_of(f"{prefix}trace") or None,
    )

    def sums() -> None:
        put(
            trace=trace.estimate,
            trace_standard_error=trace.standard_error,
            **_layer_traces(growing, trace.segments, trace.segments_standard_error),
        )

    yield from growing.drive(f"{prefix}trace", f"{label}trace", trace, sums)
    if not prefix:
        scaled = Scaled(operator, theta[growing.coordinates].abs())
        sharpest = Lanczos(scaled, 1, tolerance=spec.tolerance, seed=spec.seed, state=growing.state_of("invariant") or None)
        yield from growing.drive("invariant", "invariant sharpness", sharpest)
        growing.put(sharpness_invariant=float(sharpest.pairs().top[0]))
    growing.note(operator)
    return growing.arrays


def _known(pairs: Any, size: int) -> tuple[np.ndarray, Tensor]:
    """The eigenvalues of both ends that meet the tolerance, with their vectors `(p, k)`; fewer than all p."""
    flags = torch.cat([pairs.top_converged, pairs.bottom_converged]).cpu()
    places = flags.nonzero()[:, 0][: size - 1]
    vectors = torch.cat([pairs.top_vectors, pairs.bottom_vectors], 1)
    return torch.cat([pairs.top, pairs.bottom]).cpu()[places].numpy(), vectors[:, places.to(vectors.device)]


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


def _measure(growing: SpectrumGrowing, operator: Any, norm: float) -> None:
    """The gradient's length and how it spreads over the spectrum, from a Krylov space of its own."""
    gradient = growing.gradient()
    growing.put(zero_threshold=growing.spec.zero_tolerance * norm)
    nodes, weights, bend = gradient_measure(operator, gradient, MEASURE_STEPS)
    growing.done["gradient"] = int((weights > 0).sum())
    _put_gradient(growing, gradient, nodes, weights, bend)


def _put_gradient(growing: SpectrumGrowing, gradient: Tensor, nodes: Tensor, weights: Tensor, bend: float) -> None:
    norm = float(gradient.double().norm())
    zero = growing.spec.zero_tolerance * float(growing.arrays["norm"])
    decrement = newton_decrement(nodes, weights, norm, zero, None if growing.exact else growing.size)
    growing.put(gradient_norm=norm, gradient_curvature=bend, newton_decrement=decrement)


def densities(growing: SpectrumGrowing) -> None:
    """The density on one grid for both operators; never rescaled.

    The kernel is a fixed share of the range, or as much wider as it takes for the probes' steps to resolve it.
    """
    arrays = growing.arrays
    names = [prefix for prefix in ("", "beside_") if f"{prefix}nodes" in arrays]
    ends = [arrays[f"{prefix}{name}"] for prefix in names for name in ("nodes", "eigenvalues_top", "eigenvalues_bottom")]
    values = np.concatenate([np.ravel(end) for end in ends])
    low, high = float(values.min()), float(values.max())
    width = WIDTH * (high - low) or max(abs(high), 1.0) * 1e-6
    for measure in growing.measures.values():
        coarse = np.linspace(low - 5 * width, high + 5 * width, GRID // 4)
        width = measure.resolved_width(coarse, width)
    grid = np.linspace(low - 5 * width, high + 5 * width, GRID)
    growing.put(density_grid=grid, density_width=width)
    for prefix in names:
        mean, error, mass = density(arrays[f"{prefix}nodes"], arrays[f"{prefix}weights"], grid, width)
        if prefix in growing.measures:
            mean, error, _ = growing.measures[prefix].density(grid, width)
        growing.put(
            **{
                f"{prefix}density": mean,
                f"{prefix}density_error": np.zeros(GRID) if growing.exact else error,
                f"{prefix}density_mass": mass,
            }
        )
    if growing.spec.beside == "ggn" and "beside_trace" in arrays:
        growing.put(trace_ggn=arrays["beside_trace"])
