"""The axes of a slice: one builder for each kind of direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...linalg import (
    Eigenpairs,
    LinearOperator,
    coordinates,
    eigenpairs,
    orthogonalised,
    pca,
    random_walk_law,
    random_walk_share,
)
from ...measuring.context import Context
from ...objective import ParameterSpace, group_norms
from ...specs import InputError, unpack
from .spec import FARTHEST, RANDOM_DIRECTIONS, SurfaceSpec

Interval = tuple[float, float]
TOLERANCE = 1e-3  # |Hv - lv| / |l| of eigenvectors
PRODUCTS = 500  # that they may take, and as many again for small ones
ROUNDED = 64  # units in the last place of the norm of H: an eigenvalue, or a residual, that is nothing but rounding


@dataclass(frozen=True)
class Axes:
    """What spans a slice: theta = origin + directions @ coordinates."""

    directions: Tensor  # (p, k), at full scale
    units: tuple[str, ...]  # what one unit along each axis is
    intervals: tuple[Interval, ...]  # range that suits each axis
    variance: Tensor | None = None  # (p,) variance of each coordinate of a random direction; None if not random
    mean: Tensor | None = None  # (p,) its fixed part: copied biases and normalisation parameters
    anchors: tuple[tuple[str, Tensor], ...] = ()  # checkpoints that span the plane, to be marked
    explained_variance: float | None = None  # PCA: share of the path's squared displacement
    explained_variance_null: float | None = None  # the same, expected of a random walk in many dimensions
    explained_variance_walk: tuple[float, float] | None = None  # and in as many as there are: mean and standard deviation
    residuals: tuple[float, ...] = ()  # eigenvectors: |Hv - lv| / |l| of each
    straightened: bool = False  # whether the second axis was made orthogonal to the first


def spanned(spec: SurfaceSpec, context: Context, draw: int = 0) -> Axes:
    """The axes that a Spec asks for; `draw` counts the repeated random lines. Raises InputError for what cannot be spanned."""
    if not bool(context.objective.theta.isfinite().all()):
        raise InputError(f"the weights are not finite here{'; look at an earlier checkpoint' if context.source else ''}")
    if not bool(context.objective.theta.double().norm().isfinite()):
        raise InputError("the weights are so large that their length is not finite: there is no slice to draw")
    axes = BUILDERS[spec.directions](spec, context, draw)
    if spec.orthogonal and spec.dimensions == 2:
        d0, d1 = axes.directions.T
        axes = replace(axes, directions=torch.stack([d0, orthogonalised(d1, d0)], 1), straightened=True)
    if spec.dimensions == 2:
        orthogonalised(*axes.directions.T)  # refuses parallel axes
    if not bool((axes.directions.norm(dim=0) > 0).all()):
        why = ": every filter it would scale has zero norm" if spec.directions in RANDOM_DIRECTIONS else ""
        raise InputError(f"directions={spec.directions} gives a zero vector here{why}")
    return replace(axes, intervals=spec.intervals) if spec.intervals else axes


# -- random directions: Hao Li et al., "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018 -------------------


def _random(spec: SurfaceSpec, context: Context, draw: int) -> Axes:
    """Gaussian entries, then the rule's normalisation; the line of seed s is the first axis of the plane of seed s."""
    objective = context.objective
    space, theta = objective.space, objective.theta
    generator = torch.Generator().manual_seed(spec.seed + draw)
    kind, k = spec.directions, spec.dimensions
    normal = torch.randn(k, space.size, generator=generator, dtype=torch.float64).to(theta.device)
    directions = torch.stack([_normalised(kind, spec.ignore, space, theta.double(), d) for d in normal], 1)
    unit, reach = {
        "filter": ("filter norms", 1.0),
        "layer": ("layer norms", 1.0),
        "model": ("weight norms", 1.0),
        "gaussian": ("standard deviations of a weight's noise", float(theta.double().norm() / directions[:, 0].norm()) or 1.0),
        "essay": ("filter norms, deviation 1 on biases", 0.3),
    }[kind]
    mean, variance = _moments(kind, spec.ignore, space, theta.double())
    return Axes(directions.to(theta), (unit,) * k, ((-reach, reach),) * k, variance, mean)


def _scale(kind: str, space: ParameterSpace, theta: Tensor, direction: Tensor) -> Tensor:
    """|w_s| / |d_s| for the slice s that each coordinate `(p,)` belongs to, under the rule `kind`."""
    if kind == "gaussian":
        return torch.ones_like(theta)
    groups = {"filter": space.filters, "essay": space.filters, "layer": space.layers}.get(kind)
    groups = torch.zeros(space.size, dtype=torch.long) if groups is None else groups
    groups = groups.to(theta.device)
    return (group_norms(theta, groups) / (group_norms(direction, groups) + 1e-10))[groups]


