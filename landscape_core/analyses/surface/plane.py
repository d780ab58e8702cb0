"""A plane as heat map, contour map or 3-D surface."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ...drawing.axes import cartesian_axis, scene_axis
from ...drawing.known import has
from ...drawing.style import CENTER_COLOR, MASK_COLOR, UNDER_COLOR, Theme, color_scale
from ...specs import Array
from .overlays import STEP, Route, anchor_points, center_point, interpolate, read_arrows, read_path, read_walk
from .quantity import BANDS, Quantity, Scale, axis_title, base_quantity, format_value, sample_words

CONTOURED = (0.5 / (BANDS + 1), (BANDS + 0.5) / (BANDS + 1))  # plotly fills a contour map from half a band below to half above
CAMERA = {"eye": {"x": 1.05, "y": -1.3, "z": 1.15}, "center": {"x": 0, "y": 0, "z": -0.16}}
WALK: dict[str, Any] = {"mode": "lines", "hoverinfo": "skip", "name": "random walk with the same steps"}
PIN = 0.22  # height of the pins that carry marks in 3-D, as a share of the range: a mark on the surface hides behind its folds


def flat_traces(
    data: Mapping[str, Any],
    part: Quantity,
    scale: Scale,
    colors: Theme,
    *,
    kind: str,
    colormap: str,
    path: bool,
    flow: bool,
    walk: bool,
    compact: bool,
) -> list[Any]:
    """The traces of a heat map or a contour map, bottom to top."""
    assert part.betas is not None
    low, high = scale.color_bounds
    shared: dict[str, Any] = {
        "x": part.alphas,
        "y": part.betas,
        "z": _f32(scale.colors(part.values)).T,
        "zmin": low,
        "zmax": high,
        "colorscale": _colors(colormap, scale, colors, CONTOURED if kind == "contour" else scale.inside),
        "colorbar": color_bar(data, part, scale, compact),
        **hover(data, part, scale),
    }
    traces: list[Any] = []
    if kind == "contour":
        step = (scale.bounds[1] - scale.bounds[0]) / BANDS
        bands = {"start": scale.bounds[0], "end": scale.bounds[1], "size": step, "coloring": "fill"}
        line = {"width": 0.6, "color": "rgba(255,255,255,0.55)", "smoothing": 1}
        traces.append(go.Contour(**shared, contours=bands, line=line, autocontour=False))
    else:
        traces.append(go.Heatmap(**shared))
    if part.masked.any():
        traces.append(_mask_map(part))
    if part.partial and part.exact.sum() <= 600:
        at = np.argwhere(part.exact)
        dots = {"size": 2.5, "color": "rgba(255,255,255,0.8)"}
        x, y = part.alphas[at[:, 0]], part.betas[at[:, 1]]
        traces.append(go.Scatter(x=x, y=y, mode="markers", marker=dots, hoverinfo="skip", name="exact points"))
    arrows = read_arrows(data, part) if flow else None
    if arrows is not None:
        lines = _f32(arrows.flat)
        halo = {"mode": "lines", "hoverinfo": "skip", "x": lines[:, 0], "y": lines[:, 1]}
        traces.append(go.Scatter(**halo, line={"color": colors.halo, "width": 3}, opacity=0.35))
        traces.append(go.Scatter(**halo, line={"color": "#ffffff", "width": 1.3}, name="projected gradient flow"))
    ghost = read_walk(data) if walk else None
    if ghost is not None:
        traces.append(go.Scatter(x=ghost[:, 0], y=ghost[:, 1], line={"color": "#ffffff", "width": 2, "dash": "dot"}, **WALK))
    route = read_path(data, part) if path else None
    if route is not None:
        traces += _flat_path(route, part, colors)
    return traces + _flat_marks(data, part, colors)


def solid_traces(
    data: Mapping[str, Any],
    part: Quantity,
    scale: Scale,
    colors: Theme,
    *,
    colormap: str,
    path: bool,
    flow: bool,
    walk: bool,
    compact: bool,
) -> list[Any]:
    """The traces of a 3-D surface."""
    low, high = scale.color_bounds
    bottom, top = scale.bounds
    step = (top - bottom) / BANDS
    lines = {
        "show": True,
        "start": bottom + step,  # a line at the level of what is clipped would speckle it
        "end": top - step,
        "size": step,
        "width": 1,
        "color": "rgba(255,255,255,0.35)",
    }
    arrows = read_arrows(data, part) if flow else None
    lines["show"] = arrows is None  # two kinds of white lines would be read as one
    traces: list[Any] = [
        go.Surface(
            x=part.alphas,
            y=part.betas,
            z=_f32(scale.heights(part.values)).T,
            surfacecolor=_f32(scale.colors(part.values)).T if scale.clipped or scale.floored else None,
            cmin=low,
            cmax=high,
            colorscale=_colors(colormap, scale, colors, scale.inside),
            colorbar=color_bar(data, part, scale, compact),
            contours={"z": lines},
            lighting={"ambient": 0.72, "diffuse": 0.55, "specular": 0.08, "roughness": 0.85, "fresnel": 0.05},
            lightposition={"x": 200, "y": -400, "z": 1000},
            **hover(data, part, scale, solid=True),
        )
    ]
    lift = 0.01 * (top - bottom)  # lines on the surface itself would be half buried in it
    if part.masked.any() and part.betas is not None:
        at = np.argwhere(part.masked)
        x, y, z = part.alphas[at[:, 0]], part.betas[at[:, 1]], np.full(len(at), top)
        marker = {"size": 3, "symbol": "square", "color": MASK_COLOR}
        words = "not finite<br>α %{x:.3g}, β %{y:.3g}<extra></extra>"
        traces.append(go.Scatter3d(x=x, y=y, z=z, mode="markers", marker=marker, hovertemplate=words, name="not finite"))
    if arrows is not None:
        points = arrows.flat
        heights = scale.heights(interpolate(part, points)) + lift
        line = {"color": "#ffffff", "width": 3}
        x, y, z = _f32(points[:, 0]), _f32(points[:, 1]), _f32(heights)
        traces.append(go.Scatter3d(x=x, y=y, z=z, mode="lines", line=line, hoverinfo="skip", name="projected gradient flow"))
    ghost = read_walk(data) if walk else None
    if ghost is not None:
        line = {"color": "#ffffff", "width": 5, "dash": "dot"}
        x, y = _f32(ghost[:, 0]), _f32(ghost[:, 1])
        traces.append(go.Scatter3d(x=x, y=y, z=_f32(scale.heights(interpolate(part, ghost)) + lift), line=line, **WALK))
    route = read_path(data, part) if path else None
    if route is not None:
        traces += _solid_path(route, scale, colors, lift)
    return traces + _solid_marks(data, part, scale, colors)


def _colors(colormap: str, scale: Scale, colors: Theme, inside: tuple[float, float]) -> list[tuple[float, str]]:
    """The colour map of the range, and at an end where values are clipped the colour that says so."""
    under = (UNDER_COLOR if scale.log else colors.over) if scale.floored else None
    return color_scale(colormap, inside, under, colors.over if scale.clipped else None)


def color_bar(data: Mapping[str, Any], part: Quantity, scale: Scale, compact: bool) -> dict[str, Any]:
    """The colour bar with ticks in the quantity's own units, also on a log scale."""
    places, words = scale.ticks(5 if compact else 7)
    name = part.label + (" (log)" if scale.log else "")
    sample = "" if compact else sample_words(data, part.quantity).replace(", ", "<br>")
    return {
        "title": {"text": f"{name}<br><span style='font-size:10px'>{sample}</span>" if sample else name},
        "tickvals": places,
        "ticktext": words,
        "thickness": 10 if compact else 14,
        "len": 0.9,
        "outlinewidth": 0,
        "tickfont": {"size": 10},
        "x": 1.01,
    }


