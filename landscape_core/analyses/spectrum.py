"""The spectrum of the curvature at a checkpoint, exact or estimated with error bars; or its largest eigenvalues over a run."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..linalg import Lanczos, Quadrature, Trace, density, function_of, share_below
from ..objective import Objective
from ..specs import DENSE_LIMIT, Array, InputError, Progress, SpectrumSpec
from .context import Context
from .critical import classify, gradient_measure, newton_decrement
from .stability import stability
from .symmetries import rescaled, zero_modes

REPORT_SECONDS = 0.15  # between two pictures
STATE_BYTES = 64 << 20  # of Lanczos vectors that a partial result may keep, so that a killed job goes on where it was
COLUMNS = 32  # of the matrix between two reports
GRID = 1001  # points of the density
WIDTH = 0.007  # of the range: standard deviation of the kernel
MAX_PROBES = 400  # products that the trace may take
MEASURE_STEPS = 40  # products for the spread of the gradient over the spectrum
Arrays = Generator[Progress, None, dict[str, Any]]


def run(spec: SpectrumSpec, context: Context) -> Arrays:
    """The spectrum as a Result names it; yields the eigenvalues and the density as they grow."""
    if spec.over == "run":
        from .spectrum_run import over_run

        return (yield from over_run(spec, context))
    return (yield from _checkpoint(spec, context))


def _checkpoint(spec: SpectrumSpec, context: Context) -> Arrays:
    given = context.objective
    exact = spec.exact(block_size(given, spec))
    if exact and block_size(given, spec) > DENSE_LIMIT:
        raise InputError(f"method=dense is for at most {DENSE_LIMIT:,} parameters (this has {block_size(given, spec):,})")
    objective = context.double() if exact and spec.dtype is None else given
    before = objective.counts.copy()
    work = Work(spec, context, objective, exact)
    measure = exact_spectrum if exact else estimated_spectrum
    try:
        yield from measure(work, "", spec.operator)
        _finish(work)
        if spec.beside:
            yield from measure(work, "beside_", spec.beside)
        if spec.rescale:
            yield from _rescale(work)
        _densities(work)
        work.put(products=sum(work.done.values()), notes=np.array(work.notes or [""]))
    finally:
        if objective is not given:
            given.counts.update(objective.counts - before)
    return work.arrays


class Work:
    """What is being computed: the pieces it is made of, everything known so far, and the state that it resumes from."""

    def __init__(self, spec: SpectrumSpec, context: Context, objective: Objective, exact: bool):
        self.spec, self.context, self.objective, self.exact = spec, context, objective, exact
        self.members, self.coordinates = block(objective, spec)
        self.size = len(self.coordinates)
        self.partial: Mapping[str, Array] = context.partial
        self.state: dict[str, Array] = {n: np.asarray(v) for n, v in context.partial.items() if n.startswith("state_")}
        self.done: dict[str, int] = {}  # products by stage
        self.expected = _expected(spec, self.size, exact)
        self.notes: list[str] = []
        self.arrays: dict[str, Any] = {}
        self._shown = 0.0
        decay = float(context.training.get("weight_decay") or 0.0)
        if spec.weight_decay and context.training.get("optimizer") == "adamw" and decay:
            raise InputError("weight_decay: AdamW's decay is no part of a loss, so no Hessian has it; leave it out")
        self.shift = decay if spec.weight_decay else 0.0
        self.put(parameters=self.size, sample_size=objective.size(), weight_decay=decay, operator_kind=spec.operator)
        self.put(method="dense" if exact else "lanczos", arithmetic=str(objective.dtype).removeprefix("torch."))

    def put(self, **values: Any) -> None:
        """Add to what is known."""
        self.arrays.update({name: np.asarray(value) for name, value in values.items()})

    def operator(self, kind: str, theta: Tensor | None = None) -> Any:
        """The curvature of this kind over the chosen parameters, with the weight decay where it is asked for."""
        return curvature(self.objective, self.spec, kind, theta, self.shift)

    def gradient(self) -> Tensor:
        """The gradient over the chosen parameters."""
        found = self.objective.gradient(self.objective.theta)[self.coordinates]
        return found + self.shift * self.objective.theta[self.coordinates]

    def state_of(self, stage: str) -> dict[str, Array] | None:
        """What an earlier attempt left of a stage."""
        prefix = f"state_{stage}_"
        found = {name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)}
        return found or None

    def drive(self, stage: str, words: str, worker: Any, show: Any) -> Iterator[Progress]:
        """Run a worker that yields its number of products; `show()` puts what is known of it into the arrays."""
        for products in worker:
            self.done[stage] = int(products)
            if time.monotonic() - self._shown >= REPORT_SECONDS:
                show()
                self._keep(stage, worker.state())
                yield self.report(words)
        show()
        self._keep(stage, worker.state())
        yield self.report(words)

    def _keep(self, stage: str, state: Mapping[str, Array]) -> None:
        self.state = {name: value for name, value in self.state.items() if not name.startswith(f"state_{stage}_")}
        self.state |= {f"state_{stage}_{name}": np.asarray(value) for name, value in state.items()}

    def report(self, words: str) -> Progress:
        """Where the work stands, with everything known so far."""
        self._shown = time.monotonic()
        done = sum(self.done.values())
        later = sum(count for stage, count in self.expected.items() if stage not in self.done)
        now = list(self.done)[-1] if self.done else ""
        total = max(done + later + max(0.0, self.expected.get(now, 0.0) - self.done.get(now, 0)), done + 1)
        kept = self.state if sum(value.nbytes for value in self.state.values()) <= STATE_BYTES else {}
        partial = {**self.arrays, **kept, "stage": np.asarray(words)}
        return Progress(done, total, f"{words}: {done:,} of about {total:,.0f} products", partial)


def _expected(spec: SpectrumSpec, size: int, exact: bool) -> dict[str, float]:
    """Products of each stage, as far as they can be known."""
    stages: dict[str, float] = {}
    for prefix, kind in (("", spec.operator), ("beside_", spec.beside)):
        if kind is None:
            continue
        if exact:
            stages[f"{prefix}matrix"] = float(size)
            continue
        stages[f"{prefix}lanczos"] = min(float(size), 2.5 * spec.k + 8.0 * spec.k_bottom + 5)
        if not prefix:
            stages["gradient"] = float(min(MEASURE_STEPS, size))
        stages[f"{prefix}quadrature"] = float(spec.probes * min(spec.lanczos_steps, size))
        stages[f"{prefix}trace"] = 40.0
        if not prefix:
            stages["invariant"] = 20.0
    if spec.rescale:
        stages["rescaled"] = float(size) if exact else 35.0
    return stages


# -- operators ---------------------------------------------------------------------------------------------------------


def curvature(objective: Objective, spec: SpectrumSpec, kind: str, theta: Tensor | None = None, shift: float = 0.0) -> Any:
    """The operator `kind` at theta (default: the weights given), restricted to the layers of the Spec."""
    at = objective.theta if theta is None else theta
    found: Any = {
        "hessian": objective.hessian,
        "ggn": objective.gauss_newton,
        "fisher": lambda t: objective.fisher(t, labels=spec.labels, seed=spec.seed),
        "empirical_fisher": objective.empirical_fisher,
    }[kind](at)
    if spec.layers:
        found = found.restrict(spec.layers)
    return Shifted(found, shift) if shift else found


class Shifted:
    """A + c I."""

    def __init__(self, operator: Any, shift: float):
        self.operator, self.shift = operator, shift
        self.shape, self.dtype, self.device = operator.shape, operator.dtype, operator.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        product: Tensor = self.operator @ vectors
        return product + self.shift * vectors.to(product)

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of A."""
        return tuple(self.operator.notes)


