"""From a request to its Result: load the weights, build the loss, run the analysis. A generator; it knows no store."""

from __future__ import annotations

import platform
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..analyses import analysis
from ..checkpoints.runs import RunStore, metric_columns
from ..checkpoints.weights import load_weights
from ..measuring.context import Context, Trajectory
from ..objective import host
from ..objective.threads import is_short, one_thread
from ..specs import (
    COUNTED,
    UPLOADS,
    AnalysisSpec,
    Array,
    CheckpointRecord,
    ImportSpec,
    InputError,
    Progress,
    Reference,
    Result,
    RunRecord,
    Spec,
    TrainingSpec,
    task_spec,
)
from ..tasks.importing import import_weights
from ..tasks.task import load_task
from ..tasks.training import train


def start(
    kind: str,
    source: str | None,
    spec: Spec,
    home: Path,
    partial: Mapping[str, Array] | None = None,
    record: RunRecord | None = None,
    checkpoint: CheckpointRecord | None = None,
) -> Generator[Progress, None, Result]:
    """Yields Progress, returns the Result of `kind`: an analysis of the checkpoint RUN or RUN@STEP, or train or import.

    `record` and `checkpoint` are what `source` names, where that has been read already.
    """
    if isinstance(spec, TrainingSpec):
        return (yield from _training(spec, home))
    if isinstance(spec, ImportSpec):
        return (yield from _importing(spec, home))
    assert isinstance(spec, AnalysisSpec)
    if source is None:
        raise InputError(f"{kind} needs a checkpoint: RUN@STEP or RUN@last")
    context = run_context(source, spec, RunStore(home), home, partial, record, checkpoint)
    return (yield from analyse(kind, spec, context))


def analyse(kind: str, spec: AnalysisSpec, context: Context) -> Generator[Progress, None, Result]:
    """Run an analysis in a context, and put its arrays, its Spec and where they came from into a Result."""
    item = analysis(kind)
    counts, started = context.objective.counts.copy(), time.perf_counter()
    objective = context.objective
    count = objective.operations()
    with one_thread(where=count > 0 and is_short(count)):
        arrays = yield from item.run(spec, context)
    provenance = {
        "analysis_version": item.version,
        "device": str(objective.device),
        # An analysis that computes in another arithmetic than its source's says so.
        "dtype": str(arrays.get("arithmetic", objective.dtype)).removeprefix("torch."),
        "sample": objective.sample.words,
        "threads": torch.get_num_threads(),
        "wall_seconds": time.perf_counter() - started,
        "counts": {name: objective.counts[name] - counts[name] for name in COUNTED},
        "host": host.facts(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **context.provenance,
    }
    stated = {"analysis": kind, "source": context.source, **spec.model_dump(mode="json")}
    return Result({name: np.asarray(value) for name, value in arrays.items()}, stated, provenance)


def run_context(
    source: str,
    spec: AnalysisSpec,
    runs: RunStore,
    home: Path,
    partial: Mapping[str, Array] | None = None,
    record: RunRecord | None = None,
    checkpoint: CheckpointRecord | None = None,
) -> Context:
    """The context of a checkpoint of a run. Other checkpoints must have parameters of the same names and shapes."""
    if record is None or checkpoint is None:
        record, checkpoint = runs.resolve(source)
    task = load_task(task_spec(record.task, **record.arguments), home)
    state = load_weights(runs.folder(record.name) / checkpoint.file, checkpoint.fingerprint)
    objective = task.objective(
        state,
        split=spec.split,
        samples=spec.samples,
        test=spec.with_test(),
        batchnorm=spec.batchnorm,
        dtype=getattr(torch, spec.dtype or record.dtype),
        device=spec.device,
    )

    def weights(name: str) -> Tensor:
        other, item = runs.resolve(name)
        return _theta(other, item.file, item.fingerprint)

    def path(name: str) -> Trajectory:
        other = runs.read(Reference.parse(name).run)
        thetas = [_theta(other, item.file, item.fingerprint) for item in other.checkpoints]
        return Trajectory(tuple(item.step for item in other.checkpoints), torch.stack(thetas))

    def _theta(other: RunRecord, file: str, fingerprint: str) -> Tensor:
        found = load_weights(runs.folder(other.name) / file, fingerprint)
        try:
            return objective.space.flatten(found).to(objective.theta)
        except InputError as error:
            raise InputError(f"run '{other.name}' is not of the same network as '{record.name}': {error}") from None

    return Context(
        objective,
        source=f"{record.name}@{checkpoint.step}",
        own_path=lambda: path(record.name),
        weights=weights,
        paths=path,
        partial=partial or {},
        training={**record.training, "train_samples": record.sizes.get("train", 0)} if record.training else {},
        rates={item.step: rate for item in record.checkpoints if (rate := item.metrics.get("lr")) is not None},
        provenance={
            "fingerprint": checkpoint.fingerprint,
            "data": record.data,
            "task": record.task,
            "arguments": record.arguments,
        },
    )


def _training(spec: TrainingSpec, home: Path) -> Generator[Progress, None, Result]:
    started = time.perf_counter()
    record: RunRecord = yield from train(spec, home)
    return _of_run("train", record, spec, started)


def _importing(spec: ImportSpec, home: Path) -> Generator[Progress, None, Result]:
    started = time.perf_counter()
    yield Progress(0, 1, "reading the weights")
    file = home / UPLOADS / spec.upload
    try:
        record = import_weights(file, spec.task, spec.run, spec.step, home)
    except InputError as error:
        raise InputError(str(error).replace(str(file), "the uploaded file")) from None
    file.unlink(missing_ok=True)
    return _of_run("import", record, spec, started)


def _of_run(kind: str, record: RunRecord, spec: Spec, started: float) -> Result:
    """The metrics of a run as a Result: what is left of writing it."""
    stated = {"analysis": kind, "source": None, **spec.model_dump(mode="json")}
    provenance = {"run": record.name, "state": record.state, "message": record.message, "parameters": record.parameters}
    return Result(metric_columns(record), stated, provenance | {"wall_seconds": time.perf_counter() - started, "counts": {}})
