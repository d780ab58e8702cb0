"""What a spectrum says about this checkpoint: the kind of point, the sharpness, and how far each number may be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ...drawing.known import Known, has, scalar, text
from ...drawing.limits import limit_row
from ...drawing.numbers import counted, number, percent, plus_minus, settled, span
from ...drawing.sources import COHEN
from ...drawing.statement import Reading, Verdict
from ...specs import Array
from .data import MATRICES
from .point import negative, point, zeros
from .spec import SpectrumSpec

PIECEWISE_LINEAR = "they are equal for piecewise linear networks (ReLU) without weight sharing, and differ otherwise"
SAME = 1e-6  # relative: a curvature that rescaling has not changed
VAGUE = 0.25  # relative standard error from which on nothing is made of an estimate
SOLID = 0.999  # captured mass of the density that needs no word
RESIDUAL = {"float32": 1e-6}  # relative: what rounding leaves of a residual, 1e-12 in any other arithmetic


def reading(data: Known, spec: SpectrumSpec) -> list[Reading]:
    """The certificate of a finished spectrum. Rows whose numbers the result doesn't hold are left out."""
    parts = (
        (_over_run, _sample, _notes)
        if spec.over == "run"
        else (
            point,
            _sharpness,
            _invariant,
            negative,
            _trace,
            _outliers,
            zeros,
            _flatness,
            _beside,
            _rescaled,
            _accuracy,
            _density,
            _sample,
            _notes,
            _limits,
        )
    )
    return [row for part in parts for row in part(data, spec)]


def _largest(data: Known) -> float | None:
    return float(np.asarray(data["eigenvalues_top"])[0]) if has(data, "eigenvalues_top") else None


def _rounding(data: Known) -> float:
    """What rounding leaves of an eigenvalue that is zero."""
    return (1e-6 if text(data, "arithmetic") == "float32" else 1e-12) * (scalar(data, "norm") or 0.0)


def _residuals(data: Known, worst: float) -> str:
    """How large the residuals are at most, or that rounding is all there is of them."""
    least = RESIDUAL.get(text(data, "arithmetic"), 1e-12)
    return f"residuals up to {number(worst, 2)}" if worst > least else "residuals at rounding"


def _sharpness(data: Known, spec: SpectrumSpec) -> Iterator[Reading]:
    top = _largest(data)
    if top is None:
        return
    top = settled(top, _rounding(data))
    limit, kind, rule = scalar(data, "stability_limit"), text(data, "stability_kind"), text(data, "stability_rule")
    verdict: Verdict = "ok"
    if spec.operator != "hessian" or limit is None:
        words = text(data, "stability_words") or "No limit of stability is known here."
        if spec.operator != "hessian":
            words = f"This is the largest eigenvalue of the {MATRICES[spec.operator]}, not of the Hessian."
    elif not limit > 0:
        words = f"{rule} = {number(limit)}: with so much weight decay no curvature is stable at this learning rate."
        verdict = "note"
    else:
        ratio = top / limit
        words = f"{percent(ratio)} of {rule} = {number(limit)}."
        if kind == "limit":
            state = "at" if 0.9 < ratio < 1.1 else "beyond" if ratio >= 1.1 else "below"
            words += {
                "below": " Descent with this learning rate is stable here.",
                "at": " At the edge of stability, within a tenth.",
                "beyond": " Descent with this learning rate would leave a quadratic valley this sharp.",
            }[state]
            verdict = "ok" if state != "beyond" else "note"
        words += " " + text(data, "stability_words")
    residual = np.asarray(data["residuals_top"], float)[0] if has(data, "residuals_top") else np.nan
    error = float(residual * abs(top))
    within = f", to within {number(error, 2)}" if error > max(1e-9 * abs(top), _rounding(data)) else ""
    formula = f"λ₁; stable while {rule} > λ₁ on a quadratic" if rule else "λ₁"
    yield Reading("Sharpness", f"{number(top, 4)}{within}", words, formula, COHEN, verdict)


def _invariant(data: Known, _spec: SpectrumSpec) -> Iterator[Reading]:
    value = scalar(data, "sharpness_invariant")
    if value is None:
        return
    words = (
        "The curvature per relative change of each weight. Unlike the raw sharpness it stays the same when layers or single "
        "neurons are rescaled without changing the function, so networks may be compared by it. Weights that are exactly zero "
        "do not enter."
    )
    formula = "largest eigenvalue of diag|θ| H diag|θ|"
    yield Reading("Sharpness, rescaling-invariant", number(value, 4), words, formula, "Kwon et al. 2021, arXiv:2102.11600")


