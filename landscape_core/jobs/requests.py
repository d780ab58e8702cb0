"""One request: what is to be computed of which checkpoint. Its key is the same wherever the same numbers would come out."""

from __future__ import annotations

import hashlib
import json
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
        """Short text for people: `Loss surface of digits@2000`."""
        if self.kind in WRITERS:
            return f"{self.kind.capitalize()} {self.values.get('run')} ({self.values.get('task')})"
        return f"{analysis(self.kind).title} of {self.source}"

    def pinned(self, home: Path) -> Request:
        """The same request with the source as RUN@STEP: it stays what it is when the run grows while the job waits."""
        if self.source is None:
            return self
        run, checkpoint = self._checkpoint(RunStore(home))
        return replace(self, source=f"{run.name}@{checkpoint.step}")

    def key(self, home: Path) -> str:
        """32 hex digits of the SHA-256 of all that decides the numbers: kind and version, the canonical Spec, the network,
        the loss, and fingerprints of the weights, the samples, the other checkpoints and the files that the Spec names; the
        optimiser where the analysis rests on it.

        Raises InputError for a bad Spec, or a run, checkpoint or file that is not there.
        """
        spec = self.spec()
        if self.kind in WRITERS:
            return _digest({"kind": self.kind, "version": TRAINING_VERSION, "spec": spec.canonical()})
        assert isinstance(spec, AnalysisSpec)
        if self.source is None:
            raise InputError(f"{self.kind} needs a checkpoint: RUN@STEP or RUN@last")
        runs = RunStore(home)
        run, checkpoint = self._checkpoint(runs)
        task = task_spec(run.task, **run.arguments)
        # Statistics of BatchNorm may be estimated on training samples whatever the split.
        both = spec.with_test() or spec.batchnorm == "batch"
        references = [_fingerprints(runs, text) for text in spec.references()]
        if spec.whole_run():
            references.append(_fingerprints(runs, run.name))
        content = {
            "kind": self.kind,
            "version": analysis(self.kind).version,
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
        return _digest(content)

    def _checkpoint(self, runs: RunStore) -> tuple[RunRecord, CheckpointRecord]:
        """The run and the checkpoint of the source; the last one for an analysis of the run alone."""
        assert self.source is not None
        run, checkpoint = runs.resolve(self.source)
        spec = self.spec()
        return run, run.checkpoints[-1] if isinstance(spec, AnalysisSpec) and spec.of_run() else checkpoint

    def stands(self, home: Path) -> bool:
        """Whether what the job leaves on disk besides its Result is still there: for `train` the finished run of this Spec,
        for `import` the checkpoint.
        """
        spec = self.spec()
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


def _fingerprints(runs: RunStore, text: str) -> list[str]:
    """Of the checkpoint that `text` names, or of every checkpoint of a whole run, with their steps."""
    reference = Reference.parse(text)
    run = runs.read(reference.run)
    chosen = run.checkpoints if reference.step is None else (run.checkpoint(reference.step),)
    return [f"{item.step} {item.fingerprint}" for item in chosen]


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
