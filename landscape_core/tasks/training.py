"""Training a task while recording a run, so that it can be watched, stopped, killed and continued."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..checkpoints.recording import Recording
from ..checkpoints.room import check_training
from ..checkpoints.runs import RunStore, metric_columns
from ..checkpoints.weights import load_weights, save_weights
from ..objective.threads import is_short, one_thread, operations
from ..specs import InputError, Progress, RunRecord, TrainingSpec
from .devices import torch_device
from .optimisation import (
    BatchOrder,
    evaluate,
    learning_rate,
    make_optimizer,
    optimizer_tensors,
    parameter_norm,
    restore_optimizer,
)
from .task import load_task

EVALUATED = 2000  # the recorded metrics rest on at most so many samples of a split: evaluation must not outweigh training
DIVERGED = 1e4  # a batch loss above this many times max(1, the first one) has diverged
PROGRESS_EVERY = 0.2  # seconds
SAVE_EVERY = 2.0  # seconds between the states that a killed training goes on from


def train(spec: TrainingSpec, home: Path) -> Generator[Progress, None, RunRecord]:
    """Train and record the run `spec.run` under `home`; yields Progress with the metrics so far and returns the record.

    A run that exists with these settings is returned as it is if it ended, else continued from its last saved state, to
    the same weights bit for bit on a CPU. Closing the generator stops the run so that it can be continued. A loss that
    is not finite, or grows beyond DIVERGED times its start, ends the run as "diverged" with its finite checkpoints.
    Raises InputError if the run exists with other settings or another process writes it.
    """
    store, task = RunStore(home), spec.task
    with Recording(store, spec.run, task=task.name, arguments=task.arguments, training=settings(spec)) as recording:
        if recording.found is not None and recording.found.state in ("done", "diverged"):
            return recording.found
        store.sweep(spec.run)
        training = _Training(spec, home, recording)
        with one_thread(where=_is_short(training)):
            return (yield from training.run())


def settings(spec: TrainingSpec) -> dict[str, Any]:
    """What `run.json` says of the training: all that decides the weights, so neither the run's name nor the device."""
    return spec.model_dump(mode="json", exclude={"run", "task", "device"})