def _trace(data: Known, _spec: SpectrumSpec) -> Iterator[Reading]:
    trace, error, p = (scalar(data, name) for name in ("trace", "trace_standard_error", "parameters"))
    if trace is None:
        return
    trace = settled(trace, (p or 1) * _rounding(data))
    spread = plus_minus(error, (p or 1) * (scalar(data, "norm") or 0.0))
    words = f"Mean curvature {number(trace / p)}: what a random direction of unit length sees. " if p else ""
    top = np.asarray(data["eigenvalues_top"], float)
    if trace > 0 and 0 < top.size < (p or math.inf):
        rounding = 1e-3 if text(data, "arithmetic") == "float32" else 1e-6
        words += _held(float(top.sum()) / trace, (error or 0.0) / trace, top.size, rounding)
    if has(data, "trace_layers", "layer_names"):
        words += _largest_part(np.asarray(data["trace_layers"], float), np.asarray(data["layer_names"]), trace)
    if text(data, "trace_operator") == "ggn" and text(data, "operator_kind") == "hessian":
        words += "From Gauss-Newton products, which have the same diagonal here and less noise."
    formula = "sum of all eigenvalues" + (
        "" if not error else ": vᵀHv over random signs v, with the largest part taken exactly"
    )
    yield Reading(
        "Trace",
        f"{number(trace, 4)}{spread}",
        words.strip(),
        formula,
        "" if not error else "Hutchinson 1990; Meyer et al. 2021",
    )


def _largest_part(values: Array, names: Array, trace: float) -> str:
    """Which layer's diagonal block holds most of the trace; nothing of one layer, or of a trace that layers take from."""
    first = int(values.argmax())
    if values.size < 2 or not trace > 0 or not values.min() >= 0:
        return ""
    return f"{'Most of it belongs' if values[first] > 0.5 * trace else 'The largest part belongs'} to {names[first]}. "


def _held(share: float, relative: float, k: int, rounding: float) -> str:
    """What the k largest eigenvalues hold of a trace with this relative error; nothing where that is not known well."""
    if relative > VAGUE:
        return ""
    largest = f"The {k} largest eigenvalues hold" if k > 1 else "The largest eigenvalue holds"
    words = f"{largest} {percent(share)}{plus_minus(100 * share * relative, 100)} of it"
    return words + (": negative ones take the rest away. " if share > 1 + max(2 * share * relative, rounding) else ". ")


def _outliers(data: Known, _spec: SpectrumSpec) -> Iterator[Reading]:
    count, gap = scalar(data, "outliers"), scalar(data, "outlier_gap")
    if count is None or gap is None:
        return
    clear, classes = gap >= 1.5, int(scalar(data, "classes") or 0)
    words = (
        f"After the first{f' {number(count)}' if count > 1 else ''} the eigenvalues fall by a factor of {number(gap)}, "
        "more than anywhere else among those resolved."
        if clear
        else f"No clear gap among those resolved: the largest factor between neighbours is {number(gap)}. Raise k to see more."
    )
    if classes > 1:
        words += f" Papyan found that a classifier of C classes often has C − 1 of them, here {classes - 1}."
    formula = "the i with the largest λᵢ / λᵢ₊₁ among the resolved positive ones"
    value = number(count) if clear else "none stands out"
    yield Reading("Outliers", value, words, formula, "Papyan 2019, arXiv:1901.08244; Gur-Ari et al. 2018, arXiv:1812.04754")


