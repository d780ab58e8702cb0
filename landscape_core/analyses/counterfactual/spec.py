"""What can be asked of training on inside and outside the top of the Hessian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ...specs import CLASSES, AnalysisSpec, field, searched

NEEDED = ("optimizer", "lr", "batch_size")  # without which nobody can train on


class CounterfactualSpec(AnalysisSpec):
    """Train on from a checkpoint with every update projected inside or outside the top of the Hessian: which part trains?"""

    steps: int = field(400, "Optimisation steps from the checkpoint on.", unit="steps", ge=1, le=1_000_000)
    refresh: int = field(
        25,
        "Steps between two computations of the subspace, each at the branch's own weights.",
        unit="steps",
        ge=1,
        le=1_000_000,
    )
    k: int | None = field(
        None, "How many top eigenvectors (algebraically) span the subspace; null takes the number of classes.", ge=1, le=200
    )
    records: int = field(50, "Points at which the loss over all samples is recorded, evenly spread.", ge=1, le=2000)
    optimizer: Literal["sgd", "adam", "adamw"] | None = field(
        None, "Optimiser, with its memory empty at the start; null takes the run's own with its momentum and weight decay."
    )
    lr: float | None = field(None, "Learning rate, held constant; null takes the run's own over time.", gt=0, le=1000)
    batch_size: int | None = field(
        None,
        "Samples a step, the same ones for every branch; 0 takes all; null takes the run's own.",
        unit="samples",
        ge=0,
        le=1_000_000,
    )
    tolerance: float = field(1e-3, "Allowed residual |Hv - lv| / |l| of every eigenpair.", ge=1e-9, le=0.5)

    def of_training(self) -> bool:
        return True

    def work(self, parameters: int = 0, /) -> dict[str, float]:
        refreshes = -(-self.steps // self.refresh)
        # A step is a gradient over a batch; how small a part of the sample that is, only the run knows.
        return {
            "forwards": 4.0 * (self.records + 1),
            "gradients": 4.0 * self.steps * 0.1,
            "products": 2 * refreshes * searched(self.k, parameters),
        }

    def vectors_held(self, _parameters: int = 0, /) -> float:
        k = self.k or CLASSES
        return float(4 * 4 + 3 * k + 2.5 * k + 30)


def setting_unknown(spec: CounterfactualSpec, known: Mapping[str, Any]) -> str:
    """A sentence about the first setting that neither the Spec nor the run's own training `known` gives; empty for none."""
    missing = [name for name in NEEDED if getattr(spec, name) is None and name not in known]
    return f"field '{missing[0]}': how these weights were trained is not known, so give {', '.join(NEEDED)}" if missing else ""