class _Training:
    """One training under way: the network, the optimiser, the order of batches and the run that is written."""

    def __init__(self, spec: TrainingSpec, home: Path, recording: Recording):
        self.spec, self.recording = spec, recording
        self.task = task = load_task(spec.task, home, getattr(torch, spec.dtype))
        fingerprints = task.data.fingerprints()
        if recording.found is not None and recording.found.data != fingerprints:
            raise InputError(f"the data of run '{spec.run}' have changed since it began; delete it and train again")
        moments = {"sgd": 1 if spec.momentum else 0}.get(spec.optimizer, 2)
        check_training(home, task.parameters, self.task.dtype.itemsize, len(spec.recorded_steps), moments)
        recording.begin(parameters=task.parameters, dtype=spec.dtype, data=fingerprints, sizes=task.data.sizes)
        device = torch_device(spec.device)
        self.samples = {split: tuple(part.to(device) for part in task.sample(split, EVALUATED)) for split in ("train", "test")}
        self.x, self.y = (part.to(device) for part in task.data.split("train"))
        self.order = BatchOrder(len(self.y), spec.batch_size, spec.seed)
        self.model = task.model(spec.seed).to(device).train()
        if self.batch == 1 and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.model.modules()):
            raise InputError("field 'batch_size': BatchNorm needs at least 2 samples a step")
        self.optimizer = make_optimizer(spec, [p for p in self.model.parameters() if p.requires_grad])
        self.step = 0
        self.first_loss = math.nan
        self.saved, self.cost = time.monotonic(), 0.0
        self.resume_file = recording.store.folder(spec.run) / "resume.safetensors"
        if not self._restore():
            recording.forget(after=-1)

    @property
    def record(self) -> RunRecord:
        """What is recorded so far."""
        return self.recording.record

    @property
    def batch(self) -> int:
        """Samples a step."""
        return min(self.spec.batch_size or len(self.y), len(self.y))

    def run(self) -> Generator[Progress, None, RunRecord]:
        spec, recorded = self.spec, set(self.spec.recorded_steps)
        try:
            if not self.record.checkpoints:
                self._checkpoint()
            self.recording.write("training")
            loss = self.record.checkpoints[-1].metrics["train_loss"] or math.nan
            yield self._progress(loss, partial=True)
            shown = time.monotonic()
            while self.step < spec.steps:
                value = self._update()
                record = self.step in recorded
                if record or self.step % 10 == 0:  # reading the loss makes a graphics processor wait: not at every step
                    loss = float(value)
                    if self._diverged(loss) or (record and not self._checkpoint()):
                        return self._end("diverged", f"diverged: the loss was {loss:.3g} at step {self.step}; lower lr")
                    if record:
                        self.recording.write("training")
                        loss = self.record.checkpoints[-1].metrics["train_loss"] or loss
                clock = time.monotonic()
                if clock - self.saved > max(SAVE_EVERY, 20 * self.cost):
                    self._save()
                if record or clock - shown > PROGRESS_EVERY:
                    shown = clock
                    yield self._progress(loss, partial=record)
        except GeneratorExit:
            self._save()
            self.recording.write("stopped", f"stopped at step {self.step} of {spec.steps}; train again to continue")
            raise
        except KeyboardInterrupt:
            # It may have come in the middle of an update: the state saved before is the one to go on from.
            self.recording.write("stopped", f"interrupted near step {self.step} of {spec.steps}; train again to continue")
            raise
        return self._end("done", "")

    def _update(self) -> Tensor:
        """One optimisation step; gives the loss of its batch, before the step."""
        kept = next(self.order)
        x, y = (self.x, self.y) if kept is None else (self.x[kept], self.y[kept])
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.spec, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return loss.detach()

    def _diverged(self, loss: float) -> bool:
        if math.isnan(self.first_loss) and math.isfinite(loss):
            self.first_loss = loss
        return not loss <= DIVERGED * max(1.0, self.first_loss)

    def _checkpoint(self) -> bool:
        """Record the weights with their metrics, unless they are not finite any more."""
        norm = parameter_norm(self.model)
        if not math.isfinite(norm):
            return False
        metrics = evaluate(self.model, self.task.loss, self.samples)  # type: ignore[arg-type]
        if not math.isfinite(metrics["train_loss"]):
            return False
        metrics |= {"lr": learning_rate(self.spec, self.step), "theta_norm": norm}
        self.recording.checkpoint(self.step, self.model.state_dict(), metrics)
        return True

    def _progress(self, loss: float, *, partial: bool) -> Progress:
        message = f"step {self.step} of {self.spec.steps}, loss {loss:.3g}"
        return Progress(self.step, self.spec.steps, message, metric_columns(self.record) if partial else None)

    def _end(self, state: Literal["done", "diverged"], message: str) -> RunRecord:
        self.recording.write(state, message)
        self.resume_file.unlink(missing_ok=True)
        return self.record

    # -- what a killed or stopped training goes on from -----------------------------------------------------------------

    def _save(self) -> None:
        start = time.monotonic()
        parts = {"model": self.model.state_dict(), "optimizer": optimizer_tensors(self.optimizer), "order": self.order.state()}
        tensors = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
        own = {"step": torch.tensor(self.step), "first_loss": torch.tensor(self.first_loss, dtype=torch.float64)}
        save_weights(self.resume_file, {**tensors, **own})
        self.saved = time.monotonic()
        self.cost = self.saved - start

    def _restore(self) -> bool:
        """Go on from the saved state. False where there is none that can be read: the training then starts afresh."""
        try:
            tensors = load_weights(self.resume_file)
        except InputError:
            return False
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "order": {}}
        step, first_loss = int(tensors.pop("step")), float(tensors.pop("first_loss"))
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = value
        self.model.load_state_dict(parts["model"])
        restore_optimizer(self.optimizer, parts["optimizer"])
        self.order.restore(parts["order"])
        self.step, self.first_loss = step, first_loss
        self.recording.forget(after=step)
        return bool(self.record.checkpoints)


def _is_short(training: _Training) -> bool:
    """Whether a step is too short for several threads: by count, since a continued training must reach the same bits."""
    count = operations(training.model.eval(), training.x[:1])
    training.model.train()
    return is_short(count * training.batch)
