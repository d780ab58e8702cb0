"""Coarse-to-fine order of a grid, and the picture that a part of it already gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import RectBivariateSpline, make_interp_spline

from ...specs import Array

STRIDES = (16, 8, 4, 2, 1)


def nested(n: int, stride: int) -> np.ndarray:
    """Every `stride`-th index of an axis of n points, and the last: each level holds the coarser ones."""
    return np.unique(np.append(np.arange(0, n, stride), n - 1))


def levels(shape: tuple[int, ...]) -> Iterator[tuple[int, np.ndarray]]:
    """(stride, cells `(count, len(shape))`) from coarse to fine, row by row; every cell of the grid once."""
    seen = np.zeros(shape, dtype=bool)
    for stride in STRIDES:
        mask = np.zeros(shape, dtype=bool)
        mask[np.ix_(*(nested(n, stride) for n in shape))] = True
        cells = np.argwhere(mask & ~seen)
        seen |= mask
        if len(cells):
            yield stride, cells


@dataclass
class Estimate:
    """A spline through the levels that are complete, held against each next level before it is taken in.

    `error` is the largest deviation at held-out points, relative to the range of the values (NaN until there were any).
    """

    axes: tuple[np.ndarray, ...]
    values: Array | None = None
    error: float = float("nan")

    def complete(self, grid: Array, stride: int) -> None:
        """Take in a level: `grid` holds exact values at every index that `nested(n, stride)` names."""
        indices = tuple(nested(n, stride) for n in grid.shape)
        known = grid[np.ix_(*indices)]
        if self.values is not None:
            guess = self.values[np.ix_(*indices)]
            finite = np.isfinite(known) & np.isfinite(guess)
            if finite.any():
                span = float(np.ptp(known[finite])) or 1.0
                self.error = float(np.abs(guess[finite] - known[finite]).max() / span)
        self.values = _spline([axis[i] for axis, i in zip(self.axes, indices, strict=True)], known, self.axes)

    def picture(self, grid: Array, evaluated: Array) -> Array:
        """The estimate everywhere, with the exact values where there are any."""
        guess = np.full(grid.shape, np.nan) if self.values is None else self.values
        return np.where(evaluated, grid, guess)


def _spline(knots: list[np.ndarray], known: Array, axes: tuple[np.ndarray, ...]) -> Array:
    """Cubic where there are enough knots; in the logarithm of positive values, which range over decades."""
    if not np.isfinite(known).all():
        nearest = [np.abs(axis[:, None] - k).argmin(1) for axis, k in zip(axes, knots, strict=True)]
        return known[np.ix_(*nearest)]
    log = bool((known > 0).all())
    values = np.log(known) if log else known
    degrees = [min(3, len(k) - 1) for k in knots]
    if len(axes) == 1:
        found = make_interp_spline(knots[0], values, k=degrees[0])(axes[0])
    else:
        found = RectBivariateSpline(*knots, values, kx=degrees[0], ky=degrees[1])(*axes)
    with np.errstate(over="ignore"):
        return np.exp(found) if log else found
