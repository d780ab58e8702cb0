"""What can be asked of a loss surface."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator

from ...specs import AnalysisSpec, field

Directions = Literal[
    "filter", "layer", "model", "gaussian", "essay", "pca", "gradient", "difference", "through", "eigenvectors", "given"
]
EXTREME_PRODUCTS, SPECTRUM_PRODUCTS = 40, 400  # what extreme eigenpairs and a sketch of the spectrum take, about
SMALL_ENDS = 4  # times as many for the smallest eigenvalue, which is found to its own tolerance
PROBED = 65  # evaluations besides the cells: the centre, rounding, differences of neighbours
FARTHEST = 1e30  # of an extent: squares of its steps must stay far from the end of all numbers
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
            size = max(abs(low), abs(high))
            if size > FARTHEST or not high - low > max(1e-9 * size, 1 / FARTHEST):
                raise ValueError(
                    f"extent must lie within ±{FARTHEST:g} and be wide enough to tell points apart (got [{low:g}, {high:g}])"
                )
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

    def with_test(self) -> bool:
        return self.test

    def whole_run(self) -> bool:
        return self.directions == "pca" and self.trajectory is None

    def work(self, _parameters: int = 0, /) -> dict[str, float]:
        cells = float(math.prod(self.shape)) * self.repeats * (2 if self.test else 1)
        passes = 2.0 if self.batchnorm == "batch" else 1.0
        arrows = self.flow**2 if self.dimensions == 2 else 0
        products = self.dimensions + (SPECTRUM_PRODUCTS if self.spectrum else 0)
        ends = 1 if self.ends == "top" else SMALL_ENDS
        products += EXTREME_PRODUCTS * (ends * (self.directions == "eigenvectors") + self.convexity**2)
        return {"forwards": passes * (cells + PROBED), "gradients": passes * (arrows + 1), "products": float(products)}
