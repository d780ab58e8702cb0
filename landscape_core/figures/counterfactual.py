"""The figure and the reading of training on inside and outside the top of the Hessian."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from landscape_core.specs import AnalysisSpec, CounterfactualSpec, InputError

from .line import CUTS, CUTS_DARK
from .quantity import number, scalar, text
from .spectrum_series import log_axis
from .statement import Data, Reading, Verdict
from .style import base_layout, cartesian_axis, legend_below, message_figure, theme

Kind = Literal["loss", "distance"]
KINDS: tuple[Kind, ...] = ("loss", "distance")
SONG = "Song, Ahn & Yun 2025, arXiv:2405.16002"
HARDLY, NEARLY = 0.05, 0.8  # of the free fall: what training inside may reach at most, and outside must reach, for the claim


def counterfactual_figure(
    data: Data,
    *,
    kind: Kind = "loss",
    log: bool = True,
    color: str | None = None,
    dark: bool = False,
    title: str | None = None,
    compact: bool = False,
) -> go.Figure:
    """Draw the curves of all branches, finished or growing: the "loss" over the whole sample, or the "distance" travelled."""
    if kind not in KINDS:
        raise InputError(f"unknown kind of picture '{kind}'; known: {', '.join(KINDS)}")
    heading = title or "Training inside and outside the top space"
    steps, k = np.asarray(data["steps"], float), int(scalar(data, "k") or 0)
    free = np.asarray(data[f"{kind}_free"], float)
    if not np.isfinite(free).any():
        return message_figure("Waiting for the first steps…", dark=dark, title=heading, color=color)
    colors = theme(dark)
    blue, orange = CUTS_DARK if dark else CUTS
    lines: list[tuple[str, str, str, float, str]] = [
        ("free", "free: the whole update", colors.text, 4, "solid"),
        ("outside", f"outside the top {k}", blue, 2.5, "solid"),
        ("inside", f"inside the top {k}", orange, 2.5, "solid"),
        ("random", f"{k} random directions", colors.muted, 2, "dash"),
    ]
    traces: list[go.Scatter] = []
    seen = []
    for branch, name, ink, width, dash in lines:
        values = np.asarray(data[f"{kind}_{branch}"], float)
        seen.append(values[np.isfinite(values)])
        hover = "%{y:.4g} at step %{x:,}<extra>" + name + "</extra>"
        line = {"color": ink, "width": width, "dash": dash}
        traces.append(go.Scatter(x=steps, y=values, mode="lines", line=line, name=name, hovertemplate=hover))
    found = np.concatenate(seen)
    growing = [f"Growing: step {steps[np.isfinite(free)][-1]:,.0f} of {steps[-1]:,.0f}."] if "drop_free" not in data else []
    layout = base_layout(colors, heading, color=color, caption=[*growing, _made(data)], compact=compact)
    words = "loss over all samples" if kind == "loss" else "distance from the checkpoint"
    y = log_axis(colors, words, found) if log and kind == "loss" and (found > 0).all() else cartesian_axis(colors, words)
    x = cartesian_axis(colors, "step of training") | {"showgrid": False, "tickformat": ",d"}
    pad = 0.02 * float(np.ptp(steps))
    x |= {"range": [float(steps[0]) - pad, float(steps[-1]) + pad]}
    layout |= {"xaxis": x, "yaxis": y, "showlegend": True, "legend": legend_below(compact), "uirevision": f"{kind} {log}"}
    return go.Figure(data=traces, layout=layout | {"hovermode": "x unified"})


def _made(data: Data) -> str:
    """How the branches were trained."""
    names = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
    optimizer = text(data, "optimizer")
    momentum, decay = scalar(data, "momentum") or 0.0, scalar(data, "weight_decay") or 0.0
    size = int(scalar(data, "batch_size") or 0)
    parts = [names.get(optimizer, optimizer), f"learning rate {number(scalar(data, 'lr') or 0.0)}"]
    parts += [f"momentum {number(momentum)}"] if momentum else []
    parts += [f"weight decay {number(decay)}"] if decay else []
    parts.append(f"batches of {size:,}" if size else "full batch")
    return ", ".join(parts) + (": the run's own." if bool(np.asarray(data["own_settings"])) else ", not the run's own.")


def counterfactual_reading(data: Data, spec: AnalysisSpec) -> list[Reading]:
    """The certificate of a finished experiment."""
    assert isinstance(spec, CounterfactualSpec)
    return [row for part in (_claim, _branches, _fair, _limits) for row in part(data, spec)]


def _claim(data: Data, _spec: CounterfactualSpec) -> Iterator[Reading]:
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
        f"of the loss in free training ({number(float(free[0]))} to {number(float(free[-1]))}), {_percent(inside)} inside and "
        f"{_percent(outside)} outside. Baseline: {_percent(random)} in as many random ones. "
        f"Verdict: {said}."
    )
    formula = "θ ← θ + UUᵀd inside, θ + d − UUᵀd outside; d: the optimiser's step; share of the fall of the free loss"
    yield Reading(
        "Which part trains?", f"{_percent(inside)} inside, {_percent(outside)} outside", words, formula, SONG, verdict
    )


def _percent(value: float) -> str:
    return f"{number(100 * value, 3)} %"


def _branches(data: Data, _spec: CounterfactualSpec) -> Iterator[Reading]:
    ends = []
    for name in ("free", "outside", "inside", "random"):
        loss, way = (float(np.asarray(data[f"{what}_{name}"], float)[-1]) for what in ("loss", "distance"))
        ends.append(f"{name} {number(loss)}, {number(way)} away" if np.isfinite(loss) else f"{name} has diverged")
    words = f"At the last step: {'; '.join(ends)}. "
    if (scalar(data, "drop_inside") or 0.0) < HARDLY and np.isfinite(np.asarray(data["loss_inside"], float)[-1]):
        words += "Inside, the steps do not add up to a lower loss."
    yield Reading("Where they end", "", words, "loss over the whole sample; ‖θ − θ₀‖")


def _fair(data: Data, spec: CounterfactualSpec) -> Iterator[Reading]:
    words = (
        f"{_made(data)} Every branch sees the same mini-batches and starts with an empty memory of its optimiser. The space is "
        f"found anew every {spec.refresh} steps at the branch's own weights, from the loss over all "
        f"{int(data['sample_size']):,} {spec.split} samples; in between the network leaves it a little."
    )
    own = bool(np.asarray(data["own_settings"]))
    yield Reading(
        "How it was made", f"{number(scalar(data, 'products') or 0)} products", words, "", "", "ok" if own else "note"
    )


def _limits(_data: Data, spec: CounterfactualSpec) -> Iterator[Reading]:
    statistics = "the stored statistics" if spec.batchnorm == "stored" else "those of the sample at each point"
    words = (
        f"Dropout is off and BatchNorm takes {statistics}. A lower loss over few steps does not say which solution is "
        "reached in the end, and nothing here is about test samples."
    )
    yield Reading("What this picture does not show", "", words, "", "", "note")