class Scaled:
    """diag(s) A diag(s)."""

    def __init__(self, operator: Any, scale: Tensor):
        self.operator, self.scale = operator, scale
        self.shape, self.dtype, self.device = operator.shape, operator.dtype, operator.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        scale = self.scale if vectors.dim() == 1 else self.scale[:, None]
        return scale * (self.operator @ (scale * vectors.to(scale)))


def block(objective: Objective, spec: SpectrumSpec) -> tuple[tuple[int, ...], Tensor]:
    """The parameter tensors of the chosen layers, and their coordinates in theta."""
    entries = objective.space.entries
    members = tuple(
        i
        for i, entry in enumerate(entries)
        if spec.layers is None or any(f"{entry.name}.".startswith(f"{name}.") for name in spec.layers)
    )
    unknown = [n for n in spec.layers or () if not any(f"{e.name}.".startswith(f"{n}.") for e in entries)]
    if unknown:
        raise InputError(f"no layer or parameter is named '{unknown[0]}'; there are: {', '.join(e.name for e in entries)}")
    coordinates = torch.cat([torch.arange(entries[i].offset, entries[i].offset + entries[i].size) for i in members])
    return members, coordinates.to(objective.theta.device)


def block_size(objective: Objective, spec: SpectrumSpec) -> int:
    """Number of parameters of the chosen layers."""
    return len(block(objective, spec)[1])


