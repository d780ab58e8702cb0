"""What the spectrum works on: the operators of a Spec over the chosen parameters, and all that is known of them so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...linalg import SpectralMeasure
from ...measuring.context import Context
from ...measuring.growing import Growing
from ...measuring.path import not_trained_on, rate_of
from ...measuring.stability import stability, stability_over
from ...measuring.watching import network_card
from ...objective import Objective
from ...specs import InputError
from .operators import block, curvature
from .spec import SpectrumSpec

MEASURE_STEPS = 40  # products for the spread of the gradient over the spectrum


class SpectrumGrowing(Growing):
    """The chosen block of parameters, with what is known of its curvature; the growing is counted in products."""

    def __init__(self, spec: SpectrumSpec, context: Context, objective: Objective, exact: bool):
        self.spec, self.objective, self.exact = spec, objective, exact
        self.members, self.coordinates = block(objective, spec)
        self.entries = [objective.space.entries[i] for i in self.members]
        self.size = len(self.coordinates)
        self.matrix: Tensor | None = None  # the exact one, once it is there
        self.measures: dict[str, SpectralMeasure] = {}  # of each matrix that is sampled
        self.asymmetry = 0.0  # of the exact matrix, relative to its norm: noise in its products
        super().__init__(context, _expected(spec, self.size, exact), vector_bytes=self.size * objective.theta.element_size())
        decay = float(context.training.get("weight_decay") or 0.0)
        if spec.weight_decay and context.training.get("optimizer") == "adamw" and decay:
            raise InputError("weight_decay: AdamW's decay is no part of a loss, so no Hessian has it; leave it out")
        self.shift = decay if spec.weight_decay else 0.0
        self.put(parameters=self.size, sample_size=objective.size(), weight_decay=decay, operator_kind=spec.operator)
        kinks = bool(network_card(objective).get("kinks"))
        self.put(optimizer=str(context.training.get("optimizer", "")), kinks=kinks, separate=objective.separate())
        self.put(method="dense" if exact else "lanczos", arithmetic=str(objective.dtype).removeprefix("torch."))

    def stability(self, step: int | None) -> dict[str, Any]:
        """Up to which curvature the run's optimiser is stable in the update that follows a checkpoint."""
        return stability(self.context.training, rate_of(self.context, step), **self._limit())

    def stability_over(self, steps: Sequence[int]) -> dict[str, Any]:
        """The same over the checkpoints of a run."""
        return stability_over(self.context.training, [rate_of(self.context, step) for step in steps], **self._limit())

    def _limit(self) -> dict[str, Any]:
        differs = "these are eigenvalues of some layers only" if self.spec.layers else not_trained_on(self.spec, self.objective)
        return {"differs": differs, "decay_included": bool(self.shift)}

    def operator(self, kind: str, theta: Tensor | None = None) -> Any:
        """The curvature of this kind over the chosen parameters, with the weight decay where it is asked for."""
        return curvature(self.objective, self.spec, kind, theta, self.shift)

    def gradient(self) -> Tensor:
        """The gradient over the chosen parameters."""
        found = self.objective.gradient(self.objective.theta)[self.coordinates]
        return found + self.shift * self.objective.theta[self.coordinates]

    def message(self, words: str) -> str:
        done = int(sum(self.done.values()))
        return f"{words}: {done:,} of about {max(self.total, done + 1):,.0f} products"


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
