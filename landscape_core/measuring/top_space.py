"""The space of the top eigenvectors at one theta, by Lanczos or from the whole matrix, and what of a vector lies in it."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from ..linalg import Lanczos, dense_eigenpairs
from ..objective import Objective
from ..specs import DENSE_LIMIT, Array, InputError


@dataclass(frozen=True)
class TopSpace:
    """The k largest eigenvalues (algebraically) with their vectors, and what they rest on."""

    values: Array  # (k,), descending
    vectors: Tensor  # (p, k), orthonormal
    residuals: Array  # (k,): |Hv - lv| / |l|
    following: float  # eigenvalue k + 1: of Lanczos its Ritz value, which is at most that
    products: int


def top_space(
    operator: Any,
    k: int,
    *,
    exact: bool = False,
    tolerance: float = 1e-3,
    seed: int = 0,
    start: Tensor | None = None,
    multiples: bool = False,
) -> Generator[int, None, TopSpace]:
    """Yields the products so far, returns the space; `exact` makes the whole matrix. `start` as `Lanczos` takes it."""
    if exact:
        pairs, values = dense_eigenpairs(operator.dense(), k)
        vectors = pairs.top_vectors.to(operator.dtype)
        return TopSpace(pairs.top.cpu().numpy(), vectors, pairs.top_residuals.cpu().numpy(), float(values[k]), len(values))
    search = Lanczos(operator, k, tolerance=tolerance, seed=seed, start=start, multiples=multiples)
    yield from search
    pairs = search.pairs()
    residuals = pairs.top_residuals.numpy()
    return TopSpace(pairs.top.numpy(), pairs.top_vectors, residuals, float(search.ritz()[-k - 1]), pairs.products)


def dense_allowed(asked: bool, parameters: int) -> None:
    """Raises InputError if the exact matrix is asked for and has too many parameters."""
    if asked and parameters > DENSE_LIMIT:
        raise InputError(f"method=dense is for at most {DENSE_LIMIT:,} parameters (this has {parameters:,})")


def size_of_space(k: int | None, objective: Objective) -> int:
    """The k asked for; by default the number of classes. Raises InputError where there are none, or too few parameters."""
    if k is None:
        shape = objective.nature.scores or ()
        k = classes_of(objective) or (shape[1] if len(shape) == 2 else 0)
        if k < 2:
            raise InputError("field 'k': this network has no classes to count; give a number, such as k=10")
    if k >= objective.space.size:
        raise InputError(f"field 'k': must be below the number of parameters, {objective.space.size:,} (got {k})")
    return k


def classes_of(objective: Objective) -> int:
    """How many classes the network tells apart; 0 where it is no classifier."""
    shape, classes = objective.nature.scores or (), objective.nature.classes
    known = "accuracy" in objective.metrics or classes is not None
    return shape[classes.dim if classes is not None else 1] if known and len(shape) > 1 else 0


def softmax_of(objective: Objective) -> bool:
    """Whether the loss is one of classes by the logarithm of their softmax: squared error of scores for classes is not."""
    return objective.nature.classes is not None


def chance_bounds(k: int, p: int) -> tuple[float, float]:
    """What a random direction's share of a k-dimensional space lies between in 99 of 100 cases: Beta(k/2, (p - k)/2).

    The median of such shares over checkpoints is outside them in at most 2 of 100 cases, however they hang together.
    """
    low, high = (float(betaincinv(k / 2, (p - k) / 2, q)) for q in (0.005, 0.995))
    return low, high


def common_by_chance(k: int, p: int) -> float:
    """What two random k-dimensional spaces have in common at most, |A'B|^2 / k, in 199 of 200 cases.

    Its mean is k/p and its variance 2 (p - k)^2 / (p^2 (p - 1) (p + 2)); a Beta law with these, which is exact for k = 1.
    """
    mean, variance = k / p, 2 * (p - k) ** 2 / (p**2 * (p - 1) * (p + 2))
    size = mean * (1 - mean) / variance - 1
    return float(betaincinv(mean * size, (1 - mean) * size, 0.995))


def shares_along(vectors: Tensor, vector: Tensor) -> Array:
    """(v_i . g)^2 / |g|^2 `(k,)` of orthonormal vectors `(p, k)` and `vector (p,)`, in float64; NaN for a zero vector."""
    g = vector.double()
    size = float(g.square().sum())
    if not size > 0 or not math.isfinite(size):
        return np.full(vectors.shape[1], np.nan)
    found: Array = ((vectors.T @ (g / math.sqrt(size)).to(vectors.dtype)).double().square()).cpu().numpy()
    return found


def common(a: Tensor, b: Tensor) -> float:
    """|A'B|_F^2 / k of orthonormal bases `(p, k)`: 1 for one space, k/p for two random ones (Gur-Ari et al. 2018)."""
    return float((a.T @ b).double().square().sum()) / a.shape[1]


def rounding_floor(space: TopSpace, theta: Tensor, shift: float = 0.0) -> float:
    """How long a gradient may be that is nothing but the rounding of the weights: machine precision times l_1 |theta|.

    `shift` is what weight decay adds to every eigenvalue.
    """
    return float(torch.finfo(theta.dtype).eps * (abs(space.values[0]) + shift) * theta.double().norm())
