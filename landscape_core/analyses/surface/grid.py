"""Coarse-to-fine order of a grid, and the picture that a part of it already gives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.interpolate import RectBivariateSpline, make_interp_spline

from ...specs import Array

STRIDES = (16, 8, 4, 2, 1)
SURE = 3.0  # times the error at points held out
ROUNDING = 1e-12  # of the range: no estimate is better


def nested(n: int, stride: int) -> np.ndarray:
    """Every `stride`-th index of an axis of n points counted from its middle, and both ends: each level holds the coarser ones.

    From the middle, since that is where the weights are: what a picture is about is in it from the first level on.
    """
    return np.unique(np.concatenate([[0], np.arange(n // 2 % stride, n, stride), [n - 1]]))


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


class Estimate:
    """A picture of the whole grid from the levels that are complete, and a bound on its error: plain, and of its logarithm.

    Of a spline through the values and one through their logarithms the better one at the points of the newest level is
    taken, for each scale by itself. `error` and `log_error`, shares of the range of what is known, are to bound the largest
    deviation of the whole picture: NaN until a level was held out, 0 at the last.
    """

    def __init__(self, axes: tuple[np.ndarray, ...]):
        self.axes = axes
        self._plain, self._log = Scaled(axes, log=False), Scaled(axes, log=True)

    @property
    def values(self) -> Array | None:
        """The estimate on the whole grid; None before the first level."""
        return self._plain.values

    @property
    def error(self) -> float:
        """What bounds the deviation of `values`, as a share of the range."""
        return self._plain.error

    @property
    def log_error(self) -> float:
        """The same of the logarithm of `log_picture`, as a share of the range of logarithms; NaN where there are none."""
        return self._log.error

    def complete(self, grid: Array, stride: int) -> None:
        """Take in a level: `grid` holds exact values at every index that `nested(n, stride)` names."""
        indices = tuple(nested(n, stride) for n in grid.shape)
        known = grid[np.ix_(*indices)]
        with np.errstate(all="ignore"):
            for scale in (self._plain, self._log):
                scale.complete(known, indices, last=known.shape == grid.shape)

    def picture(self, grid: Array, evaluated: Array) -> Array:
        """The estimate everywhere, with the exact values where there are any."""
        guess = np.full(grid.shape, np.nan) if self._plain.values is None else self._plain.values
        return np.where(evaluated, grid, guess)

    def log_picture(self, grid: Array, evaluated: Array) -> Array:
        """The same for a logarithmic scale: the plain one where a known value has no logarithm."""
        if self._log.values is None:
            return self.picture(grid, evaluated)
        return np.where(evaluated, grid, self._log.values)


class Scaled:
    """The estimate of one scale."""

    def __init__(self, axes: tuple[np.ndarray, ...], *, log: bool):
        self.axes, self.log = axes, log
        self.values: Array | None = None
        self.error = float("nan")
        self._guesses: dict[str, Array] = {}
        self._held: dict[str, float] = {}

    def complete(self, known: Array, indices: tuple[np.ndarray, ...], *, last: bool) -> None:
        """Hold the known values of a level against what was guessed of them, then guess anew."""
        if self.log and not (known > 0).all():
            self.values, self.error, self._guesses, self._held = None, float("nan"), {}, {}
            return
        seen = self._measured(known)
        span = (float(np.ptp(seen[np.isfinite(seen)])) if np.isfinite(seen).any() else 0.0) or 1.0
        held = {name: _largest(self._measured(guess[np.ix_(*indices)]) - seen) / span for name, guess in self._guesses.items()}
        guesses = _guesses([axis[i] for axis, i in zip(self.axes, indices, strict=True)], known, self.axes)
        if self.log:
            guesses = {name: guess for name, guess in guesses.items() if (guess > 0).all()}
        best = min(guesses, key=lambda name: held.get(name, np.inf))
        jump = max((_largest(np.diff(seen, axis=axis)) for axis in range(seen.ndim)), default=0.0) / span
        self.error = bound(held[best], self._held.get(best, np.inf), jump) if best in held else float("nan")
        if last:
            self.error = 0.0
        self.values, self._guesses, self._held = guesses[best], guesses, held

    def _measured(self, values: Array) -> Array:
        return np.log10(values) if self.log else values


def bound(held: float, before: float, jump: float) -> float:
    """What bounds an estimate's error, from its error `held` at points held out, that of one level `before`, and from the
    largest `jump` between known neighbours, all as shares of the range.

    Where errors fall as they do for what a spline can follow, three times the last. Elsewhere (cliffs, ripples, a ravine
    between the points) they say little of the rest, but what lies between neighbours seldom leaves them by more than they
    differ. How often that holds: benchmarks/estimate.py.
    """
    falls = (held < 0.1 and (held <= 0.25 * before < np.inf or held < 1e-3)) or (held < 0.02 and held < 0.5 * before < np.inf)
    return max(SURE * held, ROUNDING) if falls else max(SURE * held, 1.5 * jump, ROUNDING)


def _largest(differences: Array) -> float:
    """Of the finite ones in absolute value; 0 without any."""
    known = np.abs(differences[np.isfinite(differences)])
    return float(known.max()) if known.size else 0.0


def _guesses(knots: list[np.ndarray], known: Array, axes: tuple[np.ndarray, ...]) -> dict[str, Array]:
    """Estimates on the whole grid, by name: cubic splines where there are enough knots, of logarithms for positive values."""
    if not np.isfinite(known).all():
        nearest = [np.abs(axis[:, None] - k).argmin(1) for axis, k in zip(axes, knots, strict=True)]
        return {"nearest": known[np.ix_(*nearest)]}
    found = {}
    if (known > 0).all():
        found["logarithms"] = np.exp(_spline(knots, np.log(known), axes))
    return found | {"values": _spline(knots, known, axes)}


def _spline(knots: list[np.ndarray], known: Array, axes: tuple[np.ndarray, ...]) -> Array:
    degrees = [min(3, len(k) - 1) for k in knots]
    if len(axes) == 1:
        found: Array = make_interp_spline(knots[0], known, k=degrees[0])(axes[0])
    else:
        found = RectBivariateSpline(*knots, known, kx=degrees[0], ky=degrees[1])(*axes)
    return found
