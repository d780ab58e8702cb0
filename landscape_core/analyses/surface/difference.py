"""The difference of two surfaces on the same coordinates: which of two checkpoints is lower where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ...drawing.known import Known
from ...drawing.numbers import percent, span
from ...drawing.style import DIVERGING, base_layout, message_figure, theme
from ...specs import InputError
from .line import line_axes, line_traces
from .plane import flat_axes, flat_traces, solid_scene, solid_traces
from .quantity import Quantity, Scale, base_quantity, format_value, read_slice


def comparable(data_a: Known, data_b: Known) -> str:
    """Empty if two surfaces share their coordinates and units, else one line that says what differs."""
    for name, axis in (("alphas", "first"), ("betas", "second")):
        a, b = (np.asarray(data[name]) if name in data else np.empty(0) for data in (data_a, data_b))
        if a.shape != b.shape:
            return "the two pictures have different numbers of points: give them the same dimensions and resolution"
        if a.size and not np.allclose(a, b, rtol=1e-6, atol=1e-9 * float(np.abs(a).max() or 1)):
            spans = " and ".join(f"[{x[0]:.3g}, {x[-1]:.3g}]" for x in (a, b))
            return f"the two pictures have different ranges on the {axis} axis, {spans}: set the same extent for both"
    return ""


def difference_figure(
    data_a: Known,
    data_b: Known,
    *,
    names: Sequence[str] = ("first", "second"),
    kind: str = "heatmap",
    quantity: str = "loss",
    log: bool = False,
    value_range: float | None = None,
    dark: bool = False,
    title: str | None = None,
    compact: bool = False,
) -> go.Figure:
    """Second minus first, on red and blue around white at zero: blue where the second is lower.

    With `log` the quotient, log10(second / first). `value_range` is the largest deviation shown, what lies beyond is grey; None
    takes all. Points that are not finite in either are masked, with `log` those that are not positive too. Raises InputError if
    the two surfaces don't share their coordinates.
    """
    problem = comparable(data_a, data_b)
    if problem:
        raise InputError(problem)
    a, b = (read_slice(data, quantity, log) for data in (data_a, data_b))
    with np.errstate(invalid="ignore", divide="ignore"):
        # Not log10 of the quotient: of two negative values it is that of their sizes.
        values = np.log10(b.values) - np.log10(a.values) if log else b.values - a.values
    values = np.where(np.isfinite(values), values, np.nan)
    exact = a.exact & b.exact
    base = base_quantity(quantity)
    label = f"log₁₀ quotient of {base}" if log else f"difference of {base}"
    # A quotient is a plain number, whatever its parts are measured in.
    part = Quantity("loss" if log else quantity, a.alphas, a.betas, values, exact, exact & ~np.isfinite(values), name=label)
    colors = theme(dark)
    heading = title or f"{names[1]} minus {names[0]}" if not log else title or f"{names[1]} over {names[0]}"
    if not part.drawable:
        return message_figure("There is no point yet that both pictures have.", dark=dark, title=heading)
    largest = float(np.nanmax(np.abs(values))) or 1e-12
    top = min(value_range or largest, largest)
    scale = Scale(part.quantity, -top, top, log=False).count(values[exact])
    flat = part.betas is None or kind == "line"
    low = float(np.nanmin(values[exact])) if exact.any() else 0.0
    high = float(np.nanmax(values[exact])) if exact.any() else 0.0
    rounding = _rounding(data_a, data_b)
    floor = np.log10(1 + rounding) if log else rounding * np.maximum(np.abs(a.values), np.abs(b.values))
    share = float((values < -floor)[exact].mean()) if exact.any() else 0.0
    same = exact.any() and bool((np.abs(values) <= floor)[exact & np.isfinite(values)].all())
    where = "everywhere" if share == 1 else f"at {percent(share)} of the points" if share else "nowhere"
    ends = span(*(format_value(part.quantity, value, 3) for value in (low, high)))
    said = [
        *part.remarks(),
        *scale.remarks(flat),
        "Both are the same, but for rounding." if same else f"Blue: {names[1]} is lower, {where}; from {ends}.",
    ]
    if _own_axes(data_a, data_b):
        what = "on the line of its own axis" if part.betas is None else "in the plane of its own axes"
        said.append(f"Each surface lies {what}: the same coordinates are not the same weights.")
    layout = base_layout(colors, heading, caption=said, compact=compact)
    about = {name: data_a[name] for name in ("unit_0", "unit_1", "sample_size", "sample_size_test") if name in data_a}
    options: dict[str, Any] = {"colormap": DIVERGING, "path": False, "flow": False, "walk": False, "compact": compact}
    if flat:
        traces = line_traces(about, part, scale, colors, color=None, dark=dark, path=False)
        layout |= line_axes(about, part, scale, colors)
    elif kind == "3d":
        traces = solid_traces(about, part, scale, colors, **options)
        layout["scene"] = solid_scene(about, part, scale, colors, [], compact)
    else:
        traces = flat_traces(about, part, scale, colors, kind=kind, **options)
        layout |= flat_axes(about, part, colors, kind)
    return go.Figure(data=traces, layout=layout)


def _rounding(*datas: Known) -> float:
    """How far two values may differ by rounding, relative to their size, in the coarser arithmetic of the two."""
    kinds = {str(getattr(data, "provenance", {}).get("dtype") or "float32") for data in datas}
    return 1e-6 if "float32" in kinds else 1e-13


def _own_axes(data_a: Known, data_b: Known) -> bool:
    """Whether the two surfaces are spanned by different vectors (unknown while they are being computed: assume so)."""
    return not all(
        name in data_a and name in data_b and np.array_equal(data_a[name], data_b[name])
        for name in ("direction_0", "direction_1")
        if name in data_a or "betas" in data_a
    )
