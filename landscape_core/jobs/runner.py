"""Doing a request: join whoever works on it, or claim it, wait for a slot, compute, and leave a result or a clear word."""

from __future__ import annotations

import logging
import math
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import numpy as np

from ..checkpoints.home import disk_words
from ..checkpoints.room import free_memory
from ..specs import Array, InputError, Progress, Result, Spec
from .price import Pace, check_memory, check_seconds, known_seconds
from .processes import Worker, orphaned
from .requests import Request, Resolved
from .results import ResultCache
from .shared.protocol import Busy
from .store import BEAT, GRACE, JobStore, JobView

log = logging.getLogger("landscape.jobs")
TICK = 0.25  # seconds between two looks at the store
COPY_LIMIT = 2**20  # bytes of partial arrays that are copied at every progress; larger ones only when they are due
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # as torch says it, on CPUs and GPUs
CANCELLED, ORPHANED, LOST = "cancelled", "interrupted", "lost"

Start = Callable[[str, str | None, Spec, Path, dict[str, Array] | None], Generator[Progress, None, Result]]
Watch = Callable[[Progress], None]


def run_or_join(
    request: Request | Resolved, home: Path | str, start: Start | None = None, progress: Watch | None = None
) -> JobView:
    """Do the request, or wait for who does it already; take over if they die. Returns the job as it ended.

    `start(kind, source, spec, home, partial)` computes (default: execute.start); `progress` is told how far it is,
    also while waiting. Raises InputError if the request names what is not there, and KeyboardInterrupt on Ctrl-C; all else that
    goes wrong is the state and error of the job.
    """
    home = Path(home)
    store, results = JobStore(home), ResultCache(home)
    wanted = request if isinstance(request, Resolved) else request.resolve(home)
    view = store.view(wanted.key)
    if view is not None and view.state == "done" and _finished(wanted, results, home):
        return view
    joined = False
    while True:
        owner = store.claim(wanted.key, wanted.request)
        if owner is not None:
            _Attempt(store, results, wanted, owner, home, joined).run(start, progress)
        joined, view = True, _join(store, wanted.key, progress)
        if view is not None and view.state in ("failed", "cancelled"):
            return view
        if view is not None and view.state == "done" and (owner is not None or _finished(wanted, results, home)):
            return view
        if view is not None and orphaned():
            return view  # who asked for it has ended: nobody takes it up again


def run_all(
    requests: Iterable[Request], home: Path | str, start: Start | None = None, progress: Watch | None = None
) -> list[str]:
    """Do requests in order; returns the keys of those begun. The first that fails or is cancelled ends it.

    A request's key is found only when its turn comes: it may be of a run that an earlier one trains.
    """
    keys = []
    for request in requests:
        view = run_or_join(request, home, start, progress)
        keys.append(view.key)
        if view.state != "done":
            break
    return keys


def _finished(wanted: Resolved, results: ResultCache, home: Path) -> bool:
    return wanted.stands(home) and results.get(wanted.key) is not None


def _join(store: JobStore, key: str, progress: Watch | None) -> JobView | None:
    """The job once nobody works on it any more."""
    while True:
        view = store.view(key)
        if view is None or not view.active or orphaned():
            return view
        if progress is not None:
            words = f"queued behind {view.ahead}" if view.state == "queued" else view.message
            progress(Progress(view.done, view.total, words))
        time.sleep(TICK)


