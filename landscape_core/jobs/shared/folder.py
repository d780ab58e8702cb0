"""A shared store as a folder: diskcache without pickle, mended when it is damaged."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import diskcache
from filelock import FileLock

from .protocol import Busy, Entries, Value

log = logging.getLogger("landscape.jobs")
WAIT = 30.0  # seconds to wait for another process's transaction


class NoPickleDisk(diskcache.Disk):
    """Keys are texts, values bytes and texts: nothing in the folder is ever unpickled (CVE-2025-69872)."""

    def put(self, key: Any) -> Any:
        if type(key) is not str:
            raise TypeError(f"keys are texts, not {type(key).__name__}")
        return super().put(key)

    def get(self, key: Any, raw: bool) -> Any:
        if not raw:
            raise ValueError("a pickled key is refused")
        return super().get(key, raw)

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        if type(value) not in (bytes, str):
            raise TypeError(f"values are bytes and texts, not {type(value).__name__}")
        if type(value) is str:
            return 0, diskcache.core.MODE_RAW, None, value  # in the database: small, and changed with other records at once
        return super().store(value, read, key=key)  # bytes in files of their own: removing one frees its space

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == diskcache.core.MODE_PICKLE:
            raise ValueError("a pickled value is refused")
        return super().fetch(mode, filename, value, read)

    def _write(self, full_path: str, iterator: Any, mode: str, encoding: str | None = None) -> Any:
        try:
            return super()._write(full_path, iterator, mode, encoding)
        except OSError:
            # A full disk: what was written of the file would lie there for ever, known to nobody.
            with suppress(OSError):
                os.remove(full_path)
            raise


class Folder:
    """The shared store at `path`: see `protocol.Shared`. Used after the folder was removed, it begins a new one."""

    def __init__(self, path: Path, held: diskcache.Cache | None = None):
        self.path, self._held = path, held

    def get(self, name: str) -> Value | None:
        with _busy():
            value = self._cache.get(name)
            if value is None and name in self._cache:
                value = self._cache.get(name)  # its file may have been replaced while it was opened
        return value

    def has(self, name: str) -> bool:
        with _busy():
            return name in self._cache

    def set(self, name: str, value: Value) -> None:
        with _busy():
            self._cache.set(name, value)

    def delete(self, name: str) -> None:
        with _busy():
            self._cache.delete(name)

    def names(self, prefix: str = "") -> Iterator[str]:
        with _busy():
            yield from (name for name in self._cache if name.startswith(prefix))

    @contextmanager
    def take(self) -> Iterator[Entries]:
        cache = self._cache
        with _busy():
            try:
                with cache.transact():
                    yield Folder(self.path, cache)
            except (sqlite3.Error, OSError):
                # After a failed commit (a full disk) SQLite may still hold the transaction: a new connection does not.
                cache.close()
                raise

    def size(self) -> int:
        """Bytes on disk, without the log of the database, which comes and goes."""
        total = 0
        for folder, _, files in os.walk(self.path):
            for name in files:
                if not name.endswith(("-wal", "-shm")):
                    with suppress(OSError):
                        total += os.stat(os.path.join(folder, name)).st_size
        return total

    def tidy(self) -> None:
        with suppress(OSError, diskcache.Timeout):
            self._cache.check(fix=True)

    @property
    def _cache(self) -> diskcache.Cache:
        return _opened(self.path) if self._held is None else self._held


@contextmanager
def _busy() -> Iterator[None]:
    try:
        yield
    except diskcache.Timeout:
        raise Busy(f"another process has held the store for {WAIT:g} seconds") from None


_open: dict[tuple[int, Path], tuple[int, diskcache.Cache]] = {}
_guard = threading.Lock()


def _opened(path: Path) -> diskcache.Cache:
    """The shared folder at `path`, made (mode 0700) when it is not there and emptied, with a log line, when it is damaged.

    One diskcache.Cache a process and path; opened anew after the folder was removed under a running program.
    """
    place = (os.getpid(), path)
    with _guard:
        known = _open.get(place)
        if known is not None and known[0] == _inode(path):
            return known[1]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            cache = _cache(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            cache = _mend(path)
        _open[place] = (_inode(path), cache)
        return cache


def _cache(path: Path) -> diskcache.Cache:
    # Its own eviction is off: it would drop results by age, also those that a running job is about to read.
    settings = {"eviction_policy": "none", "cull_limit": 0, "size_limit": 2**62, "disk_min_file_size": 0}
    return diskcache.Cache(str(path), timeout=WAIT, disk=NoPickleDisk, **settings)


def _mend(path: Path) -> diskcache.Cache:
    with FileLock(path.with_name(f".{path.name}.lock"), mode=0o600):
        try:
            return _cache(path)  # another process was faster
        except sqlite3.DatabaseError as error:
            log.warning("%s is damaged (%s); it is started afresh", path, error)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _cache(path)


def _inode(path: Path) -> int:
    try:
        return os.stat(path / diskcache.core.DBNAME).st_ino
    except OSError:
        return 0
