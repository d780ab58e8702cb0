"""What an analysis is: the fields that every Spec of one has, and what each says of itself."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any, Literal

from .base import InputError, Spec, choices_in_words, field, is_local, suggestion
from .result import Progress
from .runs import CheckpointRecord, RunRecord

DENSE_LIMIT = 3000  # parameters up to which the exact matrix is affordable and the referee of every estimate
SAMPLE = ("split", "samples", "batchnorm", "dtype", "device")  # fields that decide which loss, and in which arithmetic
OWN_ANALYSES = "LANDSCAPE_ANALYSES"  # the setting that names directories with analyses of one's own
SLOPE, CURVATURE = "loss per unit length", "loss per unit length²"  # units of a gradient and of a Hessian
LANCZOS_BYTES = 2 << 30  # that a Lanczos basis may take before it restarts
CLASSES = 10  # eigenvectors that a cost estimate counts on where k follows the number of classes
Method = Literal["auto", "dense", "lanczos"]  # the exact matrix, or Lanczos; auto takes what suits the size


def searched(k: int | None, parameters: int) -> float:
    """Products that the top k eigenpairs take by Lanczos, about; 0 parameters are as many as one likes."""
    return min(float(parameters or 10**9), 2.5 * (k or CLASSES) + 6)


class AnalysisSpec(Spec):
    """The fields that every analysis has: which samples, which arithmetic, which seed."""

    split: Literal["train", "test"] = field("train", "Which samples the loss is taken over.")
    samples: int | None = field(
        None,
        "How many samples of the split, drawn once with split_seed 0; null takes all.",
        unit="samples",
        ge=1,
        le=10_000_000,
    )
    seed: int = field(0, "Seed of everything random in the analysis.", ge=0, le=2**31 - 1)
    batchnorm: Literal["stored", "batch"] = field(
        "stored", "BatchNorm statistics: those stored with the weights, or re-estimated at every point from the sample."
    )
    dtype: Literal["float32", "float64"] | None = field(None, "Arithmetic; null takes the checkpoint's own.")
    device: str = field("auto", "Where to compute: auto, cpu, cuda or cuda:1.", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")

    def references(self) -> tuple[str, ...]:
        """Other checkpoints and runs that the Spec names: their fingerprints belong to the key."""
        return ()

    def whole_run(self) -> bool:
        """Whether the analysis reads every checkpoint of the source's own run: their fingerprints then belong to the key."""
        return False

    def of_run(self) -> bool:
        """Whether the analysis is of the run alone: every checkpoint named as its source then means the last."""
        return False

    def with_test(self) -> bool:
        """Whether the test samples are evaluated besides those of the split: their fingerprint then belongs to the key."""
        return False

    def of_training(self) -> bool:
        """Whether the analysis rests on how the run was trained: the optimiser then belongs to the key."""
        return False

    def work(self, _parameters: int = 0, /) -> dict[str, float]:
        """Expected passes over the sample, by kind: `forwards`, `gradients`, `products`. Basis of the cost estimate.

        Its argument is the number of parameters, 0 where it is unknown.
        """
        return {}

    def vectors_held(self, _parameters: int = 0, /) -> float:
        """How many vectors of the network's size are held at once, besides the weights, a gradient and two more."""
        return 0.0


# -- what an analysis says of itself ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Fields of the Spec under one heading of the form; an advanced group is closed at first.

    By field: `labels` names it for people, `words` its choices, `suggest` gives texts to offer, or says of what they are.
    """

    title: str
    fields: tuple[str, ...]
    advanced: bool = False
    labels: Mapping[str, str] = member(default_factory=dict)
    words: Mapping[str, Mapping[Any, str]] = member(default_factory=dict)
    suggest: Mapping[str, tuple[str, ...] | Literal["runs", "checkpoints"]] = member(default_factory=dict)


@dataclass(frozen=True)
class View:
    """A choice about the picture that computes nothing: `v.NAME` in an address, `--view NAME=VALUE`, a keyword of `figure`.

    Without `choices` (value: label) it is a yes/no. The default of a choice is its first, unless `default` names another.
    """

    name: str
    label: str
    choices: Mapping[str, str] | None = None
    default: Any = False

    @property
    def default_value(self) -> Any:
        if self.choices is None:
            return bool(self.default)
        return self.default if self.default in self.choices else next(iter(self.choices))

    def read(self, text: str | None) -> Any:
        """The value that an address asks for; the default where it asks for nothing that exists."""
        if self.choices is None:
            return self.default_value if text is None else text not in ("0", "false", "")
        return text if text in self.choices else self.default_value

    def checked(self, value: Any) -> Any:
        """The value, if the view has it: one of its choices, or a yes/no. Raises InputError that lists what there is."""
        if self.choices is None:
            if isinstance(value, bool):
                return value
            raise InputError(f"view '{self.name}': must be true or false (got {value!r})")
        if str(value) in self.choices:
            return str(value)
        raise InputError(f"view '{self.name}': must be {choices_in_words(self.choices)} (got {value!r})")


@dataclass(frozen=True)
class Variable:
    """One array of a Result: name, one sentence, unit, and the names of its dimensions ("" for a scalar or a text)."""

    name: str
    words: str
    shape: str = ""  # "t k" for an array (t, k); "n m | s n" for one that is of either kind
    unit: str = ""

    @property
    def forms(self) -> tuple[tuple[str, ...], ...]:
        """The names of the dimensions, outermost first, of each kind that it may be of."""
        return tuple(tuple(form.split()) for form in self.shape.split("|"))

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The first of its `forms`."""
        return self.forms[0]


