"""What the experiment says: which part of the update trains, how it was made, and what it does not show."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...drawing.known import Known, scalar, text
from ...drawing.numbers import ROUNDING, counted, number, percent, settled
from ...drawing.sources import SONG
from ...drawing.statement import Reading, Verdict
from ...specs import Array
from .arrays import BRANCHES, TRAINED
from .figure import made
from .spec import CounterfactualSpec

LITTLE, NEARLY = 0.15, 0.8  # of the free fall: what training inside may reach at most, and outside must reach, for the claim
SURE = 2.0  # standard deviations of a curve's own fluctuation that a share must be clear of a threshold
FEW = 5  # points from which on the fluctuation of a curve can be told from its trend


def reading(data: Known, spec: CounterfactualSpec) -> list[Reading]:
    """The certificate of a finished experiment."""
    return [row for part in (_claim, _plain, _branches, _fair, _notes, _limits) for row in part(data, spec)]


def trained(data: Known) -> str:
    """How names of the loss that is trained end: with the weight decay where it is a part of that loss."""
    return TRAINED if (scalar(data, "trained_decay") or 0.0) > 0 else ""


def of_fall(share: float) -> str:
    """A share of a fall, to a tenth of a per cent: the loss itself is known no better."""
    return percent(round(share, 3))


def _fall(first: float, last: float) -> str:
    """From where to where, and by how much where that is not seen in so many digits."""
    both = number(first), number(last)
    return f"{both[0]} to {both[1]}" if both[0] != both[1] else f"from {both[0]} by {number(first - last)}"


def _curve(data: Known, branch: str, end: str) -> Array:
    return np.asarray(data[f"loss_{branch}{end}"], float)


def fluctuation(curve: Array) -> float:
    """Standard deviation of the later half of a curve about its straight line; 0 for too few points to tell."""
    late = curve[curve.size // 2 :]
    late = late[np.isfinite(late)]
    if late.size < FEW:
        return 0.0
    at = np.arange(late.size)
    return float(np.sqrt(np.square(late - np.polyval(np.polyfit(at, late, 1), at)).sum() / (late.size - 2)))


def _claim(data: Known, _spec: CounterfactualSpec) -> Iterator[Reading]:
    end = trained(data)
    name = "Which part trains?"
    curves = {branch: _curve(data, branch, end) for branch in BRANCHES}
    diverged = [branch for branch, curve in curves.items() if not np.isfinite(curve[-1])]
    if diverged:
        words = f"Diverged: {', '.join(diverged)}. Shares of a fall need all of them to the end; the curves show when."
        yield Reading(name, "no answer here", words, "", SONG, "warn")
        return
    noise = {branch: SURE * fluctuation(curve) for branch, curve in curves.items()}
    free, (first, last) = scalar(data, f"drop_free{end}"), curves["free"][[0, -1]]
    of = "loss that is trained, weight decay included," if end else "loss"
    if free is None or first - last <= noise["free"]:
        words = (
            f"The {of} of the free branch went from {number(float(first))} to {number(float(last))}, "
            + ("which is no fall" if free is None else "no further than that curve fluctuates")
            + ": there is nothing to take a share of."
        )
        yield Reading(name, "no answer here", words, "", SONG, "warn")
        return
    shares = {branch: scalar(data, f"drop_{branch}{end}") or 0.0 for branch in BRANCHES}
    unsure = {branch: (noise[branch] + noise["free"]) / float(first - last) for branch in BRANCHES}
    chance = scalar(data, f"drop_chance{end}") or 0.0
    said, verdict = _verdict(shares, unsure, chance)
    k, inside, outside, random = int(data["k"]), *(of_fall(shares[branch]) for branch in ("inside", "outside", "random"))
    words = (
        f"Hypothesis: if the gradient lives in the top {counted(k, 'direction')}, training inside is enough. Measured: of the "
        f"fall of the {of} in free training ({_fall(float(first), float(last))}), {inside} inside and {outside} "
        f"outside. Baseline: {random} in as many random directions, other ones below {percent(chance, 2)}. Verdict: {said}."
    )
    rises = [branch for branch in ("inside", "outside", "random") if shares[branch] + unsure[branch] < 0]
    if rises:
        words += f" A negative share is a rise: {', '.join(rises)}."
    formula = "θ ← θ + UUᵀd inside, θ + d − UUᵀd outside; d: the optimiser's step; share of the fall of the free loss"
    formula += ", L + ½ wd ‖θ‖²" if end else ""
    yield Reading(name, f"{inside} inside, {outside} outside", words, formula, SONG, verdict)


def _verdict(shares: dict[str, float], unsure: dict[str, float], chance: float) -> tuple[str, Verdict]:
    """What the shares say, each clear of its threshold by as much as its curve fluctuates."""
    inside, outside = shares["inside"], shares["outside"]
    little = inside + unsure["inside"] <= LITTLE
    enough, rest = inside - unsure["inside"] >= NEARLY, outside - unsure["outside"] >= NEARLY
    if inside - unsure["inside"] <= chance:
        more = "the loss falls no further than it may in random directions" if inside > 0 else "the loss does not fall"
        if rest:
            return f"training goes on outside the space; inside it {more}", "ok" if little else "note"
        return "what happens inside cannot be told from what random directions do", "note"
    if little and rest:
        return "training goes on outside the space; inside it little happens, if more than random directions do", "ok"
    if little:
        return "inside little happens, and what is outside does not do all of it", "note"
    if enough and rest:
        return "either part is nearly enough by itself", "note"
    if enough:
        return "here the top space carries the training", "note"
    if rest:
        return "training goes on outside the space, and a part of it inside as well", "note"
    return "neither part does all of it: inside there is more than random directions do", "note"


def _plain(data: Known, _spec: CounterfactualSpec) -> Iterator[Reading]:
    """The same of the plain loss, where that is not what is trained."""
    decay, wd = scalar(data, "trained_decay") or 0.0, scalar(data, "weight_decay") or 0.0
    if not decay:
        if wd:
            words = f"Weight decay of {number(wd)} pulls at the weights beside the gradient (AdamW): it is a part of no loss."
            yield Reading("Weight decay", "in no loss", words, "θ ← (1 − lr wd) θ beside the step", "", "note")
        return
    first, last = (float(value) for value in _curve(data, "free", "")[[0, -1]])
    words = (
        f"What is trained is L + ½ wd ‖θ‖² with wd = {number(decay)}, and the verdict is of it. The plain loss L went "
        f"from {number(first)} to {number(last)} in free training"
    )
    shares = [scalar(data, f"drop_{name}") for name in ("inside", "outside")]
    if None not in shares:
        words += f"; of that fall {of_fall(shares[0] or 0.0)} inside and {of_fall(shares[1] or 0.0)} outside"
    words += ". Descent may raise L where that shortens the weights."
    yield Reading("Plain loss", f"{number(first)} to {number(last)}", words, "L, without the decay", "", "note")


def _branches(data: Known, _spec: CounterfactualSpec) -> Iterator[Reading]:
    end = trained(data)
    ends = []
    for name in ("free", "outside", "inside", "random"):
        loss, way = float(_curve(data, name, end)[-1]), float(np.asarray(data[f"distance_{name}"], float)[-1])
        way = settled(way, ROUNDING * (scalar(data, "theta_norm") or 0.0))
        ends.append(f"{name} {number(loss)}, {number(way)} away" if np.isfinite(loss) else f"{name} has diverged")
    words = f"At the last step, {'the loss that is trained' if end else 'loss'} and distance: {'; '.join(ends)}."
    yield Reading("Where they end", "", words, "loss over the whole sample; ‖θ − θ₀‖")


def _fair(data: Known, spec: CounterfactualSpec) -> Iterator[Reading]:
    size, samples = int(scalar(data, "batch_size") or 0), int(data["sample_size"])
    memory = (scalar(data, "momentum") or 0.0) > 0 or text(data, "optimizer") != "sgd"
    words = f"{made(data)} "
    words += (
        "Every branch sees the same mini-batches"
        if 0 < size < samples
        else f"Every step of every branch takes {counted(samples, 'sample')}"
    )
    words += " and starts with an empty memory of its optimiser. " if memory else ". "
    again = spec.refresh < spec.steps
    when = f"anew every {spec.refresh:,} steps, at the branch's own weights," if again else "once, at the start,"
    words += f"The space is found {when} from the loss over {counted(samples, f'{spec.split} sample')}"
    words += ", whose Hessian has the same top space with the decay as without." if trained(data) else "."
    own = bool(np.asarray(data["own_settings"]))
    yield Reading(
        "How it was made", f"{number(scalar(data, 'products') or 0)} products", words, "", "", "ok" if own else "note"
    )


def _notes(data: Known, _spec: CounterfactualSpec) -> Iterator[Reading]:
    for note in np.atleast_1d(np.asarray(data.get("notes", []))):
        if str(note):
            yield Reading("Note", "", str(note)[:1].upper() + str(note)[1:], "", "", "note")


def _limits(data: Known, spec: CounterfactualSpec) -> Iterator[Reading]:
    words = (
        f"A lower loss over {spec.steps:,} steps does not say which solution is reached in the end, and nothing here is about "
        f"other samples than {counted(int(data['sample_size']), 'sample')} looked at here."
    )
    yield Reading("What this picture does not show", "", words, "", "", "note")
