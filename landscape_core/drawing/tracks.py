"""The largest eigenvalues over training, beside what the optimiser is stable at."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from .axes import log_axis
from .known import Known, text
from .steps import place, step_axis
from .style import base_layout, cuts, faint, message_figure, theme

LIMIT = {False: "#c92a2a", True: "#ff8787"}  # red: what gradient descent does not survive


def tracks_figure(
    data: Known, *, color: str | None = None, dark: bool = False, title: str = "", compact: bool = False
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
    tint = color or cuts(dark)[0]
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
        line = {"color": cuts(dark)[1], "width": 1.5, "dash": "dot"}
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
        seen.append(limit[limit > 0])  # none is positive where the decay alone is too much
        line = {"color": LIMIT[dark], "width": 2, "dash": "solid" if kind == "limit" else "dash", "shape": "hv"}
        name = "limit of stability" if kind == "limit" else "limit of full-batch descent, for reference"
        hover = f"{text(data, 'stability_rule')} = %{{y:.4g}}<extra></extra>"
        traces.append(go.Scatter(x=at, y=limit, mode="lines", line=line, name=name, hovertemplate=hover))
        said.append(
            f"Red: {text(data, 'stability_rule')}, above which {'this optimiser' if kind == 'limit' else 'full-batch descent'} "
            "leaves a quadratic valley." + ("" if kind == "limit" else f" {text(data, 'stability_words')}")
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
