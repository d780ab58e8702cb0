"""What is known of a result, finished or partial: reading it by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..specs import InputError, suggestion

Known = Mapping[str, Any]  # a Result, or the arrays of a partial one


def has(data: Known, *names: str) -> bool:
    """Whether every name is there and not empty."""
    return all(name in data and np.size(data[name]) for name in names)


def scalar(data: Known, name: str) -> float | None:
    """A finite scalar, or None where it is missing or not finite."""
    if name not in data or np.size(data[name]) != 1:
        return None
    value: float = np.asarray(data[name]).reshape(()).item()  # a count stays whole
    return value if math.isfinite(value) else None


def text(data: Known, name: str, default: str = "") -> str:
    """A text of the result."""
    return str(np.asarray(data[name])) if name in data else default


def chosen(what: str, value: str, known: Iterable[str]) -> str:
    """`value`, if it is one of the known ones. Raises InputError that lists them."""
    names = list(known)
    if value not in names:
        raise InputError(f"unknown {what} '{value}'{suggestion(value, names)}")
    return value
