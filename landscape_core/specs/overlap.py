"""What can be asked of a run about its gradients: their share in the top of the Hessian, and training inside or outside it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from .analyses import AnalysisSpec
from .base import field

CLASSES = 10  # eigenvectors that a cost estimate counts on where k follows the number of classes
KEPT_CHECKPOINTS = 40  # of a run that are looked at unless asked otherwise: all of the default record


def searched(k: int | None, parameters: int) -> float:
    """Products that the top k eigenpairs take by Lanczos, about; 0 parameters are as many as one likes."""
    return min(float(parameters or 10**9), 2.5 * (k or CLASSES) + 6)


class OverlapSpec(AnalysisSpec):
    """The gradient in the top of the Hessian over a run: does gradient descent live in a tiny subspace?"""

    k: int | None = field(
        None, "How many top eigenvectors (algebraically) span the subspace; null takes the number of classes.", ge=1, le=200
    )
    minibatch_size: int = field(64, "Samples of a mini-batch gradient.", unit="samples", ge=1, le=1_000_000)
    minibatches: int = field(
        8, "Mini-batch gradients at each checkpoint, of the same samples at all of them; 0 for none.", ge=0, le=1000
    )
    reference: str = field(
        "last",
        "The checkpoint whose subspace the others are held against: last, first, or a step.",
        pattern=r"^(first|last|\d{1,9})$",
    )
    operator: Literal["hessian", "ggn"] = field(
        "hessian", "Whose top eigenvectors: the Hessian of the mean loss, or its Gauss-Newton part."
    )
    checkpoints: int = field(
        KEPT_CHECKPOINTS,
        "How many checkpoints of the run at most, spread over the recorded ones.",
        unit="checkpoints",
        ge=2,
        le=500,
    )
    method: Literal["auto", "dense", "lanczos"] = field(
        "auto", "Eigenvectors of the exact matrix (up to 3,000 parameters), or by Lanczos; auto takes the exact one up to 300."
    )
    tolerance: float = field(1e-3, "Allowed residual |Hv - lv| / |l| of every eigenpair; Lanczos only.", ge=1e-9, le=0.5)
    multiples: bool = field(
        False,
        "Go on until no further copy of a multiple eigenvalue can be missing; Lanczos only, up to four times the products.",
    )
    warm: Literal["auto", "always", "never"] = field(
        "auto", "Start each search from the checkpoint before; auto does where the subspace had moved little. Lanczos only."
    )

    @field_validator("reference", mode="before")
    @classmethod
    def _step(cls, value: Any) -> Any:
        """A step may be given as a number."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def exact(self, parameters: int) -> bool:
        """Whether eigenvectors come from the whole matrix: where so many products cost no more than a search."""
        return self.method == "dense" or (self.method == "auto" and 0 < parameters <= 300)

    def of_run(self) -> bool:
        return True

    def whole_run(self) -> bool:
        return True

    def of_training(self) -> bool:
        return True

    def work(self, parameters: int = 0, /) -> dict[str, float]:
        each = float(parameters) if self.exact(parameters) else searched(self.k, parameters) * (2 if self.multiples else 1)
        # How small a part of the sample a mini-batch is, only the run knows: one in eight.
        return {"gradients": self.checkpoints * (1 + self.minibatches / 8), "products": self.checkpoints * each}

    def vectors_held(self, parameters: int = 0, /) -> float:
        k = self.k or CLASSES
        return float(self.checkpoints * (k + 1) + (4 * parameters if self.exact(parameters) else 2.5 * k + 30))


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
