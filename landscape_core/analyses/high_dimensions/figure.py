"""Figures of a run's geometry, each beside what chance alone would give: angles, lengths, distances, layers, eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ...drawing.axes import cartesian_axis, log_axis
from ...drawing.known import Known, chosen, has, scalar
from ...drawing.numbers import number
from ...drawing.steps import place, step_axis
from ...drawing.style import SERIES, Theme, base_layout, faint, legend_below, message_figure, theme
from ...specs import Array
from . import laws
from .counts import flat_picture, index_picture, layers_picture

ANGLES = (
    ("cosine_position", "gradient and position"),
    ("cosine_remaining", "descent and way left"),
    ("cosine_path", "descent and way gone"),
    ("cosine_steps", "a step and the next"),
)
LENGTHS = (("theta_norm", "norm of the weights"), ("displacement", "way gone"), ("remaining", "way left"))
PLANES = (("plane_share_path", "in the plane of the path"), ("plane_share_random", "in a random plane"))
DEGREES = {"tickvals": [0, 45, 90, 135, 180], "ticktext": ["0°", "45°", "90°", "135°", "180°"]}
BAND = 0.99  # of chance, within the shaded band
NORMAL = 2.576  # standard deviations that hold as much of a normal distribution: the norm of a random vector is nearly normal
Picture = tuple[list[Any], dict[str, Any], list[str]]  # traces, axes, sentences


def figure(
    data: Known,
    *,
    kind: str = "angles",
    source: str = "",  # noqa: ARG001  # the picture is of the whole path
    color: str | None = None,
    dark: bool = False,
    title: str | None = None,
    compact: bool = False,
) -> go.Figure:
    """Draw a high_dimensions Result, or a partial mapping of its arrays: NaN stands where a checkpoint is still to come.

    Over the steps of training, at log10(1 + step): "angles" of gradient and steps, "lengths" of position and path, the share
    of the gradient in "planes", "flat" and negative eigenvalues; "distances" between all checkpoints, gradient norms by
    "layers", and the "index" (share of negative eigenvalues) against the loss. Raises InputError for another kind.
    """
    chosen("kind of picture", kind, PICTURES)
    heading = title or "Geometry of the path"
    if not has(data, "steps", "loss") or not np.isfinite(data["loss"]).any():
        return message_figure("Waiting for the first checkpoint…", dark=dark, title=heading, color=color)
    colors = theme(dark)
    traces, axes, said = PICTURES[kind](data, colors, SERIES[dark])
    if not traces:
        return message_figure(said[0], dark=dark, title=heading, color=color)
    done, count = int(np.isfinite(data["loss"]).sum()), np.size(data["steps"])
    left = f"{count - done} of {count} checkpoints are not finite and are left out." if done < count else ""
    growing = [left if "products" in data else f"Growing: {done} of {count} checkpoints."] if left else []
    layout = base_layout(colors, heading, color=color, caption=[*growing, *said], compact=compact)
    layout |= axes | {"showlegend": True, "legend": legend_below(compact), "hovermode": "closest", "uirevision": kind}
    return go.Figure(data=traces, layout=layout)


def rows(data: Known) -> tuple[list[str], Iterable[tuple[Any, ...]]]:
    """Header and rows for a file: one row a checkpoint, a column for each series, gradient norms by layer last."""
    steps = np.asarray(data["steps"])
    names = [
        name for name in data if name not in ("steps", "curvature_steps", "layer_law") and np.shape(data[name]) == steps.shape
    ]
    names = [name for name in names if np.asarray(data[name]).dtype.kind == "f"]
    layers = [f"gradient_norm {name}" for name in np.asarray(data["layer_names"])]
    columns = np.column_stack([*(data[name] for name in names), data["layer_gradient_norms"]])
    return ["step", *names, *layers], ((int(step), *row.tolist()) for step, row in zip(steps, columns, strict=True))


def _curve(data: Known, values: Array, name: str, tint: str, hover: str, **more: Any) -> go.Scatter:
    """One series over the steps, with a mark at each checkpoint; `hover` may use %{customdata[0]}, the step."""
    style = {"mode": "lines+markers", "marker": {"size": 5, "color": tint}, "line": {"color": tint, "width": 2}}
    facts = np.column_stack([np.asarray(data["steps"], float), *more.pop("facts", ())])
    return go.Scatter(
        x=place(data["steps"]),
        y=values,
        name=name,
        customdata=facts,
        hovertemplate=f"{hover}<extra>{name}</extra>",
        **style,
        **more,
    )


def _band(data: Known, low: float, high: float, colors: Theme, name: str) -> list[go.Scatter]:
    """What chance stays within, over all of the axis."""
    ends = [-0.06, 1.02 * float(place(data["steps"]).max()) + 0.04]
    edge: dict[str, Any] = {"x": ends, "mode": "lines", "line": {"width": 0.5, "color": colors.muted}, "hoverinfo": "skip"}
    fill = {"fill": "tonexty", "fillcolor": faint(colors.muted, 0.3)}
    return [go.Scatter(y=[low, low], showlegend=False, **edge), go.Scatter(y=[high, high], name=name, **edge, **fill)]


def _angles(data: Known, colors: Theme, tints: tuple[str, ...]) -> Picture:
    p = scalar(data, "parameters") or 2.0
    bound = laws.cosine_bound(p, BAND)
    width = 90 - math.degrees(math.acos(bound))
    traces: list[Any] = _band(data, 90 - width, 90 + width, colors, f"two random vectors, {100 * BAND:.0f} %")
    for (name, words), tint in zip(ANGLES, tints, strict=True):
        cosines = np.asarray(data[name], float)
        degrees = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
        hover = "%{y:.1f}° (cos %{customdata[1]:.3f}, %{customdata[2]:.1f} deviations of chance) at step %{customdata[0]:,}"
        traces.append(_curve(data, degrees, words, tint, hover, facts=(cosines, cosines * math.sqrt(p))))
    y = cartesian_axis(colors, "angle") | {"range": [-4, 184], **DEGREES}
    said = [
        f"Grey: two random vectors in {p:,.0f} dimensions, at 90° ± {number(width, 2)}° in {100 * BAND:.0f} of 100 pairs.",
        "Descent is −g; the way left leads to the last checkpoint, the way gone comes from the first.",
    ]
    return traces, {"xaxis": step_axis(colors, data["steps"]), "yaxis": y}, said


def _lengths(data: Known, colors: Theme, tints: tuple[str, ...]) -> Picture:
    p = scalar(data, "parameters") or 2.0
    steps, norms = np.asarray(data["steps"], float), np.asarray(data["theta_norm"], float)
    width = NORMAL * laws.shell_width(p) * float(norms[0])
    traces: list[Any] = _band(data, norms[0] - width, norms[0] + width, colors, "shell of random vectors")
    for (name, words), tint in zip(LENGTHS, tints, strict=False):
        traces.append(_curve(data, np.asarray(data[name], float), words, tint, "%{y:.4g} at step %{customdata[0]:,}"))
    walk = float(np.asarray(data["displacement"])[-1]) * np.sqrt((steps - steps[0]) / max(1.0, steps[-1] - steps[0]))
    dash = {"color": tints[1], "width": 1.5, "dash": "dot"}
    hover = "a random walk: %{y:.4g}<extra></extra>"
    traces.append(go.Scatter(x=place(steps), y=walk, mode="lines", line=dash, name="way of a random walk", hovertemplate=hover))
    seen = np.concatenate([walk, *(np.asarray(data[name], float) for name, _ in LENGTHS)])
    y = cartesian_axis(colors, "length  (L2 norm)") | {"range": [0, 1.05 * float(np.nanmax(seen))]}
    said = [
        f"Grey: random vectors of {p:,.0f} entries differ in norm by {number(100 * laws.shell_width(p), 2)} % only.",
        "Dotted: a random walk to the same end, its way as the root of the steps.",
    ]
    return traces, {"xaxis": step_axis(colors, steps), "yaxis": y}, said


def _distances(data: Known, colors: Theme, _tints: tuple[str, ...]) -> Picture:
    steps, values = np.asarray(data["steps"]), np.asarray(data["distances"], float)
    words = [f"{step:,}" for step in steps]
    spots = list(range(len(steps)))
    bar = {"title": {"text": "L2", "side": "right"}, "thickness": 12, "outlinewidth": 0}
    texts = [
        [f"steps {a} and {b}: {number(v, 4)} apart" for b, v in zip(words, row, strict=True)]
        for a, row in zip(words, values, strict=True)
    ]
    map_ = go.Heatmap(
        z=values, x=spots, y=spots, colorscale="Viridis", colorbar=bar, text=texts, hoverinfo="text", showlegend=False
    )
    stride = max(1, -(-len(steps) // 10))
    ticks = {"tickvals": spots[::stride], "ticktext": words[::stride], "showgrid": False}
    x, y = (cartesian_axis(colors, "step of training") | ticks for _ in range(2))
    off = values[np.triu_indices(len(steps), 1)]
    p = scalar(data, "parameters") or 2.0
    said = [
        f"Distances between checkpoints, from {number(np.nanmin(off))} to {number(np.nanmax(off))}."
        if np.isfinite(off).any()
        else "No two checkpoints have a finite distance.",
        f"Independent random points would all be about equally far apart, within {number(100 * laws.shell_width(p), 2)} %.",
    ]
    return [map_], {"xaxis": x, "yaxis": y | {"autorange": "reversed"}}, said


def _planes(data: Known, colors: Theme, tints: tuple[str, ...]) -> Picture:
    p = scalar(data, "parameters") or 2.0
    low, high = laws.plane_share_bounds(min(2.0, p), p, BAND)
    traces: list[Any] = _band(data, low, high, colors, f"a random plane, {100 * BAND:.0f} %")
    seen = [np.array([low, high])]
    for (name, words), tint in zip(PLANES, tints, strict=False):
        values = np.asarray(data[name], float)
        if np.isfinite(values).any():
            traces.append(_curve(data, values, words, tint, "%{y:.3g} of |g|² at step %{customdata[0]:,}"))
            seen.append(values[values > 0])
    explained, null = scalar(data, "explained_variance"), scalar(data, "explained_variance_null")
    held = (
        f"The path's plane holds {number(100 * explained)} % of the path" if explained is not None else "The path has no plane"
    )
    walk = f", a random walk's {number(100 * null)} %" if null is not None else ""
    chance = number(laws.plane_share(min(2.0, p), p), 2)
    said = [f"{held}{walk}.", f"Of the gradient it holds what the curve says; a random plane {chance} on average (grey)."]
    return (
        traces,
        {
            "xaxis": step_axis(colors, data["steps"]),
            "yaxis": log_axis(colors, "share of |gradient|²", np.concatenate(seen)),
        },
        said,
    )


PICTURES: dict[str, Callable[[Known, Theme, tuple[str, ...]], Picture]] = {
    "angles": _angles,
    "lengths": _lengths,
    "distances": _distances,
    "planes": _planes,
    "layers": layers_picture,
    "flat": flat_picture,
    "index": index_picture,
}
