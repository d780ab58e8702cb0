"""Small multiples: pictures of one kind on the same axes and in the same range of colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from .axes import FEW, MOST, log_ticks
from .numbers import number


def align(figures: Sequence[go.Figure], names: Sequence[str] = ("xaxis", "yaxis")) -> None:
    """Give pictures of one kind the same axes, and heat maps without an end of their colours the same end.

    Axes of one type and title get the union of their ranges, and the same numbers on it; those that are tied to each other (the
    sides of a square) fill their square and stay as they are.
    """
    if any(figure.layout.yaxis.scaleanchor for figure in figures):
        names = ()
    for name in names:
        axes = [figure.layout[name] for figure in figures if figure.data and name in figure.layout]
        axes = [axis for axis in axes if axis.range is not None]
        if len(axes) > 1 and len({axis.type for axis in axes}) == 1 and len({axis.title.text for axis in axes}) == 1:
            _join(axes)
    heats = [trace for figure in figures for trace in figure.data if isinstance(trace, go.Heatmap)]
    tops = [float(np.nanmax(heat.z)) for heat in heats if np.isfinite(heat.z).any()]
    for heat in heats:
        if heat.zmax is None and tops:
            heat.zmin, heat.zmax = 0, max(tops)


def _join(axes: Sequence[go.layout.XAxis | go.layout.YAxis]) -> None:
    low, high = min(axis.range[0] for axis in axes), max(axis.range[1] for axis in axes)
    widest = max(axes, key=lambda axis: float(axis.range[1] - axis.range[0]))
    places, words = widest.tickvals, widest.ticktext
    known = {tuple(axis.tickvals) for axis in axes if axis.tickvals is not None}
    if widest.type == "log" and len(known) > 1:
        places = log_ticks(low, high, FEW if np.ptp(widest.domain or (0, 1)) < 0.5 else MOST)
        words = [number(tick, 2) for tick in places]
    for axis in axes:
        axis.update(range=[low, high], tickvals=places, ticktext=words)