def hover(data: Mapping[str, Any], part: Quantity, scale: Scale, solid: bool = False) -> dict[str, Any]:
    """Hover texts: coordinates, the drawn quantity, and its companion (accuracy beside loss, loss beside the others).

    The quantity is `z` where that holds it plainly; a picture that is still filling in has no companion: both to send less.
    Plotly looks custom data up by (row, column) in maps but by (x, y) on a 3-D surface.
    """
    base, test = base_quantity(part.quantity), "_test" if part.quantity.endswith("_test") else ""
    other = ("accuracy" if base == "loss" else "loss") + test
    columns, lines = [], ["α %{x:.3g}, β %{y:.3g}"]
    if scale.log or scale.clipped or scale.floored:
        columns.append(part.values)
        lines.append(f"<b>{part.label} %{{customdata[0]:{_format(base)}}}</b>")
    else:
        lines.append(f"<b>{part.label} %{{z:{_format(base)}}}</b>")
    if has(data, other) and not part.partial:
        lines.append(f"{base_quantity(other)} %{{customdata[{len(columns)}]:{_format(base_quantity(other))}}}")
        columns.append(np.asarray(data[other], dtype=np.float64))
    words: dict[str, Any] = {"hovertemplate": "<br>".join(lines) + "<extra></extra>"}
    if columns:
        words["customdata"] = np.stack([_f32(column) if solid else _f32(column).T for column in columns], axis=-1)
    return words


