"""Principal axes of a trajectory, and how much of a random walk the same number of axes would hold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..specs import InputError


@dataclass(frozen=True)
class PCA:
    """Unit principal axes and the share of the total squared displacement along each."""

    axes: Tensor  # (p, k), orthonormal
    shares: np.ndarray  # (k,) descending


def pca(points: Tensor, k: int, *, centered: bool = False) -> PCA:
    """Principal axes of points `(t, p)` about the last one (default) or about their mean.

    By the eigenvectors of the `(t, t)` Gram matrix in float64, so p may be large. Raises InputError if the points span fewer
    than k dimensions, or are not finite. Li et al., "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018 (their code
    centres).
    """
    offsets = (points - (points.double().mean(0).to(points.dtype) if centered else points[-1])).double()
    largest = float(offsets.abs().max()) if offsets.numel() else 0.0
    if not math.isfinite(largest):
        raise InputError("the trajectory has no axes: its points, or their distances, are not finite")
    offsets = offsets / (largest or 1.0)  # squares neither overflow nor vanish; shares and axes know no scale
    gram = offsets @ offsets.T
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    total = float(values.sum())
    if total <= 0 or len(values) < k or float(values[k - 1]) <= 1e-14 * total:
        raise InputError(f"the trajectory spans fewer than {k} dimensions: record more checkpoints or take other directions")
    axes = offsets.T @ (vectors[:, :k] / values[:k].sqrt())
    # The sign of an eigenvector is arbitrary; start the path on the positive side so that pictures can be compared.
    axes = axes * torch.where(offsets[0] @ axes < 0, -1.0, 1.0)
    return PCA(axes, (values[:k] / total).numpy())


def random_walk_share(steps: np.ndarray, k: int, *, centered: bool = False) -> float:
    """Share of squared displacement that k principal axes hold, expected of a high-dimensional random walk at these steps.

    The Gram matrix of a random walk of unit variance a step is min(t_i, t_j) per dimension; double-centred for PCA about the
    mean, min(|t_i - t_n|, |t_j - t_n|) about the last point. Antognini & Sohl-Dickstein, NeurIPS 2018; many uniform steps and
    k = 2 give 0.760 centred and 0.901 about the last.
    """
    values = np.linalg.eigvalsh(_walk_kernel(steps, centered))[::-1].clip(min=0)
    return float(values[:k].sum() / values.sum())


def random_walk_law(steps: np.ndarray, k: int, p: int, *, centered: bool = False, draws: int = 200) -> tuple[float, float]:
    """Mean and standard deviation of that share over random walks in p dimensions; a few dimensions hold more in k axes.

    The Gram matrix of such a walk is S W S with S^2 the kernel's eigenvalues and W a Wishart matrix of p degrees of freedom,
    drawn as Bartlett's triangle; beyond the first 60, which fall off as 1/i^2, the eigenvalues only add to the trace. The
    draws are the same ones at every call.
    """
    values = np.linalg.eigvalsh(_walk_kernel(steps, centered))[::-1]
    values = values[values > 1e-12 * values[0]]
    roots, rest = np.sqrt(values[:60]), values[60:]
    size, source = roots.size, np.random.default_rng(0)
    if p >= size:
        triangle = np.tril(source.standard_normal((draws, size, size)), -1)
        triangle[:, range(size), range(size)] = np.sqrt(source.chisquare(p - np.arange(size), (draws, size)))
    else:
        triangle = source.standard_normal((draws, size, p))
    squares = np.square(np.linalg.svd(roots[:, None] * triangle, compute_uv=False))
    shares = squares[:, :k].sum(1) / (squares.sum(1) + source.chisquare(p, (draws, rest.size)) @ rest)
    return float(shares.mean()), float(shares.std(ddof=1))


def random_walk_path(steps: np.ndarray, k: int, *, centered: bool = False) -> np.ndarray:
    """Coordinates `(t, k)` of such a random walk on its own k principal axes; its total squared displacement is 1.

    sqrt(lambda_i) u_i of the kernel of `random_walk_share`: for many uniform steps about the mean the cosines
    cos(pi i s / T), so that two axes show a Lissajous figure. Each starts on the positive side. Antognini & Sohl-Dickstein,
    NeurIPS 2018.
    """
    values, vectors = np.linalg.eigh(_walk_kernel(steps, centered))
    values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
    found = vectors[:, :k] * np.sqrt(values[:k] / values.sum())
    return np.asarray(found * np.where(found[0] < 0, -1.0, 1.0))


def _walk_kernel(steps: np.ndarray, centered: bool) -> np.ndarray:
    t = np.asarray(steps, dtype=float)
    if not centered:
        return np.minimum.outer(np.abs(t - t[-1]), np.abs(t - t[-1]))
    kernel = np.minimum.outer(t, t)
    return np.asarray(kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean())
