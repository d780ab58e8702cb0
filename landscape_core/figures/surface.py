"""The figure of a slice of the loss: heat map, contour map, 3-D surface or line, finished or still filling in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from landscape_core.specs import InputError

from .line import line_axes, line_traces
from .overlays import read_arrows, read_path, read_walk
from .plane import flat_axes, flat_traces, solid_scene, solid_traces
from .quantity import CONVEXITIES, Slice, base_quantity, number, read_slice, scalar, scale_for, stretch_remark, value_range
from .style import COLOR_MAPS, DIVERGING, base_layout, message_figure, theme

Kind = Literal["3d", "contour", "heatmap", "line"]
KINDS: tuple[Kind, ...] = ("3d", "contour", "heatmap", "line")

__all__ = ["KINDS", "Kind", "surface_figure", "value_range"]


def surface_figure(
    data: Mapping[str, Any],
    *,
    kind: Kind = "3d",
    quantity: str = "loss",
    log: bool = False,
    colormap: str | None = None,
    color: str | None = None,
    value_range: tuple[float, float] | None = None,
    dark: bool = False,
    show_path: bool = True,
    show_flow: bool = False,
    show_walk: bool = False,
    title: str | None = None,
    compact: bool = False,
) -> go.Figure:
    """Draw a surface Result, or a partial mapping of its arrays.

    `quantity` is loss, accuracy or error, or one of them with `_test`, or a convexity. `value_range` (plain units, from
    `value_range()`) is the scale shared by several pictures; what lies beyond it is drawn clipped, in grey, and counted. `log`
    draws log10 of the values; what has none, zero and negative, stands at the lower end in a colour of its own, counted too.
    Colours are viridis; a convexity has its white at zero. A plane with kind "line" shows its two cuts through the centre; a
    line is a line whatever the kind. `color` (#rrggbb) is the checkpoint's own. `compact` is for small multiples.

    Points that are not finite are masked in pink and counted; points not yet evaluated come from the estimate, and the picture
    says so. Until one cell is known the figure is a sentence. Raises InputError if the data doesn't hold the quantity.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind of picture '{kind}'; known: {', '.join(KINDS)}")
    if colormap is None:
        colormap = DIVERGING if quantity in CONVEXITIES else COLOR_MAPS[0]
    elif colormap not in COLOR_MAPS:
        raise InputError(f"unknown colour map '{colormap}'; known: {', '.join(COLOR_MAPS)}")
    colors = theme(dark)
    part = read_slice(data, quantity)
    heading = title or f"{base_quantity(quantity).capitalize()} around these weights"
    if not part.drawable:
        reason = (
            "No finite value in this picture; try a smaller extent." if not part.partial else "Waiting for the first points…"
        )
        return message_figure(reason, dark=dark, title=heading, color=color)
    scale = scale_for(part, value_range, log)
    flat = part.betas is None or kind == "line"
    remarks = part.remarks() + scale.remarks(flat)
    route = read_path(data, part) if show_path and not (flat and part.betas is not None) else None
    if route is not None:
        remarks += route.remarks()
    if show_flow and not flat and read_arrows(data, part) is not None:
        remarks.append("Arrows: downhill in the plane, −(DᵀD)⁻¹Dᵀ∇L; length grows with the root of the speed.")
    if show_walk and not flat and read_walk(data) is not None:
        remarks.append("Dotted: a random walk with as many steps and the same length, on its own principal axes.")
    if not flat:
        remarks += stretch_remark(data, part)
    layout = base_layout(colors, heading, color=color, caption=[*remarks, *stamp(data, part)], compact=compact)
    options: dict[str, Any] = {
        "colormap": colormap,
        "path": show_path,
        "flow": show_flow,
        "walk": show_walk,
        "compact": compact,
    }
    heights = [] if route is None else list(route.height[route.inside])
    if flat:
        traces = line_traces(data, part, scale, colors, color=color, dark=dark, path=show_path)
        layout |= line_axes(data, part, scale, colors, heights)
    elif kind == "3d":
        traces = solid_traces(data, part, scale, colors, **options)
        layout["scene"] = solid_scene(data, part, scale, colors, heights, compact)
    else:
        traces = flat_traces(data, part, scale, colors, kind=kind, **options)
        layout |= flat_axes(data, part, colors, kind)
    # The camera and the zoom survive new partial data and a change of theme, but not another extent or another kind.
    layout["uirevision"] = f"{kind} {_span(part)}"
    return go.Figure(data=traces, layout=layout)


def stamp(data: Mapping[str, Any], part: Slice) -> list[str]:
    """One line that says how the picture was made, from what the result knows about itself."""
    spec = getattr(data, "spec", {})
    said = [" × ".join(str(n) for n in part.values.shape[-1 if part.betas is None else 0 :]) + " points"]
    if "directions" in spec:
        said.append(f"{spec['directions']} directions")
        said.append(f"seed {spec.get('seed', 0)}")
    if part.betas is None and part.values.shape[0] > 1:
        said.append(f"{part.values.shape[0]} lines")
    if spec.get("batchnorm") == "batch":
        said.append("BatchNorm re-estimated at every point")
    share = scalar(data, "gradient_share")
    if share is not None:
        said.append(f"{'line' if part.betas is None else 'plane'} holds {number(100 * share, 2)} % of the squared gradient")
    return [" · ".join(said)] if spec or share is not None else []


def _span(part: Slice) -> str:
    ends = [part.alphas[0], part.alphas[-1], *([] if part.betas is None else [part.betas[0], part.betas[-1]])]
    return " ".join(f"{float(np.float64(end)):.6g}" for end in ends)
