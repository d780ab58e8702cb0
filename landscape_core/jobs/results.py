"""Finished results by key: bytes in the shared store, dropped by last use above a limit. Removing them costs only time."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from ..checkpoints.home import disk_words
from ..specs import InputError, Result
from .shared import open_shared
from .shared.protocol import Busy, Shared
from .store import JobStore

log = logging.getLogger("landscape.jobs")
_RESULT, _USED = "result:", "used:"
GIGABYTE = 1024**3
FRESH = 60.0  # seconds within which a second use is not written down again


class ResultCache:
    """The results under `home`, or in `shared`. `limit` is bytes; default $LANDSCAPE_CACHE_GB, else 5 GB."""

    def __init__(self, home: Path | str, limit: float | None = None, shared: Shared | None = None):
        self.home = Path(home)
        self.shared = open_shared(home, "cache") if shared is None else shared
        self.limit = _limit() if limit is None else limit

    def has(self, key: str) -> bool:
        """Whether there is a result, without reading it (so it may turn out to be damaged)."""
        return self.shared.has(_RESULT + key)

    def get(self, key: str) -> Result | None:
        """The result, or None. A damaged one is dropped with a log line, to be computed afresh."""
        try:
            data = self.shared.get(_RESULT + key)
            if not isinstance(data, bytes):
                if not self.has(key):
                    return None
                raise InputError(f"the file of cached result {key} is missing or damaged")
            result = Result.from_bytes(data, f"cached result {key}")
        except (InputError, ValueError, OSError) as error:
            if disk_words(error, self.home):
                raise  # nothing is wrong with it
            log.warning("%s; it is dropped", error)
            self.drop(key)
            return None
        if time.time() - self._used(key) > FRESH:
            with suppress(Busy, OSError):
                self._use(key)
        return result

    def put(self, key: str, result: Result) -> None:
        """Store a result, whole or not at all, then drop the least recently used ones until the limit holds."""
        self.shared.set(_RESULT + key, result.to_bytes())
        self._use(key)
        self.evict()

    def drop(self, key: str) -> None:
        """Remove a result, if it is there."""
        with self.shared.take() as held:
            held.delete(_RESULT + key)
            held.delete(_USED + key)

    def evict(self) -> None:
        """Drop results by last use until they are within the limit; never one whose job is running."""
        if self.shared.size() <= self.limit:
            return
        running = {view.key for view in JobStore(self.home).active()}
        keys = [name.removeprefix(_RESULT) for name in self.shared.names(_RESULT)]
        for key in sorted(keys, key=self._used):
            if key not in running:
                self.drop(key)
                if self.shared.size() <= self.limit:
                    return
        self.shared.tidy()

    def _used(self, key: str) -> float:
        with suppress(ValueError):
            return float(self.shared.get(_USED + key) or 0.0)
        return 0.0

    def _use(self, key: str) -> None:
        self.shared.set(_USED + key, str(time.time()))


def _limit() -> float:
    text = os.environ.get("LANDSCAPE_CACHE_GB", "5")
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise InputError(f"LANDSCAPE_CACHE_GB must be a positive number (got '{text}')")
    return limit * GIGABYTE
