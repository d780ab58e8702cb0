"""What can be asked of a checkpoint: the fields every analysis has, and the Spec of each analysis."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from pydantic import ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator

from .base import Spec, field


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


class CalibrationSpec(AnalysisSpec):
    """Time one forward pass, one gradient and one Hessian-vector product: what every cost estimate rests on."""

    def work(self, _parameters: int = 0, /) -> dict[str, float]:
        return {"forwards": 4, "gradients": 2, "products": 2}


Directions = Literal[
    "filter", "layer", "model", "gaussian", "essay", "pca", "gradient", "difference", "through", "eigenvectors", "given"
]
EXTREME_PRODUCTS, SPECTRUM_PRODUCTS = 40, 400  # what extreme eigenpairs and a sketch of the spectrum take, about
RANDOM_DIRECTIONS = ("filter", "layer", "model", "gaussian", "essay")
Interval = tuple[float, float]


class SurfaceSpec(AnalysisSpec):
    """The loss on a line or a plane through a checkpoint: f(a, b) = L(theta + a d0 + b d1)."""

    dimensions: Literal[1, 2] = field(2, "1 for a line, 2 for a plane.")
    directions: Directions = field(
        "filter",
        "How the axes are chosen: random with filter, layer or model normalisation (Li et al. 2018) or none (gaussian), the "
        "essay's uncorrected rule, PCA of the trajectory, the gradient, the difference to another checkpoint, the plane "
        "through three checkpoints, eigenvectors of the Hessian, or vectors given in a file.",
    )
    ends: Literal["both", "top", "bottom"] = field(
        "both",
        "Which eigenvectors: of the largest and the smallest eigenvalue (the saddle), of the largest, or of the smallest.",
    )
    resolution: int | tuple[int, int] = field(
        41, "Grid points along each axis: n, or [n_alpha, n_beta]; 3 to 501.", unit="points"
    )
    extent: float | Interval | tuple[Interval, Interval] | None = field(
        None,
        "Range of the axes: r for [-r, r], [lo, hi], or one [lo, hi] for each axis; null takes what suits the directions.",
        unit="axis units",
    )
    orthogonal: bool = field(False, "Make the second axis orthogonal to the first, keeping its norm.")
    ignore: Literal["biases-and-norms", "copy", "none"] = field(
        "biases-and-norms",
        "Biases and normalisation parameters in random directions: zero, a copy of the weights (Li et al.'s code without "
        "its biasbn option), or random like the rest.",
    )
    centered: bool = field(False, "PCA about the mean of the trajectory instead of the last checkpoint.")
    through: tuple[str, ...] = field((), "Other checkpoints, RUN@STEP: one for difference, two for through.", max_length=2)
    trajectory: str | None = field(
        None, "A run whose path is projected on the plane; null takes the own run for PCA, else none."
    )
    given: str | None = field(None, "A .npz file with direction_0 (and direction_1), for directions=given.", local=True)
    repeats: int = field(1, "Lines only: number of random directions, drawn with seeds seed, seed+1, ...", ge=1, le=200)
    test: bool = field(False, "Evaluate the test samples as well.")
    spectrum: bool = field(
        False,
        "Hold the slice's curvature against the whole Hessian: its extreme eigenvalues, trace and share of negative ones.",
    )
    convexity: int = field(
        0,
        "Planes only: points along each axis where the extreme eigenvalues of the whole Hessian are computed; 0 for none.",
        unit="points",
        ge=0,
        le=41,
    )
    flow: int = field(9, "Arrows of the projected gradient flow along each axis; 0 for none.", unit="points", ge=0, le=51)

    @field_validator("extent", mode="wrap")
    @classmethod
    def _in_words(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        """One sentence for all the forms that an extent may have."""
        try:
            return check(value)
        except ValidationError:
            raise ValueError(
                f"must be r, [low, high] or a [low, high] for each axis, in finite numbers (got {value})"
            ) from None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for n in self.shape:
            if not 3 <= n <= 501:
                raise ValueError(f"resolution must be between 3 and 501 along each axis (got {n})")
        for low, high in self.intervals or ():
            if not low < high:
                raise ValueError(f"extent must grow from low to high (got [{low:g}, {high:g}])")
        needed = {"difference": (1, 2), "through": (2,)}.get(self.directions, (0,))
        if len(self.through) not in needed:
            words = " or ".join(str(n) for n in needed)
            raise ValueError(f"directions={self.directions} takes {words} checkpoints in 'through' (got {len(self.through)})")
        if self.directions == "through" and self.dimensions == 1:
            raise ValueError("directions=through spans a plane: set dimensions to 2, or use directions=difference for a line")
        if self.convexity and self.dimensions == 1:
            raise ValueError("convexity is a map of a plane: it needs dimensions=2")
        if self.repeats > 1 and (self.dimensions == 2 or self.directions not in RANDOM_DIRECTIONS):
            raise ValueError("repeats draws several random lines: it needs dimensions=1 and random directions")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid points along each axis: `(n,)` for a line, `(n, m)` for a plane."""
        n, m = (self.resolution, self.resolution) if isinstance(self.resolution, int) else self.resolution
        return (n, m) if self.dimensions == 2 else (n,)

    @property
    def intervals(self) -> tuple[Interval, ...] | None:
        """The range of each axis, or None where the directions decide."""
        if self.extent is None:
            return None
        if isinstance(self.extent, (int, float)):
            return ((-self.extent, self.extent),) * self.dimensions
        if isinstance(self.extent[0], tuple):
            return self.extent[: self.dimensions]
        return (self.extent,) * self.dimensions

    def references(self) -> tuple[str, ...]:
        return self.through + ((self.trajectory.partition("@")[0],) if self.trajectory else ())

    def whole_run(self) -> bool:
        return self.directions == "pca" and self.trajectory is None

    def work(self, _parameters: int = 0, /) -> dict[str, float]:
        cells = float(np.prod(self.shape)) * self.repeats * (2 if self.test else 1)
        passes = 2.0 if self.batchnorm == "batch" else 1.0
        arrows = self.flow**2 if self.dimensions == 2 else 0
        products = self.dimensions + (SPECTRUM_PRODUCTS if self.spectrum else 0)
        products += EXTREME_PRODUCTS * (self.directions == "eigenvectors") + EXTREME_PRODUCTS * self.convexity**2
        return {"forwards": passes * (cells + 12), "gradients": passes * (arrows + 1), "products": float(products)}


