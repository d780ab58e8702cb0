"""`compute`: the one call for notebooks, scripts and the command line; the same Specs, cache and jobs as the pages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analyses import analysis
from ..checkpoints.home import home_directory
from ..specs import AnalysisSpec, InputError, Progress, Reference, Result, task_spec
from .requests import Request, Resolved
from .results import ResultCache
from .runner import run_or_join

if TYPE_CHECKING:  # torch is imported where an Objective is computed
    from torch import Tensor

    from ..objective import Objective

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Checkpoint:
    """Weights in a file, and the task that they belong to: `Checkpoint("w.pt", "digits-mlp", {"widths": [20]})`."""

    file: str | Path
    task: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def reference(self, home: Path) -> str:
        """The run that the file becomes, named after its contents, so that its results are cached as well."""
        from ..tasks.importing import run_of_file

        return f"{run_of_file(Path(self.file), task_spec(self.task, **self.arguments), home)}@last"


def compute(
    kind: str,
    source: Any,
    *,
    home: str | Path | None = None,
    progress: Report | None = None,
    cache_key: str | None = None,
    vectors: bool | Sequence[Tensor] = (),
    path: tuple[Sequence[int], Tensor] | None = None,
    **spec: Any,
) -> Any:
    """The Result of an analysis, from the cache if it has been computed before.

    Args:
        kind: the name of an analysis.
        source: RUN@STEP, RUN@last or RUN; a `Checkpoint` (weights in a file); an `Objective`; or a list of these.
        home: where runs and results are kept; default $LANDSCAPE_HOME, else `.landscape` beside the program.
        progress: called with each Progress.
        cache_key: for an Objective, a text that stands for its model, weights and data: its results are then cached.
        vectors: for an Objective and `directions="given"`, the axes: tensors `(p,)`. A plain value is the Spec's field of this
            name.
        path: for an Objective and `directions="pca"` or a projected trajectory, (steps, thetas `(t, p)`).
        spec: fields of the analysis's Spec, by name.

    Returns:
        One Result, or a list of them for a list of sources.

    Raises:
        InputError: one line that names the field or file and the fix.
        RuntimeError: the job failed for another reason (the traceback is in the log) or was cancelled from elsewhere.
    """
    if isinstance(source, (list, tuple)):
        options = {"home": home, "progress": progress, "cache_key": cache_key, "vectors": vectors, "path": path, **spec}
        return [compute(kind, item, **options) for item in source]
    if isinstance(vectors, (bool, int, float, str)):
        spec, vectors = {**spec, "vectors": vectors}, ()
    place = home_directory(home)
    wanted = analysis(kind).spec.parse(spec)
    if isinstance(source, Checkpoint):
        source = source.reference(place)
    if isinstance(source, (str, Reference)):
        if vectors or path is not None:
            raise InputError("vectors and path belong to an Objective; of a run, give given=FILE.npz or trajectory=RUN")
        return _of_run(Request(kind, str(source), wanted.changed()).resolve(place, wanted), place, progress)
    return _of_objective(kind, source, wanted, place, progress, cache_key, vectors, path)


def _of_run(wanted: Resolved, home: Path, progress: Report | None) -> Result:
    cache = ResultCache(home)
    known = cache.get(wanted.key)
    if known is not None:
        return _stamped(known, cached=True)
    view = run_or_join(wanted, home, progress=progress)
    if view.state == "failed":
        raise (InputError if view.bad_input else RuntimeError)(view.error)
    if view.state != "done":
        raise RuntimeError(f"the job was {view.state} elsewhere; ask again to resume it")
    found = cache.get(wanted.key)
    if found is None:
        raise RuntimeError("the result was dropped right after it was written: raise LANDSCAPE_CACHE_GB")
    return _stamped(found, cached=False)


def _of_objective(
    kind: str,
    objective: Objective,
    spec: AnalysisSpec,
    home: Path,
    progress: Report | None,
    cache_key: str | None,
    vectors: Sequence[Tensor],
    path: tuple[Sequence[int], Tensor] | None,
) -> Result:
    import torch

    from ..measuring.context import Context, Trajectory
    from ..objective import Objective
    from .execute import analyse

    if not isinstance(objective, Objective):
        raise InputError(
            f"source must be RUN@STEP, a Checkpoint, an Objective or a list of them (got {type(objective).__name__})"
        )
    for name in ("split", "samples", "batchnorm", "device"):
        if getattr(spec, name) != getattr(type(spec)(), name):
            raise InputError(f"field '{name}' is decided when the Objective is made; build another Objective")
    if spec.dtype is not None:
        objective = objective.to(getattr(torch, spec.dtype))
    trajectory = None if path is None else Trajectory(tuple(path[0]), path[1])
    context = Context(objective, own_path=None if trajectory is None else lambda: trajectory, vectors=vectors)
    key = None
    if cache_key is not None:
        parts = [kind, str(analysis(kind).version), spec.canonical(), cache_key, str(objective.dtype)]
        given = [*vectors] if path is None else [*vectors, torch.tensor(list(path[0])), path[1]]
        extras = [t.detach().cpu().double().numpy().tobytes() for t in given]
        key = hashlib.sha256("\0".join(parts).encode() + b"\0".join(extras)).hexdigest()[:32]
        known = ResultCache(home).get(key)
        if known is not None:
            return _stamped(known, cached=True)
    run = analyse(kind, spec, context)
    while True:
        try:
            step = next(run)
        except StopIteration as end:
            result: Result = end.value
            break
        if progress is not None:
            progress(step)
    if key is not None:
        ResultCache(home).put(key, result)
    return _stamped(result, cached=False)


def _stamped(result: Result, *, cached: bool) -> Result:
    return replace(result, provenance={**result.provenance, "cached": cached})
