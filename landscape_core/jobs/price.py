"""What a job will cost: before it begins from the measured time of one evaluation, where there is one; then from its pace."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..specs import SAMPLE, AnalysisSpec, InputError, Progress, Result, RunRecord
from .requests import Request, Resolved
from .results import ResultCache

SHORT = 10.0  # seconds; what is expected to take no longer may run beside a long job
HOURS = 24.0  # that a job may take
SURE = 60.0  # seconds after which the pace of a job says how long it will take


def calibration_of(run: RunRecord, values: Mapping[str, Any]) -> Request:
    """The measurement of one evaluation that tells what an analysis with these values costs.

    All checkpoints of a run cost the same: it is of the first, which stays while the run grows.
    """
    common = {name: value for name, value in values.items() if name in SAMPLE}  # of the same loss
    return Request("calibration", f"{run.name}@{run.checkpoints[0].step}", common)


def seconds(spec: AnalysisSpec, calibration: Result) -> float | None:
    """The expected computing time: passes by kind times what one of that kind took here; None where that is unknown."""
    total = 0.0
    for kind, count in spec.work(int(calibration.get("parameters", 0))).items():
        one = float(calibration.get(f"seconds_{kind.removesuffix('s')}", np.nan))
        if count and not np.isfinite(one):
            return None
        total += count * one
    return total


def memory(spec: AnalysisSpec, calibration: Result) -> float:
    """Bytes that are held at least: the sample, the weights, a gradient, two more vectors and those of the analysis."""
    vectors = 4 + spec.vectors_held(int(calibration.get("parameters", 0)))
    return float(calibration.get("bytes_sample", 0)) + vectors * float(calibration.get("bytes_parameters", 0))


def known_seconds(wanted: Resolved, home: Path) -> float | None:
    """The expected computing time, if one evaluation has been measured; None else, and for training and import."""
    if wanted.run is None or not isinstance(wanted.spec, AnalysisSpec):
        return None
    with suppress(InputError):
        found = ResultCache(home).get(calibration_of(wanted.run, wanted.spec.changed()).key(home))
        return None if found is None else seconds(wanted.spec, found)
    return None


def check_memory(wanted: Resolved, free: int) -> None:
    """Raises InputError, one line, where an analysis holds more vectors of the network's size than `free` bytes of memory."""
    if wanted.run is None or not isinstance(wanted.spec, AnalysisSpec):
        return
    count, size = wanted.run.parameters, 8 if (wanted.spec.dtype or wanted.run.dtype) == "float64" else 4
    needs = (4 + wanted.spec.vectors_held(count)) * count * size
    if needs > free:
        raise InputError(
            f"{wanted.request.title} needs at least {needs / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free: "
            "ask for fewer eigenpairs, steps or checkpoints, a method without the whole matrix, or a smaller network"
        )


def check_seconds(wanted: Resolved, expected: float | None) -> None:
    """Raises InputError, one line, where a job would take longer than $LANDSCAPE_HOURS (default 24)."""
    if expected is not None and expected > 3600 * hours():
        raise InputError(
            f"{wanted.request.title} would take about {expected / 3600:,.0f} hours, and at most {hours():g} are allowed "
            "(LANDSCAPE_HOURS): ask for less"
        )


def hours() -> float:
    """How many hours a job may take: $LANDSCAPE_HOURS. Raises InputError."""
    text = os.environ.get("LANDSCAPE_HOURS", str(HOURS))
    with suppress(ValueError):
        if 0 < (value := float(text)) < float("inf"):
            return value
    raise InputError(f"LANDSCAPE_HOURS must be a positive number of hours (got '{text}')")


class Pace:
    """How fast a job goes on, from its first progress; it tells when the job would take too long."""

    def __init__(self, wanted: Resolved):
        self.wanted = wanted
        self._since: float | None = None
        self._first = 0.0

    def check(self, progress: Progress) -> None:
        """Raises InputError as `check_seconds` does, once it is sure."""
        now = time.monotonic()
        if self._since is None:
            self._since, self._first = now, progress.done
        elapsed, gained = now - self._since, progress.done - self._first
        if elapsed > SURE and gained > 0:
            check_seconds(self.wanted, elapsed * (progress.total - self._first) / gained)
