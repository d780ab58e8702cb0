"""A shared store as a folder: diskcache without pickle, mended when it is damaged."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import diskcache

from ...checkpoints.home import disk_words
from .mending import DATABASE, FOUND, file_name, inode, is_damage, mend
from .protocol import Busy, Entries, Value
from .sealed import seal, unseal

T = TypeVar("T")
log = logging.getLogger("landscape.jobs")
UNREADABLE = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EIO, errno.ELOOP)
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

    def filename(self, key: Any = diskcache.UNKNOWN, value: Any = diskcache.UNKNOWN) -> Any:
        name, path = super().filename(key, value)
        beginning = file_name(key) if isinstance(key, str) else ""
        return tuple(os.path.join(os.path.dirname(place), beginning + os.path.basename(place)) for place in (name, path))

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == diskcache.core.MODE_PICKLE:
            raise ValueError("a pickled value is refused")
        return super().fetch(mode, filename, value, read)

    def _write(self, full_path: str, iterator: Any, mode: str, encoding: str | None = None) -> Any:
        try:
            return super()._write(full_path, iterator, mode, encoding)
        except OSError as error:
            # A full disk: what was written of the file would lie there for ever, known to nobody.
            with suppress(OSError):
                os.remove(full_path)
            if isinstance(error, FileNotFoundError):
                os.makedirs(os.path.dirname(full_path), exist_ok=True)  # diskcache tried and did not say why it could not
            raise


class Folder:
    """The shared store at `path`: see `protocol.Shared`. Used after the folder was removed, it begins a new one.

    A damaged entry is dropped with a log line. A damaged database is mended with one, and the call goes on; in the middle of
    a `take` it is mended too, but who took it is told Busy: nothing of the block has happened.
    """

    def __init__(self, path: Path, held: diskcache.Cache | None = None):
        self.path, self._held = path, held

    def get(self, name: str) -> Value | None:
        return self._do(lambda cache: _read(cache, name))

    def has(self, name: str) -> bool:
        return self._do(lambda cache: name in cache)

    def set(self, name: str, value: Value) -> None:
        if type(name) is not str:
            raise TypeError(f"keys are texts, not {type(name).__name__}")
        if type(value) not in (bytes, str):
            raise TypeError(f"values are bytes and texts, not {type(value).__name__}")
        self._do(lambda cache: cache.set(name, seal(name, value)))

    def delete(self, name: str) -> None:
        self._do(lambda cache: cache.delete(name))

    def names(self, prefix: str = "") -> Iterator[str]:
        return iter(self._do(lambda cache: [name for name in cache if name.startswith(prefix)]))

    @contextmanager
    def take(self) -> Iterator[Entries]:
        cache, seen = self._cache, inode(self.path)
        try:
            with _busy(), cache.transact():
                yield Folder(self.path, cache)
        except (_Damaged, sqlite3.Error, OSError) as error:
            # After a failed commit (a full disk) SQLite may still hold the transaction: a new connection does not.
            cache.close()
            cause = error.__cause__ if isinstance(error, _Damaged) and error.__cause__ else error
            if disk_words(cause, self.path):
                _make_room(self.path)
            if not isinstance(cause, OSError) and is_damage(cause, self.path):
                self._mend(cache, seen, cause)
                raise Busy("the store was damaged and has been mended") from error
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
        return _opened(self.path)

    def _do(self, work: Callable[[diskcache.Cache], T]) -> T:
        if self._held is not None:
            try:
                return work(self._held)
            except FOUND as error:
                raise _Damaged from error
        while True:
            cache, seen = self._cache, inode(self.path)
            try:
                with _busy():
                    return work(cache)
            except (sqlite3.Error, *FOUND) as error:
                if not is_damage(error, self.path):
                    raise
                cache.close()
                self._mend(cache, seen, error)

    def _mend(self, cache: diskcache.Cache, seen: int, error: BaseException) -> None:
        cache.close()
        mend(self.path, _cache, seen, error)


def _make_room(path: Path) -> None:
    """On a full disk the log of the database begins anew in the place that it has: the next few words can be written."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path / DATABASE, timeout=1)) as connection:
        connection.execute("PRAGMA wal_checkpoint(RESTART)")


class _Damaged(Exception):
    """Within a take something was found that nobody wrote so."""


def _read(cache: diskcache.Cache, name: str) -> Value | None:
    stored = None
    try:
        stored = cache.get(name)
        if stored is None and name in cache:
            stored = cache.get(name)  # its file may have been replaced while it was opened
        return None if stored is None else unseal(name, stored)
    except (OSError, UnicodeError, *FOUND) as error:
        if isinstance(error, OSError) and error.errno not in UNREADABLE:
            raise
        if not isinstance(stored, bytes):  # of what is kept in a file, those who know what it is say so
            log.warning("the entry %s is damaged (%s) and dropped", name, error)
            cache.delete(name)
        return None


@contextmanager
def _busy() -> Iterator[None]:
    try:
        yield
    except diskcache.Timeout:
        raise Busy(f"another process has held the store for {WAIT:g} seconds") from None


_open: dict[tuple[int, Path], tuple[int, diskcache.Cache]] = {}
_guard = threading.Lock()


def _opened(path: Path) -> diskcache.Cache:
    """The shared folder at `path`, made (mode 0700) when it is not there and mended when it is damaged.

    One diskcache.Cache a process and path; opened anew after the folder was removed or mended under a running program.
    """
    place = (os.getpid(), path)
    with _guard:
        known = _open.get(place)
        if known is not None and known[0] == inode(path):
            return known[1]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        seen = inode(path)
        try:
            cache = _cache(path)
        except (sqlite3.Error, *FOUND) as error:
            if not is_damage(error, path):
                raise
            mend(path, _cache, seen, error)
            cache = _cache(path)
        _open[place] = (inode(path), cache)
        return cache


def _cache(path: Path) -> diskcache.Cache:
    # Its own eviction is off: it would drop results by age, also those that a running job is about to read.
    settings = {"eviction_policy": "none", "cull_limit": 0, "size_limit": 2**62, "disk_min_file_size": 0}
    settings["sqlite_mmap_size"] = 0  # a file that is cut while it is mapped ends the process (SIGBUS)
    return diskcache.Cache(str(path), timeout=WAIT, disk=NoPickleDisk, **settings)