# -- exact -------------------------------------------------------------------------------------------------------------


def _matrix(work: Work, stage: str, operator: Any, words: str) -> Generator[Progress, None, Tensor]:
    """The whole matrix, column by column; the columns so far are kept for another attempt while they are few bytes."""
    size = work.size
    matrix = torch.zeros(size, size, dtype=work.objective.dtype, device=work.objective.device)
    known = (work.state_of(stage) or {}).get("columns")
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
        if time.monotonic() - work._shown >= REPORT_SECONDS:
            if small:
                work._keep(stage, {"columns": matrix[:, : i + n].cpu().numpy()})
            yield work.report(words)
    if not bool(matrix.isfinite().all()):
        raise InputError("the curvature is not finite here: the weights overflow; look at an earlier checkpoint")
    return (matrix + matrix.T) / 2


def exact_spectrum(work: Work, prefix: str, kind: str) -> Arrays:
    """All eigenvalues of one operator, in the arrays under `prefix`."""
    spec, operator = work.spec, work.operator(kind)
    matrix = (yield from _matrix(work, f"{prefix}matrix", operator, "matrix")).double()
    yield work.report("eigenvalues")
    values, vectors = torch.linalg.eigh(matrix)
    k, low = min(spec.k, work.size), min(spec.k_bottom, work.size)
    norm = float(values.abs().max())
    errors = [float((matrix @ v - t * v).norm()) for t, v in ((values[-1], vectors[:, -1]), (values[0], vectors[:, 0]))]
    floor = max(errors) / norm if norm else 0.0  # what rounding leaves, beside which nothing is resolved
    top, bottom = values.flip(0)[:k], values[:low]
    tiny = torch.finfo(torch.float64).tiny
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
        "trace_standard_error": 0.0,
        **_layer_traces(work, matrix.diagonal()),
    }
    work.put(**{f"{prefix}{name}": value for name, value in found.items()}, **{f"{prefix}kind": kind})
    _notes(work, operator)
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


def _layer_traces(work: Work, diagonal: Tensor) -> dict[str, Any]:
    entries = [work.objective.space.entries[i] for i in work.members]
    sizes = [entry.size for entry in entries]
    return {
        "trace_layers": np.array([float(part.sum()) for part in diagonal.split(sizes)]),
        "trace_layers_standard_error": np.zeros(len(sizes)),
        "layer_names": np.array([entry.name for entry in entries]),
        "layer_sizes": np.array(sizes),
    }


def _notes(work: Work, operator: Any) -> None:
    work.notes += [note for note in operator.notes if note not in work.notes]


# -- estimated ---------------------------------------------------------------------------------------------------------


