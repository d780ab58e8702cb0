"""The runs on disk: home/runs/<name>/run.json and home/runs/<name>/checkpoints/<step>.safetensors. No torch."""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from pydantic import ValidationError

from ..specs import Array, CheckpointRecord, InputError, Reference, RunRecord, suggestion
from .home import TEMPORARY, disk_words, write_atomically


class RunStore:
    """The runs under `home`, each a folder. Readers never see a half-written file; nothing is kept in memory but a cache."""

    def __init__(self, home: Path):
        self.root = home / "runs"

    def names(self) -> list[str]:
        """The names of all readable and unreadable runs, oldest first; empty where there is none."""
        found = []
        for file in self.root.glob("*/run.json"):
            if _is_name(file.parent.name):
                try:
                    created = self.read(file.parent.name).created
                except InputError:
                    created = ""
                found.append((created, file.parent.name))
        return [name for _, name in sorted(found)]

    def exists(self, name: str) -> bool:
        return (self.folder(name) / "run.json").is_file()

    def folder(self, name: str) -> Path:
        """The folder of the run (which need not exist). Raises InputError for what cannot be a name."""
        if not _is_name(name):
            raise InputError(f"'{name}' is not a name of a run: use letters, digits, '.', '_' and '-', at most 64")
        return self.root / name

    def read(self, name: str) -> RunRecord:
        """What `run.json` holds. Raises InputError, one line, if the run is missing or its file damaged."""
        file = self.folder(name) / "run.json"
        try:
            status = file.stat()
            return _read(file, name, status.st_mtime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:
            names = [item.parent.name for item in self.root.glob("*/run.json")]
            hint = suggestion(name, sorted(names)) if names else "; there is no run yet"
            raise InputError(f"there is no run '{name}'{hint}") from None
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror}") from None
        except (ValidationError, ValueError):
            if (newer := _format(file)) > RunRecord.model_fields["format"].default:
                raise InputError(
                    f"run '{name}' was written by a newer version of this program (format {newer}): update the program"
                ) from None
            raise InputError(f"run '{name}' is damaged: {file} cannot be read; delete the run or restore the file") from None

    def write(self, record: RunRecord) -> None:
        """Write `run.json` whole. Raises InputError if the disk refuses."""
        write_atomically(self.folder(record.name) / "run.json", record.model_dump_json(indent=1).encode())

    def resolve(self, text: str) -> tuple[RunRecord, CheckpointRecord]:
        """The run and checkpoint that RUN, RUN@STEP or RUN@last names (RUN: its last). Raises InputError."""
        reference = Reference.parse(text)
        record = self.read(reference.run)
        return record, record.checkpoint(reference.step)

    def checkpoint_file(self, name: str, step: int) -> Path:
        """Where the weights of `name` at `step` belong."""
        return self.folder(name) / "checkpoints" / f"{step:08d}.safetensors"

    def lock(self, name: str) -> FileLock:
        """The lock that who writes or deletes the run holds; the system drops it when its process dies."""
        self.folder(name)
        return FileLock(self.root / f".{name}.lock", timeout=0, thread_local=False, mode=0o600)

    def take(self, name: str) -> FileLock:
        """`lock`, held. Raises InputError if another process writes this run."""
        lock = self.lock(name)
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise InputError(f"run '{name}' is being written by another process; wait for it or cancel it") from None
        except OSError as error:
            raise InputError(disk_words(error, self.root) or f"cannot write {self.root}: {error.strerror}") from error
        return lock

    def sweep(self, name: str) -> None:
        """Remove what a killed writer left half-written in the run's folder. Only for who holds its lock."""
        for file in self.folder(name).rglob(f".*{TEMPORARY}"):
            file.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """Remove the run with its checkpoints. Raises InputError if it is missing or being written."""
        folder = self.folder(name)
        if not folder.is_dir():
            self.read(name)
        with self.take(name):
            # Renamed first: nobody ever sees a run with half of its checkpoints gone.
            doomed = self.root / f".{name}.{secrets.token_hex(4)}{TEMPORARY}"
            try:
                os.replace(folder, doomed)
                shutil.rmtree(doomed)
            except OSError as error:
                raise InputError(f"cannot delete run '{name}': {error.strerror}") from None


def metric_columns(record: RunRecord) -> dict[str, Array]:
    """The metrics of a run as arrays over its checkpoints: `steps (t,)`, `train_loss (t,)`, ...; NaN where not finite."""
    names = dict.fromkeys(name for item in record.checkpoints for name in item.metrics)
    columns: dict[str, Array] = {"steps": np.array([item.step for item in record.checkpoints], dtype=np.int64)}
    for name in names:
        values = [item.metrics.get(name) for item in record.checkpoints]
        columns[name] = np.array([np.nan if value is None else value for value in values])
    return columns


def _is_name(text: str) -> bool:
    try:
        return Reference.parse(text).step is None
    except InputError:
        return False


def _format(file: Path) -> int:
    """The number of the format that a file names; 0 where it names none."""
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(file.read_bytes())
        if isinstance(content, dict) and isinstance(content.get("format"), int):
            return int(content["format"])
    return 0


@functools.lru_cache(maxsize=512)
def _read(file: Path, name: str, *_version: int) -> RunRecord:
    """Parsed once for each state of the file: every writer renames a new file into place, so the inode changes too."""
    record = RunRecord.model_validate_json(file.read_bytes())
    return record.model_copy(update={"name": name})  # a folder that somebody copied keeps working
