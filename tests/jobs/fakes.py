"""An analysis that only sleeps and counts, and processes that run it: what the tests of the jobs watch."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from landscape_core.checkpoints.runs import RunStore
from landscape_core.jobs import processes
from landscape_core.jobs.requests import Request
from landscape_core.jobs.runner import run_all, run_or_join
from landscape_core.jobs.store import JobStore
from landscape_core.specs import CheckpointRecord, InputError, Progress, Result, RunRecord, TrainingSpec

CELLS = 40
_spawn = multiprocessing.get_context("spawn")


def write_run(home: Path, name: str = "digits", steps: tuple[int, ...] = (0, 10), mark: str = "") -> RunRecord:
    """A run whose weights are only named; `mark` makes its fingerprints others."""
    record = RunRecord(
        name=name,
        task="digits-mlp",
        arguments={},
        training=None,
        created="2030-01-01T00:00:00Z",
        parameters=4810,
        data={"train": "a" * 64, "test": "b" * 64},
        sizes={"train": 1437, "test": 360},
        checkpoints=tuple(
            CheckpointRecord(step=step, file=f"{step}.safetensors", fingerprint=f"{name}{step}{mark}", metrics={})
            for step in steps
        ),
    )
    RunStore(home).write(record)
    return record


def request(seed: int = 0, **values: Any) -> Request:
    return Request("surface", "digits@last", {"device": "cpu", "seed": seed, **values})


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def evaluated(home: Path) -> list[str]:
    """Every cell that any process evaluated, as `pid cell`, in order."""
    log = home / "evaluated.log"
    return log.read_text().split("\n")[:-1] if log.exists() else []


def sleepy(
    kind: str, source: str | None, spec: Any, home: Path, partial: Any, pause: float = 0.01
) -> Generator[Progress, None, Result]:
    """Evaluates CELLS cells, `pause` seconds each, writing each down; resumes from the partial cells."""
    cells = np.full(CELLS, np.nan) if partial is None else np.array(partial["cells"])
    yield Progress(float(np.isfinite(cells).sum()), CELLS, "begun")
    for i in np.flatnonzero(np.isnan(cells)):
        time.sleep(pause)
        with (home / "evaluated.log").open("a") as log:
            log.write(f"{os.getpid()} {i}\n")
        cells[i] = i + getattr(spec, "seed", 0)
        yield Progress(float(np.isfinite(cells).sum()), CELLS, f"cell {i}", {"cells": cells})
    return Result({"loss": cells}, {"analysis": kind, "source": source}, {})


def slow(*args: Any) -> Generator[Progress, None, Result]:
    return sleepy(*args, pause=0.2)


def long(*args: Any) -> Generator[Progress, None, Result]:
    """Outlives what a test does beside it on a busy machine."""
    return sleepy(*args, pause=1.0)


def brisk(*args: Any) -> Generator[Progress, None, Result]:
    return sleepy(*args, pause=0.1)


def quick(*_: Any) -> Generator[Progress, None, Result]:
    yield Progress(1, 1)
    return Result({"loss": np.zeros(1)}, {}, {})


def deaf(kind: str, source: str | None, spec: Any, home: Path, partial: Any) -> Generator[Progress, None, Result]:
    """Writes one cell and then never looks up again."""
    yield Progress(1, CELLS, "begun", {"cells": np.arange(CELLS) * np.where(np.arange(CELLS) < 1, 1.0, np.nan)})
    time.sleep(600)
    raise AssertionError("not ended")


def refusing(*_: Any) -> Generator[Progress, None, Result]:
    yield Progress(0, 1)
    raise InputError("field 'seed': this seed is refused")


def breaking(*_: Any) -> Generator[Progress, None, Result]:
    yield Progress(0, 1)
    raise ZeroDivisionError("first line\nsecond line")


def training(kind: str, source: str | None, spec: Any, home: Path, partial: Any) -> Generator[Progress, None, Result]:
    """Trains (by writing the run down) or, for an analysis, gives an empty result."""
    yield Progress(0, 1)
    if isinstance(spec, TrainingSpec):
        write_run(home, spec.run, (0, spec.steps))
        record = RunStore(home).read(spec.run)
        fields = spec.model_dump(mode="json", exclude={"task"})
        RunStore(home).write(record.model_copy(update={"training": fields, "arguments": spec.task.arguments}))
        with (home / "evaluated.log").open("a") as log:
            log.write("trained\n")
    return Result({"loss": np.zeros(1)}, {"analysis": kind, "source": source}, {})


def do(name: str, key: str, home: Path) -> None:
    """What the dispatcher's processes do, with one of the computations above."""
    view = JobStore(home).view(key)
    assert view is not None
    run_or_join(Request(view.kind, view.source, dict(view.values)), home, start=globals()[name])
    (home / f"modules-{os.getpid()}").write_text(str("torch" in sys.modules))


def _work(requests: list[str], home: str, name: str) -> None:
    processes.declare("kill", multiprocessing.parent_process().is_alive)
    run_all([Request.from_json(text) for text in requests], home, start=globals()[name])


def _middle(request: str, home: str, name: str) -> None:
    child = _spawn.Process(target=_work, args=([request], home, name))
    child.start()
    part = Path(home) / f"{os.getpid()}.part"
    part.write_text(str(child.pid))
    part.rename(part.with_suffix(".child"))
    child.join()


def worker(home: Path, *requests: Request, start: str = "sleepy") -> Any:
    """A process that does the requests in order."""
    process = _spawn.Process(target=_work, args=([item.to_json() for item in requests], str(home), start))
    process.start()
    return process


def server_with_worker(home: Path, item: Request, start: str = "sleepy") -> Any:
    """A process that starts one as `worker` does: both, the second as psutil knows it."""
    process = _spawn.Process(target=_middle, args=(item.to_json(), str(home), start))
    process.start()
    file = home / f"{process.pid}.child"
    wait_for(file.exists)
    return process, psutil.Process(int(file.read_text()))
