"""What the store `pulse` holds, as far as the runs read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict


class Job(TypedDict):
    """A job: some of the fields of a JobView."""

    key: str
    kind: str
    title: str
    values: Mapping[str, object]
    state: str
    version: int
    error: str
    started: float | None
    updated: float


class Pulse(TypedDict):
    """The jobs that matter to this tab, by key."""

    jobs: Mapping[str, Job]
