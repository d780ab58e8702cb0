"""The one writer of runs: who trains, brings in weights or records a loop of their own writes through it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

from torch import Tensor

from ..specs import CheckpointRecord, InputError, RunRecord
from .runs import RunStore
from .weights import save_weights


class Recording:
    """The run `name` while it is written: nobody else can write it before `close`, or the end of a `with`.

    `settings` are the fields of its record by which it is known again. `found` is the record that stands, or None; `record`,
    once `begin` was called, what has been written and what `write` will write. Raises InputError if another process writes
    the run, or if it exists with other settings.
    """

    record: RunRecord

    def __init__(self, store: RunStore, name: str, **settings: Any):
        self.store, self.name, self.settings = store, name, settings
        self._lock = store.take(name)
        try:
            self.found = store.read(name) if store.exists(name) else None
            if self.found is not None and any(getattr(self.found, field) != value for field, value in settings.items()):
                raise InputError(f"run '{name}' exists with other settings; choose another name or delete it")
        except BaseException:
            self.close()
            raise

    def begin(self, **facts: Any) -> None:
        """Go on with the record that stands, or with a new one of the settings and `facts`, the other fields of a RunRecord."""
        self.record = self.found or RunRecord(name=self.name, created=_now(), **self.settings, **facts)

    def checkpoint(self, step: int, weights: Mapping[str, Tensor], metrics: Mapping[str, float]) -> None:
        """Put the weights at `step` on disk, in place of those that stood there, with their metrics (null where not finite).

        `write` makes the checkpoint known, in the order of steps. Raises InputError if the disk refuses.
        """
        file = self.store.checkpoint_file(self.name, step)
        item = CheckpointRecord(
            step=step,
            file=str(file.relative_to(self.store.folder(self.name))),
            fingerprint=save_weights(file, weights),
            metrics={name: value if math.isfinite(value) else None for name, value in metrics.items()},
        )
        others = [known for known in self.record.checkpoints if known.step != step]
        self._change(checkpoints=tuple(sorted([*others, item], key=lambda known: known.step)))

    def forget(self, after: int) -> None:
        """Leave out the checkpoints after this step: what comes is recorded afresh."""
        self._change(checkpoints=tuple(item for item in self.record.checkpoints if item.step <= after))

    def write(self, state: Literal["training", "done", "diverged", "stopped"] = "done", message: str = "") -> None:
        """Write the record with how the run stands. Raises InputError if the disk refuses."""
        self._change(state=state, message=message)
        self.store.write(self.record)

    def close(self) -> None:
        """Let others write the run."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _change(self, **fields: Any) -> None:
        self.record = self.record.model_copy(update=fields)


def _now() -> str:
    """The time as run.json writes it: ISO 8601, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