class _Attempt:
    """One attempt of the owner of a job, from waiting for a slot to its end in the store."""

    def __init__(self, store: JobStore, results: ResultCache, wanted: Resolved, owner: str, home: Path, waited: bool):
        self.store, self.results, self.wanted = store, results, wanted
        self.key, self.owner, self.home = wanted.key, owner, home
        self.waited = waited  # since the request was resolved, for another's attempt or a slot

    def run(self, start: Start | None, progress: Watch | None) -> None:
        reporter = _Reporter(self.store, self.key, self.owner)
        state, error, bad_input, fresh, disk = "failed", "", False, True, False
        try:
            with reporter:
                if _finished(self.wanted, self.results, self.home):
                    state = "done"  # found after all: its owner finished between our looks
                elif self._wait_for_slot(reporter, start, progress):
                    partial = self.store.partial(self.key)
                    fresh = partial is None
                    result = self._compute(reporter, start, partial, progress)
                    if result is not None:
                        self._check_unchanged()
                        self.results.put(self.key, result)
                        state = "done"
        except KeyboardInterrupt:
            if self.store.cancelled(self.key):
                self._finish(CANCELLED)
                return
            self._finish("interrupted" if orphaned() or Worker.this().end == "kill" else CANCELLED)
            raise
        except InputError as problem:
            error, disk = str(problem), isinstance(problem.__cause__, OSError)
            bad_input = not disk
        except Exception as problem:
            error = _one_line(problem, self.home)
            disk = isinstance(problem, OSError | sqlite3.Error)  # what is kept is still good
            known = disk_words(problem, self.home)
            log.error("%s failed: %s", self.wanted.request.title, error, exc_info=None if known else problem)
        if state == "done" or error:
            if error and not fresh and not disk:
                self.store.forget_partial(self.key)  # perhaps it cannot be resumed from: do not fail for ever
            self._finish(state, error, bad_input)
        elif reporter.ended != LOST:
            self._finish(reporter.ended)

    def _finish(self, state: str, error: str = "", bad_input: bool = False) -> None:
        for again in (True, False):  # a full disk that was met has room for a few words the next time
            try:
                self.store.finish(self.key, self.owner, state, error, bad_input)
                return
            except Exception as problem:
                if not again:
                    words = _one_line(problem, self.home)
                    log.error("%s is %s %s but that could not be written: %s", self.wanted.request.title, state, error, words)

    def _wait_for_slot(self, reporter: _Reporter, start: Start | None, progress: Watch | None) -> bool:
        device = _device(self.wanted.spec, resolve=start is None)
        while not self.store.acquire(self.key, self.owner, device):
            if reporter.ended:
                return False
            self.waited = True
            if progress is not None:
                view = self.store.view(self.key)
                progress(Progress(0, 0, f"queued behind {view.ahead if view else 0}"))
            time.sleep(TICK / 2)
        return True

    def _compute(
        self, reporter: _Reporter, start: Start | None, partial: dict[str, Array] | None, progress: Watch | None
    ) -> Result | None:
        """The result; None if the job was ended from outside."""
        if self.waited:
            self._check_unchanged()  # before computing what could not be kept
        wanted, request = self.wanted, self.wanted.request
        arguments = (request.kind, request.source, wanted.spec, self.home, partial)
        pace = Pace(wanted)
        if start is None:
            from .execute import start as execute  # torch, only here

            if _device(wanted.spec, resolve=True) == "cpu":
                check_memory(wanted, free_memory())
            check_seconds(wanted, known_seconds(wanted, self.home))
            steps = execute(*arguments, record=wanted.run, checkpoint=wanted.checkpoint)
        else:
            steps = start(*arguments)
        try:
            while True:
                try:
                    step = next(steps)
                except StopIteration as end:
                    return end.value
                reporter.post(step)
                pace.check(step)
                if progress is not None:
                    progress(step)
                if reporter.ended:
                    return None
        finally:
            steps.close()

    def _check_unchanged(self) -> None:
        # The key was made of fingerprints when the job was asked for. What has another key now must not be kept under this one.
        if not self.wanted.unchanged(self.home):
            raise InputError(f"{self.wanted.request.title}: a run that it needs has changed since; ask for it again")