def _normalised(kind: str, ignore: str, space: ParameterSpace, theta: Tensor, direction: Tensor) -> Tensor:
    ignored = space.ignored.to(theta.device)
    if kind == "essay":  # the uncorrected rule: what has at most one dimension keeps un-normalised noise
        vectors = torch.cat([torch.full((e.size,), len(e.shape) <= 1) for e in space.entries]).to(theta.device)
        return torch.where(vectors, direction, direction * _scale(kind, space, theta, direction))
    kept = torch.zeros_like(ignored) if ignore == "none" else ignored
    zero = torch.zeros_like(theta)
    direction = torch.where(kept, zero, direction)
    scaled = direction * _scale(kind, space, torch.where(kept, zero, theta), direction)
    return torch.where(kept, theta, scaled) if ignore == "copy" else scaled


def _moments(kind: str, ignore: str, space: ParameterSpace, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance `(p,)` of a random direction: |w_s|^2 / m_s over the slice s of m_s entries; copied parts are fixed."""
    profile = _normalised(kind, ignore, space, theta, torch.ones_like(theta))
    fixed = space.ignored.to(theta.device) & torch.tensor(ignore == "copy" and kind != "essay", device=theta.device)
    zero = torch.zeros_like(theta)
    return torch.where(fixed, profile, zero), torch.where(fixed, zero, profile**2)


# -- directions from the training and from the loss ------------------------------------------------------------------


def _pca(spec: SurfaceSpec, context: Context, _draw: int) -> Axes:
    path = context.path(spec.trajectory)
    theta = path.thetas.double()
    if float((theta - theta[-1]).norm(dim=1).max()) <= ROUNDED * torch.finfo(path.thetas.dtype).eps * float(theta[-1].norm()):
        raise InputError("directions=pca: the checkpoints of this path are the same but for rounding; take random directions")
    found = pca(path.thetas, spec.dimensions, centered=spec.centered)
    steps, k = np.array(path.steps), spec.dimensions
    null = random_walk_share(steps, k, centered=spec.centered)
    return Axes(
        found.axes.to(context.objective.theta),
        ("L2 distance",) * spec.dimensions,
        _around(found.axes, path.thetas.to(context.objective.theta) - context.objective.theta, 0.2),
        explained_variance=float(found.shares.sum()),
        explained_variance_null=null,
        explained_variance_walk=random_walk_law(steps, k, path.thetas.shape[1], centered=spec.centered),
    )


def _gradient(spec: SurfaceSpec, context: Context, draw: int) -> Axes:
    """Along the gradient g/|g|; the second axis of a plane is a random one, made orthogonal and of unit norm."""
    gradient = context.objective.gradient().double()
    if not bool(gradient.norm() > 0):
        raise InputError("directions=gradient: the gradient is zero here; take random directions")
    axes = [gradient / gradient.norm()]
    if spec.dimensions == 2:
        other = _random(spec.model_copy(update={"directions": "filter", "dimensions": 1}), context, draw)
        second = orthogonalised(other.directions[:, 0].double(), axes[0])
        axes.append(second / second.norm())
    reach = _near(context.objective.theta)
    k = spec.dimensions
    return Axes(torch.stack(axes, 1).to(context.objective.theta), ("L2 distance",) * k, ((-reach, reach),) * k)


def _eigenvectors(spec: SurfaceSpec, context: Context, _draw: int) -> Axes:
    """Eigenvectors of the Hessian, in L2 units: the saddle (largest and smallest eigenvalue), or two of one end.

    The largest entry of each is positive. Boettcher & Wheeler 2022, arXiv:2208.13219: what random planes average away.
    """
    objective, k = context.objective, spec.dimensions
    top = {"both": 1, "top": k, "bottom": 0}[spec.ends]
    operator = objective.hessian(objective.theta)
    if not 1 <= k <= len(objective.theta):
        count = len(objective.theta)
        raise InputError(f"directions=eigenvectors: {count} parameter{'s' * (count != 1)} have no {k} eigenvectors")
    pairs = _own_tolerance(operator, eigenpairs(operator, top, k - top, seed=spec.seed, max_products=PRODUCTS), spec.seed)
    vectors = torch.cat([pairs.top_vectors, pairs.bottom_vectors], 1)
    values = torch.cat([pairs.top, pairs.bottom]).tolist()
    if not any(values):
        raise InputError("directions=eigenvectors: the Hessian is zero here; take random directions")
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    reach = _near(objective.theta)
    least = ROUNDED * torch.finfo(vectors.dtype).eps * pairs.norm
    units = tuple(f"L2 distance, eigenvalue {value if abs(value) > least else 0:.3g}" for value in values)
    residuals = (*pairs.top_residuals.tolist(), *_relative(pairs).tolist())
    return Axes((vectors * signs).to(objective.theta), units, ((-reach, reach),) * k, residuals=residuals)


def _relative(pairs: Eigenpairs) -> Tensor:
    """Residuals of the smallest eigenvalues against themselves, |Hv - lv| / |l|, not against the norm of H."""
    return pairs.bottom_residuals * pairs.norm / pairs.bottom.abs().clamp_min(torch.finfo(torch.float64).tiny)


def _own_tolerance(operator: LinearOperator, pairs: Eigenpairs, seed: int) -> Eigenpairs:
    """The pairs again, the smallest eigenvalues to the tolerance of their own size, as far as rounding and products allow.

    A small eigenvalue that is right against the norm of H may have a vector that is anything: it bends as little as the
    rest of the spectrum around it does.
    """
    least = ROUNDED * torch.finfo(pairs.bottom_vectors.dtype).eps
    spent = 0
    while len(pairs.bottom) and pairs.norm and float(_relative(pairs).max()) > TOLERANCE and spent < PRODUCTS:
        wanted = max(least, TOLERANCE * float(pairs.bottom.abs().min()) / pairs.norm)
        options = {"tolerance": wanted, "start": torch.cat([pairs.top_vectors, pairs.bottom_vectors], 1), "seed": seed}
        pairs = eigenpairs(operator, len(pairs.top), len(pairs.bottom), max_products=PRODUCTS - spent, **options)
        spent += pairs.products
        if wanted == least:
            break
    return pairs


def _difference(spec: SurfaceSpec, context: Context, draw: int) -> Axes:
    """From the source (0) to another checkpoint (1); a plane's second axis goes to a second one, or is random of equal norm."""
    theta = context.objective.theta
    anchors = [(name, context.weights(name).to(theta)) for name in spec.through]
    directions = [weights - theta for _, weights in anchors[: spec.dimensions]]
    units = [f"way to {name}" for name, _ in anchors[: spec.dimensions]]
    intervals = [(-0.5, 1.5)] * len(directions)
    if len(directions) < spec.dimensions:
        other = _random(spec.model_copy(update={"directions": "filter", "dimensions": 1}), context, draw).directions[:, 0]
        directions.append(other * (directions[0].norm() / other.norm()))
        units.append("filter-normalised noise as long as that way")
        intervals.append((-1.0, 1.0))
    named = ((context.source or "source", theta), *anchors[: spec.dimensions])
    return Axes(torch.stack(directions, 1), tuple(units), tuple(intervals), anchors=named)


def _through(spec: SurfaceSpec, context: Context, _draw: int) -> Axes:
    """The plane through three checkpoints in L2 units: orthonormal axes, the first towards the first of `through`."""
    theta = context.objective.theta.double()
    anchors = [(name, context.weights(name).to(theta)) for name in spec.through]
    first, second = (weights - theta for _, weights in anchors)
    if not bool(first.norm() > 0):
        raise InputError(f"'{spec.through[0]}' has the same weights as the source: three different checkpoints span a plane")
    second = orthogonalised(second, first)
    directions = torch.stack([first / first.norm(), second / second.norm()], 1)
    named = ((context.source or "source", theta), *anchors)
    intervals = _around(directions, torch.stack([weights - theta for _, weights in named]), 0.3)
    return Axes(directions.to(context.objective.theta), ("L2 distance",) * 2, intervals, anchors=named)


def _given(spec: SurfaceSpec, context: Context, _draw: int) -> Axes:
    """The caller's vectors, or direction_0 and direction_1 of a .npz file (such as a downloaded result)."""
    theta, k = context.objective.theta, spec.dimensions
    vectors = list(context.vectors) or _read_vectors(spec.given, k)
    if len(vectors) < k:
        raise InputError(f"directions=given: a {k}-dimensional slice needs {k} vectors (got {len(vectors)})")
    for i, vector in enumerate(vectors[:k]):
        if vector.shape != theta.shape:
            raise InputError(f"direction {i} has shape {tuple(vector.shape)}; the model has {len(theta)} parameters")
        if not bool(vector.isfinite().all()):
            raise InputError(f"direction {i} holds NaN or infinity")
        if not float(vector.double().norm()) <= FARTHEST:
            raise InputError(f"direction {i} is longer than {FARTHEST:g}: divide it by its norm and set the extent")
    return Axes(torch.stack([v.to(theta) for v in vectors[:k]], 1), ("lengths of the given vector",) * k, ((-1.0, 1.0),) * k)


def _read_vectors(file: str | None, count: int) -> list[Tensor]:
    if file is None:
        raise InputError("directions=given needs vectors: set given=FILE.npz with direction_0 and direction_1")
    try:
        arrays = unpack(Path(file).read_bytes(), file)
    except OSError as error:
        raise InputError(f"given={file}: {error.strerror or error}") from None
    names = [f"direction_{i}" for i in range(count)]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError(f"given={file} has no {' and no '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}")
    return [torch.from_numpy(arrays[name]) for name in names]


def _near(theta: Tensor) -> float:
    """A tenth of the weights' length, where they have one."""
    return 0.1 * float(theta.double().norm()) or 1.0


def _around(directions: Tensor, offsets: Tensor, margin: float) -> tuple[Interval, ...]:
    """For each axis the range of the points at `offsets (n, p)` from the origin, which it holds too, and a margin."""
    found = []
    for values in coordinates(directions, offsets).T:
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        pad = margin * (high - low) or 1.0
        found.append((low - pad, high + pad))
    return tuple(found)


BUILDERS: dict[str, Callable[[SurfaceSpec, Context, int], Axes]] = {
    **dict.fromkeys(("filter", "layer", "model", "gaussian", "essay"), _random),
    "pca": _pca,
    "gradient": _gradient,
    "eigenvectors": _eigenvectors,
    "difference": _difference,
    "through": _through,
    "given": _given,
}
