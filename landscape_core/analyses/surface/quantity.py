"""What is drawn: one quantity of a slice as numbers, finished or partial, and the scale it is drawn on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...drawing.axes import round_ticks, tick_digits, value_log_ticks
from ...drawing.known import has, scalar, text
from ...drawing.numbers import number
from ...specs import Array, InputError
from .arrays import QUANTITIES

CONVEXITIES = {"convexity": "convexity, all directions", "convexity_plane": "convexity in the plane"}
BANDS = 14  # of colour inside the range; one more at an end where values lie beyond it
NO_LOGARITHM = {"0": "at zero", "≤ 0": "at zero or below"}


def base_quantity(quantity: str) -> str:
    """`loss` for `loss_test`, and so on."""
    return quantity.removesuffix("_test")


def unit_words(data: Mapping[str, Any], axis: int) -> str:
    """What one unit along an axis is, with an eigenvalue spelled as all numbers are."""
    return re.sub(r"(?<=eigenvalue )\S+", lambda found: number(float(found[0])), text(data, f"unit_{axis}"))


def axis_title(data: Mapping[str, Any], axis: int) -> str:
    """`α (unit)` or `β (unit)`."""
    unit = unit_words(data, axis)
    return "αβ"[axis] + (f"  ({unit})" if unit else "")


def stretch_remark(data: Mapping[str, Any], part: Quantity) -> list[str]:
    """Says so where two axes of one unit are drawn at different scales: a square picture of a long strip."""
    if part.betas is None or text(data, "unit_0") != text(data, "unit_1"):
        return []
    ratio = float(np.ptp(part.alphas) / np.ptp(part.betas))
    if 2 / 3 < ratio < 3 / 2:
        return []
    longer, shorter, factor = ("α", "β", ratio) if ratio > 1 else ("β", "α", 1 / ratio)
    return [f"Not to scale: {shorter} is drawn {number(factor, 2)} times as large as {longer}."]


def sample_words(data: Mapping[str, Any], quantity: str) -> str:
    """Which samples the quantity is taken over: `train, 1,437 samples`."""
    spec = getattr(data, "spec", {})
    test = quantity.endswith("_test") or spec.get("split") == "test"
    size = scalar(data, "sample_size_test" if quantity.endswith("_test") else "sample_size")
    return ("test" if test else "train") + (f", {size:,.0f} samples" if size else "")


def format_value(quantity: str, value: float, digits: int = 4) -> str:
    """A value in the unit of the quantity: accuracy and error in per cent."""
    if not math.isfinite(value):
        return "not finite"
    return f"{number(100 * value, digits)} %" if base_quantity(quantity) != "loss" else number(value, digits)


@dataclass(frozen=True)
class Quantity:
    """One quantity on a line (S, n) or a plane (n, m), ready to be drawn."""

    quantity: str
    alphas: Array
    betas: Array | None
    values: Array  # exact where known, filled in elsewhere, NaN where masked
    exact: Array  # bool: really evaluated
    masked: Array  # bool: evaluated and not finite
    estimate_error: float | None = None  # what bounds the estimate's, as a share of the range, or of that of logarithms
    name: str = ""  # where it isn't the quantity itself: a difference

    @property
    def label(self) -> str:
        """What the values are called: `loss`, `difference of loss`."""
        return self.name or base_quantity(self.quantity)

    @property
    def partial(self) -> bool:
        return not bool(self.exact.all())

    @property
    def drawable(self) -> bool:
        """Whether there is a cell (2x2 points) or a segment to draw: a surface of NaN alone breaks the chart for good."""
        finite = np.isfinite(self.values)
        if not all(np.isfinite(axis).all() for axis in (self.alphas, self.betas) if axis is not None):
            return False
        if self.betas is None:
            return bool((finite[:, 1:] & finite[:, :-1]).any())
        return bool((finite[1:, 1:] & finite[1:, :-1] & finite[:-1, 1:] & finite[:-1, :-1]).any())

    def remarks(self) -> list[str]:
        """What must be said of these values: approximate, masked."""
        said = []
        if self.partial:
            said.append(f"Approximate: {self.exact.sum():,} of {self.exact.size:,} points exact{self._bound()}.")
        if self.masked.any():
            said.append(f"{_points(int(self.masked.sum()))} not finite (pink).")
        return said

    def _bound(self) -> str:
        if self.estimate_error is None:
            return ""
        if self.estimate_error >= 1:
            return ", the rest may be anything in the range"
        error = number(100 * self.estimate_error, 2) + " %" if self.estimate_error >= 1e-4 else "below 0.01 %"
        return f", held-out error {error} of range"


def read_slice(data: Mapping[str, Any], quantity: str = "loss", log: bool = False) -> Quantity:
    """The quantity in a finished or partial result.

    A partial plane is filled in: the loss from its `estimate`, for a `log` scale from that of its logarithm; anything else,
    and every line, linearly between its points.
    Raises InputError when the result doesn't hold the quantity.
    """
    if quantity in CONVEXITIES:
        return _read_convexity(data, quantity)
    if quantity not in data:
        held = [name for base in QUANTITIES for name in (base, f"{base}_test") if name in data]
        fix = "; set test=true to evaluate the test samples as well" if quantity.endswith("_test") else ""
        raise InputError(f"this surface holds no '{quantity}', only {', '.join(held) or 'nothing yet'}{fix}")
    values = np.asarray(data[quantity], dtype=np.float64)
    plane = "betas" in data and np.size(data["betas"]) > 0
    if not plane:
        values = np.atleast_2d(values)
    exact = np.asarray(data["evaluated"], bool).reshape(values.shape) if "evaluated" in data else np.ones(values.shape, bool)
    masked = exact & ~np.isfinite(values)
    filled = np.where(masked | ~exact, np.nan, values)
    error = None
    if not exact.all() and plane:
        if quantity == "loss" and "estimate" in data:
            name = "estimate_log" if log and "estimate_log" in data else "estimate"
            estimate = np.asarray(data[name], dtype=np.float64).reshape(values.shape)
            filled = np.where(exact, filled, np.where(np.isfinite(estimate), estimate, np.nan))
            error = scalar(data, "estimate_log_error" if log else "estimate_error")
        elif (exact & ~masked).any():
            filled = _bridged(values, exact, exact & ~masked)
    elif not exact.all():
        known = exact & ~masked
        filled = np.where(exact, filled, np.stack([_joined(*pair) for pair in zip(values, known, strict=True)]))
    betas = np.asarray(data["betas"], dtype=np.float64) if plane else None
    return Quantity(quantity, np.asarray(data["alphas"], dtype=np.float64), betas, filled, exact, masked, error)


def _read_convexity(data: Mapping[str, Any], quantity: str) -> Quantity:
    """Smallest eigenvalue / largest absolute one: in the plane at every cell, or of the whole Hessian on its own grid."""
    name, whole = CONVEXITIES[quantity], quantity == "convexity"
    if not has(data, quantity, "betas"):
        fix = "set convexity=9 to compute it" if whole else "it comes with the finished plane"
        raise InputError(f"this surface holds no '{quantity}': {fix}")
    values = np.asarray(data[quantity], dtype=np.float64)
    axes = [np.asarray(data[f"convexity_{axis}" if whole else axis], dtype=np.float64) for axis in ("alphas", "betas")]
    alphas, betas = axes if whole else [axis[1:-1] for axis in axes]
    return Quantity(quantity, alphas, betas, values, np.ones(values.shape, bool), ~np.isfinite(values), name=name)


def _bridged(values: Array, exact: Array, known: Array) -> Array:
    """A plane whose unknown points are interpolated linearly: along its started rows first, then across them."""
    rows = np.flatnonzero(known.any(axis=1))
    along = np.stack([_joined(values[i], known[i]) for i in rows])
    at = np.arange(values.shape[0])
    across = np.stack([np.interp(at, rows, column) for column in along.T], axis=1)
    return np.where(exact, np.where(known, values, np.nan), across)


def _joined(line: Array, known: Array) -> Array:
    """A line with its unknown points on straight segments between the known ones; NaN where none is known."""
    if not known.any():
        return np.full(line.shape, np.nan)
    at = np.arange(line.size)
    return np.interp(at, at[known], line[known])


@dataclass(frozen=True)
class Scale:
    """How values become positions and colours: linear or log10, from `low` to `high`; beyond, they are clipped and marked."""

    quantity: str
    low: float
    high: float
    log: bool
    clipped: int = 0  # points above high
    floored: int = 0  # points below low; on a log scale they are zero or negative, unless the range was chosen otherwise
    under: str = ""  # what the floored are, as an end of the colour bar

    @property
    def bounds(self) -> tuple[float, float]:
        """The range in plotted units."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        margin = 0.0 if high > low else max(abs(high), 1.0) * 1e-3
        return low - margin, high + margin

    @property
    def color_bounds(self) -> tuple[float, float]:
        """The range of the colours: one band more than `bounds` at an end where something is clipped."""
        low, high = self.bounds
        band = (high - low) / BANDS
        return low - (band if self.floored else 0.0), high + (band if self.clipped else 0.0)

    @property
    def inside(self) -> tuple[float, float]:
        """Where `bounds` lie within `color_bounds`, as shares."""
        (low, high), (first, last) = self.bounds, self.color_bounds
        return (low - first) / (last - first) if self.floored else 0.0, (high - first) / (last - first) if self.clipped else 1.0

    def beyond(self, values: Any) -> tuple[Array, Array]:
        """Which values lie below the range, and which above it, by more than rounding."""
        array = np.asarray(values, dtype=np.float64)
        share, slack = (1e-9, 0.0) if self.log else (0.0, 1e-9 * max(abs(self.high), abs(self.low)))
        return array < self.low * (1 - share) - slack, array > self.high * (1 + share) + slack

    def count(self, values: Array) -> Scale:
        """The same scale, knowing how many of the values it clips."""
        below, above = self.beyond(values)
        under = ""
        if below.any():
            lost = self.log and bool((values[below] <= 0).all())
            zero = lost and not (values[below] < 0).any()
            under = "0" if zero else "≤ 0" if lost else f"< {format_value(self.quantity, self.low, 2)}"
        return replace(self, clipped=int(above.sum()), floored=int(below.sum()), under=under)

    def place(self, values: Any) -> Array:
        """Values as plotted: themselves, or on a log scale log10 of them, and `low` for what has no logarithm."""
        array = np.asarray(values, dtype=np.float64)
        if not self.log:
            return array
        return np.log10(np.where(array <= 0, self.low, array))

    def curve(self, values: Any) -> Array:
        """`place`, with a gap where there is no logarithm."""
        array = np.asarray(values, dtype=np.float64)
        return np.where(array <= 0, np.nan, self.place(array)) if self.log else array

    def heights(self, values: Any) -> Array:
        """`place`, cut off at both ends of the range."""
        return np.clip(self.place(values), *self.bounds)

    def colors(self, values: Any) -> Array:
        """`place`, with everything beyond an end of the range at the one colour that means so."""
        below, above = self.beyond(values)
        first, last = self.color_bounds
        return np.where(below, first, np.where(above, last, self.heights(values)))

    def ticks(self, count: int = 6, low: float = math.inf) -> tuple[list[float], list[str]]:
        """Positions and texts of round values from `low`, or the range's own, up; where clipped, the end says so."""
        start = min(self.low, low)
        plain = value_log_ticks(start, self.high, count) if self.log else round_ticks(start, self.high, count)
        digits = tick_digits(plain) if not self.log else 3
        ticks = [(float(self.place(value)), format_value(self.quantity, value, digits)) for value in plain]
        (bottom, top), (first, last) = self.bounds, self.color_bounds
        step = (last - first) * 0.05  # a tick that close to the one for clipped values would be unreadable
        if self.floored:
            ticks = [((first + bottom) / 2, self.under), *(tick for tick in ticks if tick[0] > bottom + step)]
        if self.clipped:
            over = f"> {format_value(self.quantity, self.high, 2)}"
            ticks = [*(tick for tick in ticks if tick[0] < top - step), ((top + last) / 2, over)]
        return [place for place, _ in ticks], [word for _, word in ticks]

    def remarks(self, line: bool = False) -> list[str]:
        """What must be said of the scale: points above and below it. A `line` is not clipped but leaves the picture."""
        said = []
        if self.clipped:
            where = "outside the picture" if line else "clipped (grey)"
            said.append(f"{_points(self.clipped)} above {format_value(self.quantity, self.high, 3)} {where}.")
        if self.floored and self.under in NO_LOGARITHM:
            said.append(f"Light blue: {_points(self.floored)} {NO_LOGARITHM[self.under]}, where there is no logarithm.")
        elif self.floored:
            where = "outside the picture" if line else f"clipped ({'light blue' if self.log else 'grey'})"
            said.append(f"{_points(self.floored)} below {format_value(self.quantity, self.low, 3)} {where}.")
        return said


