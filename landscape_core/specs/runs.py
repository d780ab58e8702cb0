"""How runs and checkpoints are named and described: what `run.json` holds, and the text RUN@STEP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from .base import InputError

_REFERENCE = re.compile(r"^(?P<run>[A-Za-z0-9][A-Za-z0-9._-]{0,63})(@(?P<step>\d+|last))?$")


@dataclass(frozen=True)
class Reference:
    """RUN, RUN@STEP or RUN@last. `step` is None for a whole run, -1 for its last checkpoint."""

    run: str
    step: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InputError for anything that is not RUN, RUN@STEP or RUN@last."""
        match = _REFERENCE.fullmatch(text)
        if not match:
            raise InputError(f"'{text}' is not a checkpoint: write RUN@STEP, RUN@last, or RUN for a whole run")
        step = match["step"]
        return cls(match["run"], None if step is None else -1 if step == "last" else int(step))

    def __str__(self) -> str:
        return self.run if self.step is None else f"{self.run}@{'last' if self.step == -1 else self.step}"


class CheckpointRecord(BaseModel):
    """One checkpoint of a run: where its weights are and what was measured when they were written."""

    model_config = ConfigDict(frozen=True)

    step: int
    file: str  # relative to the run's folder
    fingerprint: str  # of names, shapes, dtypes and values
    metrics: dict[str, float | None]  # train_loss, train_accuracy, test_loss, test_accuracy, lr, theta_norm; null = not finite


class RunRecord(BaseModel):
    """What `run.json` holds. Rewritten whole (atomically) at every checkpoint, so a growing run is readable at any time."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    name: str
    task: str
    arguments: dict[str, Any]  # flat task arguments, task_spec(task, **arguments)
    training: dict[str, Any] | None  # TrainingSpec fields; null for imported weights
    created: str  # ISO 8601, UTC
    state: Literal["training", "done", "diverged", "stopped"] = "done"
    message: str = ""  # one line where the run did not end well
    parameters: int
    dtype: str = "float32"
    data: dict[str, str]  # fingerprints of the samples, {"train": ..., "test": ...}
    sizes: dict[str, int]  # numbers of samples, {"train": ..., "test": ...}
    checkpoints: tuple[CheckpointRecord, ...] = ()

    def checkpoint(self, step: int | None) -> CheckpointRecord:
        """The checkpoint at `step` (-1 or None: the last). Raises InputError naming the steps there are."""
        if not self.checkpoints:
            raise InputError(f"run '{self.name}' has no checkpoint yet; wait until it has recorded one")
        if step in (None, -1):
            return self.checkpoints[-1]
        for item in self.checkpoints:
            if item.step == step:
                return item
        steps = [item.step for item in self.checkpoints]
        near = min(steps, key=lambda s: abs(s - int(step or 0)))
        raise InputError(f"run '{self.name}' has no checkpoint at step {step}; the nearest is {near}, the last {steps[-1]}")
