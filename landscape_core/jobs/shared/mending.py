"""A damaged database of a shared folder: told from a busy or full one, set aside, and built anew of what can be read."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import diskcache
from filelock import FileLock

from ...checkpoints.home import disk_words
from .sealed import unseal

log = logging.getLogger("landscape.jobs")
DATABASE, LOGS = diskcache.core.DBNAME, ("-wal", "-shm", "-journal")
ASIDE, KEPT = ".damaged-", 3  # how a database that was set aside is called, and how many stay
PROBED = 10**5  # rows that are looked for one by one between those that can be read in a row
RAW, BINARY = diskcache.core.MODE_RAW, diskcache.core.MODE_BINARY
COLUMNS = "key, raw, store_time, mode, filename, value, size"

# What says nothing of damage: no memory, no right, a full disk, another process. IOERR is decided by looking.
HARMLESS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
}
FOUND = (ValueError, TypeError, KeyError, AttributeError, AssertionError, OverflowError)  # what odd contents lead to


def is_damage(error: BaseException, path: Path) -> bool:
    """Whether the error comes of a damaged database at `path`."""
    if disk_words(error, path):
        return False
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return code not in HARMLESS if code != sqlite3.SQLITE_IOERR else not _sound(path)
    return isinstance(error, FOUND)


def file_name(name: str) -> str:
    """The end of the path of a value's file: it says whose value it is, should the database not."""
    return quote(name, safe="")[:200] + "."


def mend(path: Path, make: Callable[[Path], diskcache.Cache], seen: int, error: BaseException) -> None:
    """Replace the database at `path` by one made by `make` of all that can be read; the old one is kept beside it.

    `seen` is the inode of the database that was found damaged: nothing is done if another process has replaced it since.
    """
    with FileLock(path.with_name(f".{path.name}.lock"), mode=0o600):
        if inode(path) != seen:
            return
        aside = path.with_name(f"{path.name}{ASIDE}{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        for ending in ("", *LOGS):
            try:
                shutil.copyfile(path / (DATABASE + ending), aside / (DATABASE + ending))
            except OSError as problem:
                if disk_words(problem, aside):  # half a copy would be taken for all that can be read
                    shutil.rmtree(aside, ignore_errors=True)
                    raise
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            rows = _rows(aside, path)
            with closing(make(fresh)) as cache, cache.transact():
                for row in rows.values():
                    cache._sql(f"INSERT INTO Cache ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            for ending in LOGS:  # a log that is left would be played into the new database
                (path / (DATABASE + ending)).unlink(missing_ok=True)
            os.replace(fresh / DATABASE, path / DATABASE)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        log.warning("%s was damaged (%s): %d entries could be read; the old database is in %s", path, error, len(rows), aside)
        for old in sorted(path.parent.glob(f"{path.name}{ASIDE}*"))[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def inode(path: Path) -> int:
    """Which file is the database of the folder; 0 where there is none."""
    try:
        return os.stat(path / DATABASE).st_ino
    except OSError:
        return 0


def _sound(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path / DATABASE, timeout=1)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
            connection.execute(f"SELECT {COLUMNS} FROM Cache LIMIT 1").fetchone()
            return bool(found == ("ok",))
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in HARMLESS


def _rows(aside: Path, path: Path) -> dict[str, tuple[Any, ...]]:
    """Rows by name that are as they were written, those of files whose row is lost included."""
    found: dict[str, tuple[Any, ...]] = {}
    for row in _readable(aside / DATABASE):
        with suppress(*FOUND):
            key, raw, stored, mode, filename, value, size = row
            name = key.decode()
            if raw != 1 or not isinstance(stored, float | int) or not isinstance(size, int):
                continue
            if mode == RAW:
                unseal(name, value.decode())
                found[name] = (name, 1, stored, RAW, None, value.decode(), size)
            elif mode == BINARY and _is_file(path, filename.decode()):
                found[name] = (name, 1, stored, BINARY, filename.decode(), None, size)
    known = {row[4] for row in found.values()}
    for file in sorted(path.glob("*/*/*.val"), key=lambda file: file.stat().st_mtime):
        name = unquote(file.name.rpartition(".")[0].rpartition(".")[0])
        if name not in found and str(file.relative_to(path)) not in known:
            with suppress(*FOUND, OSError):
                data = file.read_bytes()
                unseal(name, data)
                found[name] = (name, 1, file.stat().st_mtime, BINARY, str(file.relative_to(path)), None, len(data))
    return found


def _is_file(path: Path, filename: str) -> bool:
    file = path / filename
    return ".." not in Path(filename).parts and file.is_relative_to(path) and file.is_file()


def _readable(database: Path) -> Iterator[tuple[Any, ...]]:
    """The rows that SQLite can still read: from the front, from the back, and one by one between them."""
    try:
        connection = sqlite3.connect(database)
    except sqlite3.Error:
        return
    with closing(connection):
        connection.text_factory = bytes
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA cell_size_check = ON")
        ends = []
        for order, start in (("ASC", 0), ("DESC", 2**63 - 1)):
            last = start
            try:
                for rowid, *row in connection.execute(f"SELECT rowid, {COLUMNS} FROM Cache NOT INDEXED ORDER BY rowid {order}"):
                    last = rowid
                    yield tuple(row)
            except (sqlite3.Error, OverflowError):
                ends.append(last)
        if len(ends) == 2:
            for rowid in range(ends[0] + 1, min(ends[1], ends[0] + PROBED)):
                with suppress(sqlite3.Error):
                    yield from connection.execute(f"SELECT {COLUMNS} FROM Cache NOT INDEXED WHERE rowid = ?", (rowid,))
