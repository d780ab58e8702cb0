"""Lines through the weights: the band over random directions, or the two centre cuts of a plane."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ...drawing.axes import cartesian_axis
from ...drawing.known import has
from ...drawing.style import CENTER_COLOR, MASK_COLOR, UNDER_COLOR, Theme, cuts, faint
from ...specs import Array
from .overlays import anchor_points, center_point, read_path
from .quantity import Quantity, Scale, axis_title, base_quantity, format_value, read_slice


def line_traces(
    data: Mapping[str, Any], part: Quantity, scale: Scale, colors: Theme, *, color: str | None, dark: bool, path: bool
) -> list[Any]:
    """The traces of a line chart: the band of a bundle of lines, or the two cuts of a plane."""
    own = cuts(dark)[0]
    if part.betas is not None:
        return _cuts(part, scale, colors, dark)
    tint = color or own
    traces = _band(part, scale, tint)
    other = f"{part.quantity}_test"
    if has(data, other):
        test = read_slice(data, other)
        mean = scale.curve(_mean(test.values))
        words = _hover(test.quantity, test.label, test.values)
        name = f"{base_quantity(part.quantity)}, test samples"
        traces.append(
            go.Scatter(
                x=test.alphas, y=mean, mode="lines", line={"color": tint, "dash": "dash", "width": 2}, name=name, **words
            )
        )
    if part.masked.any():
        at = part.alphas[part.masked.any(axis=0)]
        marker = {"symbol": "x", "size": 7, "color": MASK_COLOR}
        top = np.full(at.size, scale.bounds[1])
        traces.append(
            go.Scatter(x=at, y=top, mode="markers", marker=marker, hovertext="not finite", hoverinfo="text", name="not finite")
        )
    traces += _floored([part.alphas[(part.values <= 0).any(axis=0)]], scale, colors)
    return traces + _marks(data, part, scale, colors, path)


def _floored(places: Sequence[Array], scale: Scale, colors: Theme) -> list[Any]:
    """Marks at the foot of the picture where a line has no logarithm."""
    at = np.concatenate(places)
    if not (scale.log and at.size):
        return []
    marker = {"symbol": "triangle-down", "size": 9, "color": UNDER_COLOR, "line": {"width": 1, "color": colors.text}}
    foot, words = np.full(at.size, scale.bounds[0]), "zero or negative"
    return [go.Scatter(x=at, y=foot, mode="markers", marker=marker, hovertext=words, hoverinfo="text", name=words)]


def line_axes(
    data: Mapping[str, Any], part: Quantity, scale: Scale, colors: Theme, heights: Sequence[float] = ()
) -> dict[str, Any]:
    """Axes of a line chart; the vertical one carries the shared range, the heights of the path, and its own ticks."""
    low, high = scale.bounds
    known = [value for value in heights if np.isfinite(value) and not (scale.log and value <= 0)]
    low = min([low, *(float(scale.place(value)) for value in known)])
    pad = 0.05 * (high - low)
    places, words = replace(scale, clipped=0, floored=0).ticks(7, min(known, default=math.inf))  # no band of colour here
    both = part.betas is not None and axis_title(data, 0)[1:] == axis_title(data, 1)[1:]
    title = "α or β" + axis_title(data, 0)[1:] if both else axis_title(data, 0) if part.betas is None else "α or β"
    ends = [part.alphas] if part.betas is None else [part.alphas, part.betas]
    x = {**cartesian_axis(colors, title), "showgrid": False}
    x["range"] = [min(float(axis[0]) for axis in ends), max(float(axis[-1]) for axis in ends)]
    name = part.label + (" (log)" if scale.log else "")
    y = cartesian_axis(colors, name) | {"range": [low - pad, high + pad], "tickvals": places, "ticktext": words}
    legend = {"x": 0.5, "y": 1, "xanchor": "center", "yanchor": "top", "bgcolor": "rgba(0,0,0,0)", "orientation": "h"}
    return {"xaxis": x, "yaxis": y, "showlegend": True, "legend": legend, "hovermode": "x"}


def _mean(values: Array) -> Array:
    """The mean over lines, of the finite ones."""
    with np.errstate(invalid="ignore"):
        known = np.isfinite(values)
        return np.where(known.any(axis=0), np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan)


def _hover(quantity: str, label: str, values: Array) -> dict[str, Any]:
    mean = _mean(values)
    texts = []
    for k, value in enumerate(mean):
        line = f"{label} {format_value(quantity, value)}"
        known = values[np.isfinite(values[:, k]), k]
        if values.shape[0] > 1 and known.size:
            line += f" (mean; {format_value(quantity, known.min(), 3)} to {format_value(quantity, known.max(), 3)})"
        texts.append(line)
    return {"hovertext": texts, "hovertemplate": "%{x:.3g}: %{hovertext}<extra></extra>"}


def _band(part: Quantity, scale: Scale, tint: str) -> list[Any]:
    """Mean, a band of one standard deviation, and every line faintly; one line alone is just itself."""
    count = part.values.shape[0]
    traces: list[Any] = []
    mean = _mean(part.values)
    if count > 1:
        with np.errstate(invalid="ignore"):
            known = np.isfinite(part.values)
            spread = np.sqrt(_mean(np.where(known, (part.values - mean) ** 2, np.nan)) * count / (count - 1))
        edge = {"x": part.alphas, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        top, bottom = (
            scale.place(mean + spread),
            scale.place(np.maximum(mean - spread, np.where(known, part.values, np.inf).min(axis=0))),
        )
        traces.append(go.Scatter(y=bottom, **edge))
        fill = {"fill": "tonexty", "fillcolor": faint(tint, 0.22)}
        traces.append(go.Scatter(y=top, **{**edge, "showlegend": True}, **fill, name="± 1 standard deviation"))
        gap = np.full((count, 1), np.nan)
        x = np.column_stack([np.tile(part.alphas, (count, 1)), gap]).reshape(-1)
        y = np.column_stack([scale.curve(part.values), gap]).reshape(-1).astype(np.float32)
        thin = {"color": faint(tint, 0.35), "width": 1}
        traces.append(go.Scatter(x=x, y=y, mode="lines", line=thin, hoverinfo="skip", name=f"{count} random directions"))
    name = part.label + (", mean" if count > 1 else "")
    line = {"color": tint, "width": 2.5}
    traces.append(
        go.Scatter(
            x=part.alphas,
            y=scale.curve(mean),
            mode="lines",
            line=line,
            name=name,
            **_hover(part.quantity, part.label, part.values),
        )
    )
    if part.partial:
        done = part.exact.all(axis=0)
        dots = {"color": tint, "size": 5}
        y = scale.curve(mean[done])
        traces.append(go.Scatter(x=part.alphas[done], y=y, mode="markers", marker=dots, hoverinfo="skip", name="exact points"))
    return traces


def _cuts(part: Quantity, scale: Scale, colors: Theme, dark: bool) -> list[Any]:
    """The row and the column of a plane that come nearest to the centre."""
    assert part.betas is not None
    i, j = int(np.abs(part.alphas).argmin()), int(np.abs(part.betas).argmin())
    tints = cuts(dark)
    traces: list[Any] = []
    both = (
        (part.alphas, part.values[:, j], f"along α (β = {part.betas[j]:.2g})"),
        (part.betas, part.values[i], f"along β (α = {part.alphas[i]:.2g})"),
    )
    for tint, (x, values, name) in zip(tints, both, strict=True):
        line = {"color": tint, "width": 2.5, "dash": "solid" if tint == tints[0] else "dash"}
        traces.append(
            go.Scatter(
                x=x,
                y=scale.curve(values),
                mode="lines",
                line=line,
                name=name,
                **_hover(part.quantity, part.label, values[None]),
            )
        )
    return traces + _floored([x[values <= 0] for x, values, _ in both], scale, colors)


def _marks(data: Mapping[str, Any], part: Quantity, scale: Scale, colors: Theme, path: bool) -> list[Any]:
    traces: list[Any] = []
    route = read_path(data, part) if path else None
    if route is not None:
        heights = np.where(np.isfinite(route.height), route.height, route.plane)
        x, y = route.points[route.inside, 0], scale.place(heights[route.inside])
        texts = [words for words, inside in zip(route.hover(part.quantity), route.inside, strict=True) if inside]
        style = {
            "mode": "lines+markers",
            "line": {"color": colors.muted, "width": 1},
            "marker": {"size": 4, "color": colors.text},
        }
        traces.append(go.Scatter(x=x, y=y, hovertext=texts, hoverinfo="text", name="path of training, real height", **style))
    for a, _, value, label in anchor_points(data, part):
        marker = {"symbol": "diamond", "size": 9, "color": colors.text}
        spot = {"x": [a], "y": [float(scale.place(value))], "text": [label], "textposition": "top center"}
        traces.append(go.Scatter(**spot, mode="markers+text", marker=marker, hoverinfo="text", showlegend=False))
    center = center_point(data, part)
    if center is not None and not has(data, "anchors"):
        marker = {"symbol": "circle", "size": 9, "color": CENTER_COLOR, "line": {"width": 1.5, "color": colors.text}}
        height = [float(scale.place(center[2]))]
        traces.append(go.Scatter(x=[0.0], y=height, mode="markers", marker=marker, name="these weights", hoverinfo="name"))
    return traces
