"""The spectrum of the curvature at a checkpoint, exact or estimated with error bars; or its largest eigenvalues over a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ...linalg import Lanczos, SpectralMeasure
from ...linalg import share_bounds as share_bounds  # where it has been asked for
from ...measuring.context import Context
from ...measuring.growing import Running
from ...measuring.path import own_step
from ...measuring.symmetries import rescaled
from ...measuring.top_space import classes_of, dense_allowed
from ...specs import Array, InputError, Progress
from .estimates import densities, estimated_spectrum, exact_spectrum, symmetric, whole_matrix
from .growing import SpectrumGrowing
from .kind import causes, point, signs
from .operators import Scaled, block_size
from .over_run import over_run
from .spec import SpectrumSpec
from .trained import of_trained_loss

VAGUE = 0.25  # relative standard error from which on an estimate is no number
# What a quadrature may leave open of an effective dimension, as a share of the error of the probes. Its function bends next to
# zero: with twice as much, those pass whose quadratures agree by luck (2 standard errors held in .84 of 200, biased by .7).
KNEE = 0.25


def run(spec: SpectrumSpec, context: Context) -> Running:
    """The spectrum as a Result names it; yields the eigenvalues and the density as they grow."""
    if spec.over == "run":
        return (yield from over_run(spec, context))
    return (yield from _checkpoint(spec, context))


def _checkpoint(spec: SpectrumSpec, context: Context) -> Running:
    given = context.objective
    size = block_size(given, spec)
    exact = spec.exact(size)
    dense_allowed(exact, size)
    objective = context.double() if exact and spec.dtype is None else given
    before = objective.counts.copy()
    growing = SpectrumGrowing(spec, context, objective, exact)
    measure = exact_spectrum if exact else estimated_spectrum
    try:
        yield from measure(growing, "", spec.operator)
        yield growing.report("causes of zero eigenvalues")
        _finish(growing)
        if spec.beside:
            yield from measure(growing, "beside_", spec.beside)
        if spec.rescale:
            yield from _rescale(growing)
        densities(growing)
        growing.close()
    finally:
        if objective is not given:
            given.counts.update(objective.counts - before)
    return growing.arrays


def _finish(growing: SpectrumGrowing) -> None:
    """Counts, kind of point, stability and the other scalars."""
    spec, arrays = growing.spec, growing.arrays
    top = arrays["eigenvalues_top"]
    norm = float(arrays["norm"])
    zero = spec.zero_tolerance * max(norm, 0.0)
    p = growing.size
    modes, counted = causes(growing)
    found = signs(growing, modes.count)
    if growing.exact:
        share, flat = found.negative / p, float(p - found.negative - found.positive)
        share_error = flat_error = 0.0
        bounds, flat_bounds = (share, share), (flat, flat)
        sums = _exact_sums(np.asarray(arrays["nodes"])[0], spec.damping)
    else:
        measure = growing.measures[""]
        least, most = measure.share_bounds(-zero)
        inside = measure.share_bounds(zero)
        # What Lanczos has proven holds for the estimates too: none of them speaks of a sign against it.
        bounds = (max(least, found.negative / p), min(most, 1 - found.positive / p))
        flat_bounds = (max(p * (inside[0] - most), float(modes.count)), p * (inside[1] - least))
        below, beyond = measure.share_below(-zero), measure.share_below(zero)
        share, share_error = (below.value, below.error) if below.resolved else (math.nan, math.nan)
        flat = flat_error = math.nan
        if below.resolved and beyond.resolved:
            flat, flat_error = p * (beyond.value - below.value), p * float(np.hypot(below.error, beyond.error))
        sums = _estimated_sums(measure, spec.damping)
    count, gap = outliers(top, np.asarray(arrays["converged_top"]), zero)
    trace = float(arrays["trace"])
    growing.put(
        zero_threshold=zero,
        negative_share=share,
        negative_share_error=share_error,
        negative_share_bounds=np.array(bounds),
        nullity=flat,
        nullity_bounds=np.array(flat_bounds),
        nullity_error=flat_error,
        zero_modes_found=flat,
        nullity_predicted=modes.count,
        nullity_counted=counted.count,
        nullity_reasons="; ".join(counted.reasons),
        outliers=count,
        classes=classes_of(growing.objective),
        outlier_gap=gap,
        sharpness=float(top[0]),
        trace_ggn=trace if spec.operator == "ggn" else float("nan"),
        **sums,
        **point(growing, found),
    )
    growing.put(**of_trained_loss(growing), **growing.stability(own_step(growing.context)))
    if frozen := sum(part.numel() for part in growing.objective.network.model.parameters() if not part.requires_grad):
        others = f"every direction means every direction of the {growing.objective.space.size:,} others"
        growing.note(f"{frozen:,} parameter{' is' if frozen == 1 else 's are'} frozen: {others}")


def _curved(damping: float) -> Callable[[Array], Array]:
    """L / (l + c) of positive eigenvalues, 0 of others: what each counts for in the effective dimension."""

    def share(values: Array) -> Array:
        above = np.maximum(values, 0)
        return np.asarray(above / (above + damping))

    return share


def _participation(sizes: Any, squares: Any) -> Any:
    """(sum |l|)^2 / sum l^2."""
    return np.divide(np.square(sizes), squares, out=np.full(np.shape(squares), np.nan), where=np.asarray(squares) > 0)


def _exact_sums(values: Array, damping: float) -> dict[str, Any]:
    """Sums over all eigenvalues."""
    effective = float(_curved(damping)(values).sum())
    return {
        "effective_dimension": effective,
        "effective_dimension_error": 0.0,
        "effective_dimension_bounds": np.array([effective, effective]),
        "participation": _participation(np.abs(values).sum(), np.square(values).sum()),
        "participation_error": 0.0,
    }


def _estimated_sums(measure: SpectralMeasure, damping: float) -> dict[str, Any]:
    """The same from probes: numbers with standard errors where the quadrature resolves them, else NaN beside bounds."""
    effective = measure.total(_curved(damping))
    clear = effective.within(KNEE)
    ratio = measure.total(np.abs, np.square, of=_participation)
    sure = ratio.resolved and ratio.error <= VAGUE * ratio.value
    return {
        "effective_dimension": effective.value if clear else math.nan,
        "effective_dimension_error": effective.error if clear else math.nan,
        "effective_dimension_bounds": np.clip(effective.bounds, 0, measure.parameters),
        "participation": ratio.value if sure else math.nan,
        "participation_error": ratio.error if sure else math.nan,
    }


def outliers(values: Array, converged: Array, zero: float = 0.0) -> tuple[int, float]:
    """How many of the largest eigenvalues stand apart: the i with the largest ratio between neighbours, and that ratio.

    Only converged ones above `zero` count; (0, nan) where there are fewer than two.
    """
    known = values[np.asarray(converged, bool)]
    known = known[known > zero]
    if known.size < 2:
        return 0, float("nan")
    ratios = known[:-1] / known[1:]
    i = int(ratios.argmax())
    return i + 1, float(ratios[i])


def _rescale(growing: SpectrumGrowing) -> Iterator[Progress]:
    """The same function with its first two layers rescaled: what its curvature becomes."""
    spec = growing.spec
    assert spec.rescale is not None
    try:
        theta, off = rescaled(growing.objective, spec.rescale)
    except InputError as error:
        growing.put(rescaled_note=str(error))
        return
    operator = growing.operator(spec.operator, theta)
    scale = theta[growing.coordinates].abs()
    if growing.exact:
        matrix = symmetric((yield from whole_matrix(growing, "rescaled", operator, "rescaled matrix")))
        top, trace = float(torch.linalg.eigvalsh(matrix)[-1]), float(matrix.trace())
        invariant = float(torch.linalg.eigvalsh(scale.double()[:, None] * matrix * scale.double())[-1])
    else:
        options: dict[str, Any] = {"tolerance": spec.tolerance, "seed": spec.seed}
        found = []
        for stage, subject in (("rescaled", operator), ("rescaled_invariant", Scaled(operator, scale))):
            search = Lanczos(subject, 1, state=growing.state_of(stage) or None, **options)
            yield from growing.drive(stage, "rescaled", search)
            found.append(float(search.pairs().top[0]))
        (top, invariant), trace = found, float("nan")
    growing.put(rescaled_sharpness=top, rescaled_trace=trace, rescaled_invariant=invariant, rescaled_deviation=off)
