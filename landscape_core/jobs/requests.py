"""One request: what is to be computed of which checkpoint. Its key is the same wherever the same numbers would come out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..analyses import analysis
from ..checkpoints.runs import RunStore
from ..specs import (
    AnalysisSpec,
    CheckpointRecord,
    ImportSpec,
    InputError,
    Reference,
    RunRecord,
    Spec,
    TrainingSpec,
    import_spec,
    is_local,
    task_spec,
    training_spec,
)

TRAINING_VERSION = 1  # raise it when the same TrainingSpec gives other weights
WRITERS = {"train": training_spec, "import": import_spec}  # kinds that write a run instead of looking at one


@dataclass(frozen=True)
class Request:
    """An analysis of a checkpoint (`source` RUN@STEP, RUN@last or RUN, which means its last), or `train`, `import` (no source).

    `values` are the fields of the Spec that are not default; for `train` and `import` the flat ones, with `task` and `run`.
    """

    kind: str
    source: str | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The one JSON text of this request."""
        content = {"kind": self.kind, "source": self.source, "values": self.values}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, remote: bool = False) -> Request:
        """What `to_json` wrote. With `remote` (from a browser) its Spec is validated, and local-only fields are refused."""
        try:
            content = json.loads(text)
            kind, source, values = content["kind"], content["source"], content["values"]
        except (ValueError, KeyError, TypeError):
            raise InputError("a request is JSON with kind, source and values") from None
        if not isinstance(kind, str) or not isinstance(source, str | None) or not isinstance(values, dict):
            raise InputError("a request is JSON with kind (a text), source (a text or null) and values (an object)")
        request = cls(kind, source, values)
        if remote:
            request.spec(remote=True)
        return request

    def spec(self, remote: bool = False) -> Spec:
        """The validated Spec. Raises InputError, one line."""
        if self.kind not in WRITERS:
            return analysis(self.kind).spec.parse(self.values, remote=remote)
        for name in ("task", "run"):
            if not isinstance(self.values.get(name), str):
                raise InputError(f"{self.kind} needs the field '{name}' (a text)")
        return WRITERS[self.kind](remote=remote, **self.values)

    @property
    def title(self) -> str:
        """Short text for people: the title of the analysis, and of what."""
        if self.kind in WRITERS:
            return f"{self.kind.capitalize()} {self.values.get('run')} ({self.values.get('task')})"
        return f"{analysis(self.kind).title} of {self.source}"

    def resolve(self, home: Path, spec: Spec | None = None) -> Resolved:
        """All that the request names, read once; the source is pinned as RUN@STEP. `spec` is its Spec, where that is known.

        Raises InputError for a bad Spec, a run, checkpoint or file that is not there, or what cannot be asked of it.
        """
        spec = self.spec() if spec is None else spec
        if self.kind in WRITERS:
            content = {"kind": self.kind, "version": TRAINING_VERSION, "spec": spec.canonical()}
            return Resolved(self, spec, None, None, _digest(content))
        assert isinstance(spec, AnalysisSpec)
        if self.source is None:
            raise InputError(f"{self.kind} needs a checkpoint: RUN@STEP or RUN@last")
        runs = RunStore(home)
        run, checkpoint = runs.resolve(self.source)
        if spec.of_run():
            checkpoint = run.checkpoints[-1]  # an analysis of the run alone
        if problem := analysis(self.kind).applies(spec, run, checkpoint):
            raise InputError(problem)
        key = _digest(_content(self.kind, spec, run, checkpoint, runs))
        return Resolved(replace(self, source=f"{run.name}@{checkpoint.step}"), spec, run, checkpoint, key)

    def pinned(self, home: Path) -> Request:
        """`resolve(home).request`."""
        return self.resolve(home).request

    def key(self, home: Path) -> str:
        """`resolve(home).key`."""
        return self.resolve(home).key

    def stands(self, home: Path) -> bool:
        """`Resolved.stands`."""
        return _stands(self.spec(), home)


@dataclass(frozen=True)
class Resolved:
    """A request as it stood when it was resolved.

    Its key is 32 hex digits of the SHA-256 of all that decides the numbers: kind and version, the canonical Spec, the network,
    the loss, and fingerprints of the weights, the samples, the other checkpoints and the files that the Spec names; the
    optimiser where the analysis rests on it.
    """

    request: Request  # pinned: it stays what it is when the run grows while the job waits
    spec: Spec
    run: RunRecord | None  # of the source; None for `train` and `import`
    checkpoint: CheckpointRecord | None
    key: str

    def stands(self, home: Path) -> bool:
        """Whether what the job leaves on disk besides its Result is still there: for `train` the finished run of this Spec,
        for `import` the checkpoint.
        """
        return _stands(self.spec, home)

    def unchanged(self, home: Path) -> bool:
        """Whether the request, resolved anew, has the same key. Raises InputError if something that it names is gone."""
        return self.request.resolve(home, self.spec).key == self.key


def _content(kind: str, spec: AnalysisSpec, run: RunRecord, checkpoint: CheckpointRecord, runs: RunStore) -> dict[str, Any]:
    """All that decides the numbers of an analysis."""
    task = task_spec(run.task, **run.arguments)
    # Statistics of BatchNorm may be estimated on training samples whatever the split.
    both = spec.with_test() or spec.batchnorm == "batch"
    references = [_fingerprints(_named(runs, text)) for text in spec.references()]
    if spec.whole_run():
        references.append(_fingerprints(run.checkpoints))
    content = {
        "kind": kind,
        "version": analysis(kind).version,
        "spec": spec.canonical(),
        "architecture": [task.network, task.architecture.canonical(), task.loss],
        "weights": checkpoint.fingerprint,
        "dtype": run.dtype,
        "data": {name: value for name, value in run.data.items() if both or name == spec.split},
        "references": references,
        "files": _file_fingerprints(spec),
    }
    if spec.of_training():
        content["training"] = [run.training, checkpoint.metrics.get("lr"), run.sizes.get("train")]
    return content


def _stands(spec: Spec, home: Path) -> bool:
    if not isinstance(spec, TrainingSpec | ImportSpec):
        return True
    try:
        run = RunStore(home).read(spec.run)
        if isinstance(spec, ImportSpec):
            return bool(run.checkpoint(spec.step))
    except InputError:
        return False
    return run.state in ("done", "diverged") and _trained_by(run, spec)


def _trained_by(run: RunRecord, spec: TrainingSpec) -> bool:
    if run.training is None or (run.task, run.arguments) != (spec.task.name, spec.task.arguments):
        return False
    wanted = spec.model_dump(mode="json", exclude={"run", "task"})
    return all(run.training.get(name, value) == value for name, value in wanted.items())


def _named(runs: RunStore, text: str) -> tuple[CheckpointRecord, ...]:
    """The checkpoint that `text` names, or every checkpoint of a whole run."""
    reference = Reference.parse(text)
    run = runs.read(reference.run)
    return run.checkpoints if reference.step is None else (run.checkpoint(reference.step),)


def _fingerprints(checkpoints: Iterable[CheckpointRecord]) -> list[str]:
    return [f"{item.step} {item.fingerprint}" for item in checkpoints]


def _file_fingerprints(spec: Spec) -> dict[str, str]:
    files = {name: getattr(spec, name) for name in type(spec).model_fields if is_local(type(spec), name)}
    found = {}
    for name, path in files.items():
        if path is not None:
            try:
                found[name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            except OSError as error:
                raise InputError(f"field '{name}': cannot read {path}: {error.strerror}") from None
    return found


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]
