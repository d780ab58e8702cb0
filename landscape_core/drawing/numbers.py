"""Numbers as people read them: the one speller for pictures, readings, tables and the command line."""

from __future__ import annotations

import math


def number(value: float, digits: int = 3) -> str:
    """A number for people: `digits` significant digits, whole numbers whole, 2.6e9 and 1e-6 without padding, a true minus."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if value < 0:
        return "−" + number(-value, digits)
    whole = math.floor(math.log10(float(f"{value:.{digits - 1}e}"))) + 1  # as rounded: 99.97 has three digits before the point
    if 5 <= whole <= 6:
        return f"{value:,.0f}"
    if -3 <= whole <= 6:
        return f"{value:.{max(digits, whole)}g}"
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(power)}"


def percent(share: float, digits: int = 3) -> str:
    """A share in per cent: `12.3 %`."""
    return f"{number(100 * share, digits)} %"
