"""What the experiment says: which part of the update trains, how it was made, and what it does not show."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...drawing.known import Known, scalar
from ...drawing.numbers import number, percent
from ...drawing.sources import SONG
from ...drawing.statement import Reading, Verdict
from .figure import made
from .spec import CounterfactualSpec

HARDLY, NEARLY = 0.05, 0.8  # of the free fall: what training inside may reach at most, and outside must reach, for the claim


def reading(data: Known, spec: CounterfactualSpec) -> list[Reading]:
    """The certificate of a finished experiment."""
    return [row for part in (_claim, _branches, _fair, _limits) for row in part(data, spec)]


def _claim(data: Known, _spec: CounterfactualSpec) -> Iterator[Reading]:
    inside, outside, random = (scalar(data, f"drop_{name}") for name in ("inside", "outside", "random"))
    free = np.asarray(data["loss_free"], float)
    k = int(data["k"])
    if inside is None or outside is None or random is None or not free[-1] < free[0]:
        words = "The free branch did not lower its loss, or one has diverged: there is nothing to compare with."
        yield Reading("Which part trains?", "no answer here", words, "", SONG, "warn")
        return
    verdict: Verdict = "ok"
    if inside < HARDLY and outside >= NEARLY:
        said = "training goes on outside the space; inside it hardly anything happens"
    elif HARDLY <= inside <= random + HARDLY:
        said, verdict = "the top space does no more than random directions do", "note"
    elif inside < HARDLY:
        said, verdict = "inside hardly anything happens, and what is outside does not do all of it", "note"
    elif inside > outside:
        said, verdict = "here the top space carries the training", "note"
    else:
        said, verdict = "both parts matter here", "note"
    words = (
        f"Hypothesis: if the gradient lives in the top {k} directions, training inside them is enough. Measured: of the fall "
        f"of the loss in free training ({number(float(free[0]))} to {number(float(free[-1]))}), {percent(inside)} inside and "
        f"{percent(outside)} outside. Baseline: {percent(random)} in as many random ones. "
        f"Verdict: {said}."
    )
    formula = "θ ← θ + UUᵀd inside, θ + d − UUᵀd outside; d: the optimiser's step; share of the fall of the free loss"
    yield Reading("Which part trains?", f"{percent(inside)} inside, {percent(outside)} outside", words, formula, SONG, verdict)


def _branches(data: Known, _spec: CounterfactualSpec) -> Iterator[Reading]:
    ends = []
    for name in ("free", "outside", "inside", "random"):
        loss, way = (float(np.asarray(data[f"{what}_{name}"], float)[-1]) for what in ("loss", "distance"))
        ends.append(f"{name} {number(loss)}, {number(way)} away" if np.isfinite(loss) else f"{name} has diverged")
    words = f"At the last step: {'; '.join(ends)}. "
    if (scalar(data, "drop_inside") or 0.0) < HARDLY and np.isfinite(np.asarray(data["loss_inside"], float)[-1]):
        words += "Inside, the steps do not add up to a lower loss."
    yield Reading("Where they end", "", words, "loss over the whole sample; ‖θ − θ₀‖")


def _fair(data: Known, spec: CounterfactualSpec) -> Iterator[Reading]:
    words = (
        f"{made(data)} Every branch sees the same mini-batches and starts with an empty memory of its optimiser. The space is "
        f"found anew every {spec.refresh} steps at the branch's own weights, from the loss over all "
        f"{int(data['sample_size']):,} {spec.split} samples; in between the network leaves it a little."
    )
    own = bool(np.asarray(data["own_settings"]))
    yield Reading(
        "How it was made", f"{number(scalar(data, 'products') or 0)} products", words, "", "", "ok" if own else "note"
    )


def _limits(_data: Known, spec: CounterfactualSpec) -> Iterator[Reading]:
    statistics = "the stored statistics" if spec.batchnorm == "stored" else "those of the sample at each point"
    words = (
        f"Dropout is off and BatchNorm takes {statistics}. A lower loss over few steps does not say which solution is "
        "reached in the end, and nothing here is about test samples."
    )
    yield Reading("What this picture does not show", "", words, "", "", "note")
