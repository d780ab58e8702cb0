"""The stores that pages read: runs, jobs and results of the home directory. Opened once a process; nothing here computes."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from dash import ctx
from dash.exceptions import MissingCallbackContextException

from landscape_core.checkpoints.home import home_directory
from landscape_core.checkpoints.runs import RunStore
from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.store import JobStore

COOKIE = "landscape_browser"  # tells apart those who ask for jobs; it lets nobody do anything


def home() -> Path:
    """The home directory that the server was started with, looked at once: pages ask for it many times a request."""
    return _home(os.environ.get("LANDSCAPE_HOME"))


def runs() -> RunStore:
    """The runs on disk."""
    return RunStore(home())


def jobs() -> JobStore:
    """The job store: the one truth about what runs and how far it is."""
    return _jobs(home())


def results() -> ResultCache:
    """The finished results, by key."""
    return _results(home())


def asker() -> str:
    """The browser that asks, in a callback: what its cookie says. Empty where there is none."""
    try:
        found = str(ctx.cookies.get(COOKIE, ""))
    except MissingCallbackContextException:
        return ""
    return found if re.fullmatch(r"[0-9a-f]{32}", found) else ""


@cache
def _home(path: str | None) -> Path:
    return home_directory(path)


@cache
def _jobs(folder: Path) -> JobStore:
    return JobStore(folder)


@cache
def _results(folder: Path) -> ResultCache:
    return ResultCache(folder)