def value_range(
    datas: Sequence[Mapping[str, Any] | None], quantity: str = "loss", log: bool = False, clip: float = 1.0
) -> tuple[float, float] | None:
    """The range shared by several slices, in plain units: smallest value to the `clip` quantile; None with nothing to show.

    With `log` it starts at the smallest positive value, or where an error or accuracy is zero, at half a sample.
    """
    values, size = [], 0.0
    for data in datas:
        if data is None or quantity not in data:
            continue
        if quantity in CONVEXITIES:
            found = np.asarray(data[quantity], dtype=np.float64)
            values.append(found[np.isfinite(found)])
            continue
        part = read_slice(data, quantity)
        values.append(part.values[np.isfinite(part.values) & part.exact])
        size = max(size, scalar(data, "sample_size_test" if quantity.endswith("_test") else "sample_size") or 0.0)
    known = np.concatenate(values) if values else np.empty(0)
    if not known.size:
        return None
    low, high = float(known.min()), float(np.quantile(known, clip))
    if quantity in CONVEXITIES:  # zero in the middle of the colours
        return -(top := max(float(np.abs(known).max()), 1e-12)), top
    if not log:
        return low, high
    positive = known[known > 0]
    if not positive.size:
        return 1e-12, 1.0
    low = float(positive.min())
    if base_quantity(quantity) != "loss" and known.min() <= 0:
        low = min(low, 0.5 / size if size else low / 2)
    return low, max(high, low)


def scale_for(part: Quantity, limits: tuple[float, float] | None, log: bool) -> Scale:
    """The scale of one picture; `limits` is the shared range in plain units, None takes the slice's own."""
    known = part.values[np.isfinite(part.values) & part.exact]
    if limits is None:
        own = {"alphas": part.alphas, part.quantity: part.values} | ({} if part.betas is None else {"betas": part.betas})
        limits = value_range([own], part.quantity, log) or (0.0, 1.0)
    low, high = limits
    log = log and part.quantity not in CONVEXITIES
    if log and low <= 0:
        low = float(np.min(known, initial=high if high > 0 else 1.0, where=known > 0))
        high = max(high, low)
    return Scale(part.quantity, low, high, log).count(known)


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count:,} points"