def _flatness(data: Known, spec: SpectrumSpec) -> Iterator[Reading]:
    value, error, p = (scalar(data, name) for name in ("effective_dimension", "effective_dimension_error", "parameters"))
    if value is None and not has(data, "effective_dimension_bounds"):
        return
    words = f"Of {counted(p, 'direction')} this many are curved noticeably more than {number(spec.damping, 2)}." if p else ""
    if value is None:
        low, high = (float(end) for end in np.asarray(data["effective_dimension_bounds"]))
        said = span(number(low), number(high))
        words += (
            " Bounds that hold in 95 of 100 draws: so many products do not tell apart what lies near c. Raise lanczos_steps."
        )
    else:
        said = f"{number(settled(value, 1e-9))}{plus_minus(error, value)}"
    ratio, spread = scalar(data, "participation"), scalar(data, "participation_error")
    if ratio is not None:
        words += f" As many eigenvalues of equal size would have these sums of |λ| and λ²: {number(ratio)}"
        words += f"{plus_minus(spread, ratio)}."
    formula = f"Σ λ/(λ + c) over λ > 0, c = {number(spec.damping, 2)}; and (Σ|λ|)² / Σλ²"
    yield Reading("Effective dimension", said, words, formula, "MacKay 1992")


def _beside(data: Known, spec: SpectrumSpec) -> Iterator[Reading]:
    if spec.beside is None or not has(data, "beside_eigenvalues_top"):
        return
    here, there = _largest(data) or 0.0, float(np.asarray(data["beside_eigenvalues_top"])[0])
    trace, other = scalar(data, "trace"), scalar(data, "beside_trace")
    first, second = (scalar(data, name) or 0.0 for name in ("trace_standard_error", "beside_trace_standard_error"))
    words = f"Its largest eigenvalue is {number(there)}, beside {number(here)}. "
    verdict: Verdict = "ok"
    if trace is not None and other is not None:
        spread = float(np.hypot(first, second))
        words += f"Its trace is {number(other, 4)}, beside {number(trace, 4)}"
        close = abs(trace - other) <= max(3 * spread, 1e-5 * max(abs(trace), abs(other)))
        if {spec.operator, spec.beside} == {"hessian", "ggn"}:
            words += (
                (": equal" + (" within the error; " if spread else "; ") if close else ": not equal; ") + PIECEWISE_LINEAR + "."
            )
        elif "empirical_fisher" in (spec.operator, spec.beside):
            words += ". The empirical Fisher takes the data's labels: it differs from the Fisher in scale and in direction."
        else:
            words += "."
    names = f"{MATRICES[spec.operator]} and {MATRICES[spec.beside]}"
    ratio = f"λ₁ {number(here / there, 3)} times" if here > 0 and there > 0 else f"λ₁ {number(here)} and {number(there)}"
    formula = "H = G + R, G = mean of Jᵀ(∂²loss/∂z²)J, R = the network's own curvature weighted by the residuals"
    yield Reading(names, ratio, words, formula, "Kunstner et al. 2019", verdict)


def _rescaled(data: Known, spec: SpectrumSpec) -> Iterator[Reading]:
    note = text(data, "rescaled_note")
    if note:
        yield Reading("Rescaling", "not done", _capital(note), "", "", "note")
        return
    top, off = scalar(data, "rescaled_sharpness"), scalar(data, "rescaled_deviation")
    trace, invariant = scalar(data, "rescaled_trace"), scalar(data, "rescaled_invariant")
    if top is None or off is None:
        return
    before, floor = _largest(data) or 0.0, _rounding(data)
    before, top = settled(before, floor), settled(top, floor)
    words = (
        f"The same function with the first layer times {number(spec.rescale or 1)} and the second divided by it (the loss "
        f"differs by {number(off, 2)}): sharpness {number(before)} → {number(top)}"
    )
    changed = not math.isclose(before, top, rel_tol=SAME, abs_tol=floor)
    if trace is not None:
        first, floor = scalar(data, "trace") or 0.0, (scalar(data, "parameters") or 1) * floor
        words += f", trace {number(settled(first, floor))} → {number(settled(trace, floor))}"
        changed = changed or not math.isclose(first, trace, rel_tol=SAME, abs_tol=floor)
    if invariant is not None:
        words += f"; the invariant sharpness {number(scalar(data, 'sharpness_invariant') or 0.0)} → {number(invariant)}"
    words += ". "
    words += (
        "So raw curvature alone says nothing about how well a network generalises."
        if changed
        else "Here the rescaling leaves the curvature as it is."
    )
    formula = "W₁, b₁ → c W₁, c b₁; W₂ → W₂ / c, which was found to leave this network's function as it is"
    yield Reading(
        "Rescaling",
        f"sharpness × {number(top / before, 3)}" if before > 0 else f"sharpness {number(top)}",
        words,
        formula,
        "Dinh et al. 2017, arXiv:1703.04933",
    )


