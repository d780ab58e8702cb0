"""What is asked of every odd situation, and the text of what is answered: a line for each reading, or the sentence why there is
no result.
"""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import landscape_core
from landscape_core.analyses import ANALYSES
from landscape_core.checkpoints.runs import RunStore
from landscape_core.jobs.execute import start
from landscape_core.specs import InputError, Result

from ..analyses.running import small
from .makers import past
from .odd import NAMED, Odd

TEXTS = Path(__file__).parent / "texts"

# The forms in which an analysis is asked, by name; one that is not here is asked in the small form of the contract tests.
LANCZOS = {"method": "lanczos", "k": 3, "k_bottom": 2, "probes": 4, "lanczos_steps": 16}
GAUSSIAN = {"directions": "gaussian", "ignore": "none"}
PLANE = {"resolution": 7, "flow": 3}
FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "spectrum": {
        "exact": {},
        "lanczos": LANCZOS,
        "no-bottom": {**LANCZOS, "k_bottom": 0, "probes": 2, "lanczos_steps": 8},
        "ggn": {"operator": "ggn", "beside": "hessian"},
        "fisher": {"operator": "empirical_fisher"},
        "fishers": {"operator": "fisher", "beside": "empirical_fisher", "k": 2},
        "few": {"samples": 20, "k": 2, "k_bottom": 1},
        "block": {"layers": "first"},
        "rescaled": {"rescale": 2.0, "k": 2, "k_bottom": 1},
        "with-decay": {"weight_decay": True, "k": 2, "k_bottom": 1},
        "over-run": {"over": "run", "k": 2, "k_bottom": 1, "checkpoints": 5},
    },
    "surface": {
        "filter": {**PLANE, "spectrum": True},
        "copies": {**PLANE, "ignore": "copy"},
        "gaussian": {**PLANE, **GAUSSIAN, "extent": 0.1},
        "lines": {"dimensions": 1, "repeats": 10, "resolution": 9, **GAUSSIAN},
        "eigenvectors": {**PLANE, "directions": "eigenvectors"},
        "gradient": {"directions": "gradient", "resolution": 7, "flow": 0, "extent": 1e-3},
        "path": {**PLANE, "directions": "pca"},
        "between": {**PLANE, "directions": "difference", "through": ("RUN@0",), "test": True},
        "few": {**PLANE, "resolution": 5, "samples": 20, "orthogonal": True},
        "far": {**GAUSSIAN, "resolution": 5, "extent": 1e25, "flow": 0},
    },
    "overlap": {"exact": {}, "lanczos": {"method": "lanczos", "k": 2, "minibatches": 2, "minibatch_size": 10}},
    "counterfactual": {"small": {"steps": 24, "records": 6, "refresh": 8}},
    "high_dimensions": {
        "exact": {},
        "estimate": {"method": "lanczos", "k": 2, "probes": 4, "lanczos_steps": 8, "curvature": 4},
    },
}
TRAINING = {"optimizer": "sgd", "lr": 0.05, "batch_size": 0}  # of a bare loss, which nobody has trained


def questions() -> list[tuple[str, str]]:
    """Every (analysis, form), for the analyses of the one list."""
    listed = [item.name for item in ANALYSES.values() if item.listed]
    return [(kind, form) for kind in listed for form in FORMS.get(kind, {"small": {}})]


