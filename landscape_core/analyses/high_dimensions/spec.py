"""What can be asked of the geometry of a path."""

from __future__ import annotations

from ...specs import DENSE_LIMIT, AnalysisSpec, Method, field


class HighDimensionsSpec(AnalysisSpec):
    """The geometry of a run's path beside the laws of random vectors: angles, shells, distances, depth, flat directions."""

    checkpoints: int = field(
        48,
        "How many checkpoints of the run at most, spread over the recorded ones, the first and the last among them.",
        unit="checkpoints",
        ge=2,
        le=500,
    )
    curvature: int = field(
        8,
        "At how many of these the eigenvalues of the Hessian are counted; 0 for none.",
        unit="checkpoints",
        ge=0,
        le=100,
    )
    method: Method = field(
        "auto",
        "How they are counted: from the exact matrix (up to 3,000 parameters), or estimated with error bars; auto takes the "
        "exact one.",
    )
    probes: int = field(4, "Random vectors of the estimate; not for the exact matrix.", ge=1, le=200)
    lanczos_steps: int = field(100, "Products for each of them; not for the exact matrix.", unit="products", ge=2, le=500)
    flat_tolerance: float | None = field(
        None,
        "What counts as flat, as a share of the largest eigenvalue; null takes 1e-4 of the exact matrix, 1e-2 of an estimate.",
        gt=0,
        le=0.5,
    )
    zero_tolerance: float | None = field(
        None,
        "What counts as zero for the signs, as a share of it; null takes 1e-6 of the exact matrix, 1e-3 of an estimate.",
        ge=0,
        le=0.5,
    )
    k: int | None = field(
        None,
        "How many of the largest eigenvalues are held against the trace; null takes one less than there are outputs.",
        ge=1,
        le=200,
    )

    def exact(self, parameters: int) -> bool:
        """Whether eigenvalues are counted from the whole matrix."""
        return self.curvature > 0 and (self.method == "dense" or (self.method == "auto" and 0 < parameters <= DENSE_LIMIT))

    def tolerances(self, parameters: int) -> tuple[float, float]:
        """(what counts as flat, what counts as zero), as shares of the largest eigenvalue: an estimate resolves less."""
        flat, zero = (1e-4, 1e-6) if self.exact(parameters) else (1e-2, 1e-3)
        return self.flat_tolerance or flat, zero if self.zero_tolerance is None else self.zero_tolerance

    def whole_run(self) -> bool:
        return True

    def work(self, parameters: int = 0, /) -> dict[str, float]:
        each = parameters if self.exact(parameters) else self.probes * min(parameters or 10**9, self.lanczos_steps)
        return {
            "forwards": float(self.checkpoints),
            "gradients": float(self.checkpoints) + 12,  # of random layers, beside which their law is held
            "products": float(self.curvature * each),
        }

    def vectors_held(self, parameters: int = 0, /) -> float:
        return 2.0 * self.checkpoints + (4.0 * parameters if self.exact(parameters) else float(self.lanczos_steps))