def _accuracy(data: Known, spec: SpectrumSpec) -> Iterator[Reading]:
    products = scalar(data, "products")
    done = "" if products is None else f"{counted(products, 'matrix-vector product')}. "
    if text(data, "method") == "dense":
        kind = text(data, "arithmetic", "float64")
        words = done + f"Every entry of the matrix was computed in {kind} and all eigenvalues with it; no estimate is involved."
        yield Reading("Accuracy", "exact matrix", words, "symmetric eigenvalue decomposition")
        return
    flags = np.concatenate([np.asarray(data.get(f"converged_{end}", []), bool) for end in ("top", "bottom")])
    worst = max((float(np.max(data[name])) for name in ("residuals_top", "residuals_bottom") if has(data, name)), default=0.0)
    good = bool(flags.all())
    words = done + (
        "Every resolved eigenvalue meets the tolerance."
        if good
        else f"{int((~flags).sum())} of {flags.size} do not meet the tolerance: their error bars are wider."
    )
    formula = f"‖Hv − λv‖ / |λ| at the top, / ‖H‖ at the bottom; tolerance {number(spec.tolerance, 2)}"
    yield Reading("Accuracy", _residuals(data, worst), words, formula, "", "ok" if good else "warn")


def _density(data: Known, _spec: SpectrumSpec) -> Iterator[Reading]:
    width, mass = scalar(data, "density_width"), scalar(data, "density_mass")
    if width is None or mass is None:
        return
    exact = text(data, "method") == "dense"
    words = f"Every eigenvalue is drawn as a bell of standard deviation {number(width, 2)}; a single one stands at height 1. "
    if not exact:
        probes, steps = np.asarray(data["nodes"]).shape if has(data, "nodes") else (0, 0)
        known = int(scalar(data, "nodes_known") or 0)
        words += (
            _taken(known)
            + f" from {counted(probes, 'random vector')} with {counted(steps - known, 'product')} each; the band is "
            "one standard error. What is closer together than the kernel is not told apart. "
        )
    if mass < SOLID:
        words += f"{number(100 * (1 - mass), 2)} % of it lies outside the axis and is not put back by rescaling."
    formula = "φ(t) = mean over probes of Σ wᵢ N(t; θᵢ, σ²); drawn: p φ σ √(2π)"
    source = "" if exact else "Ghorbani et al. 2019, arXiv:1901.10159"
    yield Reading(
        "Density", f"{number(100 * mass, 4)} % captured", words.strip(), formula, source, "ok" if mass >= 0.99 else "warn"
    )


def _taken(known: int) -> str:
    """How the eigenvalues come that were found before."""
    if not known:
        return "Estimated"
    are = "1 eigenvalue is taken as it was" if known == 1 else f"{known:,} eigenvalues are taken as they were"
    return f"{are} found, the rest is estimated"


def _sample(data: Known, spec: SpectrumSpec) -> Iterator[Reading]:
    size = scalar(data, "sample_size")
    if size is None:
        return
    words = ""
    if spec.samples is not None:
        words = (
            "A part of the samples only. The extremes of a small sample tend to be exaggerated, the negative one most: compare "
            "like with like. "
        )
    words += _decay(data, spec)
    if spec.layers:
        words += f"Only {', '.join(spec.layers)}: the other weights are held fixed. "
    if bool(np.asarray(data.get("kinks", False))):
        words += "Kinks, such as those of ReLU, are left out, as in every automatic derivative."
    value = f"mean over {counted(size, f'{spec.split} sample')}"
    if not bool(np.asarray(data.get("separate", True))):
        value = f"of {counted(size, f'{spec.split} sample')} together"
        words = f"Samples see each other in it, so it is no mean of losses of their own. {words}"
    yield Reading("Loss", value, words.strip(), "", "", "note" if spec.samples else "ok")