def flat_axes(data: Mapping[str, Any], part: Quantity, colors: Theme, kind: str) -> dict[str, Any]:
    """Axes of a square map whatever the units."""
    assert part.betas is not None
    x, y = cartesian_axis(colors, axis_title(data, 0)), cartesian_axis(colors, axis_title(data, 1))
    edges = [_edges(axis) if kind == "heatmap" else [axis[0], axis[-1]] for axis in (part.alphas, part.betas)]
    ratio = (edges[0][1] - edges[0][0]) / (edges[1][1] - edges[1][0])
    x |= {"range": edges[0], "constrain": "domain", "showgrid": False}
    y |= {"range": edges[1], "constrain": "domain", "showgrid": False, "scaleanchor": "x", "scaleratio": ratio}
    return {"xaxis": x, "yaxis": y}


def solid_scene(
    data: Mapping[str, Any], part: Quantity, scale: Scale, colors: Theme, heights: Sequence[float], compact: bool
) -> dict[str, Any]:
    """The 3-D scene; its z axis also takes in the real heights of the path. A small one stands a little farther away."""
    assert part.betas is not None
    bottom, top = scale.bounds
    known = [value for value in heights if np.isfinite(value) and not (scale.log and value <= 0)]
    inside = [float(scale.place(value)) for value in known]
    places, words = scale.ticks(5, min(known, default=math.inf))
    z = scene_axis(colors, "")  # the colour bar names it; beside the axis it is cut off where the picture is narrow
    peak = top if scale.clipped else max([top, *inside])
    foot = min([bottom, *inside])
    margin = 0.02 * (peak - foot)  # what is flat at the very end of the axis is not drawn
    z |= {"tickvals": places, "ticktext": words, "range": [foot - margin, peak + margin]}
    return {
        "bgcolor": colors.paper,
        "xaxis": {**scene_axis(colors, axis_title(data, 0)), "range": [part.alphas[0], part.alphas[-1]]},
        "yaxis": {**scene_axis(colors, axis_title(data, 1)), "range": [part.betas[0], part.betas[-1]]},
        "zaxis": z,
        "aspectmode": "manual",
        "aspectratio": {"x": 1, "y": 1, "z": 0.62},
        "camera": {**CAMERA, "eye": {k: v * 1.1 for k, v in CAMERA["eye"].items()}} if compact else CAMERA,
    }


def _f32(values: Any) -> Array:
    """Half the bytes, and more digits than a screen has; what would become zero or infinite stays as it is."""
    with np.errstate(over="ignore", under="ignore"):
        wide, narrow = np.asarray(values, dtype=np.float64), np.asarray(values, dtype=np.float32)
    lost = (np.isfinite(wide) & ~np.isfinite(narrow)) | ((wide != 0) & (narrow == 0))
    return wide if lost.any() else narrow


def _format(base: str) -> str:
    return ".2%" if base != "loss" else ".4g"


def _edges(axis: Array) -> list[float]:
    """The outer edges of the first and the last cell."""
    return [float(axis[0] - (axis[1] - axis[0]) / 2), float(axis[-1] + (axis[-1] - axis[-2]) / 2)]


def _mask_map(part: Quantity) -> Any:
    z = np.where(part.masked, np.float32(1), np.float32(np.nan)).T
    words = "not finite<br>α %{x:.3g}, β %{y:.3g}<extra></extra>"
    scale = [(0, MASK_COLOR), (1, MASK_COLOR)]
    return go.Heatmap(
        x=part.alphas, y=part.betas, z=z, colorscale=scale, showscale=False, hovertemplate=words, name="not finite"
    )


def _flat_path(route: Route, part: Quantity, colors: Theme) -> list[Any]:
    x, y = route.points[:, 0], route.points[:, 1]
    line = {"x": x, "y": y, "mode": "lines", "hoverinfo": "skip"}
    marker = {"size": 5, "color": colors.path, "line": {"width": 1.2, "color": colors.halo}}
    words = {"hovertext": route.hover(part.quantity), "hoverinfo": "text", "name": "path of training"}
    return [
        go.Scatter(**line, line={"color": colors.halo, "width": 4}, opacity=0.7),
        go.Scatter(**line, line={"color": colors.path, "width": 2}),
        go.Scatter(x=x, y=y, mode="markers", marker=marker, meta=route.stepping, **words),
        go.Scatter(x=[None], y=[None], mode="markers", marker=_step_marker(15, colors), hoverinfo="skip", meta=STEP),
    ]


def _step_marker(size: int, colors: Theme) -> dict[str, Any]:
    """The checkpoint that a person has stepped to: `STEP` is drawn where the browser puts it."""
    return {"size": size, "color": "#ffffff", "line": {"width": 3, "color": colors.path}}


