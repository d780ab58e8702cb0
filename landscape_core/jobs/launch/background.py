"""How Dash's background callbacks run here: in one thread that hands requests to the queue. Their answers are kept in memory.

Dash's stock manager starts a process for each call, keeps pickles on disk, shares keys between tabs, and kills the previous
call of a callback. Here a process is the dispatcher's business, and only the job store ends a job.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dash.background_callback.managers import BaseBackgroundCallbackManager
from dash.background_callback.managers.diskcache_manager import _make_job_fn

KEPT = 1000  # answers that wait for the tab that asked, which may have been closed


class Answers:
    """A bounded dict of what Dash keeps for a call: its answer, and properties that it sets besides. Threads may share it."""

    def __init__(self, most: int = KEPT):
        self._values: OrderedDict[str, Any] = OrderedDict()
        self._most, self._guard = most, threading.Lock()

    def set(self, name: str, value: Any) -> None:
        with self._guard:
            self._values[name] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)

    def pop(self, name: str, default: Any = None) -> Any:
        with self._guard:
            return self._values.pop(name, default)

    def has(self, name: str) -> bool:
        with self._guard:
            return name in self._values


class QueueingManager(BaseBackgroundCallbackManager):
    """The manager for `Dash(background_callback_manager=...)`. After each call `done` is called: the queue may be longer."""

    def __init__(self, done: Callable[[], None] = lambda: None):
        self.answers, self.done = Answers(), done
        self._calls = Answers()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="launch")
        super().__init__(None)

    def build_cache_key(self, fn: Any, args: Any, cache_args_to_ignore: Any, triggered: Any) -> str:  # noqa: ARG002
        """A new key for each call: that equal requests are computed once is the job store's business."""
        return uuid.uuid4().hex

    def make_job_fn(self, fn: Any, progress: Any, key: Any = None) -> Any:  # noqa: ARG002
        return _make_job_fn(fn, self.answers, progress)

    def call_job_fn(self, key: str, job_fn: Any, args: Any, context: Any) -> str:
        """Run the callback's body in the thread; returns what stands for the call."""
        self._calls.set(key, True)
        self._thread.submit(self._call, key, job_fn, args, context)
        return key

    def _call(self, key: str, job_fn: Any, args: Any, context: Any) -> None:
        try:
            job_fn(key, self._make_progress_key(key), args, context)
        finally:
            self.done()

    def job_running(self, job: str | None) -> bool:
        """Whether its answer has not been handed out yet."""
        return job is not None and self._calls.has(job)

    def get_result(self, key: str, job: str | None) -> Any:
        """The answer, handed out once, or UNDEFINED."""
        answer = self.answers.pop(key, self.UNDEFINED)
        if answer is not self.UNDEFINED and job is not None:
            self._calls.pop(job)
        return answer

    def get_updated_props(self, key: str) -> dict[str, Any]:
        """What the callback set besides its outputs."""
        return self.answers.pop(self._make_set_props_key(key), {}) if key else {}

    def get_progress(self, key: str) -> Any:
        return self.answers.pop(self._make_progress_key(key))

    def terminate_job(self, job: str | None) -> None:
        """Nothing: Dash asks for this when a callback is called again or a page is left, and a job has other watchers."""

    def terminate_unhealthy_job(self, job: str | None) -> bool:  # noqa: ARG002
        """False: nothing is ended here."""
        return False