def _decay(data: Known, spec: SpectrumSpec) -> str:
    """Which loss these are eigenvalues of, where the run was trained with weight decay."""
    decay = scalar(data, "weight_decay") or 0.0
    if spec.weight_decay:
        return f"Weight decay is a part of this loss: every eigenvalue is larger by {number(decay)}. " if decay else ""
    if not decay:
        return "No weight decay is added to it. "
    optimizer = text(data, "optimizer")
    if optimizer == "adamw":
        return f"AdamW's weight decay of {number(decay)} pulls at the weights beside the gradient: it is a part of no loss. "
    left = f"The run's weight decay of {number(decay)} is left out: this is the plain loss. "
    if optimizer not in ("sgd", "adam"):
        return left
    if spec.operator not in ("hessian", "ggn"):
        return left + "A Fisher matrix has none. "
    left += "In the loss that was trained, with the decay, every eigenvalue is larger by that much"
    kind, slope = text(data, "classification_trained"), scalar(data, "gradient_norm_trained")
    left += f" and the gradient {number(slope)} long" if slope is not None else ""
    return left + (f"; its kind of point: {kind}. " if kind else ". ")


def _notes(data: Known, _spec: SpectrumSpec) -> Iterator[Reading]:
    for note in np.atleast_1d(np.asarray(data.get("notes", []))):
        if str(note):
            yield Reading("Note", "", _capital(str(note)), "", "", "note")


def _capital(words: str) -> str:
    """With a capital at its beginning."""
    return words[:1].upper() + words[1:]


def _limits(_data: Known, _spec: SpectrumSpec) -> Iterator[Reading]:
    words = (
        "Curvature at one point, to second order: it says nothing about how far the valley goes, and it changes when weights "
        "are rescaled without changing the function. Eigenvectors of close eigenvalues may turn freely: only their span counts."
    )
    yield Reading("What this picture does not show", "", words, "", "Dinh et al. 2017, arXiv:1703.04933", "note")


def _over_run(data: Known, spec: SpectrumSpec) -> Iterator[Reading]:
    values = np.asarray(data["eigenvalues_top_steps"], float)
    steps = np.asarray(data["steps"])
    # Rounding leaves this much of a checkpoint's eigenvalue that is zero, seen from the largest of all.
    floor = 1e-12 * float(np.nanmax(np.abs(values)))
    top = np.where(np.abs(values[:, 0]) <= floor, 0.0, values[:, 0])
    first = int(np.nanargmax(top))
    highest = number(float(top[first]), 4)
    ends = f"{number(float(top[0]))} at step {steps[0]:,} and {number(float(top[-1]))} at the end"
    words = f"Highest at step {steps[first]:,}; {ends}."
    if steps.size > 1:
        yield Reading("Sharpness over training", f"up to {highest}", words, "λ₁ at every checkpoint shown")
    else:
        words = f"At step {steps[0]:,}, the only checkpoint: how it changed in training is not known."
        yield Reading("Sharpness", highest, words, "λ₁")
    yield limit_row(data, top, "" if spec.operator == "hessian" else f"the {MATRICES[spec.operator]}")
    bottom = np.asarray(data.get("eigenvalue_bottom_steps", []), float)
    if np.isfinite(bottom).any():
        yield _smallest(bottom, steps, spec.zero_tolerance * float(np.nanmax(np.abs(values))))
    residual = float(np.nanmax(np.asarray(data["residuals_top_steps"], float)))
    words = f"{counted(scalar(data, 'products') or 0, 'matrix-vector product')}"
    words += "; each checkpoint starts from the one before." if steps.size > 1 else "."
    yield Reading(
        "Accuracy",
        _residuals(data, residual),
        words,
        "‖Hv − λv‖ / |λ|",
        "",
        "ok" if residual <= spec.tolerance else "note",
    )


def _smallest(bottom: Array, steps: Array, zero: float) -> Reading:
    """The smallest eigenvalue over the run; what is within `zero` of that is called zero."""
    low = int(np.nanargmin(bottom))
    least, last = (settled(float(bottom[i]), zero) for i in (low, -1))
    end = f"{number(last)} at the end." if math.isfinite(last) else "not known at the end."
    if steps.size == 1:
        none = "" if least < 0 else "No negative eigenvalue was found, but none is excluded. "
        return Reading("Smallest eigenvalue", number(least), f"{none}At step {steps[0]:,}, the only checkpoint.")
    if least < 0:
        return Reading("Smallest eigenvalue", f"down to {number(least)}", f"Most negative at step {steps[low]:,}; {end}")
    words = f"No negative eigenvalue was found down to {number(least)} (step {steps[low]:,}), but none is excluded; {end}"
    return Reading("Smallest eigenvalue", number(least), words)