def _flat_marks(data: Mapping[str, Any], part: Quantity, colors: Theme) -> list[Any]:
    traces: list[Any] = []
    outline = {"width": 1.5, "color": colors.halo}
    for a, b, _, label in anchor_points(data, part):
        marker = {"size": 10, "symbol": "diamond", "color": "#ffffff", "line": outline}
        style = {"size": 12, "color": "#ffffff", "shadow": f"0 0 3px {colors.halo}, 0 0 3px {colors.halo}"}
        side = "top right" if a <= part.alphas.mean() else "top left"
        traces.append(
            go.Scatter(
                x=[a],
                y=[b],
                mode="markers+text",
                text=[label],
                textposition=side,
                textfont=style,
                marker=marker,
                hoverinfo="text",
            )
        )
    center = center_point(data, part)
    if center is not None and not traces:
        marker = {"size": 11, "symbol": "cross-thin", "line": {"width": 5, "color": colors.halo}}
        inner = {"size": 10, "symbol": "cross-thin", "line": {"width": 2.2, "color": "#ffffff"}}
        spot = {"x": [0.0], "y": [0.0], "mode": "markers"}
        traces.append(go.Scatter(**spot, marker=marker, hoverinfo="skip"))
        words = "these weights<br>" + _value_words(part, center[2])
        traces.append(go.Scatter(**spot, marker=inner, hovertext=[words], hoverinfo="text", name="these weights"))
    return traces


def _value_words(part: Quantity, value: float) -> str:
    return f"{part.label} {format_value(part.quantity, value)}"


def _solid_path(route: Route, scale: Scale, colors: Theme, lift: float) -> list[Any]:
    """The path at its real height, its shadow in the plane dotted, and a thin stem between the two."""
    x, y = (np.where(route.inside, route.points[:, k], np.nan) for k in (0, 1))
    shadow = scale.heights(route.plane) + lift
    height = np.minimum(scale.place(route.height), scale.bounds[1])  # it may lie below all of the surface
    real = np.where(np.isfinite(height), height + lift, shadow)
    words = {"hovertext": route.hover(scale.quantity), "hoverinfo": "text", "name": "path of training"}
    marker = {"size": 3, "color": "#ffffff", "line": {"width": 1, "color": "#212529"}}
    line = {"color": CENTER_COLOR, "width": 6}
    nowhere = {"x": [None], "y": [None], "z": [None]}
    traces = [
        go.Scatter3d(x=x, y=y, z=_f32(real), mode="lines+markers", line=line, marker=marker, meta=route.stepping, **words),
        go.Scatter3d(**nowhere, mode="markers", marker=_step_marker(8, colors), hoverinfo="skip", meta=STEP),
    ]
    if np.isfinite(route.height).any():
        dots = {"color": CENTER_COLOR, "width": 4, "dash": "dot"}
        traces.append(go.Scatter3d(x=x, y=y, z=_f32(shadow), mode="lines", line=dots, hoverinfo="skip"))
        gap = np.full_like(x, np.nan)
        stems = [_f32(np.column_stack(pair).reshape(-1)) for pair in ((x, x, gap), (y, y, gap), (real, shadow, gap))]
        thin = {"color": colors.muted, "width": 1.5}
        traces.append(go.Scatter3d(**dict(zip("xyz", stems, strict=True)), mode="lines", line=thin, hoverinfo="skip"))
    return traces


def _solid_marks(data: Mapping[str, Any], part: Quantity, scale: Scale, colors: Theme) -> list[Any]:
    """Pins: a stem that stands on the surface, a head, and for anchors a label."""
    marks: list[tuple[float, float, float, str]] = anchor_points(data, part)
    center = center_point(data, part)
    if center is not None and not marks:
        marks = [(*center, "")]
    bottom, top = scale.bounds
    traces: list[Any] = []
    for a, b, value, label in marks:
        if not np.isfinite(value):
            continue
        foot = float(scale.heights(value))
        head = min(foot + PIN * (top - bottom), top) if foot < top else top
        words = (label or "these weights") + "<br>" + _value_words(part, value)
        stem = {"x": [a, a], "y": [b, b], "z": [foot, head], "mode": "lines", "hoverinfo": "skip"}
        traces.append(go.Scatter3d(**stem, line={"color": colors.text, "width": 3}))
        traces.append(
            go.Scatter3d(
                x=[a],
                y=[b],
                z=[head],
                mode="markers+text" if label else "markers",
                text=[label],
                textposition="top center",
                textfont={"size": 12, "color": colors.mark},
                marker={"size": 5, "color": CENTER_COLOR, "line": {"width": 1, "color": "#212529"}},
                hovertext=[words],
                hoverinfo="text",
                name=label or "these weights",
            )
        )
    return traces