@dataclass(frozen=True)
class Answer:
    """What became of one question: the lines, `name: value [verdict] | words` for each reading, or one that is refused."""

    lines: tuple[str, ...]
    result: Result | None
    warned: tuple[str, ...]  # by numpy or torch, where nobody sees it
    broken: str = ""  # anything but an InputError

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@functools.cache
def answer(name: str, kind: str, form: str) -> Answer:
    """The answer to one question of one situation, made once in a process."""
    odd = NAMED[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result, lines, broken = None, (), ""
        try:
            result = _result(odd, kind, _asked(odd, kind, form))
            rows = landscape_core.reading(result)
            lines = tuple(f"{row.name}: {row.value} [{row.verdict}] | {row.words}" for row in rows)
        except InputError as error:
            lines = (f"refused: | {error}",)
        except Exception as error:  # what a person must never see
            broken = f"{type(error).__name__}: {error}"
            lines = (f"broken: | {broken}",)
    warned = {f"{item.category.__name__}: {str(item.message).splitlines()[0]}" for item in caught}
    return Answer(lines, result, tuple(sorted(warned)), broken)


def _asked(odd: Odd, kind: str, form: str) -> dict[str, Any]:
    """The fields of the Spec."""
    item = ANALYSES[kind]
    fields = dict(FORMS[kind][form]) if kind in FORMS else small(item)
    fields |= {name: value for name, value in odd.fields.items() if name in item.spec.model_fields}
    if odd.make is not None:
        first, size = _source(odd.name).space.entries[0].name, len(_source(odd.name).theta)
        if kind == "counterfactual":
            fields |= TRAINING
        if kind in ("counterfactual", "overlap") and not odd.classes:
            fields["k"] = min(2, max(1, size - 1))
    else:
        first = "0"
        fields |= {"through": (f"{odd.name}@0",)} if "through" in fields else {}
    return fields | ({"layers": (first,)} if "layers" in fields else {})


def _result(odd: Odd, kind: str, fields: Mapping[str, Any]) -> Result:
    source = _source(odd.name)
    if not isinstance(source, str):
        found: Result = landscape_core.compute(kind, source, home=home(), path=_path(odd.name), **fields)
        return found
    steps = start(kind, source, ANALYSES[kind].spec.parse(fields), home())
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@functools.cache
def _source(name: str) -> Any:
    """The loss, or the reference of the run's last checkpoint."""
    odd = NAMED[name]
    if odd.make is not None:
        return odd.make()
    assert odd.record is not None
    odd.record(home(), name)
    return f"{name}@last"


def training_of(name: str) -> dict[str, Any]:
    """How a run was trained; nothing of a bare loss, or of weights that were brought in."""
    source = _source(name)
    return (RunStore(home()).read(name).training or {}) if isinstance(source, str) else {}


@functools.cache
def _path(name: str) -> Any:
    return past(_source(name))


@functools.cache
def home() -> Path:
    """Where the runs are recorded; gone with the process."""
    place = Path(tempfile.mkdtemp(prefix="readings-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


# -- the texts that are kept ---------------------------------------------------------------------------------------------------

NUMBER = re.compile(r"[−-]?(?:\d(?:[\d,]*\d)?(?:\.\d+)?(?:e[−+-]?\d+)?|∞)")


def masked(words: str) -> str:
    """The words with # for every number: numbers differ from machine to machine."""
    return NUMBER.sub("#", words.replace("exact, but for rounding", "exact"))


# Readings whose words rounding decides, by situation and analysis: directions that are rounding, shares at an edge.
EDGES = {
    ("least-squares", "high_dimensions"): ("“",),
    ("least-squares", "overlap"): (
        "Gradient",
        "Mini-batch",
        "Way made",
        "Gap",
        "Accuracy",
        "k − 1",
    ),  # no gradient but rounding
    ("dead", "spectrum"): ("Trace", "Note"),
    ("dead-at-rest", "spectrum"): ("Trace", "Note"),
    ("dead", "overlap"): ("Gap below",),
    ("softmax-at-zero", "spectrum"): ("Trace",),
    ("softmax-at-zero", "overlap"): ("Gradient in",),
    ("batchnorm-batch", "spectrum"): ("Trace",),
    ("language", "spectrum"): ("Trace",),
    ("run-too-fast", "spectrum"): ("Zero eigenvalues",),
    ("run-too-much-decay", "spectrum"): ("Trace",),
    ("run-too-much-decay", "overlap"): ("Gradient in", "Way made"),
    ("run-batchnorm-batch", "spectrum"): ("Trace",),
}


def steady(text: str, name: str, kind: str) -> list[str]:
    """The lines of a kept text that are the same on every machine."""
    edges = EDGES.get((name, kind), ())
    return [masked(line) for line in text.splitlines() if not any(f") {edge}" in line for edge in edges)]


def kept(name: str, kind: str) -> str:
    """What is kept of one situation and one analysis: every line once, behind the forms that gave it."""
    forms = [form for analysis, form in questions() if analysis == kind]
    seen: dict[str, tuple[str, list[str]]] = {}
    for form in forms:
        for line in answer(name, kind, form).lines:
            seen.setdefault(masked(line), (line, []))[1].append(form)
    head = f"{name}: {NAMED[name].truth}\n\n"
    return head + "".join(f"({', '.join(given)}) {line}\n" for line, given in seen.values())


def place(name: str, kind: str) -> Path:
    return TEXTS / kind / f"{name}.txt"
