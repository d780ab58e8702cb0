"""Numbers as people read them: the one speller for pictures, readings, tables and the command line."""

from __future__ import annotations

import math

import numpy as np

ROUNDING = 1e-9  # of a share, or of a value: less is not spelled


def number(value: float, digits: int = 3) -> str:
    """A number for people: a count (an `int`) in full, a measured value with `digits` significant digits, 2.6e9, 1e−6.

    Thousands are set apart, the minus is a true one, and nothing is padded with zeros.
    """
    if value < 0:
        return "−" + number(-value, digits)
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if not math.isfinite(value):
        return "∞" if value > 0 else "not a number"
    if value == 0:
        return "0"
    rounded = f"{value:.{digits - 1}e}"
    mantissa, power = rounded.split("e")
    whole = int(power) + 1  # as rounded: 99.97 has three digits before the point
    plain = f"{value:,.{max(0, digits - whole)}f}" if -3 <= whole <= 6 else mantissa
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return plain if -3 <= whole <= 6 else f"{plain}e{int(power)}".replace("-", "−")


def counted(count: float, name: str) -> str:
    """A count with its noun: `1 sample`, `1,437 samples`."""
    return f"{count:,.0f} {name}{'' if count == 1 else 's'}"


def raised(power: int) -> str:
    """A power of ten as it is written by hand: 10⁻³."""
    return "10" + str(power).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))


def percent(share: float, digits: int = 3) -> str:
    """A share in per cent: `12.3 %`; what is no more than rounding of a share is `0 %`."""
    if math.isnan(share):
        return "unknown"
    return f"{number(100 * share if not abs(share) < ROUNDING else 0.0, digits)} %"


def percents(low: float, high: float, digits: int = 3) -> str:
    """From one share to another, or the one that both are spelled as: `20 % to 30 %`."""
    return span(percent(low, digits), percent(high, digits))


def span(low: str, high: str) -> str:
    """From one spelled number to another, or the one that both are."""
    return low if low == high else f"{low} to {high}"


def plus_minus(error: float | None, size: float = 1.0, digits: int = 2) -> str:
    """` ± 0.3` to stand behind a value; empty where the error is not known, or only rounding of values of this `size`."""
    return f" ± {number(error, digits)}" if error is not None and ROUNDING * abs(size) < error < math.inf else ""


def settled(value: float, floor: float) -> float:
    """The value, or 0 where it is within `floor` of that: what rounding leaves of nothing is not spelled as a number."""
    return 0.0 if abs(value) <= floor else value
