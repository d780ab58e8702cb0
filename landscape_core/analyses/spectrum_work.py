"""What the spectrum analysis works on: the operator of a Spec, and the bookkeeping of what is known, done and resumable."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..objective import Objective
from ..specs import AnalysisSpec, Array, InputError, Progress, SpectrumSpec
from .context import Context
from .stability import stability

REPORT_SECONDS = 0.15  # between two pictures
STATE_BYTES = 64 << 20  # of Lanczos vectors that a partial result may keep, so that a killed job goes on where it was
MEASURE_STEPS = 40  # products for the spread of the gradient over the spectrum
Arrays = Generator[Progress, None, dict[str, Any]]


class Work:
    """What is being computed: the pieces it is made of, everything known so far, and the state that it resumes from."""

    def __init__(self, spec: SpectrumSpec, context: Context, objective: Objective, exact: bool):
        self.spec, self.context, self.objective, self.exact = spec, context, objective, exact
        self.members, self.coordinates = block(objective, spec)
        self.entries = [objective.space.entries[i] for i in self.members]
        self.size = len(self.coordinates)
        self.partial: Mapping[str, Array] = context.partial
        self.state: dict[str, Array] = {n: np.asarray(v) for n, v in context.partial.items() if n.startswith("state_")}
        self.done: dict[str, int] = {}  # products by stage
        self.expected = _expected(spec, self.size, exact)
        self.notes: list[str] = []
        self.arrays: dict[str, Any] = {}
        self._shown = 0.0
        decay = float(context.training.get("weight_decay") or 0.0)
        if spec.weight_decay and context.training.get("optimizer") == "adamw" and decay:
            raise InputError("weight_decay: AdamW's decay is no part of a loss, so no Hessian has it; leave it out")
        self.shift = decay if spec.weight_decay else 0.0
        self.put(parameters=self.size, sample_size=objective.size(), weight_decay=decay, operator_kind=spec.operator)
        self.put(method="dense" if exact else "lanczos", arithmetic=str(objective.dtype).removeprefix("torch."))

    def put(self, **values: Any) -> None:
        """Add to what is known."""
        self.arrays.update({name: np.asarray(value) for name, value in values.items()})

    def note(self, operator: Any) -> None:
        """Take over what a person must know of an operator's products."""
        self.notes += [note for note in operator.notes if note not in self.notes]

    def close(self) -> None:
        """Add what is only known at the end."""
        self.put(products=sum(self.done.values()), notes=np.array(self.notes or [""]))

    def stability(self, step: int | None) -> dict[str, Any]:
        """Up to which curvature the run's optimiser is stable in the update that follows a checkpoint."""
        spec, context = self.spec, self.context
        whole = spec.split == "train" and spec.samples is None and spec.layers is None
        return stability(context.training, rate_of(context, step), whole=whole, decay_included=bool(self.shift))

    def operator(self, kind: str, theta: Tensor | None = None) -> Any:
        """The curvature of this kind over the chosen parameters, with the weight decay where it is asked for."""
        return curvature(self.objective, self.spec, kind, theta, self.shift)

    def gradient(self) -> Tensor:
        """The gradient over the chosen parameters."""
        found = self.objective.gradient(self.objective.theta)[self.coordinates]
        return found + self.shift * self.objective.theta[self.coordinates]

    def state_of(self, stage: str) -> dict[str, Array] | None:
        """What an earlier attempt left of a stage."""
        prefix = f"state_{stage}_"
        found = {name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)}
        return found or None

    @property
    def due(self) -> bool:
        """Whether it is time for the next picture."""
        return time.monotonic() - self._shown >= REPORT_SECONDS

    def drive(self, stage: str, words: str, worker: Any, show: Any) -> Iterator[Progress]:
        """Run a worker that yields its number of products; `show()` puts what is known of it into the arrays."""
        for products in worker:
            self.done[stage] = int(products)
            if self.due:
                show()
                self._remember(stage, worker)
                yield self.report(words)
        show()
        self._remember(stage, worker)
        yield self.report(words)

    def _remember(self, stage: str, worker: Any) -> None:
        """Keep a worker's state, unless its vectors alone are too many bytes to be copied again and again."""
        rows = int(getattr(worker, "count", 2)) + 1
        fits = rows * self.size * self.objective.theta.element_size() <= STATE_BYTES
        self.keep(stage, worker.state() if fits else {})

    def keep(self, stage: str, state: Mapping[str, Array]) -> None:
        """Remember the state of a stage for another attempt."""
        self.state = {name: value for name, value in self.state.items() if not name.startswith(f"state_{stage}_")}
        self.state |= {f"state_{stage}_{name}": np.asarray(value) for name, value in state.items()}

    def report(self, words: str) -> Progress:
        """Where the work stands, with everything known so far."""
        self._shown = time.monotonic()
        done = sum(self.done.values())
        later = sum(count for stage, count in self.expected.items() if stage not in self.done)
        now = list(self.done)[-1] if self.done else ""
        total = max(done + later + max(0.0, self.expected.get(now, 0.0) - self.done.get(now, 0)), done + 1)
        kept = self.state if sum(value.nbytes for value in self.state.values()) <= STATE_BYTES else {}
        partial = {**self.arrays, **kept, "stage": np.asarray(words)}
        return Progress(done, total, f"{words}: {done:,} of about {total:,.0f} products", partial)


