"""A point that was pointed at: the nearest one of the grid, what is known there, and the extent that puts it in the middle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...drawing.numbers import number
from .arrays import QUANTITIES
from .quantity import format_value


def point_of(data: Mapping[str, Any], click: Mapping[str, Any], cuts: bool = False) -> list[float]:
    """Coordinates `(alpha,)` or `(alpha, beta)` of the grid point nearest to a click's `x` and `y`.

    With `cuts` (a plane drawn as its two centre cuts) the click lies on the cut of its `curveNumber`.
    """
    axes = [np.asarray(data[name], dtype=np.float64) for name in ("alphas", "betas") if name in data]
    wanted = [float(click["x"]), float(click["y"])] if len(axes) == 2 and not cuts else [float(click["x"])]
    if len(axes) == 2 and cuts:
        wanted = [wanted[0], 0.0] if click.get("curveNumber", 0) == 0 else [0.0, wanted[0]]
    return [float(axis[np.abs(axis - at).argmin()]) for axis, at in zip(axes, wanted, strict=True)]


def values_at(data: Mapping[str, Any], point: list[float]) -> dict[str, str]:
    """Every quantity at a grid point in words; over several lines their mean. A point not yet evaluated says so."""
    index: tuple[Any, ...] = (
        ...,
        *(int(np.abs(np.asarray(data[n]) - at).argmin()) for n, at in zip(("alphas", "betas"), point, strict=False)),
    )
    known = "evaluated" not in data or bool(np.all(np.asarray(data["evaluated"])[index]))
    found = {}
    for name in (*QUANTITIES, *(f"{q}_test" for q in QUANTITIES)):
        if name in data:
            here = np.asarray(data[name], dtype=np.float64)[index]
            words = format_value(name, float(np.mean(here))) if known else "not yet evaluated"
            found[name] = f"{words} (mean of {here.size})" if here.size > 1 else words
    return found


def point_words(point: list[float]) -> str:
    """`α 0.25, β −0.5`."""
    return ", ".join(f"{axis} {number(at)}" for axis, at in zip("αβ", point, strict=False))


def centered_extent(data: Mapping[str, Any], point: list[float]) -> list[Any]:
    """The extent of the same size with `point` in the middle: `[lo, hi]` for a line, one `[lo, hi]` an axis for a plane."""
    spans = []
    for name, at in zip(("alphas", "betas"), point, strict=False):
        axis = np.asarray(data[name], dtype=np.float64)
        reach = float(axis[-1] - axis[0]) / 2
        spans.append([float(f"{at - reach:.6g}"), float(f"{at + reach:.6g}")])
    return spans if len(spans) == 2 else spans[0]
