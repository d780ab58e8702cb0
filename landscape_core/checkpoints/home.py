"""Where everything is kept, and writing a file so that nobody ever reads half of it. No torch."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ..specs import InputError

DEFAULT_HOME = Path(__file__).resolve().parents[2] / ".landscape"  # beside app.py


def home_directory(path: str | Path | None = None) -> Path:
    """The home directory: `path`, else $LANDSCAPE_HOME, else `.landscape` beside app.py; created with mode 0700.

    Raises InputError if it cannot be made or written.
    """
    chosen = path or os.environ.get("LANDSCAPE_HOME") or DEFAULT_HOME
    home = Path(chosen).expanduser().absolute()
    try:
        if not home.is_dir():
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the home directory {home}: {error.strerror}; set LANDSCAPE_HOME") from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise InputError(f"the home directory {home} is not writable; set LANDSCAPE_HOME")
    return home


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path` whole or not at all: written beside it, flushed to the disk, then renamed over it.

    Raises InputError naming the file (a full disk, a missing right).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


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