def _expected(spec: SpectrumSpec, size: int, exact: bool) -> dict[str, float]:
    """Products of each stage, as far as they can be known."""
    stages: dict[str, float] = {}
    for prefix, kind in (("", spec.operator), ("beside_", spec.beside)):
        if kind is None:
            continue
        if exact:
            stages[f"{prefix}matrix"] = float(size)
            continue
        stages[f"{prefix}lanczos"] = spec.search(size)
        if not prefix:
            stages["gradient"] = float(min(MEASURE_STEPS, size))
        stages[f"{prefix}quadrature"] = float(spec.probes * min(spec.lanczos_steps, size))
        stages[f"{prefix}trace"] = 40.0
        if not prefix:
            stages["invariant"] = 20.0
    if spec.rescale:
        stages["rescaled"] = float(size) if exact else 35.0
    return stages


def curvature(objective: Objective, spec: SpectrumSpec, kind: str, theta: Tensor | None = None, shift: float = 0.0) -> Any:
    """The operator `kind` at theta (default: the weights given), restricted to the layers of the Spec."""
    at = objective.theta if theta is None else theta
    found: Any
    if kind == "fisher":
        found = objective.fisher(at, labels=spec.labels, seed=spec.seed)
    else:
        made = {"hessian": objective.hessian, "ggn": objective.gauss_newton, "empirical_fisher": objective.empirical_fisher}
        found = made[kind](at)  # type: ignore[operator]
    if spec.layers:
        found = found.restrict(spec.layers)
    return Shifted(found, shift) if shift else found


class Shifted:
    """A + c I."""

    def __init__(self, operator: Any, shift: float):
        self.operator, self.shift = operator, shift
        self.shape, self.dtype, self.device = operator.shape, operator.dtype, operator.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        product: Tensor = self.operator @ vectors
        return product + self.shift * vectors.to(product)

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of A."""
        return tuple(self.operator.notes)


class Scaled:
    """diag(s) A diag(s)."""

    def __init__(self, operator: Any, scale: Tensor):
        self.operator, self.scale = operator, scale
        self.shape, self.dtype, self.device = operator.shape, operator.dtype, operator.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        scale = self.scale if vectors.dim() == 1 else self.scale[:, None]
        return scale * (self.operator @ (scale * vectors.to(scale)))


def block(objective: Objective, spec: SpectrumSpec) -> tuple[tuple[int, ...], Tensor]:
    """The parameter tensors of the chosen layers, and their coordinates in theta."""
    entries = objective.space.entries
    named = {name: objective.space.under(name) for name in spec.layers or ()}
    unknown = [name for name, found in named.items() if not found]
    if unknown:
        raise InputError(f"no layer or parameter is named '{unknown[0]}'; there are: {', '.join(e.name for e in entries)}")
    members = range(len(entries)) if spec.layers is None else sorted(set().union(*named.values()))
    coordinates = torch.cat([torch.arange(entries[i].offset, entries[i].offset + entries[i].size) for i in members])
    return tuple(members), coordinates.to(objective.theta.device)


def block_size(objective: Objective, spec: SpectrumSpec) -> int:
    """Number of parameters of the chosen layers."""
    return len(block(objective, spec)[1])


def rate_of(context: Context, step: int | None) -> float | None:
    """The learning rate of the update that follows the checkpoint at `step`, as far as it is known."""
    found = None if step is None else context.rates.get(step)
    return found if found is not None else context.training.get("lr")


def stored_statistics(spec: AnalysisSpec, objective: Objective) -> list[str]:
    """What must be said of a path whose BatchNorm statistics are not its own."""
    stored = spec.batchnorm == "stored" and any(True for _ in objective.network.model.buffers())
    return ["the statistics of BatchNorm are those of the last checkpoint at every step"] if stored else []


def own_step(context: Context) -> int | None:
    """The step of the source, None for a bare Objective."""
    text = context.source.rpartition("@")[2]
    return int(text) if text.isdigit() else None


def resumed(partial: Mapping[str, Array], steps: list[int], series: dict[str, Array]) -> dict[str, Array]:
    """The series over `steps` as an earlier attempt left them, or as given where that was of other steps or shapes."""
    known = {name: np.array(partial[name]) for name in series if name in partial}
    same = all(name in known and known[name].shape == values.shape for name, values in series.items())
    return known if same and np.array_equal(partial.get("steps", []), steps) else series


def evenly(items: Iterable[int], count: int, keep: int) -> list[int]:
    """At most `count` of the sorted items, spread over their order, with the first, the last and `keep` if it is among them."""
    every = list(items)
    if len(every) <= count:
        return every
    places = np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))
    chosen = [every[i] for i in places]
    if keep in every and keep not in chosen:
        inner = range(1, len(chosen) - 1) or range(len(chosen))
        nearest = min(inner, key=lambda i: abs(chosen[i] - keep))
        chosen[nearest] = keep
    return sorted(chosen)
