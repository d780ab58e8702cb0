"""Series over the steps of training: their axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..specs import Array
from .axes import cartesian_axis
from .style import Theme

TICKS = tuple(10**k for k in range(8))


def place(steps: Any) -> Array:
    """Where steps stand on the axis: log10(1 + step), which has room for the dense early ones and for step 0."""
    return np.log10(1.0 + np.asarray(steps, float))


def step_at(data: Mapping[str, Any], x: float) -> int:
    """The step of a series that stands nearest to `x` on the axis."""
    steps = np.asarray(data["steps"])
    return int(steps[np.abs(place(steps) - x).argmin()])


def step_axis(colors: Theme, steps: Array, *, title: str = "step of training") -> dict[str, Any]:
    """The axis over `place(steps)`, with the steps as its numbers."""
    marks = [mark for mark in TICKS if mark <= steps.max()]
    end = float(place(steps.max()))
    axis = cartesian_axis(colors, title) | {"showgrid": False, "range": [-0.06, 1.02 * end + 0.04]}
    return axis | {"tickvals": [0.0, *place(marks).tolist()], "ticktext": ["0", *(f"{mark:,}" for mark in marks)]}


def edges(at: Array) -> Array:
    """Edges `(t + 1,)` of cells around ascending places `(t,)`: half way to the neighbours."""
    if at.size < 2:
        return np.array([at[0] - 0.5, at[0] + 0.5])
    middle = (at[1:] + at[:-1]) / 2
    return np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])
