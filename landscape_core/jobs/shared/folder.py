"""Folders of bytes and texts that many processes share: diskcache without pickle, mended when it is damaged."""

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

log = logging.getLogger("landscape.jobs")
WAIT = 30.0  # seconds to wait for another process's transaction


class NoPickleDisk(diskcache.Disk):
    """Keys are texts, values bytes, texts and numbers: nothing in the folder is ever unpickled (CVE-2025-69872)."""

    def put(self, key: Any) -> Any:
        if type(key) is not str:
            raise TypeError(f"keys are texts, not {type(key).__name__}")
        return super().put(key)

    def get(self, key: Any, raw: bool) -> Any:
        if not raw:
            raise ValueError("a pickled key is refused")
        return super().get(key, raw)

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        if type(value) not in (bytes, str, int, float):
            raise TypeError(f"values are bytes, texts and numbers, not {type(value).__name__}")
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


_open: dict[tuple[int, Path], tuple[int, diskcache.Cache]] = {}
_guard = threading.Lock()


def open_folder(path: Path) -> diskcache.Cache:
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


@contextmanager
def transaction(cache: diskcache.Cache) -> Iterator[None]:
    """All or nothing, and alone: other writers wait. Keep it short."""
    try:
        with cache.transact():
            yield
    except (sqlite3.Error, OSError):
        # After a failed commit (a full disk) SQLite may still hold the transaction: a new connection does not.
        cache.close()
        raise


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
