"""The trace by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from ...drawing.axes import cartesian_axis
from ...drawing.known import Known, has
from ...drawing.numbers import number
from ...drawing.style import base_layout, cuts, faint, message_figure, theme


def layers_figure(
    data: Known, *, color: str | None = None, dark: bool = False, title: str = "", compact: bool = False
) -> go.Figure:
    """The trace of every diagonal block as a bar with its standard error, in the order of the network."""
    if not has(data, "trace_layers", "layer_names"):
        return message_figure("The traces of the layers come last; not computed yet.", dark=dark, title=title, color=color)
    colors = theme(dark)
    tint = color or cuts(dark)[0]
    values = np.asarray(data["trace_layers"], float)
    names = [str(name) for name in np.asarray(data["layer_names"])]
    errors = np.asarray(data["trace_layers_standard_error"], float) if has(data, "trace_layers_standard_error") else 0 * values
    sizes = np.asarray(data["layer_sizes"], float) if has(data, "layer_sizes") else np.full(values.size, np.nan)
    total = float(values.sum())
    words = [
        f"{name}: {number(value)} ± {number(error, 2)}<br>{number(100 * value / total, 3) if total else 0} % of the trace"
        + (f"<br>{number(value / size, 3)} for each of {size:,.0f} parameters" if size > 0 else "")
        for name, value, error, size in zip(names, values, errors, sizes, strict=True)
    ]
    exact = not errors.any()
    said = [
        "Sum of the eigenvalues of each layer's own block; blocks off the diagonal do not enter. "
        + ("Exact." if exact else "Bars: one standard error.")
    ]
    layout = base_layout(colors, title, color=color, caption=said, compact=compact)
    bar: dict[str, Any] = {
        "x": list(range(len(names))),
        "y": values,
        "marker": {"color": faint(tint, 0.75)},
        "hovertext": words,
    }
    spread = {} if exact else {"error_y": {"array": errors, "thickness": 1.5, "color": colors.text}}
    x = cartesian_axis(colors, "") | {"tickvals": bar["x"], "ticktext": [_short(name) for name in names], "showgrid": False}
    if len(names) > 24:
        stride = -(-len(names) // 24)
        x |= {"tickvals": bar["x"][::stride], "ticktext": x["ticktext"][::stride]}
    top = float((values + errors).max(initial=0.0))
    low = float((values - errors).min(initial=0.0))
    pad = 0.06 * ((top - low) or 1.0)
    y = cartesian_axis(colors, "trace  (loss per unit length²)") | {"zeroline": True, "zerolinecolor": colors.muted}
    y |= {"range": [low - (pad if low < 0 else 0), top + pad]}
    layout |= {"xaxis": x, "yaxis": y, "uirevision": "layers"}
    return go.Figure(data=[go.Bar(**bar, **spread, hoverinfo="text")], layout=layout)


def _short(name: str) -> str:
    return name if len(name) <= 16 else "…" + name[-15:]
