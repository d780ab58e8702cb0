"""Finished results by key: bytes on disk, dropped by last use above a size limit. Removing all of them costs only time."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import diskcache

from ..specs import InputError, Result
from .shared.folder import log, open_folder, transaction
from .store import JobStore

_RESULT, _USED = "result:", "used:"
GIGABYTE = 1024**3
FRESH = 60.0  # seconds within which a second use is not written down again


class ResultCache:
    """The results under `home`. `limit` is bytes on disk; default $LANDSCAPE_CACHE_GB, else 5 GB."""

    def __init__(self, home: Path | str, limit: float | None = None):
        self.home = Path(home)
        self.folder = self.home / "cache"
        self.limit = _limit() if limit is None else limit

    @property
    def _cache(self) -> diskcache.Cache:
        return open_folder(self.folder)

    def has(self, key: str) -> bool:
        """Whether there is a result, without reading it (so it may turn out to be damaged)."""
        return _RESULT + key in self._cache

    def get(self, key: str) -> Result | None:
        """The result, or None. A damaged one is dropped with a log line, to be computed afresh."""
        cache = self._cache
        try:
            data = cache.get(_RESULT + key)
            if data is None:
                data = cache.get(_RESULT + key)  # its file may have been replaced while it was opened
            if data is None:
                if _RESULT + key not in cache:
                    return None
                raise InputError(f"the file of cached result {key} is missing")
            result = Result.from_bytes(data, f"cached result {key}")
        except (InputError, ValueError, OSError) as error:
            log.warning("%s; it is dropped", error)
            self.drop(key)
            return None
        if time.time() - cache.get(_USED + key, 0.0) > FRESH:
            with suppress(diskcache.Timeout, OSError):
                cache.set(_USED + key, time.time())
        return result

    def put(self, key: str, result: Result) -> None:
        """Store a result, whole or not at all, then drop the least recently used ones until the limit holds."""
        data, cache = result.to_bytes(), self._cache
        cache.set(_RESULT + key, data)
        cache.set(_USED + key, time.time())
        self.evict()

    def drop(self, key: str) -> None:
        """Remove a result, if it is there."""
        cache = self._cache
        with transaction(cache):
            cache.delete(_RESULT + key)
            cache.delete(_USED + key)

    def size(self) -> int:
        """Bytes on disk, without the log of the database, which comes and goes."""
        total = 0
        for folder, _, files in os.walk(self.folder):
            for name in files:
                if not name.endswith(("-wal", "-shm")):
                    with suppress(OSError):
                        total += os.stat(os.path.join(folder, name)).st_size
        return total

    def evict(self) -> None:
        """Drop results by last use until the folder is within the limit; never one whose job is running."""
        if self.size() <= self.limit:
            return
        cache = self._cache
        running = {view.key for view in JobStore(self.home).active()}
        keys = [name.removeprefix(_RESULT) for name in cache if name.startswith(_RESULT)]
        for key in sorted(keys, key=lambda key: cache.get(_USED + key, 0.0)):
            if key not in running:
                self.drop(key)
                if self.size() <= self.limit:
                    return
        # Files that no entry names were left by a process killed in the middle of writing.
        with suppress(OSError, diskcache.Timeout):
            cache.check(fix=True)


def _limit() -> float:
    text = os.environ.get("LANDSCAPE_CACHE_GB", "5")
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise InputError(f"LANDSCAPE_CACHE_GB must be a positive number (got '{text}')")
    return limit * GIGABYTE
