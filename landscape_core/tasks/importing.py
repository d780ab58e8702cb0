"""Bringing in weights that somebody else trained, as a checkpoint of a run."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.recording import Recording
from ..checkpoints.runs import RunStore
from ..checkpoints.weights import fingerprint, match_state, read_foreign
from ..specs import InputError, RunRecord, TaskSpec
from .optimisation import evaluate, parameter_norm
from .task import load_task
from .training import EVALUATED


def import_weights(file: str | Path, task: TaskSpec, run: str, step: int, home: Path) -> RunRecord:
    """Put the weights in `file` (.safetensors, .pt, .pth, .ckpt) at `step` of the run `run`, with their metrics.

    A new run is made, or the checkpoint joins an imported run of the same task. Half precision becomes float32. Raises
    InputError, one line, if the file cannot be read safely, does not fit the task, holds values that are not finite, or
    if the run has other settings or other weights at that step.
    """
    path, store = Path(file).expanduser(), RunStore(home)
    if not 0 <= step < 10**8:
        raise InputError(f"step must lie between 0 and 99999999 (got {step})")
    store.folder(run)
    tensors = read_foreign(path)
    dtype = torch.float64 if any(value.dtype == torch.float64 for value in tensors.values()) else torch.float32
    maker = load_task(task, home, dtype)
    model = maker.model(seed=0)
    state = _usable(match_state(tensors, model, path), model.state_dict(), path)
    model.load_state_dict(state)
    metrics = evaluate(model, maker.loss, {name: maker.sample(name, EVALUATED) for name in ("train", "test")})
    metrics["theta_norm"] = parameter_norm(model)

    settings = {
        "task": task.name,
        "arguments": task.arguments,
        "training": None,
        "dtype": str(dtype).removeprefix("torch."),
        "data": maker.data.fingerprints(),
    }
    with Recording(store, run, **settings) as recording:
        recording.begin(parameters=maker.parameters, sizes=maker.data.sizes)
        present = next((known for known in recording.record.checkpoints if known.step == step), None)
        if present is not None and present.fingerprint != fingerprint(state):
            raise InputError(f"run '{run}' has other weights at step {step}; choose another step or run")
        recording.checkpoint(step, state, metrics)
        recording.write()
        return recording.record


def run_of_file(file: Path, task: TaskSpec, home: Path) -> str:
    """The run that weights in a file are kept as: named after the file and its contents, imported on first use.

    Raises InputError as `import_weights` does.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", file.stem).lstrip("._-")[:48] or "weights"
    marks = json.dumps([task.name, task.arguments], sort_keys=True)
    run = f"{stem}-{hashlib.sha256((fingerprint(read_foreign(file)) + marks).encode()).hexdigest()[:8]}"
    if not RunStore(home).exists(run):
        import_weights(file, task, run, 0, home)
    return run


def _usable(state: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors in the network's dtypes. Raises InputError for values that are not finite numbers."""
    converted = {}
    for name, value in state.items():
        if value.is_floating_point() != wanted[name].is_floating_point():
            raise InputError(
                f"{path}: '{name}' holds {str(value.dtype).removeprefix('torch.')} instead of numbers with a fraction"
            )
        converted[name] = value.to(wanted[name].dtype)
        if not converted[name].isfinite().all():
            bad = int((~converted[name].isfinite()).sum())
            raise InputError(f"{path}: '{name}' has NaN or infinite values ({bad} of {value.numel()}); nothing was imported")
    return converted
