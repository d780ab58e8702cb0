"""Processes for jobs, forked from a clean server that has imported torch already.

A fork of the web process would hang where another of its threads is in SQLite or has used OpenMP.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil

from ...checkpoints.room import SPARE, free_memory
from .. import processes
from ..clock import born

log = logging.getLogger("landscape.jobs")

# What a job needs, imported once. Importing must start no threads and touch no GPU: the server forks.
PRELOAD = (
    "torch",
    "torch._dynamo",  # one to two seconds when operations are first counted, or a module is first vectorised
    "numpy",
    "diskcache",
    "psutil",
    "pydantic",
    "scipy.interpolate",
    "sklearn.datasets",
    "sklearn.model_selection",
    "landscape_core.jobs.launch.preload",
    "landscape_core.jobs.launch.forkserver",
    "landscape_core.jobs.launch.dispatcher",
    "landscape_core.jobs.runner",
)
NICE = 10  # below the server, whose threads need little
ROOT = Path(__file__).resolve().parents[3]


class ForkServer:
    """Starts processes that end with this one. One for a program: what is forked from is the interpreter's own."""

    def __init__(self, preload: tuple[str, ...] = PRELOAD):
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._starting = threading.Lock()

    def start(self, target: Callable[..., Any], *args: Any) -> Any:
        """A process that does `target(*args)`. Waits while the server is still importing. Raises OSError."""
        # daemon: the server does not wait for its jobs when it ends, it ends them.
        asker = f"{os.getpid()}:{born(psutil.Process())}"
        process = self._context.Process(target=_work, args=(asker, target, *args), daemon=True)
        with self._starting, _python_path(ROOT):
            process.start()
        return process

    def warm(self) -> None:
        """Begin, and wait until everything is imported (some seconds): the first job then starts at once."""
        self.start(time.time).join()

    def keep_warm(self) -> None:
        """`warm`, and again whenever the server has died: jobs that run go on without it. Does not return."""
        while True:
            with suppress(OSError):  # no memory for it now
                self.warm()
            pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
            while pid is not None and lives(pid):
                time.sleep(1.0)
            log.warning("the process that starts jobs has died; another is begun")


def lives(pid: int, start: float | None = None) -> bool:
    """Whether the process has not ended; with `start` (see `clock.born`), that one and no later one of this pid."""
    try:
        process = psutil.Process(pid)
        return bool(start in (None, born(process)) and process.status() != psutil.STATUS_ZOMBIE)
    except (ValueError, psutil.NoSuchProcess):
        return False


def _work(asker: str, target: Callable[..., Any], *args: Any) -> None:
    # Ctrl-C in the server's terminal reaches its jobs too: the server ends them, quietly.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)  # pages go first
    with suppress(OSError):  # where memory runs out, the system ends a job and not the server
        Path("/proc/self/oom_score_adj").write_text("800")
    _limit_memory()
    # The parent by pid is the fork server, and multiprocessing takes its end for that of the process that asked.
    pid, start = asker.split(":")
    processes.declare("kill", lambda: lives(int(pid), float(start)))
    target(*args)


def _limit_memory() -> None:
    """What is free now, less a tenth, is all that this process may take: asking for more is an error of its own, in words."""
    if sys.platform != "linux" or Path("/dev/nvidiactl").exists():
        return  # CUDA reserves far more addresses than it ever uses
    own = psutil.Process().memory_info().data
    resource.setrlimit(resource.RLIMIT_DATA, (own + int((1 - SPARE) * free_memory()), resource.RLIM_INFINITY))


@contextmanager
def _python_path(root: Path) -> Iterator[None]:
    """The fork server is a new interpreter: it finds our packages wherever the program was started from."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(root) if before is None else f"{root}{os.pathsep}{before}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
