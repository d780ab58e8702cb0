"""Axes of figures: linear, logarithmic, in three dimensions, and the numbers on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..specs import Array
from .numbers import number
from .style import Theme

DECADES = ((1, 1.5, 2, 3, 4, 6, 8), (1, 2, 5), (1, 3))  # numbers in each decade of a logarithmic axis
STRIDES = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500)  # decades from number to number where there are many
MOST, FEW = 7, 3  # such numbers on an axis, on one of a part of the height


def cartesian_axis(colors: Theme, title: str) -> dict[str, Any]:
    """A 2-D axis with a title that says its unit."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 12}},
        "gridcolor": colors.grid,
        "zeroline": False,
        "linecolor": colors.grid,
        "ticks": "outside",
        "tickcolor": colors.grid,
        "automargin": True,
    }


def scene_axis(colors: Theme, title: str) -> dict[str, Any]:
    """An axis of a 3-D scene."""
    return {
        "title": {"text": title, "font": {"size": 11}},
        "gridcolor": colors.grid,
        "zerolinecolor": colors.grid,
        "linecolor": colors.grid,
        "color": colors.text,
        "showbackground": False,
        "showspikes": False,
        "nticks": 5,
        "tickfont": {"size": 10},
    }


def log_axis(colors: Theme, title: str, values: Array, room: float = 0.06, most: int = MOST) -> dict[str, Any]:
    """A logarithmic axis around positive values with at most `most` plain numbers; `room` is left above, as a share."""
    low, high = float(np.log10(values.min())), float(np.log10(values.max()))
    span = max(high - low, 0.5)
    bottom, top = low - 0.06 * span, high + room * span
    places = log_ticks(bottom, top, most)
    words = [number(tick, 2) for tick in places]
    return cartesian_axis(colors, title) | {"type": "log", "range": [bottom, top], "tickvals": places, "ticktext": words}


def log_ticks(bottom: float, top: float, most: int) -> list[float]:
    """As many plain numbers as fit, at most `most`, between two powers of ten."""
    powers = range(math.floor(bottom), math.ceil(top) + 1)
    finer = ([float(f"{step}e{power}") for power in powers for step in steps] for steps in DECADES)
    coarser = ([float(f"1e{power}") for power in powers if power % stride == 0] for stride in STRIDES)
    found: list[float] = []
    for ticks in (*finer, *coarser):
        found = [tick for tick in ticks if tick > 0 and bottom - 1e-9 <= math.log10(tick) <= top + 1e-9]
        if len(found) <= most:
            break
    return found


def value_log_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` plain numbers between two positive ones; round ones where the range is too narrow for those."""
    found = log_ticks(math.log10(low), math.log10(high), count + 2)
    return found if len(found) >= 3 else round_ticks(low, high, count)


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers between two numbers."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)] or [low, high]


def tick_digits(ticks: Sequence[float]) -> int:
    """Significant digits that keep neighbouring ticks apart."""
    step = min((abs(b - a) for a, b in pairwise(ticks)), default=0.0)
    top = max((abs(value) for value in ticks), default=0.0)
    return max(2, math.ceil(math.log10(top / step)) + 1) if step and top else 3
