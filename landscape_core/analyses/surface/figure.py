"""The figure of a slice of the loss: heat map, contour map, 3-D surface or line, finished or still filling in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ...drawing.known import Known, chosen, scalar
from ...drawing.numbers import number
from ...drawing.style import COLOR_MAPS, DIVERGING, base_layout, message_figure, theme
from ...specs import Array, InputError
from .arrays import QUANTITIES
from .difference import difference_figure
from .line import line_axes, line_traces
from .overlays import read_arrows, read_path, read_walk
from .plane import flat_axes, flat_traces, solid_scene, solid_traces
from .quantity import CONVEXITIES, Quantity, base_quantity, read_slice, scale_for, stretch_remark, value_range

KINDS = ("3d", "contour", "heatmap", "line")


def figure(
    data: Known,
    *,
    kind: str = "3d",
    quantity: str = "loss",
    clip: str = "100",
    log: bool = False,
    path: bool = True,
    flow: bool = False,
    walk: bool = False,
    difference: bool = False,  # noqa: ARG001  # of two surfaces: `combined` draws it
    limits: tuple[float, float] | None = None,
    colormap: str | None = None,
    source: str = "",  # noqa: ARG001  # the title names it
    color: str | None = None,
    dark: bool = False,
    title: str | None = None,
    compact: bool = False,
) -> go.Figure:
    """Draw a surface Result, or a partial mapping of its arrays.

    `quantity` is loss, accuracy or error, or one of them with `_test`, or a convexity. `limits` (plain units, from `shared`) is
    the scale of several pictures beside each other; without it `clip` is the share of the lowest values in per cent that the
    scale holds. What lies beyond is drawn clipped, in grey, and counted. `log` draws log10 of the values; what has none, zero
    and negative, stands at the lower end in a colour of its own, counted too. `path`, `flow` and `walk` lay trajectory, arrows
    downhill and a random walk over it. Colours are viridis; a convexity has its white at zero. A plane with kind "line" shows
    its two cuts through the centre; a line is a line whatever the kind. `color` (#rrggbb) is the checkpoint's own. `compact` is
    for small multiples.

    Points that are not finite are masked in pink and counted; points not yet evaluated come from the estimate, and the picture
    says so. Until one cell is known the figure is a sentence. Raises InputError if the data doesn't hold the quantity.
    """
    chosen("kind of picture", kind, KINDS)
    if colormap is None:
        colormap = DIVERGING if quantity in CONVEXITIES else COLOR_MAPS[0]
    else:
        chosen("colour map", colormap, COLOR_MAPS)
    colors = theme(dark)
    part = read_slice(data, quantity, log)
    heading = title or f"{base_quantity(quantity).capitalize()} around these weights"
    if not part.drawable:
        reason = (
            "No finite value in this picture; try a smaller extent." if not part.partial else "Waiting for the first points…"
        )
        return message_figure(reason, dark=dark, title=heading, color=color)
    if limits is None:
        limits = value_range([data], quantity, log, float(clip) / 100)
    scale = scale_for(part, limits, log)
    flat = part.betas is None or kind == "line"
    remarks = part.remarks() + scale.remarks(flat)
    route = read_path(data, part) if path and not (flat and part.betas is not None) else None
    if route is not None:
        remarks += route.remarks()
    if flow and not flat and read_arrows(data, part) is not None:
        remarks.append("Arrows: downhill in the plane, −(DᵀD)⁻¹Dᵀ∇L; length grows with the root of the speed.")
    if walk and not flat and read_walk(data) is not None:
        remarks.append("Dotted: a random walk with as many steps and the same length, on its own principal axes.")
    if not flat:
        remarks += stretch_remark(data, part)
    layout = base_layout(colors, heading, color=color, caption=[*remarks, *stamp(data, part)], compact=compact)
    options: dict[str, Any] = {
        "colormap": colormap,
        "path": path,
        "flow": flow,
        "walk": walk,
        "compact": compact,
    }
    heights = [] if route is None else list(route.height[route.inside])
    if flat:
        traces = line_traces(data, part, scale, colors, color=color, dark=dark, path=path)
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


def shared(datas: Sequence[Known | None], view: Mapping[str, Any]) -> dict[str, Any]:
    """The range of values of pictures beside each other."""
    return {"limits": value_range(datas, view["quantity"], view["log"], float(view["clip"]) / 100)}


def combined(datas: Sequence[Known | None], sources: Sequence[str], view: Mapping[str, Any], dark: bool) -> go.Figure | None:
    """The difference of two surfaces, where it is asked for; None where each has a picture of its own."""
    if not view["difference"] or len(datas) != 2:
        return None
    first, second = datas
    if first is None or second is None:
        return message_figure("The difference needs both surfaces: press Compute.", dark=dark, title=" and ".join(sources))
    options = {name: view[name] for name in ("kind", "quantity", "log")}
    return difference_figure(first, second, names=sources, dark=dark, **options)


def stamp(data: Known, part: Quantity) -> list[str]:
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


def _span(part: Quantity) -> str:
    ends = [part.alphas[0], part.alphas[-1], *([] if part.betas is None else [part.betas[0], part.betas[-1]])]
    return " ".join(f"{float(np.float64(end)):.6g}" for end in ends)


# -- files ---------------------------------------------------------------------------------------------------------------


def rows(data: Known) -> tuple[list[str], Iterable[tuple[Any, ...]]]:
    """Header and one row a point: `alpha,beta,loss,...` of a plane, `line,alpha,loss,...` of lines."""
    columns = _columns(data)
    return list(columns), zip(*(column.reshape(-1).tolist() for column in columns.values()), strict=True)


def vtk(data: Known) -> str:
    """A plane as a legacy VTK structured grid in ASCII, for ParaView: height is the loss, every quantity is point data.

    x runs fastest. Points that are not finite stand at the largest finite height; their values remain `nan` or `inf` in the
    point data. Raises InputError for a result that is no plane.
    """
    if "betas" not in data:
        raise InputError("VTK holds planes: compute the surface with dimensions=2")
    columns = _columns(data)
    n, m = columns["loss"].shape
    loss = columns["loss"]
    finite = loss[np.isfinite(loss)]
    height = np.where(np.isfinite(loss), loss, finite.max() if finite.size else 0.0)
    rows = [
        "# vtk DataFile Version 3.0",
        f"loss surface of {_ascii(str(getattr(data, 'spec', {}).get('source', '')))}"[:255],
        "ASCII",
        "DATASET STRUCTURED_GRID",
        f"DIMENSIONS {n} {m} 1",
        f"POINTS {n * m} double",
        *(f"{x!r} {y!r} {z!r}" for x, y, z in zip(*map(_x_fastest, (columns["alpha"], columns["beta"], height)), strict=True)),
        f"POINT_DATA {n * m}",
    ]
    for name, values in columns.items():
        if name not in ("alpha", "beta"):
            rows += [f"SCALARS {name} double 1", "LOOKUP_TABLE default", *map(repr, _x_fastest(values))]
    return "\n".join(rows) + "\n"


def _columns(data: Known) -> dict[str, Array]:
    """Coordinates and quantities, all of the shape of the loss."""
    if "loss" not in data or "alphas" not in data:
        raise InputError("this result has no surface to write: it has no 'alphas' and 'loss'")
    alphas = np.asarray(data["alphas"], dtype=np.float64)
    values = {
        name: np.asarray(data[name], dtype=np.float64)
        for name in (*QUANTITIES, *(f"{q}_test" for q in QUANTITIES))
        if name in data
    }
    if "betas" in data:
        a, b = np.meshgrid(alphas, np.asarray(data["betas"], dtype=np.float64), indexing="ij")
        return {"alpha": a, "beta": b, **values}
    values = {name: np.atleast_2d(array) for name, array in values.items()}
    count = values["loss"].shape[0]
    line, a = np.meshgrid(np.arange(count), alphas, indexing="ij")
    return {"line": line, "alpha": a, **values}


def _x_fastest(values: Array) -> list[float]:
    return values.T.reshape(-1).tolist()


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("\n", " ")
