"""What a spectrum says about the kind of point: its class, its negative and its zero eigenvalues, from one count of signs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...drawing.known import Known, has, scalar, text
from ...drawing.numbers import number, percent, percents, plus_minus, settled, span
from ...drawing.statement import Reading, Verdict
from ...specs import DENSE_LIMIT
from .data import MATRICES
from .spec import SpectrumSpec

ROUNDING = 1e-12  # of |H| |theta|: a gradient that short is spelled as none
FEW = 0.25  # share of all eigenvalues up to which negative ones are few
VAGUE = 0.25  # relative error from which on an estimated share is given as its bounds


@dataclass(frozen=True)
class Counts:
    """How many eigenvalues are negative, zero and positive; at least so many where they are not all `known`."""

    negative: int
    zero: int
    positive: int
    known: bool
    threshold: float  # what counts as zero
    lowest: float | None  # the smallest that was found, 0 where it counts as that; None where nobody looked

    @classmethod
    def of(cls, data: Known, spec: SpectrumSpec) -> Counts | None:
        """Those of a result; None where it has none."""
        if not has(data, "signs", "zero_threshold"):
            return None
        negative, zero, positive = (int(count) for count in np.asarray(data["signs"]))
        known, threshold = bool(data["signs_known"]), scalar(data, "zero_threshold") or 0.0
        ends = [np.asarray(data.get(f"eigenvalues_{end}", []), float) for end in ("bottom", "top")]
        looked = known or (spec.k_bottom > 0 and any(end.size for end in ends))
        found = np.concatenate(ends) if looked else np.zeros(0)
        lowest = settled(float(found.min()), 0.0 if negative else threshold) if found.size else None
        return cls(negative, zero, positive, known, threshold, lowest)


def point(data: Known, spec: SpectrumSpec) -> Iterator[Reading]:
    """The kind of point; of a matrix that has none, what it can show."""
    kind, counts = text(data, "classification"), Counts.of(data, spec)
    if not kind or counts is None:
        return
    if kind == "none":
        yield _no_kind(spec, counts)
        return
    words, verdict = _class_words(kind, counts, data, spec)
    gradient, bend, decrement = (scalar(data, name) for name in ("gradient_norm", "gradient_curvature", "newton_decrement"))
    about = "" if text(data, "method") == "dense" else "about "
    if gradient is not None and (scalar(data, "gradient_relative") or 0.0) <= ROUNDING and kind != "not critical":
        gradient = 0.0  # of the length that rounding leaves
    here = [f"gradient {number(gradient)} long" if gradient else "gradient zero" if gradient == 0 else ""]
    here.append(f"curvature along it at most ‖Hĝ‖ = {number(bend)}" if bend is not None and gradient else "")
    here.append(f"Newton decrement {about}{number(decrement)}" if decrement is not None and gradient else "")
    words += " Here: " + ", ".join(item for item in here if item) + "." if any(here) else ""
    formula = (
        f"critical if ‖g‖ ≤ {number(spec.gradient_tolerance, 2)} ‖H‖ ‖θ‖ (‖θ‖ = 1 where it is 0); "
        f"{_zero_rule(counts, spec)}; Newton decrement ½ gᵀ|H|⁻¹g over what is not zero"
        + (", in the span of g, Hg, H²g, …" if about else "")
    )
    yield Reading("Kind of point", kind, words, formula, "", verdict)


def _class_words(kind: str, counts: Counts, data: Known, spec: SpectrumSpec) -> tuple[str, Verdict]:
    """What is said of a class, and how much it is worth."""
    p, least = counts.negative + counts.zero + counts.positive, "" if counts.known else "at least "
    negative, positive = (f"{least}{_are(n)}" for n in (counts.negative, counts.positive))
    low = f" The smallest is {number(counts.lowest)}." if counts.lowest is not None and counts.known else ""
    every = f"all {p:,} eigenvalues are"
    if p == 1:
        low, every = low.replace("The smallest", "It"), "the only eigenvalue is"
    if kind == "minimum":
        return f"A minimum: {every} positive, so the loss rises in every direction.{low}", "ok"
    if kind == "maximum":
        return f"A maximum: {every} negative, so the loss falls in every direction.{low}", "ok"
    if kind == "strict saddle":
        found = "" if counts.known or counts.lowest is None else f" The smallest found is {number(counts.lowest)}."
        words = f"A strict saddle: {negative} negative and {positive} positive, so the loss falls in some directions and rises"
        return f"{words} in others.{low}{found}", "ok"
    if kind == "degenerate":
        if counts.zero == p:
            return "Degenerate: the Hessian is zero, so to second order the loss is flat in every direction.", "note"
        return (
            f"Degenerate: no eigenvalue is negative, but {_are(counts.zero)} zero. Nullity {counts.zero:,}: along that many "
            "directions the loss is flat to second order, so the Hessian alone cannot say whether it rises or falls there.",
            "note",
        )
    if kind == "degenerate, downhill":
        return (
            f"No minimum: {negative} negative and none positive, so the loss falls along these. Nullity {counts.zero:,}: along "
            f"that many directions it is flat to second order.{low}",
            "note",
        )
    if kind == "not critical":
        return _slope(data, spec), "note"
    return _unresolved(counts, spec, int(scalar(data, "parameters") or 0)), "note"


def _slope(data: Known, spec: SpectrumSpec) -> str:
    relative = scalar(data, "gradient_relative")
    far = (
        f"The gradient is {number(relative, 2)} of ‖H‖ ‖θ‖, where at most {number(spec.gradient_tolerance, 2)} counts as small"
        if relative is not None
        else "The Hessian is zero, but the gradient is not"
    )
    words = f"{far}: this is no critical point, neither a minimum nor a saddle, but a place on a slope."
    return words + (" The signs of the eigenvalues say how the slope bends." if relative is not None else "")


def _unresolved(counts: Counts, spec: SpectrumSpec, p: int) -> str:
    if spec.k_bottom == 0:
        return "Unresolved: the smallest eigenvalues were not asked for (k_bottom=0), so no kind of point is said."
    if counts.negative:
        words = f"Unresolved, but no minimum: at least {_are(counts.negative)} negative"
        return f"{words}, the smallest found is {number(counts.lowest or 0.0)}. No positive one was found, and none excluded."
    if counts.lowest is None or counts.known:
        return "Unresolved: the signs of the eigenvalues are not known."
    return (
        f"Unresolved: no negative eigenvalue was found down to {number(counts.lowest)}, but none is excluded: Lanczos proves "
        "what it finds, not that there is nothing else. The exact matrix would tell, "
        + ("which method=dense computes." if p <= DENSE_LIMIT else f"but is only computed up to {DENSE_LIMIT:,} parameters.")
    )


def _no_kind(spec: SpectrumSpec, counts: Counts) -> Reading:
    """What a matrix that is not the Hessian of all parameters can and cannot show."""
    matrix, words = MATRICES[spec.operator], []
    if spec.operator == "ggn" and counts.negative:
        words.append(
            "The Gauss-Newton matrix leaves out how the network itself bends. Its negative eigenvalues come from a loss "
            "that is not convex in the outputs; the Hessian's are others."
        )
    elif spec.operator != "hessian":
        words.append(
            f"The {matrix} is positive semi-definite"
            + (" where the loss is convex in the outputs" if spec.operator == "ggn" else " by its build")
            + ": it shows no saddle and no way downhill, whatever the Hessian has. It only shows how strongly directions "
            "are curved."
        )
    if spec.layers is not None:
        words.append(
            f"Only {', '.join(spec.layers)}: a diagonal block hides what lies between blocks."
            + (
                " A negative eigenvalue of a block proves one of the whole matrix, but positive ones prove nothing."
                if spec.operator == "hessian"
                else ""
            )
        )
    words.append("So no kind of point is said: that takes the Hessian of the loss over all parameters.")
    name = matrix[:1].upper() + matrix[1:]
    value = name if spec.layers is None else f"{name}, a block"
    return Reading("What this matrix can show", value, " ".join(words), "", "", "note")


def negative(data: Known, spec: SpectrumSpec) -> Iterator[Reading]:
    """How many eigenvalues are negative."""
    counts, p = Counts.of(data, spec), scalar(data, "parameters")
    if counts is None or not p:
        return
    formula, least = f"λ < {number(-counts.threshold, 2) if counts.threshold else 0}", counts.negative / p
    of = " of this matrix" if text(data, "classification") == "none" else ""
    if counts.known:
        value = f"{counts.negative:,} of {p:,.0f}" + (f", {percent(least)}" if counts.negative else "")
        words = f"No eigenvalue{of} lies below zero."
    else:
        value, words = _estimated(data, counts, int(p))
    source = ""
    if counts.negative:
        words = "" if counts.known else f"At least {_are(counts.negative)} below zero. "
        words += f"The most negative is {number(counts.lowest)}. " if counts.lowest is not None and counts.lowest < 0 else ""
        if text(data, "classification") == "strict saddle":
            words += "Their number is the index of this saddle. "
        if _hidden(data, counts):
            words += "Böttcher & Wheeler found that random slices rarely show any of them."
            source = "Böttcher & Wheeler 2022 on slices"
    elif text(data, "classification") != "none" and not counts.known:
        words += " That none exists is not proven."
    yield Reading("Negative eigenvalues", value, words.strip(), formula, source)


def _hidden(data: Known, counts: Counts) -> bool:
    """Whether random directions hardly ever find a few negative eigenvalues among many.

    The curvature along a random unit vector has the mean tr H / p and a standard deviation of about √(2 Σλ²) / p; negative
    ones are hidden where the mean is more than two of these above zero and they are the fewer.
    """
    share = scalar(data, "negative_share")
    bounds = np.asarray(data.get("negative_share_bounds", [np.nan, np.nan]), float)
    share = counts.negative / max(1, counts.negative + counts.zero + counts.positive) if counts.known else share
    share = float(bounds[1]) if share is None else share
    if not has(data, "nodes", "weights", "parameters") or not share < FEW:
        return False
    nodes, weights, p = (np.asarray(data[name], float) for name in ("nodes", "weights", "parameters"))
    mean, square = (float((weights * nodes**power).sum(-1).mean()) * float(p) for power in (1, 2))
    return mean > 2 * math.sqrt(2 * square)


def _estimated(data: Known, counts: Counts, p: int) -> tuple[str, str]:
    """How many eigenvalues of a matrix that was only sampled are negative: value, and words where none was found."""
    share, error = scalar(data, "negative_share"), scalar(data, "negative_share_error")
    value = f"at least {counts.negative:,} of {p:,}" if counts.negative else "none found"
    known = share is not None and error is not None and share > 2 * error
    if share is not None and known and (error or 0.0) <= max(VAGUE * share, 0.01):
        value = f"{percent(share)}{plus_minus(100 * (error or 0.0), 100)}"
    elif has(data, "negative_share_bounds") and np.isfinite(np.asarray(data["negative_share_bounds"])).all():
        low, high = (float(bound) for bound in np.asarray(data["negative_share_bounds"]))
        if high > low:
            value = percents(low, high)
    if counts.lowest is None:
        return value, "The smallest eigenvalues were not asked for (k_bottom=0)."
    return value, f"No negative eigenvalue was found down to {number(counts.lowest)}."


def zeros(data: Known, spec: SpectrumSpec) -> Iterator[Reading]:
    """How many eigenvalues are zero, and why, as far as causes were counted."""
    counts, p = Counts.of(data, spec), scalar(data, "parameters")
    predicted = scalar(data, "nullity_predicted")
    if counts is None or not p or predicted is None:
        return
    causes, reasons = scalar(data, "nullity_counted"), text(data, "nullity_reasons")
    counted = int(predicted if causes is None else causes)
    because = f"Counted: {reasons}." if counted else ""
    verdict: Verdict = "ok"
    if text(data, "method") == "dense":
        found = round(scalar(data, "nullity") or 0.0)
        value = f"{found:,} of {p:,.0f}"
        if found < counted:
            words = f"{because} Fewer were found: rounding has lifted some above what counts as zero; use dtype=float64."
            verdict = "warn"
        elif not found:
            words = "No eigenvalue counts as zero."
        elif found == counted:
            words = f"{because} Exactly these were found."
        else:
            words = f"{because} {_are(found - counted, 'more ' if counted else '')} of unknown cause.".strip()
    else:
        value = f"at least {counts.zero:,} of {p:,.0f}" if counts.zero else "none found"
        words = f"{because} An estimate cannot tell an exact zero from a very small eigenvalue, so their number is not known."
        if has(data, "nullity_bounds") and np.isfinite(np.asarray(data["nullity_bounds"])).all():
            low, high = (max(round(float(bound)), counts.zero) for bound in np.asarray(data["nullity_bounds"]))
            value = f"{span(f'{low:,}', f'{high:,}')} of {p:,.0f}"
            words = words if low < high else f"{because} Bounds that hold in 95 of 100 draws leave no other number."
    if reasons and not counted and not (text(data, "method") == "dense" and not round(scalar(data, "nullity") or 0.0)):
        words += f" {reasons[:1].upper()}{reasons[1:]}."
    yield Reading("Zero eigenvalues", value, words.strip(), _zero_rule(counts, spec), "", verdict)


def _zero_rule(counts: Counts, spec: SpectrumSpec) -> str:
    return f"zero if |λ| ≤ {number(counts.threshold, 2)}, {number(spec.zero_tolerance, 2)} of the largest |λ|"


def _are(count: int, more: str = "") -> str:
    return f"{count:,} {more}{'eigenvalue is' if count == 1 else 'eigenvalues are'}"