class _Reporter(threading.Thread):
    """Between the computation and the store: heartbeat, progress, and why to stop. The computation never waits for a disk.

    `ended` is empty, or the state in which the job is to end. A job that does not stop within `GRACE` after that, in a process
    that was started for it, is ended here, so that nothing is left behind even when nobody watches.
    """

    def __init__(self, store: JobStore, key: str, owner: str):
        super().__init__(name="job-reporter", daemon=True)
        self.store, self.key, self.owner = store, key, owner
        self.ended, self.advanced = "", False
        self.problem: Exception | None = None
        self._latest: Progress | None = None
        self._pause, self._beaten, self._written, self._since = TICK, time.monotonic(), 0.0, 0.0
        self._due = 0.0  # when large arrays are copied next; while copied ones wait to be taken, never
        self._wake, self._over, self._guard = threading.Event(), threading.Event(), threading.Lock()

    def __enter__(self) -> _Reporter:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._wake.set()
        self.join()

    def post(self, progress: Progress) -> None:
        """Take the news. Raises what went wrong while earlier news were written (a full disk)."""
        if self.problem is not None:
            raise self.problem
        partial = progress.partial
        if partial is not None:
            size = sum(np.asarray(value).nbytes for value in partial.values())
            if size <= COPY_LIMIT or time.monotonic() >= self._due:
                partial = {name: np.array(value) for name, value in partial.items()}  # the analysis goes on writing in its own
                self._due = math.inf
            else:
                partial = None
        with self._guard:
            if partial is None and self._latest is not None:
                partial = self._latest.partial
            self._latest = Progress(progress.done, progress.total, progress.message, partial)
        if not self.advanced:
            self.advanced = True
            self._wake.set()  # the first picture at once

    def run(self) -> None:
        while True:
            self._wake.wait(TICK)
            self._wake.clear()
            try:
                self._report()
                if self._over.is_set():
                    return
                self._look()
            except Busy:
                continue  # the store is busy; there is another tick
            except Exception as problem:
                self.problem = problem
                if self._over.is_set():
                    return

    def _report(self) -> None:
        now = time.monotonic()
        news = None
        if self._over.is_set() or now - self._written >= self._pause:
            with self._guard:
                news, self._latest = self._latest, None
                if news is not None and news.partial is not None:
                    self._due = now + self._pause  # taken, whether or not the store takes it now
        if news is not None:
            owned = self.store.advance(self.key, self.owner, news)
            self._written = self._beaten = time.monotonic()
            self._pause = max(TICK, 10 * (self._written - now))  # large pictures take at most a tenth of the time
        elif now - self._beaten >= BEAT:
            owned = self.store.beat(self.key, self.owner)
            self._beaten = now
        else:
            return
        if not owned and not self.ended:
            self.ended = LOST

    def _look(self) -> None:
        if not self.ended:
            if self.store.cancelled(self.key):
                self.ended = CANCELLED
            elif orphaned():
                self.ended = ORPHANED
        if self.ended and not self._since:
            self._since = time.monotonic()
        if self.ended and time.monotonic() - self._since > GRACE and Worker.this().end == "kill":
            if self.ended != LOST:
                self.store.finish(self.key, self.owner, self.ended)
            os.kill(os.getpid(), signal.SIGKILL)


def _device(spec: Spec, resolve: bool) -> str:
    """The device whose slots the job waits for."""
    name = str(getattr(spec, "device", "cpu"))
    if resolve:
        from ..tasks.devices import torch_device  # torch, only here

        name = str(torch_device(name))
    return "cuda:0" if name == "cuda" else name


def _one_line(problem: BaseException, home: Path) -> str:
    if words := disk_words(problem, home):
        return words
    if isinstance(problem, MemoryError) or any(words in str(problem) for words in NO_MEMORY):
        return "the memory is not enough: take fewer samples, fewer points at once or a smaller network"
    if isinstance(problem, OSError) and problem.strerror:
        where = f": {problem.filename}" if problem.filename else ""
        return f"{problem.strerror}{where}"
    text = str(problem).strip()
    return f"{type(problem).__name__}: {text.splitlines()[0]}" if text else type(problem).__name__
