"""What an overlap says: hypothesis, measured, baseline and verdict, and what the share does not mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...drawing.known import Known, scalar, text
from ...drawing.numbers import number, percent
from ...drawing.sources import COHEN, GUR_ARI, PAPYAN, SONG
from ...drawing.statement import Reading, Verdict
from ...specs import Array
from .spec import OverlapSpec

HOLDS, FAILS = 0.5, 0.05  # median share over the late checkpoints from which on the claim holds, and below which it fails
LATE = 1 / 3  # of the checkpoints, from the end
CLOSE = 0.05  # of the gradient: a last direction with no more adds little
CHANCE = 3.0  # standard deviations of a random direction's share: what lies within is no more than chance


def reading(data: Known, spec: OverlapSpec) -> list[Reading]:
    """The certificate of a finished overlap."""
    parts = (_share, _minibatch, _way, _k, _persistence, _gap, _stability, _accuracy, _sample, _zero, _notes, _limits)
    return [row for part in parts for row in part(data, spec)]


def _series(data: Known, name: str) -> Array:
    return np.asarray(data[name], float)


def _late(values: Array) -> Array:
    """The known values among the last third of the checkpoints."""
    late = values[-max(1, round(LATE * values.size)) :]
    found: Array = late[np.isfinite(late)]
    return found


def _by_chance(data: Known, share: float) -> bool:
    """Whether a random direction would have as large a share."""
    return share <= float(data["baseline"]) + CHANCE * float(data["baseline_deviation"])


def _share(data: Known, _spec: OverlapSpec) -> Iterator[Reading]:
    shares, steps = _series(data, "gradient_share"), np.asarray(data["steps"])
    k, p, baseline = int(data["k"]), int(data["parameters"]), float(data["baseline"])
    late = _late(shares)
    if not late.size:
        return
    middle = float(np.median(late))
    verdict: Verdict
    if middle < baseline:
        said, verdict = "it does not hold here: the gradient avoids that space, less than a random direction has", "note"
    elif _by_chance(data, middle):
        said, verdict = "it does not hold here: chance explains the share", "note"
    elif middle >= HOLDS:
        said, verdict = "it holds here", "ok"
    elif middle <= FAILS:
        said, verdict = "it does not hold here: more than by chance, but little of the gradient", "note"
    else:
        said, verdict = "it holds in part", "note"
    first = f", {percent(shares[0])} at step {steps[0]:,}" if np.isfinite(shares[0]) else ""
    measured = (
        f"over the last {late.size} checkpoints: median {percent(middle)}, "
        f"from {percent(float(late.min()))} to {percent(float(late.max()))}"
        if late.size > 1
        else f"at the last checkpoint: {percent(middle)}"
    )
    words = (
        f"Hypothesis: soon the gradient lies in the space of the top {k} eigenvectors. Measured {measured}{first}. "
        f"Baseline: {percent(baseline)} ± {percent(float(data['baseline_deviation']))} for a random direction of {p:,}. "
        f"Verdict: {said}. One checkpoint by itself is noise; look at the curve."
    )
    yield Reading("Gradient in the top space", percent(middle), words, "‖Uᵀg‖² / ‖g‖²", GUR_ARI, verdict)


def _minibatch(data: Known, spec: OverlapSpec) -> Iterator[Reading]:
    small, spread = _late(_series(data, "gradient_share_minibatch")), _late(_series(data, "gradient_share_minibatch_spread"))
    if not small.size:
        return
    middle, size = float(np.median(small)), int(data["minibatch_size"])
    full = _late(_series(data, "gradient_share"))
    whole = size >= float(data["sample_size"])
    batches = "1 random batch" if spec.minibatches == 1 else f"{spec.minibatches} random batches"
    words = (
        f"Measured: {'a batch of all samples, so the full gradient' if whole else f'gradients of {batches} of {size:,}'}, late "
        f"in training. Baseline: {percent(float(data['baseline']))}. Verdict: "
    )
    if _by_chance(data, middle):
        words += "no more than chance: mini-batch gradients do not lie in this space."
    elif whole:
        words += "there is no noise of mini-batches to speak of."
    elif full.size and middle > 5 * float(np.median(full)):
        words += (
            "far above the full gradient. The noise of mini-batches lies in this space even where the gradient itself "
            "does not: alignment is, to this part, a property of the noise."
        )
    else:
        words += "mini-batch gradients lie there " + ("mostly." if middle >= HOLDS else "in part.")
    deviation = f" ± {percent(float(np.median(spread)))}" if spread.size else ""
    yield Reading("Mini-batch gradients", f"{percent(middle)}{deviation}", words, "mean ± deviation over batches", SONG)


def _way(data: Known, _spec: OverlapSpec) -> Iterator[Reading]:
    way, shares = _late(_series(data, "displacement_share")), _late(_series(data, "gradient_share"))
    if not way.size:
        return
    middle = float(np.median(way))
    words = (
        "Hypothesis: if the gradient lives there, so does training. Measured: the way from each checkpoint to the next. "
        f"Baseline: {percent(float(data['baseline']))}. Verdict: "
    )
    full = float(np.median(shares)) if shares.size else 0.0
    little, small = (share <= FAILS or _by_chance(data, share) for share in (full, middle))
    if little and small:
        words += "neither the gradient nor the way that is made lies there."
    elif little:
        words += "the gradient does not lie there, but a part of the way that is made does."
    elif middle < 0.5 * full:
        words += "no. The gradient points into the space and back again; the way that is made lies mostly outside."
    elif middle > 2 * full:
        words += "the way is inside more than the gradient is."
    else:
        words += "the way is about as much inside as the gradient is."
    words += " A run keeps no single updates, so this is the sum of all of them between two checkpoints."
    yield Reading("Way made inside it", percent(middle), words, "‖Uᵀd‖² / ‖d‖², d = θ(next) − θ", SONG, "note")


def _k(data: Known, spec: OverlapSpec) -> Iterator[Reading]:
    k = int(data["k"])
    full, less = _late(_series(data, "gradient_share")), _late(_series(data, "gradient_share_k_minus_1"))
    if k < 2 or not full.size:
        return
    words = f"With k − 1 = {k - 1} eigenvectors instead of k = {k}."
    if spec.k is None:
        rest, chance = float(np.median(full - less)), 1 / int(data["parameters"])
        words += (
            " Hypothesis: softmax makes k − 1 outliers, one less than there are classes, so the last direction holds little. "
            f"Measured: it holds {percent(rest)}. Baseline: {percent(chance)}. Verdict: "
            + ("so it is." if rest <= CLOSE else "not here.")
        )
    formula = "(diag p − ppᵀ)1 = 0, so class means span k − 1 directions of the logits"
    yield Reading("k − 1 directions", percent(float(np.median(less))), words, formula, PAPYAN)


def _persistence(data: Known, _spec: OverlapSpec) -> Iterator[Reading]:
    values, steps = _series(data, "persistence_reference"), np.asarray(data["steps"])
    known = np.flatnonzero(np.isfinite(values))
    reference, baseline = int(data["reference_step"]), float(data["baseline"])
    if known.size < 2:
        return
    soon, middle = (int(known[np.abs(steps[known] - mark * steps[-1]).argmin()]) for mark in (0.05, 0.5))
    judged = soon if steps[soon] < reference else int(known[-1])  # against an early checkpoint, the end is what tells
    places = sorted({int(known[0]), soon, middle, judged})
    seen = ", ".join(f"{percent(values[i])} at step {steps[i]:,}" for i in places if steps[i] != reference)
    early = float(values[judged])
    if early <= 2 * baseline:
        verdict = "chance explains it, random spaces have about as much in common"
    else:
        verdict = "it persists" if early >= 0.8 else "it turns during training" if early < 0.5 else "it persists in part"
    words = (
        f"Hypothesis: the space hardly changes after a short time. Measured in common with step {reference:,}: {seen}. "
        f"Baseline: {percent(baseline)}. Verdict: {verdict}."
    )
    yield Reading("Persistence", percent(early), words, "‖UᵀV‖² / k of the spaces of two checkpoints", GUR_ARI)


def _gap(data: Known, spec: OverlapSpec) -> Iterator[Reading]:
    values, after = _series(data, "eigenvalues")[-1], float(_series(data, "eigenvalue_next")[-1])
    if values.size < 2 or not values[-1] > 0 or not after > 0:
        return
    ratio, inside = float(values[-1] / after), float(values[-2] / values[-1])
    # The Ritz value after the wanted ones is at most the eigenvalue, so of Lanczos the ratio is an upper bound.
    most = "" if spec.exact(int(data["parameters"])) else "at most "
    words = (
        f"λ{values.size} is {most}{number(ratio)} times λ{values.size + 1} at the last checkpoint, λ{values.size - 1} is "
        f"{number(inside)} times λ{values.size}. "
    )
    if ratio <= 1.2:
        words += (
            "Without a gap the last direction is arbitrary: near it single eigenvectors may turn, though nothing has happened."
        )
    else:
        words += "A clear gap: the space is well defined." if not most else "A gap, as far as the search resolves what follows."
    yield Reading(
        "Gap below the space", f"{most}{number(ratio)} times", words, "λₖ / λₖ₊₁", "", "ok" if ratio > 1.2 else "note"
    )


def _stability(data: Known, spec: OverlapSpec) -> Iterator[Reading]:
    limit, top = _series(data, "stability_limit_steps"), _series(data, "eigenvalues")[:, 0]
    known = np.isfinite(limit) & np.isfinite(top)
    words = text(data, "stability_words")
    if not known.any():
        yield Reading("Limit of stability", "none claimed", words, "", "", "note")
        return
    above = int((top[known] > limit[known]).sum())
    words += f" The largest eigenvalue reaches {number(float((top[known] / limit[known]).max()))} of it."
    value = f"{above} of {int(known.sum())} checkpoints above"
    if spec.operator != "hessian":
        words += " These are eigenvalues of the Gauss-Newton part; the limit is for those of the Hessian."
    claimed = text(data, "stability_kind") == "limit" and spec.operator == "hessian"
    kind: Verdict = "ok" if claimed else "note"
    yield Reading("Limit of stability", value, words, text(data, "stability_rule"), COHEN, kind)


def _accuracy(data: Known, spec: OverlapSpec) -> Iterator[Reading]:
    residual, products = float(np.nanmax(_series(data, "residuals"))), scalar(data, "products") or 0.0
    warm = _series(data, "warm")
    good = residual <= spec.tolerance
    words = (
        f"{number(products)} matrix-vector products; {int(np.nansum(warm))} of {warm.size} searches began with the vectors of "
    )
    words += "the checkpoint before." + ("" if good else " Some pairs do not meet the tolerance.")
    yield Reading("Accuracy", f"residuals up to {number(residual, 2)}", words, "‖Hv − λv‖ / |λ|", "", "ok" if good else "warn")


def _sample(data: Known, spec: OverlapSpec) -> Iterator[Reading]:
    decay, size = scalar(data, "weight_decay") or 0.0, scalar(data, "sample_size") or 0.0
    words = f"The run's weight decay of {number(decay)} is left out of gradient and Hessian." if decay else ""
    words += " The gradient is that of the loss, not an optimiser's update or its momentum, which a run does not keep."
    yield Reading(
        "Loss", f"mean over {size:,.0f} {spec.split} samples", words.strip(), "", "", "note" if spec.samples else "ok"
    )


def _zero(data: Known, _spec: OverlapSpec) -> Iterator[Reading]:
    norm, floor = _series(data, "gradient_norm"), _series(data, "gradient_floor")
    count = int((norm <= floor).sum())
    if count:
        words = (
            "There the gradient is no longer than rounding of the weights makes it: its direction is noise and has no share."
        )
        yield Reading("Gradient at machine zero", f"{count} of {norm.size} checkpoints", words, "‖g‖ ≤ ε λ₁ ‖θ‖", "", "warn")


def _notes(data: Known, _spec: OverlapSpec) -> Iterator[Reading]:
    for note in np.atleast_1d(np.asarray(data.get("notes", []))):
        if str(note):
            yield Reading("Note", "", str(note)[:1].upper() + str(note)[1:], "", "", "note")


def _limits(_data: Known, _spec: OverlapSpec) -> Iterator[Reading]:
    words: Any = (
        "Where the gradient points is not what trains the network: training only inside this space hardly lowers the loss, and "
        "training only outside it does as well as usual. Inside or outside makes the experiment from any checkpoint."
    )
    yield Reading("What this picture does not show", "", words, "", SONG, "note")
