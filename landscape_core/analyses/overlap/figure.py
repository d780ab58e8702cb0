"""The figure of an overlap: the gradient's share over training, its parts, the persistence of the subspace, its eigenvalues."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from ...drawing.axes import FEW, cartesian_axis, log_axis
from ...drawing.known import Known, chosen, has, scalar
from ...drawing.numbers import number
from ...drawing.steps import edges, place, step_axis
from ...drawing.style import (
    BESIDE,
    UNDER_COLOR,
    Theme,
    base_layout,
    color_scale,
    cuts,
    faint,
    legend_below,
    message_figure,
    theme,
)
from ...drawing.tracks import tracks_figure
from ...specs import Array
from .arrays import TRAINED

LOSS_PART = 0.24  # of the height, for the loss under the share
TITLE = "Gradient in the top of the Hessian"


def figure(
    data: Known,
    *,
    kind: str = "share",
    log: bool = False,
    source: str = "",
    color: str | None = None,
    dark: bool = False,
    title: str | None = None,
    compact: bool = False,
) -> go.Figure:
    """Draw an overlap Result, or a partial mapping of its arrays, over the steps of training at log10(1 + step).

    "share": of the gradient in the top-k space, full and mini-batch, beside k/p, over the loss on the same axis; `log` shows
    what lies below k/p. "contributions": of each eigenvector. "persistence": what two checkpoints' spaces have in common.
    "eigenvalues": their tracks with the limit of stability. A line marks the step of `source` (RUN@STEP).
    """
    chosen("kind of picture", kind, KINDS)
    heading = title or TITLE
    steps, eigenvalues = (np.asarray(data.get(name, []), float) for name in ("steps", "eigenvalues"))
    known = np.isfinite(eigenvalues).all(axis=-1)
    if not has(data, "steps", "eigenvalues") or not known.any():
        return message_figure("Waiting for the first checkpoint…", dark=dark, title=heading, color=color)
    colors = theme(dark)
    left = "" if known.all() else f"{int((~known).sum())} of {steps.size} checkpoints are not finite and are left out."
    said = [left if "products" in data else f"Growing: {int(known.sum())} of {steps.size} checkpoints."] if left else []
    tint = color or cuts(dark)[0]
    if kind == "eigenvalues":
        picture = _eigenvalues(data, steps, colors, tint, dark, heading, compact)
    else:
        traces, axes, more = DRAWN[kind](data, steps, colors, tint, dark, log)
        if compact and kind == "share":
            more.append("Thick: the full gradient. Grey: mini-batches, mean ± deviation. Dashed: a random direction.")
        layout = base_layout(colors, heading, color=color, caption=[*said, *more], compact=compact)
        picture = go.Figure(data=traces, layout=layout | axes | {"uirevision": f"{kind} {log}"})
    # A legend takes half the height of a small picture: there the caption has to do.
    picture.update_layout(legend=legend_below(), showlegend=not compact and kind in ("share", "eigenvalues"))
    step = source.rpartition("@")[2]
    if step.isdigit() and steps.min() <= (mark := int(step)) <= steps.max() and kind != "persistence":
        picture.add_vline(x=float(place(mark)), line={"color": colors.mark, "width": 1, "dash": "dot"})
    return picture


# -- the share ---------------------------------------------------------------------------------------------------------


def _share(
    data: Known, steps: Array, colors: Theme, tint: str, dark: bool, log: bool
) -> tuple[list[Any], dict[str, Any], list[str]]:
    k, p, baseline = (scalar(data, name) or 0.0 for name in ("k", "parameters", "baseline"))
    at, other = place(steps), colors.muted
    end = _end(data)
    small, spread = (np.asarray(data[f"gradient_share_minibatch{part}{end}"], float) for part in ("", "_spread"))
    size = int(scalar(data, "minibatch_size") or 0)
    floor = _floor(data, baseline) if log else 0.0
    traces: list[Any] = []
    if size and np.isfinite(spread).any():
        inside = np.isfinite(small) & np.isfinite(spread)
        low, high = np.maximum(small - spread, floor)[inside], np.minimum(small + spread, 1.0)[inside]
        band = {"x": np.concatenate([at[inside], at[inside][::-1]]), "y": np.concatenate([high, low[::-1]])}
        style = {"mode": "lines", "line": {"width": 0}, "fill": "toself", "fillcolor": faint(other, 0.18), "hoverinfo": "skip"}
        traces.append(go.Scatter(**band, **style, name="± 1 standard deviation", showlegend=False))
    curves: list[tuple[str, str, str, float, str, Any]] = [
        (f"mini-batches of {size:,}", f"gradient_share_minibatch{end}", other, 2, "dash", True),
        ("full gradient, with weight decay" if end else "full gradient", f"gradient_share{end}", tint, 3.5, "solid", True),
        *([("full gradient of the plain loss", "gradient_share", tint, 1.5, "dash", True)] if end else []),
        (f"top {k - 1:.0f} only", f"gradient_share_k_minus_1{end}", tint, 1.5, "dot", "legendonly"),
        ("way to the next checkpoint", "displacement_share", BESIDE[dark], 1.5, "dashdot", "legendonly"),
    ]
    for name, key, ink, width, dash, visible in curves:
        values = np.asarray(data[key], float)
        if key.startswith("gradient_share_minibatch") and not size:
            continue
        hover = "%{y:.3p} at step %{customdata:,}<extra>" + name + "</extra>"
        line = {"color": ink, "width": width, "dash": dash}
        marks = {"mode": "lines+markers", "marker": {"size": 7 if width > 3 else 4, "color": ink}}
        lost = values < floor  # zero, which a logarithmic axis has no place for: a mark at its foot
        curve = {"x": at, "y": np.where(lost, np.nan, values), "customdata": steps, "hovertemplate": hover}
        if visible is True and lost.any():
            mark = {"symbol": "triangle-down", "size": 9, "color": UNDER_COLOR, "line": {"width": 1.5, "color": ink}}
            foot = {"x": at[lost], "y": np.full(int(lost.sum()), floor), "mode": "markers", "marker": mark}
            traces.append(go.Scatter(**foot, name=f"zero: {name}", hoverinfo="name"))
        traces.append(go.Scatter(**curve, **marks, line=line, name=name, visible=visible))
    ends = {"x": [-0.06, 1.02 * float(at.max()) + 0.04], "y": [baseline, baseline], "mode": "lines"}
    line = {"color": colors.text, "width": 1.5, "dash": "dash"}
    traces.append(go.Scatter(**ends, line=line, name=f"random: k/p = {number(baseline, 2)}", hoverinfo="skip"))
    traces += _loss(data, at, steps, colors)
    y = cartesian_axis(colors, f"share in the top {k:.0f}") | {"domain": [LOSS_PART + 0.04, 1], "range": [-0.02, 1.04]}
    if log:
        ticks = 10.0 ** np.arange(-16, 1)  # all of them: an axis may be stretched to that of another picture
        words = [f"{100 * tick:g} %" for tick in ticks]
        y |= {"type": "log", "range": [float(np.log10(floor)) - 0.4, 0.08], "tickvals": ticks, "ticktext": words}
    else:
        y |= {"tickformat": ".0%"}
    x = step_axis(colors, steps) | {"anchor": "y2"}
    axes = {"xaxis": x, "yaxis": y | {"anchor": "x"}, "hovermode": "closest"}
    loss = np.concatenate([np.asarray(data[name], float) for name in {"loss", f"loss{end}"}])
    positive = loss[np.isfinite(loss) & (loss > 0)]
    below = log_axis(colors, "loss", positive, most=FEW) if positive.size else cartesian_axis(colors, "loss")
    axes["yaxis2"] = below | {"domain": [0, LOSS_PART], "anchor": "x"}
    said = [f"‖Uᵀg‖² / ‖g‖², U the top {k:.0f} eigenvectors of {p:,.0f}; a random direction has k/p = {number(baseline, 2)}."]
    if end:
        said.append("Gradient and loss are those that are trained, with weight decay; thin: of the plain loss.")
    return traces, axes, said


def _end(data: Known) -> str:
    """How names of the loss that is trained end."""
    return TRAINED if f"gradient_share{TRAINED}" in data else ""


def _floor(data: Known, baseline: float) -> float:
    """The foot of a logarithmic share axis: the power of ten below the smallest share and below half the baseline."""
    kinds, end = ("gradient_share", "gradient_share_minibatch", "gradient_share_k_minus_1"), _end(data)
    names = {*kinds, *(kind + end for kind in kinds), "displacement_share"}
    shares = np.concatenate([np.asarray(data[name], float) for name in names])
    positive = shares[np.isfinite(shares) & (shares > 0)]
    return float(10 ** (np.ceil(np.log10(min(positive.min(initial=1.0), baseline / 2))) - 1))


def _loss(data: Known, at: Array, steps: Array, colors: Theme) -> list[Any]:
    end, traces = _end(data), []
    for name, words in (("loss", "plain loss"), (f"loss{end}", "loss with weight decay")) if end else (("loss", "loss"),):
        hover = f"{words} %{{y:.4g}} at step %{{customdata:,}}<extra></extra>"
        curve = {"x": at, "y": np.asarray(data[name], float), "customdata": steps, "hovertemplate": hover, "yaxis": "y2"}
        beside = words == "plain loss"
        line = {"color": colors.muted, "width": 1.2 if beside else 2, "dash": "dash" if beside else "solid"}
        traces.append(go.Scatter(**curve, mode="lines", line=line, name=words, showlegend=False))
    return traces


# -- heat maps -----------------------------------------------------------------------------------------------------------


def _contributions(
    data: Known, steps: Array, colors: Theme, _tint: str, _dark: bool, _log: bool
) -> tuple[list[Any], dict[str, Any], list[str]]:
    values = np.asarray(data[f"contributions{_end(data)}"], float).T
    k = len(values)
    ranks = np.arange(1, k + 1)
    hover = "eigenvector %{y} at step %{customdata:,}: %{z:.2%} of |g|²<extra></extra>"
    heat = go.Heatmap(
        x=edges(place(steps)),
        y=ranks,
        z=values.astype(np.float32),
        zmin=0,
        customdata=np.tile(steps, (k, 1)),
        colorscale=color_scale("viridis"),
        colorbar=_bar("share of |g|²", colors) | {"tickformat": ".0%"},
        hovertemplate=hover,
        hoverongaps=False,
    )
    y = cartesian_axis(colors, "eigenvector, by eigenvalue")
    y |= {"autorange": "reversed", "showgrid": False, "dtick": max(1, k // 10)}
    said = ["Each row: the part along one eigenvector; columns add up to the share. Close eigenvectors may turn."]
    said += ["The gradient is that of the loss with weight decay, which is trained."] if _end(data) else []
    return [heat], {"xaxis": _square(step_axis(colors, steps), steps), "yaxis": y}, said


def _persistence(
    data: Known, steps: Array, colors: Theme, _tint: str, _dark: bool, _log: bool
) -> tuple[list[Any], dict[str, Any], list[str]]:
    values = np.asarray(data["persistence"], float)
    sides = edges(place(steps))
    pairs = np.stack(np.meshgrid(steps, steps), axis=-1)
    heat = go.Heatmap(
        x=sides,
        y=sides,
        z=values.astype(np.float32),
        zmin=0,
        zmax=1,
        customdata=pairs,
        colorscale=color_scale("viridis"),
        colorbar=_bar("in common", colors) | {"tickformat": ".0%"},
        hovertemplate="steps %{customdata[1]:,} and %{customdata[0]:,}: %{z:.1%} in common<extra></extra>",
        hoverongaps=False,
    )
    axis = _square(step_axis(colors, steps), steps)
    y = axis | {"title": {**axis["title"], "text": "step of training"}, "scaleanchor": "x", "constrain": "domain"}
    said = [f"‖UᵀV‖² / k of the top spaces U, V of two checkpoints; random: k/p = {number(scalar(data, 'baseline') or 0, 2)}."]
    return [heat], {"xaxis": axis | {"constrain": "domain"}, "yaxis": y}, said


def _square(axis: dict[str, Any], steps: Array) -> dict[str, Any]:
    """The axis of a heat map: it ends where the cells end."""
    sides = edges(place(steps))
    return axis | {"range": [float(sides[0]), float(sides[-1])]}


def _bar(title: str, colors: Theme) -> dict[str, Any]:
    return {"title": {"text": title, "side": "right"}, "thickness": 14, "outlinewidth": 0, "tickcolor": colors.grid}


# -- eigenvalues ---------------------------------------------------------------------------------------------------------


def _eigenvalues(data: Known, steps: Array, colors: Theme, tint: str, dark: bool, heading: str, compact: bool) -> go.Figure:
    """The tracks of the largest eigenvalues over the run, and the eigenvalue that follows."""
    figure = tracks_figure(
        {**data, "eigenvalues_top_steps": data["eigenvalues"]}, color=tint, dark=dark, title=heading, compact=compact
    )
    after = np.asarray(data["eigenvalue_next"], float)
    after = np.where(after > 0, after, np.nan)
    k = int(scalar(data, "k") or 0)
    hover = f"λ{k + 1} at least %{{y:.4g}} at step %{{customdata:,}}<extra></extra>"
    line = {"color": colors.muted, "width": 1.5, "dash": "dot"}
    curve = {"x": place(steps), "y": after, "customdata": steps, "hovertemplate": hover}
    figure.add_trace(go.Scatter(**curve, mode="lines", line=line, name=f"λ{k + 1}, at least: outside the space"))
    known = after[np.isfinite(after)]
    if known.size:
        low, high = figure.layout.yaxis.range
        figure.update_yaxes(range=[min(low, float(np.log10(known.min())) - 0.05), high])
    return figure


DRAWN = {"share": _share, "contributions": _contributions, "persistence": _persistence}
KINDS = (*DRAWN, "eigenvalues")
