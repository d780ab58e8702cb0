"""Loss curves of a run: what it measured at its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ..specs import Array
from .axes import cartesian_axis
from .steps import TICKS, place
from .style import FONT, base_layout, message_figure, theme

SPLITS = ("train", "test")
COLORS = {False: {"train": "#1c7ed6", "test": "#d9480f"}, True: {"train": "#4dabf7", "test": "#ffa94d"}}


def loss_curves(
    columns: Mapping[str, Any], *, last_step: int | None = None, dark: bool = False, compact: bool = False, title: str = ""
) -> go.Figure:
    """Train and test loss over steps, from the metric columns of a run (`steps (t,)`, `train_loss (t,)`, `test_loss (t,)`).

    The step axis is log10(1 + step), so that the dense early checkpoints and step 0 have their place; it reaches to
    `last_step` from the start, so that a growing curve does not rescale. The loss axis is logarithmic where all losses are
    positive. What is not finite is left out. `compact` is for cards: no legend, small type.
    """
    colors = theme(dark)
    steps = np.asarray(columns.get("steps", []), dtype=float)
    curves = {split: np.asarray(columns[f"{split}_loss"], dtype=float) for split in SPLITS if f"{split}_loss" in columns}
    known = {split: loss for split, loss in curves.items() if np.isfinite(loss).any()}
    if not known:
        return message_figure("No loss has been recorded yet.", dark=dark, title=title)
    traces = [_curve(steps, loss, split, dark, alone=len(steps) == 1) for split, loss in known.items()]
    layout = base_layout(colors, title, compact=compact)
    end = max(float(steps[-1]), float(last_step or 0))
    small = {"size": 10, "color": colors.muted}
    x = cartesian_axis(colors, "" if compact else "step") | {
        "range": [-0.02 * place(end), 1.02 * place(end) or 1],
        "tickvals": [0.0, *(float(place(t)) for t in TICKS if t <= end)],
        "ticktext": ["0", *(f"{t:,}" for t in TICKS if t <= end)],
        "tickangle": 0,
        "showgrid": False,
    }
    y = cartesian_axis(colors, "" if compact else "loss") | _loss_axis(known)
    if compact:
        x, y = x | {"tickfont": small}, y | {"tickfont": small}
        layout["margin"] = {"l": 4, "r": 8, "t": 6, "b": 4}
    else:
        layout |= {"showlegend": True, "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"}}
    layout |= {"xaxis": x, "yaxis": y, "hovermode": "x unified", "font": {"family": FONT, "size": 11, "color": colors.text}}
    layout["uirevision"] = "loss"
    return go.Figure(data=traces, layout=layout)


def _curve(steps: Array, loss: Array, split: str, dark: bool, *, alone: bool) -> go.Scatter:
    return go.Scatter(
        x=place(steps).astype(np.float32),
        y=np.where(np.isfinite(loss), loss, np.nan),
        customdata=steps,
        mode="markers" if alone else "lines",
        name=split,
        line={"color": COLORS[dark][split], "width": 2, "dash": "solid" if split == "train" else "dot"},
        hovertemplate="%{y:.4g} at step %{customdata:,.0f}",
    )


def _loss_axis(known: Mapping[str, Array]) -> dict[str, Any]:
    """Logarithmic over whole decades' labels where it can be; ticks stay readable at the size of a card."""
    values = np.concatenate([loss[np.isfinite(loss)] for loss in known.values()])
    if not (values > 0).all():
        return {"nticks": 4, "rangemode": "tozero"}
    low, high = np.log10(values.min()), np.log10(values.max())
    pad = 0.06 * max(high - low, 0.3)
    marks = [m * 10.0**k for k in range(int(np.floor(low)) - 1, int(np.ceil(high)) + 1) for m in (1, 3)]
    inside = [mark for mark in marks if low - pad <= np.log10(mark) <= high + pad]
    keep = inside[:: max(1, len(inside) // 4)] if len(inside) > 1 else [float(f"{10**low:.2g}"), float(f"{10**high:.2g}")]
    return {
        "type": "log",
        "range": [low - pad, high + pad],
        "tickvals": keep,
        "ticktext": [f"{mark:g}" for mark in keep],
    }