@dataclass(frozen=True)
class Measure:
    """A scalar of the Result that stands in the table of checkpoints, under a title of its own."""

    name: str
    title: str


@dataclass(frozen=True)
class Thumbnail:
    """The picture that stands for a run on its card: what it is called, and the Spec and view that it is made with."""

    title: str
    fields: Mapping[str, Any]
    view: Mapping[str, Any]


def _applies(_spec: AnalysisSpec, _run: RunRecord, _checkpoint: CheckpointRecord) -> str:
    return ""


@dataclass(frozen=True)
class Analysis:
    """What an analysis says of itself; page, command, form, files and documentation follow from it.

    Its folder `package` holds the rest, imported when first asked for. compute.py: `run(spec, context)`, a generator of
    Progress that returns the Result's arrays. figure.py: `figure(data, *, source, color, dark, title, compact, **view)`; and,
    where they are needed, `shared(datas, view)`, the keywords that small multiples have in common, `combined(datas, sources,
    view, dark)`, one picture of all of them or None, `rows(data)`, header and rows of the CSV file, and a function for each of
    `files`. reading.py: `reading(data, spec)`, a list of Readings, and
    `panel(data, spec)`, those that the page shows where it says the rest in a table of its own.
    """

    name: str
    title: str
    question: str
    spec: type[AnalysisSpec]
    version: int = 1  # raise it when the same Spec gives other numbers: old results are then computed afresh
    order: int = 100  # in the navigation
    icon: str = "page"  # a file of assets/icons, without its ending
    listed: bool = True  # shown to people; an analysis that only serves others is not
    form: tuple[Group, ...] = ()
    views: tuple[View, ...] = ()
    arrays: tuple[Variable, ...] = ()
    measures: tuple[Measure, ...] = ()
    aligned: tuple[str, ...] = ("xaxis", "yaxis")  # axes that small multiples share
    files: tuple[str, ...] = ()  # endings of files besides npz, csv, json, html and png
    thumbnail: Thumbnail | None = None  # the first analysis that has one draws the cards of runs
    # A sentence why it cannot be asked of this checkpoint, or nothing.
    applies: Callable[[Any, RunRecord, CheckpointRecord], str] = _applies
    package: str = ""
    problem: str = ""  # one line, where its folder cannot be imported

    @property
    def path(self) -> str:
        """The address of its page."""
        return f"/{self.name.replace('_', '-')}"

    def part(self, module: str, name: str) -> Callable[..., Any] | None:
        """The function `name` in the file `module` of its folder; None where there is none."""
        place = f"{self.package}.{module}"
        if self.problem or importlib.util.find_spec(place) is None:
            return None
        found: Callable[..., Any] | None = getattr(importlib.import_module(place), name, None)
        return found

    def run(self, spec: AnalysisSpec, context: Any) -> Generator[Progress, None, dict[str, Any]]:
        """What its compute.py does: yields Progress, returns the Result's arrays. Imports torch."""
        found = self.part("compute", "run")
        if found is None:
            raise InputError(f"the analysis '{self.name}' has no run(spec, context) in {self.package}.compute")
        made: Generator[Progress, None, dict[str, Any]] = found(spec, context)
        return made

    def groups(self) -> tuple[Group, ...]:
        """The form: the groups declared, and one with the fields that none of them names."""
        named = {name for group in self.form for name in group.fields}
        rest = tuple(name for name in self.spec.model_fields if name not in named and not is_local(self.spec, name))
        return (*self.form, Group("Sample", rest, advanced=True)) if rest else self.form

    def view(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """All view options, from the texts of an address."""
        return {item.name: item.read(texts.get(item.name)) for item in self.views}

    def checked_view(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The view options given, if there are such. Raises InputError, one line."""
        known = {item.name: item for item in self.views}
        for name in values:
            if name not in known:
                end = suggestion(name, known) if known else f"; {self.name} has none"
                raise InputError(f"there is no view option '{name}'{end}")
        return {name: known[name].checked(value) for name, value in values.items()}
