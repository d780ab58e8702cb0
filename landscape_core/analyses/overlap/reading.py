"""What an overlap says: hypothesis, measured, baseline and verdict, and what the share does not mean."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...drawing.known import Known, scalar, text
from ...drawing.limits import limit_row
from ...drawing.numbers import ROUNDING, counted, number, percent, percents
from ...drawing.sources import GUR_ARI, PAPYAN, SONG
from ...drawing.statement import Reading, Verdict
from ...specs import Array
from .arrays import TRAINED
from .spec import OverlapSpec

HOLDS, FAILS = 0.5, 0.05  # median share over the late checkpoints from which on the claim holds, and below which it fails
LATE = 1 / 3  # of the checkpoints, from the end
CLOSE = 0.05  # of the gradient: a last direction with no more adds little
SCATTER = 0.1  # between late checkpoints: from here on a single one says little
SOON = 0.25  # of the run: a checkpoint up to here is one shortly after the start
PERSISTS, TURNS = 0.8, 0.5  # of a space in common with the reference


def reading(data: Known, spec: OverlapSpec) -> list[Reading]:
    """The certificate of a finished overlap."""
    parts = (_share, _plain, _minibatch, _way, _k, _persistence, _gap, _stability, _accuracy, _sample, _zero, _notes, _limits)
    return [row for part in parts for row in part(data, spec)]


def trained(data: Known) -> str:
    """How names of the loss that is trained end: with the weight decay where it is a part of that loss."""
    return TRAINED if (scalar(data, "trained_decay") or 0.0) > 0 else ""


def _series(data: Known, name: str) -> Array:
    return np.asarray(data[name], float)


def _late(values: Array) -> Array:
    """The known values among the last third of the checkpoints."""
    late = values[-max(1, round(LATE * values.size)) :]
    found: Array = late[np.isfinite(late)]
    return found


def _by_chance(data: Known, share: float) -> bool:
    """Whether a random direction would have as large a share."""
    return share <= float(np.asarray(data["baseline_bounds"])[1])


def _chance(data: Known) -> str:
    """What a random direction has, in words."""
    low, high = (float(bound) for bound in np.asarray(data["baseline_bounds"]))
    return (
        f"{percent(float(data['baseline']))} for a random direction, 99 of 100 between {percent(low, 2)} and {percent(high, 2)}"
    )


def _gradient(data: Known) -> str:
    return "gradient of the loss that is trained, weight decay included," if trained(data) else "gradient"


def _verdict(data: Known, middle: float) -> tuple[str, Verdict]:
    """Whether the gradient lies in the space, by the median of its late shares; beyond chance only outside its law."""
    if middle < float(np.asarray(data["baseline_bounds"])[0]):
        return "it does not hold here: less of the gradient lies there than of a random direction", "note"
    if _by_chance(data, middle):
        return "not shown here: a random direction would have such a share", "note"
    if middle >= HOLDS:
        return "it holds here", "ok"
    if middle <= FAILS:
        return "it does not hold here: more than by chance, but little of the gradient", "note"
    return "it holds in part", "note"


def _share(data: Known, _spec: OverlapSpec) -> Iterator[Reading]:
    shares, steps = _series(data, f"gradient_share{trained(data)}"), np.asarray(data["steps"])
    late = _late(shares)
    if not late.size:
        return
    middle, low, high = (float(end(late)) for end in (np.median, np.min, np.max))
    said, verdict = _verdict(data, middle)
    measured = (
        f"over the last {late.size} checkpoints: median {percent(middle)}, {percents(low, high)}"
        if late.size > 1
        else f"at the last checkpoint: {percent(middle)}"
    )
    first = f"; {percent(shares[0])} at step {steps[0]:,}" if np.isfinite(shares[0]) and shares.size > late.size else ""
    words = (
        f"Hypothesis: soon the {_gradient(data)} lies in the space of the top {counted(int(data['k']), 'eigenvector')}. "
        f"Measured {measured}{first}. Baseline: {_chance(data)}. Verdict: {said}."
    )
    if high - low > SCATTER:
        words += " It scatters: a single checkpoint says little, look at the curve."
    elif late.size == 1:
        words += " It is a single checkpoint."
    yield Reading("Gradient in the top space", percent(middle), words, "‖Uᵀg‖² / ‖g‖²", GUR_ARI, verdict)


def _plain(data: Known, _spec: OverlapSpec) -> Iterator[Reading]:
    """The same of the plain loss, where that is not what is trained."""
    late = _late(_series(data, "gradient_share"))
    if not trained(data) or not late.size:
        return
    middle, decay = float(np.median(late)), number(scalar(data, "trained_decay") or 0.0)
    words = (
        f"Of the gradient of the plain loss, without the weight decay of {decay}: {percent(middle)}, the median over the same "
        f"checkpoints. Descent follows g + wd θ, of whose loss L + ½ wd ‖θ‖² the other lines speak. Its Hessian is H + wd: the "
        f"same space, every eigenvalue larger by {decay} than those here."
    )
    yield Reading("Plain gradient in it", percent(middle), words, "‖Uᵀg‖² / ‖g‖², g = ∇L", GUR_ARI, "note")


def _minibatch(data: Known, spec: OverlapSpec) -> Iterator[Reading]:
    end = trained(data)
    small, spread = (_late(_series(data, f"gradient_share_minibatch{part}{end}")) for part in ("", "_spread"))
    full = _late(_series(data, f"gradient_share{end}"))
    if not small.size:
        return
    middle, size = float(np.median(small)), int(data["minibatch_size"])
    if size >= float(data["sample_size"]):
        words = f"A batch of {size:,} is all samples, so this is the full gradient once more."
        yield Reading("Mini-batch gradients", percent(middle), words, "", SONG, "note")
        return
    batches = "1 random batch" if spec.minibatches == 1 else f"{spec.minibatches} random batches"
    of = ", weight decay included" if end else ""
    words = f"Measured late in training: gradients of {batches} of {size:,}, drawn for this{of}. Baseline: "
    words += f"{_chance(data)}. Verdict: "
    if _by_chance(data, middle):
        words += "no more than by chance."
    elif full.size and middle > 5 * float(np.median(full)):
        words += (
            "far above the full gradient, so what lies in this space is mostly the noise of mini-batches: where single batches "
            "differ from the mean of all."
        )
    else:
        words += "mini-batch gradients lie there " + ("mostly." if middle >= HOLDS else "in part.")
    deviation = (
        f", single ones deviate by {percent(float(np.median(spread)))}" if spread.size and np.median(spread) > ROUNDING else ""
    )
    yield Reading(
        "Mini-batch gradients", f"{percent(middle)}{deviation}", words, "mean and standard deviation over batches", SONG
    )


def _way(data: Known, _spec: OverlapSpec) -> Iterator[Reading]:
    way, shares = _late(_series(data, "displacement_share")), _late(_series(data, f"gradient_share{trained(data)}"))
    if not way.size:
        return
    middle = float(np.median(way))
    words = (
        "Hypothesis: if the gradient lives there, so does training. Measured: the way from each checkpoint to the next. "
        f"Baseline: {_chance(data)}. Verdict: "
    )
    if _by_chance(data, middle):
        words += "no more of the way lies there than of a random direction."
    elif middle <= FAILS:
        words += "little of the way lies there, if more than of a random direction."
    else:
        words += f"{'most' if middle >= HOLDS else 'a part'} of the way lies there."
    if shares.size:
        words += f" Of the gradient itself it is {percent(float(np.median(shares)))} at these checkpoints."
    words += " A run keeps no single updates, so this is the sum of all of them between two checkpoints."
    yield Reading("Way made inside it", percent(middle), words, "‖Uᵀd‖² / ‖d‖², d = θ(next) − θ", SONG, "note")


def _k(data: Known, spec: OverlapSpec) -> Iterator[Reading]:
    k, end = int(data["k"]), trained(data)
    full, less = (_late(_series(data, f"gradient_share{part}{end}")) for part in ("", "_k_minus_1"))
    if k < 2 or not full.size:
        return
    words, formula, source = (
        f"With k − 1 = {counted(k - 1, 'eigenvector')} instead of k = {k}.",
        "‖Uᵀg‖² / ‖g‖², k − 1 columns",
        "",
    )
    if spec.k is None and (scalar(data, "softmax") or 0.0) > 0 and int(scalar(data, "classes") or 0) == k:
        rest = float(np.median(full - less))
        words += (
            " Hypothesis: softmax makes k − 1 outliers, one less than there are classes, so the last direction holds little. "
            f"Measured: it holds {percent(rest)} of the gradient. Baseline: {percent(1 / int(data['parameters']))} of a random "
            f"one. Verdict: {'it holds little' if rest <= CLOSE else 'it holds more than a little here'}."
        )
        formula, source = "(diag p − ppᵀ)1 = 0, so class means span k − 1 directions of the logits", PAPYAN
    yield Reading("k − 1 directions", percent(float(np.median(less))), words, formula, source)


def _persistence(data: Known, _spec: OverlapSpec) -> Iterator[Reading]:
    values, steps = _series(data, "persistence_reference"), np.asarray(data["steps"])
    # Where nothing is curved, any space is a top one.
    known = np.flatnonzero(np.isfinite(values) & (_series(data, "eigenvalues")[:, 0] > 0))
    reference, chance = int(data["reference_step"]), float(data["persistence_chance"])
    if known.size < 2:
        return
    passed = (steps[known] - steps[0]) / (steps[-1] - steps[0])
    soon, middle = (int(known[np.abs(passed - mark).argmin()]) for mark in (0.05, 0.5))
    early = steps[soon] < reference
    judged = soon if early else int(known[-1])  # against an early checkpoint, the end is what tells
    places = sorted({int(known[0]), soon, middle, judged})
    seen = ", ".join(f"{percent(values[i])} at step {steps[i]:,}" for i in places if steps[i] != reference)
    share = float(values[judged])
    if not np.isfinite(_series(data, "displacement_share")).any():
        verdict = "open, the weights do not move"
    elif early and not steps[0] < steps[judged] <= steps[0] + SOON * (steps[-1] - steps[0]):
        verdict = "open, no checkpoint was recorded shortly after the start"
    elif share <= chance:
        verdict = "random spaces may have as much in common"
    else:
        verdict = "it persists" if share >= PERSISTS else "it turns during training" if share < TURNS else "it persists in part"
    words = (
        f"Hypothesis: the space hardly changes after a short time. Measured in common with step {reference:,}: {seen}. "
        f"Baseline: {percent(float(data['baseline']))} of two random spaces, in 199 of 200 cases up to {percent(chance, 2)}. "
        f"Verdict: {verdict}."
    )
    yield Reading("Persistence", percent(share), words, "‖UᵀV‖² / k of the spaces of two checkpoints", GUR_ARI)


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
    yield limit_row(data, _series(data, "eigenvalues")[:, 0], "" if spec.operator == "hessian" else "the Gauss-Newton part")


def _accuracy(data: Known, spec: OverlapSpec) -> Iterator[Reading]:
    residual, products = float(np.nanmax(_series(data, "residuals"))), scalar(data, "products") or 0.0
    words = f"{number(products)} matrix-vector products"
    if spec.exact(int(data["parameters"])):
        words += ": every matrix in full."
    else:
        warm = _series(data, "warm")
        words += f"; {int(np.nansum(warm))} of {warm.size} searches began with the vectors of the checkpoint before."
    good = residual <= spec.tolerance
    words += "" if good else " Some pairs do not meet the tolerance."
    largest = "residuals of rounding" if residual < ROUNDING else f"residuals up to {number(residual, 2)}"
    yield Reading("Accuracy", largest, words, "‖Hv − λv‖ / |λ|", "", "ok" if good else "warn")


def _sample(data: Known, spec: OverlapSpec) -> Iterator[Reading]:
    decay, size = scalar(data, "weight_decay") or 0.0, scalar(data, "sample_size") or 0.0
    words = ""
    if trained(data):
        words = f"Shares of the gradient are of the loss that is trained, with its weight decay of {number(decay)}. "
    elif decay:
        words = f"The run's weight decay of {number(decay)} is in neither gradient nor Hessian: this is the plain loss. "
    words += "The gradient is that of the loss, not an optimiser's update, which a run does not keep."
    reduction = text(data, "reduction")
    value = f"{reduction} over {counted(size, f'{spec.split} sample')}" if reduction else counted(size, f"{spec.split} sample")
    yield Reading("Loss", value, words, "", "", "note" if spec.samples else "ok")


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
    words = (
        "Where the gradient points need not be what trains the network. Song, Ahn & Yun found in theirs that training only "
        "inside such a space hardly lowers the loss and training only outside it does as well as usual; whether it is so here "
        "is not measured by this picture. Inside or outside makes the experiment from any checkpoint."
    )
    yield Reading("What this picture does not show", "", words, "", SONG, "note")