Operator = Literal["hessian", "ggn", "fisher", "empirical_fisher"]
DENSE_LIMIT = 3000  # parameters up to which the exact matrix is affordable and the referee of every estimate
LANCZOS_BYTES = 2 << 30  # that a Lanczos basis may take before it restarts
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
    method: Literal["auto", "dense", "lanczos"] = field(
        "auto", "The exact matrix (up to 3,000 parameters), or Lanczos and estimates with error bars; auto takes the exact one."
    )
    tolerance: float = field(
        1e-3, "Allowed residual: |Hv - lv| / |l| at the top, / |H| at the bottom; Lanczos only.", ge=1e-9, le=0.5
    )
    multiples: bool = field(
        False,
        "Go on until no further copy of a multiple eigenvalue can be missing; Lanczos only, up to four times the products.",
    )
    probes: int = field(8, "Random vectors of the density estimate; Lanczos only.", ge=1, le=200)
    lanczos_steps: int = field(40, "Products for each of them; Lanczos only.", unit="products", ge=2, le=500)
    trace_tolerance: float = field(0.02, "Relative standard error at which the trace estimate stops; Lanczos only.", gt=0, le=1)
    zero_tolerance: float = field(1e-6, "What counts as zero, as a share of the largest eigenvalue.", ge=0, le=0.1)
    gradient_tolerance: float = field(
        1e-6, "How long a gradient may be for the point to be called critical.", unit="loss per unit length", ge=0, le=1
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
    method: Literal["auto", "dense", "lanczos"] = field(
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
            "gradients": float(self.checkpoints),
            "products": float(self.curvature * each),
        }

    def vectors_held(self, parameters: int = 0, /) -> float:
        return 2.0 * self.checkpoints + (4.0 * parameters if self.exact(parameters) else float(self.lanczos_steps))
