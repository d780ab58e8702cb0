"""What can be asked of a spectrum of the curvature."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from ...specs import DENSE_LIMIT, LANCZOS_BYTES, AnalysisSpec, Method, field

Operator = Literal["hessian", "ggn", "fisher", "empirical_fisher"]
RUN_STEPS = 24  # checkpoints of a run that are looked at unless asked otherwise


class SpectrumSpec(AnalysisSpec):
    """The spectrum of the curvature at a checkpoint: how curved the loss is, and whether this is a minimum or a saddle."""

    operator: Operator = field(
        "hessian",
        "Which curvature: the Hessian of the mean loss, the Gauss-Newton matrix, the Fisher of the model's own labels, or the "
        "empirical Fisher of the data's labels.",
    )
    beside: Operator | None = field(None, "A second curvature of the same weights, to be compared; null for none.")
    over: Literal["checkpoint", "run"] = field(
        "checkpoint", "The whole spectrum of one checkpoint, or its largest eigenvalues over the checkpoints of the run."
    )
    k: int = field(10, "How many of the largest eigenvalues (algebraically) to resolve.", ge=1, le=200)
    k_bottom: int = field(5, "How many of the smallest eigenvalues (algebraically) to resolve.", ge=0, le=100)
    method: Method = field(
        "auto", "The exact matrix (up to 3,000 parameters), or Lanczos and estimates with error bars; auto takes the exact one."
    )
    tolerance: float = field(
        1e-3, "Allowed residual: |Hv - lv| / |l| at the top, / |H| at the bottom; Lanczos only.", ge=1e-9, le=0.5
    )
    multiples: bool = field(
        False,
        "Go on until no further copy of a multiple eigenvalue can be missing; Lanczos only, up to four times the products.",
    )
    probes: int = field(2, "Random vectors of the estimates over all eigenvalues; Lanczos only.", ge=1, le=200)
    lanczos_steps: int = field(
        165, "Products for each of them: more tell eigenvalues near zero apart; Lanczos only.", unit="products", ge=2, le=500
    )
    trace_tolerance: float = field(0.02, "Relative standard error at which the trace estimate stops; Lanczos only.", gt=0, le=1)
    zero_tolerance: float = field(1e-6, "What counts as zero, as a share of the largest eigenvalue.", ge=0, le=0.1)
    gradient_tolerance: float = field(
        1e-6, "How long a gradient may be for the point to be called critical, as a share of |H| |theta|.", ge=0, le=1
    )
    damping: float = field(
        1e-2,
        "c of the effective dimension, the sum of l / (l + c) over positive eigenvalues.",
        unit="loss per unit length²",
        ge=1e-12,
        le=1e6,
    )
    layers: tuple[str, ...] | None = field(
        None, "Only these layers or parameters, by name: the diagonal block of the matrix; null takes all.", max_length=200
    )
    weight_decay: bool = field(False, "Add the run's weight decay to the loss: it shifts every eigenvalue by that much.")
    labels: Literal["exact", "sampled"] = field(
        "exact", "The Fisher over all labels the model may give, or over one drawn for each sample with the seed."
    )
    rescale: float | None = field(
        None,
        "Measure the same function again with the first layer times this factor and the second divided by it; null does not.",
        gt=0,
        le=1000,
    )
    checkpoints: int = field(
        RUN_STEPS,
        "Over a run: how many of its checkpoints at most, spread over the recorded ones.",
        unit="checkpoints",
        ge=2,
        le=500,
    )
    vectors: bool = field(False, "Keep the eigenvectors of the largest eigenvalues in the result.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.beside == self.operator:
            raise ValueError(f"beside={self.beside} is the operator itself; choose another one or none")
        if self.over == "run" and (self.beside or self.rescale or self.vectors):
            name = "beside" if self.beside else "rescale" if self.rescale else "vectors"
            raise ValueError(f"'{name}' belongs to one checkpoint: leave it out, or set over=checkpoint")
        if self.weight_decay and (self.operator not in ("hessian", "ggn") or self.beside not in (None, "hessian", "ggn")):
            raise ValueError("weight_decay is a part of the loss: it goes with operator=hessian or ggn, a Fisher has none")
        return self

    @field_validator("layers", mode="before")
    @classmethod
    def _none_named(cls, value: Any) -> Any:
        """An empty list names nothing, which is what null says: one text for one request."""
        return None if isinstance(value, list | tuple) and not value else value

    def exact(self, parameters: int) -> bool:
        """Whether the whole matrix is computed."""
        return self.method == "dense" or (self.method == "auto" and self.over == "checkpoint" and 0 < parameters <= DENSE_LIMIT)

    def whole_run(self) -> bool:
        return self.over == "run"

    def of_training(self) -> bool:
        return True

    def work(self, parameters: int = 0, /) -> dict[str, float]:
        limit = float(parameters or 10**9)
        if self.over == "run":
            each = parameters if self.exact(parameters) else min(limit, 2.5 * self.k + 10 * min(1, self.k_bottom) + 5)
            return {"gradients": float(self.checkpoints), "products": self.checkpoints * (each + 1)}
        if self.exact(parameters):
            one, more = limit, 0.0
        else:
            one, more = self.search(parameters) + self.probes * min(limit, self.lanczos_steps) + 40, 25.0
        copies = (2 if self.beside else 1) + (1 if self.rescale and self.exact(parameters) else 0)
        return {
            "gradients": 1,
            "products": copies * one + more + (75 if self.rescale and not self.exact(parameters) else 0) + 2,
        }

    def search(self, parameters: int) -> float:
        """Products that the eigenpairs of both ends take by Lanczos, about; 0 parameters are as many as one likes."""
        return min(float(parameters or 10**9), 2.5 * self.k + 8.0 * self.k_bottom + 5)

    def vectors_held(self, parameters: int = 0, /) -> float:
        if self.exact(parameters):
            return 4.0 * parameters
        wanted = self.k + self.k_bottom
        # Lanczos restarts when its basis is full: 2 GiB of vectors, or what the wanted pairs need at least.
        room = max(2 * wanted + 8, LANCZOS_BYTES // (4 * max(1, parameters)))
        return float(min(2.5 * self.k + 8 * self.k_bottom + 30, room, 320) + wanted)
