"""What can be asked of a run about where its gradients lie."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from ...specs import CLASSES, AnalysisSpec, Method, field, searched

KEPT_CHECKPOINTS = 40  # of a run that are looked at unless asked otherwise: all of the default record


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
    method: Method = field(
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