def estimated_spectrum(work: Work, prefix: str, kind: str) -> Arrays:
    """Both ends by Lanczos, the density by quadrature, the trace by deflated probes, in the arrays under `prefix`."""
    spec, operator = work.spec, work.operator(kind)
    size, theta = work.size, work.objective.theta
    options: dict[str, Any] = {"dtype": theta.dtype, "device": theta.device}
    label = "" if not prefix else f"{kind.replace('_', ' ')}, "

    def put(**values: Any) -> None:
        work.put(**{f"{prefix}{name}": value for name, value in values.items()}, **{f"{prefix}kind": kind})

    lanczos = Lanczos(
        operator,
        min(spec.k, size),
        min(spec.k_bottom, size - min(spec.k, size)),
        tolerance=spec.tolerance,
        seed=spec.seed,
        state=work.state_of(f"{prefix}lanczos"),
        **options,
    )

    def ends() -> None:
        put(**pair_arrays(lanczos.pairs()))

    yield from work.drive(f"{prefix}lanczos", f"{label}eigenvalues", lanczos, ends)
    pairs = lanczos.pairs()
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
        state=work.state_of(f"{prefix}quadrature"),
        **options,
    )

    def nodes() -> None:
        if len(quadrature.nodes):
            put(nodes=quadrature.nodes, weights=quadrature.weights)
            if not prefix:
                _densities(work)

    yield from work.drive(f"{prefix}quadrature", f"{label}density", quadrature, nodes)
    entries = [work.objective.space.entries[i] for i in work.members]
    trace = Trace(
        operator,
        known=pairs.top_vectors,
        relative=spec.trace_tolerance,
        max_products=MAX_PROBES,
        seed=spec.seed + 2,
        segments=[entry.size for entry in entries],
        state=work.state_of(f"{prefix}trace"),
        **options,
    )

    def sums() -> None:
        put(
            trace=trace.estimate,
            trace_standard_error=trace.standard_error,
            trace_layers=np.asarray(trace.segments),
            trace_layers_standard_error=np.asarray(trace.segments_standard_error),
            layer_names=np.array([entry.name for entry in entries]),
            layer_sizes=np.array([entry.size for entry in entries]),
        )

    yield from work.drive(f"{prefix}trace", f"{label}trace", trace, sums)
    if not prefix:
        scaled = Scaled(operator, theta[work.coordinates].abs())
        sharpest = Lanczos(scaled, 1, tolerance=spec.tolerance, seed=spec.seed, state=work.state_of("invariant"), **options)
        yield from work.drive("invariant", "invariant sharpness", sharpest, lambda: None)
        work.put(sharpness_invariant=float(sharpest.pairs().top[0]))
    _notes(work, operator)
    return work.arrays


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


# -- what follows from both --------------------------------------------------------------------------------------------


def _finish(work: Work) -> None:
    """Counts, kind of point, stability and the other scalars."""
    spec, arrays = work.spec, work.arrays
    top, bottom = arrays["eigenvalues_top"], arrays["eigenvalues_bottom"]
    nodes, weights = arrays["nodes"], arrays["weights"]
    norm = float(arrays["norm"])
    zero = spec.zero_tolerance * max(norm, 0.0)
    p = work.size
    if work.exact:
        values = nodes[0]
        negative, positive = int((values < -zero).sum()), int((values > zero).sum())
        flat, flat_error = float(p - negative - positive), 0.0
        share, share_error = negative / p, 0.0
    else:
        share, share_error = share_below(nodes, weights, -zero)
        below, below_error = share_below(nodes, weights, zero)
        flat, flat_error = p * max(0.0, below - share), p * (share_error + below_error)
        # A Ritz value is never beyond the end of the spectrum, so one beyond zero is proof enough.
        negative = int((bottom < -zero).sum()) if bottom.size else int(share > share_error)
        positive = int((top > zero).sum())
    modes = zero_modes(work.objective, spec.operator, work.members)
    if work.shift:
        modes = type(modes)(0, ("weight decay lifts them all",))
    count, gap = outliers(top, np.asarray(arrays["converged_top"]))
    effective, effective_error = function_of(nodes, weights, lambda t: np.maximum(t, 0) / (np.maximum(t, 0) + spec.damping), p)
    squares = function_of(nodes, weights, np.square, p)[0]
    trace = float(arrays["trace"])
    gradient = float(arrays["gradient_norm"])
    work.put(
        zero_threshold=zero,
        negative_share=share,
        negative_share_error=share_error,
        nullity=flat,
        nullity_error=flat_error,
        zero_modes_found=flat,
        nullity_predicted=modes.count,
        nullity_reasons="; ".join(modes.reasons),
        classification=classify(gradient, negative, max(flat, float(modes.count)), positive, tolerance=spec.gradient_tolerance),
        effective_dimension=effective,
        effective_dimension_error=0.0 if work.exact else effective_error,
        participation=trace**2 / squares if squares > 0 else float("nan"),
        outliers=count,
        outlier_gap=gap,
        sharpness=float(top[0]),
        trace_ggn=trace if spec.operator == "ggn" else float("nan"),
    )
    whole = spec.split == "train" and spec.samples is None and spec.layers is None
    work.put(**stability(work.context.training, _rate(work.context), whole=whole, decay_included=bool(work.shift)))


