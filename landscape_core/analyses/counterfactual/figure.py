"""The figure of training on inside and outside the top of the Hessian."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from ...drawing.axes import cartesian_axis, log_axis
from ...drawing.known import Known, chosen, scalar, text
from ...drawing.numbers import number
from ...drawing.style import base_layout, cuts, legend_below, message_figure, theme
from ...specs import Array
from .arrays import TRAINED

KINDS = ("loss", "distance")
PLAIN_PART = 0.36  # of the height, for the plain loss under the one with weight decay


def figure(
    data: Known,
    *,
    kind: str = "loss",
    log: bool = True,
    source: str = "",  # noqa: ARG001  # the picture is of the experiment, whose checkpoint its title names
    color: str | None = None,
    dark: bool = False,
    title: str | None = None,
    compact: bool = False,
) -> go.Figure:
    """Draw the curves of all branches, finished or growing: the "loss" over the whole sample, or the "distance" travelled.

    Where weight decay is a part of the loss that is trained, that loss is drawn above, and the plain one below it.
    """
    chosen("kind of picture", kind, KINDS)
    heading = title or "Training inside and outside the top space"
    free = np.asarray(data.get(f"{kind}_free", []), float)
    if not np.isfinite(free).any():
        return message_figure("Waiting for the first steps…", dark=dark, title=heading, color=color)
    steps, k = np.asarray(data["steps"], float), int(scalar(data, "k") or 0)
    colors = theme(dark)
    blue, orange = cuts(dark)
    lines: list[tuple[str, str, str, float, str]] = [
        ("free", "free: the whole update", colors.text, 4, "solid"),
        ("outside", f"outside the top {k}", blue, 2.5, "solid"),
        ("inside", f"inside the top {k}", orange, 2.5, "solid"),
        ("random", f"{k} random directions", colors.muted, 2, "dash"),
    ]
    traces: list[go.Scatter] = []
    seen: dict[str, list[Array]] = {}
    # Where the decay is a part of the loss that is trained, that one is above, and the plain one below on an axis of its own.
    both = kind == "loss" and f"loss_free{TRAINED}" in data
    for end in ("", TRAINED) if both else ("",):
        for branch, name, ink, width, dash in lines:
            values = np.asarray(data[f"{kind}_{branch}{end}"], float)
            seen.setdefault(end, []).append(values[np.isfinite(values)])
            beside = both and not end
            label = f"{branch}, plain loss" if beside else name
            hover = "%{y:.4g} at step %{x:,}<extra>" + label + "</extra>"
            line = {"color": ink, "width": 0.6 * width if beside else width, "dash": dash}
            style = {"mode": "lines", "line": line, "name": label, "showlegend": not beside, "legendgroup": branch}
            traces.append(go.Scatter(x=steps, y=values, hovertemplate=hover, yaxis="y2" if beside else "y", **style))
    growing = [f"Growing: step {steps[np.isfinite(free)][-1]:,.0f} of {steps[-1]:,.0f}."] if "drop_free" not in data else []
    said = ["Above the loss that is trained, with weight decay; below the plain one."] if both else []
    layout = base_layout(colors, heading, color=color, caption=[*growing, made(data), *said], compact=compact)
    words = "distance from the checkpoint" if kind != "loss" else "loss with weight decay" if both else "loss over all samples"
    found = {end: np.concatenate(values) for end, values in seen.items()}

    def axis(end: str, words: str) -> dict[str, Any]:
        positive = kind == "loss" and log and bool((found[end] > 0).all())
        return log_axis(colors, words, found[end]) if positive else cartesian_axis(colors, words)

    y = axis(TRAINED if both else "", words)
    x = cartesian_axis(colors, "step of training") | {"showgrid": False, "tickformat": ",d"}
    pad = 0.02 * float(np.ptp(steps))
    x |= {"range": [float(steps[0]) - pad, float(steps[-1]) + pad]}
    if both:
        layout["yaxis2"] = axis("", "plain loss") | {"domain": [0, PLAIN_PART], "anchor": "x"}
        y |= {"domain": [PLAIN_PART + 0.06, 1], "anchor": "x"}
        x |= {"anchor": "y2"}
    layout |= {"xaxis": x, "yaxis": y, "showlegend": True, "legend": legend_below(compact), "uirevision": f"{kind} {log}"}
    return go.Figure(data=traces, layout=layout | {"hovermode": "x unified"})


def made(data: Known) -> str:
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
