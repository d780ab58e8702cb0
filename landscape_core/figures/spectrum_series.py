"""What else a spectrum result shows: the trace by layer, and the largest eigenvalues over training."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape_core.specs import Array

from .line import CUTS, CUTS_DARK
from .quantity import has, log_ticks, number, text
from .statement import Data
from .steps import place, step_axis
from .style import Theme, base_layout, cartesian_axis, faint, message_figure, theme

MOST, FEW = 7, 3  # numbers on a logarithmic axis, on one of a part of the height
LIMIT = {False: "#c92a2a", True: "#ff8787"}  # red: what gradient descent does not survive


def layers_figure(
    data: Data, *, color: str | None = None, dark: bool = False, title: str = "", compact: bool = False
) -> go.Figure:
    """The trace of every diagonal block as a bar with its standard error, in the order of the network."""
    if not has(data, "trace_layers", "layer_names"):
        return message_figure("The traces of the layers come last; not computed yet.", dark=dark, title=title, color=color)
    colors = theme(dark)
    tint = color or (CUTS_DARK if dark else CUTS)[0]
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


def run_figure(
    data: Data, *, color: str | None = None, dark: bool = False, title: str = "", compact: bool = False
) -> go.Figure:
    """The largest eigenvalues over the steps of training, beside the largest that the optimiser is stable at.

    Partial data hold NaN where a checkpoint is still to come. The steps stand at log10(1 + step).
    """
    steps = np.asarray(data["steps"], float)
    values = np.asarray(data.get("eigenvalues_top_steps", []), float)
    known = np.isfinite(values).any(axis=1) if values.ndim == 2 else np.zeros(0, bool)
    if not known.any():
        return message_figure("Waiting for the first checkpoint…", dark=dark, title=title, color=color)
    colors = theme(dark)
    tint = color or (CUTS_DARK if dark else CUTS)[0]
    at = place(steps)
    traces: list[Any] = []
    seen = [values[np.isfinite(values) & (values > 0)]]
    for i in range(values.shape[1] - 1, -1, -1):
        row = np.where(values[:, i] > 0, values[:, i], np.nan)
        if not np.isfinite(row).any():
            continue
        first = i == 0
        line = {"color": tint if first else faint(tint, max(0.25, 0.7 - 0.05 * i)), "width": 2.5 if first else 1.2}
        hover = f"λ{i + 1} = %{{y:.4g}} at step %{{customdata:,}}<extra></extra>"
        name = "λ₁, the sharpness" if first else f"λ₂ … λ{values.shape[1]}" if i == 1 else f"λ{i + 1}"
        style = {"mode": "lines+markers", "marker": {"size": 6 if first else 3}, "showlegend": i <= 1, "legendrank": i + 1}
        traces.append(
            go.Scatter(x=at, y=row, line=line, name=name, hovertemplate=hover, customdata=steps, connectgaps=False, **style)
        )
    bottom = np.asarray(data.get("eigenvalue_bottom_steps", []), float)
    if bottom.size == steps.size and (bottom < 0).any():
        row = np.where(bottom < 0, -bottom, np.nan)
        seen.append(row[np.isfinite(row)])
        line = {"color": (CUTS_DARK if dark else CUTS)[1], "width": 1.5, "dash": "dot"}
        hover = "smallest −%{y:.4g} at step %{customdata:,}<extra></extra>"
        traces.append(
            go.Scatter(
                x=at,
                y=row,
                line=line,
                mode="lines+markers",
                marker={"size": 4},
                customdata=steps,
                hovertemplate=hover,
                name="smallest, as −λ",
            )
        )
    limit = np.asarray(data.get("stability_limit_steps", []), float)
    said = []
    if limit.size == steps.size and np.isfinite(limit).any():
        kind = text(data, "stability_kind")
        seen.append(limit[np.isfinite(limit)])
        line = {"color": LIMIT[dark], "width": 2, "dash": "solid" if kind == "limit" else "dash", "shape": "hv"}
        name = "limit of stability" if kind == "limit" else "limit of full-batch descent, for reference"
        hover = f"{text(data, 'stability_rule')} = %{{y:.4g}}<extra></extra>"
        traces.append(go.Scatter(x=at, y=limit, mode="lines", line=line, name=name, hovertemplate=hover))
        said.append(
            f"Red: {text(data, 'stability_rule')}, above which {'this optimiser' if kind == 'limit' else 'full-batch descent'} "
            "leaves a quadratic valley." + ("" if kind == "limit" else " Mini-batch steps are noisy: only a reference.")
        )
    else:
        said.append(text(data, "stability_words") or "No limit is known for this optimiser.")
    done = int(known.sum())
    if done < steps.size and "products" not in data:
        said.insert(0, f"Growing: {done} of {steps.size} checkpoints.")
    layout = base_layout(colors, title, color=color, caption=said, compact=compact)
    name = "eigenvalue<br>(loss per unit length²)" if compact else "eigenvalue  (loss per unit length²)"
    y = log_axis(colors, name, np.concatenate(seen), room=0.12)
    legend = {"x": 0.5, "y": 1, "xanchor": "center", "yanchor": "top", "bgcolor": "rgba(0,0,0,0)", "orientation": "h"}
    layout |= {"xaxis": step_axis(colors, steps), "yaxis": y, "uirevision": "run"}
    layout |= {"showlegend": True, "legend": legend, "hovermode": "closest"}
    return go.Figure(data=traces, layout=layout)


def log_axis(colors: Theme, title: str, values: Array, room: float = 0.06, most: int = MOST) -> dict[str, Any]:
    """A logarithmic axis around positive values with at most `most` plain numbers; `room` is left above, as a share."""
    low, high = float(np.log10(values.min())), float(np.log10(values.max()))
    span = max(high - low, 0.5)
    bottom, top = low - 0.06 * span, high + room * span
    places = log_ticks(bottom, top, most)
    words = [number(tick, 2) for tick in places]
    return cartesian_axis(colors, title) | {"type": "log", "range": [bottom, top], "tickvals": places, "ticktext": words}
