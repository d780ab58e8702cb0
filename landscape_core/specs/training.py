"""What can be asked of training: one Spec, a job like any other."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import SerializeAsAny, model_validator

from .base import InputError, Spec, field, suggestion
from .tasks import TaskSpec, task_fields, task_spec


class TrainingSpec(Spec):
    """Train a task and record checkpoints. `batch_size=0` is full-batch gradient descent."""

    run: str = field("run", "Name of the run.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    task: SerializeAsAny[TaskSpec] = field(TaskSpec(), "The task.")
    optimizer: Literal["sgd", "adam", "adamw"] = field("sgd", "Optimiser; sgd with momentum is heavy-ball.")
    lr: float = field(0.1, "Learning rate.", gt=0, le=1000)
    momentum: float = field(0.0, "Momentum of sgd.", ge=0, lt=1)
    weight_decay: float = field(0.0, "Weight decay; decoupled for adamw.", ge=0, le=100)
    batch_size: int = field(64, "Samples a step; 0 takes all (full batch).", unit="samples", ge=0, le=1_000_000)
    steps: int = field(2000, "Optimisation steps.", unit="steps", ge=1, le=10_000_000)
    schedule: Literal["constant", "cosine", "step"] = field(
        "constant", "Learning rate over time: constant, cosine to zero, or divided by ten at 1/2 and 3/4."
    )
    seed: int = field(0, "Seed of initialisation and batch order.", ge=0, le=2**31 - 1)
    dtype: Literal["float32", "float64"] = field("float32", "Arithmetic.")
    record: tuple[int, ...] | None = field(
        None,
        "Steps at which to record a checkpoint; null is dense early (about 40, log-spaced) and always has 0 and the last.",
        unit="steps",
        max_length=2000,
    )
    device: str = field("auto", "Where to train: auto, cpu, cuda or cuda:1.", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.record is not None and any(not 0 <= step <= self.steps for step in self.record):
            raise ValueError(f"record must lie between 0 and steps={self.steps}")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum belongs to optimizer=sgd (got {self.optimizer})")
        return self

    @property
    def recorded_steps(self) -> tuple[int, ...]:
        """The steps at which checkpoints are written, ascending, with 0 and the last."""
        if self.record is not None:
            return tuple(sorted({0, self.steps, *self.record}))
        spaced = {round(self.steps ** (i / 39)) for i in range(40)}
        return tuple(sorted({0, self.steps, *spaced}))


def training_spec(task: str, run: str, *, remote: bool = False, **values: Any) -> TrainingSpec:
    """A TrainingSpec from flat values that belong to the training or to the task. Raises InputError."""
    own = [name for name in TrainingSpec.model_fields if name not in ("task", "run")]
    known = [*own, *task_fields(task)]
    for name in values:
        if name not in known:
            raise InputError(f"unknown field '{name}'{suggestion(name, known)}")
    built = task_spec(task, remote=remote, **{k: v for k, v in values.items() if k not in own})
    return TrainingSpec.parse({"run": run, "task": built, **{k: v for k, v in values.items() if k in own}}, remote=remote)