def _rate(context: Context) -> float | None:
    step = context.source.rpartition("@")[2]
    found = context.rates.get(int(step)) if step.isdigit() else None
    return found if found is not None else context.training.get("lr")


def outliers(values: Array, converged: Array) -> tuple[int, float]:
    """How many of the largest eigenvalues stand apart: the i with the largest ratio between neighbours, and that ratio.

    Only positive, converged ones count; (0, nan) where there are fewer than two.
    """
    known = values[np.asarray(converged, bool)]
    known = known[known > 0]
    if known.size < 2:
        return 0, float("nan")
    ratios = known[:-1] / known[1:]
    i = int(ratios.argmax())
    return i + 1, float(ratios[i])


def _densities(work: Work) -> None:
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
        work.put(**{f"{prefix}density": mean, f"{prefix}density_error": error, f"{prefix}density_mass": mass})
    if work.spec.beside == "ggn" and "beside_trace" in arrays:
        work.put(trace_ggn=arrays["beside_trace"])


def _rescale(work: Work) -> Iterator[Progress]:
    """The same function with its first two layers rescaled: what its curvature becomes."""
    spec = work.spec
    assert spec.rescale is not None
    try:
        theta, off = rescaled(work.objective, spec.rescale)
    except InputError as error:
        work.put(rescaled_note=str(error))
        return
    operator = work.operator(spec.operator, theta)
    scale = theta[work.coordinates].abs()
    if work.exact:
        matrix = (yield from _matrix(work, "rescaled", operator, "rescaled matrix")).double()
        top, trace = float(torch.linalg.eigvalsh(matrix)[-1]), float(matrix.trace())
        invariant = float(torch.linalg.eigvalsh(scale.double()[:, None] * matrix * scale.double())[-1])
    else:
        options: dict[str, Any] = {"tolerance": spec.tolerance, "seed": spec.seed, "dtype": theta.dtype, "device": theta.device}
        found = []
        for stage, subject in (("rescaled", operator), ("rescaled_invariant", Scaled(operator, scale))):
            search = Lanczos(subject, 1, state=work.state_of(stage), **options)
            yield from work.drive(stage, "rescaled", search, lambda: None)
            found.append(float(search.pairs().top[0]))
        (top, invariant), trace = found, float("nan")
    work.put(rescaled_sharpness=top, rescaled_trace=trace, rescaled_invariant=invariant, rescaled_deviation=off)


def evenly(items: Iterable[int], count: int, keep: int) -> list[int]:
    """At most `count` of the sorted items, spread over their order, with the first, the last and `keep` if it is one of them."""
    every = list(items)
    if len(every) <= count:
        return every
    places = np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))
    chosen = [every[i] for i in places]
    if keep in every and keep not in chosen:
        inner = range(1, len(chosen) - 1) or range(len(chosen))
        nearest = min(inner, key=lambda i: abs(chosen[i] - keep))
        chosen[nearest] = keep
    return sorted(chosen)
