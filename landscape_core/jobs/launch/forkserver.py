"""How Dash starts a job: each in a process of its own, forked from a clean server that has imported torch already.

Dash's stock manager forks the web process, which hangs when another thread is in SQLite or has used OpenMP; it shares keys
between tabs, and it kills the previous call of a callback. Here only the job store ends a job. `background_manager` is the one
place that knows which manager is used.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import diskcache
import multiprocess
import multiprocess.forkserver
import psutil
from dash import DiskcacheManager

from .. import processes
from ..clock import born

log = logging.getLogger("landscape.jobs")

# What a job needs, imported once. Importing must start no threads and touch no GPU: the server forks.
PRELOAD = (
    "torch",
    "torch._dynamo",  # one to two seconds when operations are first counted, or a module is first vectorised
    "numpy",
    "dill",
    "diskcache",
    "psutil",
    "pydantic",
    "scipy.interpolate",
    "sklearn.datasets",
    "sklearn.model_selection",
    "plotly.graph_objects",
    "dash",
    "dash_mantine_components",
    "landscape_core.jobs.launch.preload",
    "landscape_core.jobs.launch.forkserver",
    "landscape_core.jobs.runner",
)
LOCK = ".lock"
KEPT = 3600  # seconds that an answer waits for the tab that asked, which may have been closed
ROOT = Path(__file__).resolve().parents[3]


class SafeDiskcacheManager(DiskcacheManager):
    """Dash's DiskcacheManager with forkserver processes that end with the server, and one key for each call.

    A worker that dies leaves no result here: Dash is told that nothing is to be updated, and the job store says what happened.
    """

    def __init__(self, cache: diskcache.Cache, preload: tuple[str, ...] = PRELOAD):
        super().__init__(cache, expire=KEPT)
        self._context = multiprocess.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._starting = threading.Lock()
        self._seen = threading.local()

    def warm(self) -> None:
        """Start the fork server and wait until it has imported everything (some seconds): the first job then starts at once."""
        self._start(time.time, ()).join()

    def keep_warm(self) -> None:
        """`warm`, and again whenever the fork server has died: jobs that run go on without it. Does not return."""
        while True:
            with suppress(OSError):  # no memory for it now
                self.warm()
            pid = multiprocess.forkserver._forkserver._forkserver_pid
            while pid is not None and _runs(pid):
                time.sleep(1.0)
            log.warning("the process that starts jobs has died; another is begun")

    def build_cache_key(self, fn: Any, args: Any, cache_args_to_ignore: Any, triggered: Any) -> str:
        """A new key for each call: that equal requests are computed once is the job store's business."""
        return f"{super().build_cache_key(fn, args, cache_args_to_ignore, triggered)}{uuid.uuid4().hex}"

    def call_job_fn(self, key: str, job_fn: Any, args: Any, context: Any) -> str:
        """Start the process; returns its pid and start time, which no later process has."""
        process = self._start(job_fn, (key, self._make_progress_key(key), args, context))
        try:
            return f"{process.pid}:{born(psutil.Process(process.pid))}"
        except psutil.NoSuchProcess:
            return f"{process.pid}:0"  # has ended already

    def job_running(self, job: str | None) -> bool:
        """Whether the process lives. Right after `get_result`, whether it lived before the result was looked for."""
        seen = getattr(self._seen, "alive", None)
        self._seen.alive = None
        return seen[1] if seen is not None and seen[0] == job else _lives(job)

    def get_result(self, key: str, job: str | None) -> Any:
        """The result, handed out once, or UNDEFINED."""
        # Life is checked before the result: else one written in between, by a process that ends, would be lost.
        self._seen.alive = (job, _lives(job))
        result = self.handle.pop(key, default=self.UNDEFINED)
        if result is not self.UNDEFINED:
            self.clear_cache_entry(self._make_progress_key(key))
        return result

    def terminate_job(self, job: str | None) -> None:
        """Nothing: Dash asks for this when a callback is called again or a page is left, and a job has other watchers."""

    def terminate_unhealthy_job(self, job: str | None) -> bool:  # noqa: ARG002
        """False: nothing is ended here."""
        return False

    def _start(self, target: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        # daemon: the server does not wait for its jobs when it ends, it ends them.
        asker = f"{os.getpid()}:{born(psutil.Process())}"
        process = self._context.Process(target=_work, args=(asker, target, *args), daemon=True)
        with self._starting, _python_path(ROOT):
            process.start()
        return process


def background_manager(home: Path | str) -> SafeDiskcacheManager:
    """The manager for `Dash(background_callback_manager=...)`.

    What it keeps, Dash pickles: so it lies in a folder that this process has just made, mode 0700, and nobody wrote in before.
    Those of servers that have ended are removed.
    """
    home = Path(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in home.glob("callbacks*"):
        with suppress(OSError), _alone(old / LOCK):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="callbacks-", dir=home))
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)  # held until this process ends
    fcntl.flock(lock, fcntl.LOCK_EX)
    return SafeDiskcacheManager(diskcache.Cache(str(folder)))


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """The lock, held. Raises BlockingIOError if a process that lives has it."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _work(asker: str, target: Callable[..., Any], *args: Any) -> None:
    # Ctrl-C in the server's terminal reaches its jobs too: the server ends them, quietly.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):  # where memory runs out, the system ends a job and not the server
        Path("/proc/self/oom_score_adj").write_text("800")
    # The parent by pid is the fork server, and multiprocess takes its end for that of the process that asked.
    processes.declare("kill", lambda: _lives(asker))
    target(*args)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _lives(job: str | None) -> bool:
    pid, _, start = (job or "").partition(":")
    try:
        process = psutil.Process(int(pid))
        return bool(born(process) == float(start) and process.status() != psutil.STATUS_ZOMBIE)
    except (ValueError, psutil.NoSuchProcess):
        return False


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
