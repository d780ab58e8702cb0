"""Where everything is kept, and writing a file so that nobody ever reads half of it. No torch."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

from ..specs import InputError

FORMAT = 1  # raise it when an older version could not read what is in a home
ROOMS = ("runs", "cache", "jobs", "uploads")
DEFAULT_HOME = Path(__file__).resolve().parents[2] / ".landscape"  # beside app.py


def home_directory(path: str | Path | None = None) -> Path:
    """The home directory: `path`, else $LANDSCAPE_HOME, else `.landscape` beside app.py; created with mode 0700.

    Raises InputError if it cannot be made or written, if others own it or may write in it (they could hand us files that we
    trust), or if a newer version of this program made it.
    """
    home = chosen_home(path)
    try:
        if not home.is_dir():
            home.parent.mkdir(parents=True, exist_ok=True)
            home.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the home directory {home}: {error.strerror}; set LANDSCAPE_HOME") from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise InputError(f"the home directory {home} is not writable; set LANDSCAPE_HOME")
    for folder in (home, *(home / name for name in ROOMS)):
        _ours(folder)
    _known_format(home)
    return home


def chosen_home(path: str | Path | None = None) -> Path:
    """Where the home directory is to be; nothing is looked at."""
    return Path(path or os.environ.get("LANDSCAPE_HOME") or DEFAULT_HOME).expanduser().absolute()


def _ours(folder: Path) -> None:
    try:
        facts = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(facts.st_mode) and not folder.is_dir():
        raise InputError(f"{folder} is no directory; move it away, or set LANDSCAPE_HOME")
    if facts.st_uid != os.geteuid() or (folder.is_symlink() and folder.stat().st_uid != os.geteuid()):
        raise InputError(f"{folder} belongs to another user; set LANDSCAPE_HOME to a directory of your own")
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(f"others may write in {folder}; take that right away (chmod go-w), or set LANDSCAPE_HOME")


def _known_format(home: Path) -> None:
    file = home / "format"
    try:
        text = file.read_text().strip()
    except FileNotFoundError:
        with suppress(InputError):
            write_atomically(file, f"{FORMAT}\n".encode())
        return
    except (OSError, ValueError):
        return  # damaged: what is in the home says for itself whether it can be read
    if text.isdecimal() and len(text) < 9 and int(text) > FORMAT:
        raise InputError(
            f"{home} was made by a newer version of this program (format {text}; this one knows {FORMAT}): update the program, "
            "or set LANDSCAPE_HOME to another directory. Nothing in it was changed"
        )


def make_private(folder: Path) -> None:
    """Make the folder and those above it that are missing, each with mode 0700. Raises OSError."""
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path` whole or not at all: written beside it, flushed to the disk, then renamed over it.

    Raises InputError naming the file (a full disk, a missing right).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
    try:
        make_private(path.parent)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(disk_words(error, path.parent) or f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):  # on a disk that has become read-only nothing is removed
            temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def disk_words(error: BaseException, place: Path) -> str | None:
    """What a person is told where the disk of the directory `place` takes nothing more; None for all other errors."""
    code, number = getattr(error, "sqlite_errorcode", 0), getattr(error, "errno", None)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE) or number in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: free some space for {place}, then run it again; what is finished is kept"
    if code & 0xFF == sqlite3.SQLITE_READONLY or number == errno.EROFS:
        return f"the disk is read-only: make {place} writable, then run it again; what is finished is kept"
    return None


TEMPORARY = ".tmp"


def _flush_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
