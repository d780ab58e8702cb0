"""One line of what a picture says: the certificate of every analysis is made of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["ok", "note", "warn"]
Data = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """One line of the certificate: a number with its unit, what it says here, how it is defined, and a verdict."""

    name: str
    value: str
    words: str
    formula: str = ""
    source: str = ""
    verdict: Verdict = "ok"
