"""How far a slice can be trusted: what it holds of gradient, curvature and path, and whether its centre is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...linalg import basis, coordinates, cosine, random_walk_path, share
from ...measuring.context import Trajectory
from ...objective import Objective, Slice
from ...specs import Array, InputError
from .directions import Axes


def axes_card(axes: Axes) -> dict[str, Any]:
    """Units, norms and cosine of the axes, explained variance beside its random-walk null, and the anchors' coordinates."""
    card: dict[str, Any] = {}
    for i, direction in enumerate(axes.directions.T):
        card[f"direction_{i}"] = direction.cpu().numpy()
        card[f"axis_norm_{i}"] = float(direction.double().norm())
        card[f"unit_{i}"] = axes.units[i]
    card["axis_cosine"] = cosine(*axes.directions.T) if axes.directions.shape[1] == 2 else float("nan")
    card["explained_variance"] = float("nan") if axes.explained_variance is None else axes.explained_variance
    card["explained_variance_null"] = float("nan") if axes.explained_variance_null is None else axes.explained_variance_null
    if axes.anchors:
        origin = axes.anchors[0][1].double()
        card["anchors"] = (
            coordinates(axes.directions, torch.stack([w.double() - origin for _, w in axes.anchors])).cpu().numpy()
        )
        card["anchor_labels"] = np.array([name for name, _ in axes.anchors])
    return card


def sample_card(objective: Objective) -> dict[str, Any]:
    """How many samples the losses rest on."""
    test = objective.size("test") if objective.has_test else 0
    return {"sample_size": np.array(objective.size()), "sample_size_test": np.array(test)}


def center_card(objective: Objective, double: Objective, part: Slice) -> dict[str, Any]:
    """The centre: fast path beside a plain float64 evaluation, sample size and standard error of the mean loss."""
    fast = part.evaluate(np.zeros((1, len(part.directions))))
    plain = double.evaluate(part.origin.double())
    card = {
        "center_loss": float(fast["loss"][0]),
        "center_loss_reference": plain["loss"],
        "center_deviation": abs(float(fast["loss"][0]) - plain["loss"]) / max(1.0, abs(plain["loss"])),
        "center_accuracy": plain.get("accuracy", float("nan")),
        **sample_card(objective),
        "center_loss_standard_error": float("nan"),
    }
    try:
        losses = double.sample_losses(part.origin.double())
    except (InputError, RuntimeError):  # a loss that does not split into samples has no standard error
        return card
    scale = 1.0 if objective.reduction == "mean" else float(len(losses))
    card["center_loss_standard_error"] = scale * float(losses.std()) / len(losses) ** 0.5
    return card


def gradient_card(axes: Axes, gradient: Tensor) -> dict[str, float]:
    """The share of the gradient in the slice, |Q'g|^2 / |g|^2, beside what such axes hold on average.

    For random axes with coordinate variances v and fixed part f one axis is expected to hold
    (sum v_i g_i^2 + (f.g)^2) / ((sum v_i + |f|^2) |g|^2): 1/p only where all variances are equal. Other axes: k/p.
    """
    k = axes.directions.shape[1]
    g = gradient.double()
    expected = k / len(g)
    if axes.variance is not None and axes.mean is not None:
        along = (axes.variance * g**2).sum() + (axes.mean @ g) ** 2
        expected = k * float(along / ((axes.variance.sum() + axes.mean @ axes.mean) * (g @ g)))
    return {"gradient_norm": float(g.norm()), "gradient_share": share(axes.directions, g), "gradient_share_baseline": expected}


def curvature_card(objective: Objective, part: Slice, spacing: list[float]) -> dict[str, Any]:
    """Curvature d'Hd of each axis (per squared axis unit) beside the second difference at the grid's spacing h, and eig(Q'HQ).

    (f(h) - 2 f(0) + f(-h)) / h^2 meets d'Hd only as h -> 0; for ReLU nets kinks keep them apart.
    """
    directions = part.directions.T
    k = directions.shape[1]
    steps = np.concatenate([np.zeros((1, k)), *(h * np.stack([e, -e]) for h, e in zip(spacing, np.eye(k), strict=True))])
    values = part.evaluate(steps)["loss"]
    card: dict[str, Any] = {}
    for i, h in enumerate(spacing):
        card[f"second_difference_{i}"] = float((values[1 + 2 * i] - 2 * values[0] + values[2 + 2 * i]) / h**2)
    card.update({f"curvature_{i}": float("nan") for i in range(k)}, plane_curvatures=np.full(k, np.nan), curvature_note="")
    try:
        products = (objective.hessian(part.origin) @ directions).double()
    except InputError as error:
        card["curvature_note"] = str(error)
        return card
    inner = directions.double().T @ products
    if not bool(inner.isfinite().all()):
        card["curvature_note"] = "the Hessian-vector products are not finite"
        return card
    card.update({f"curvature_{i}": float(inner[i, i]) for i in range(k)})
    # Q = D R^-1, so Q'HQ = R^-T (D'HD) R^-1 needs no further product.
    inverse = torch.linalg.inv(basis(directions).T @ directions.double())
    card["plane_curvatures"] = torch.linalg.eigvalsh(inverse.T @ ((inner + inner.T) / 2) @ inverse).cpu().numpy()
    return card


def plane_convexity(alphas: Array, betas: Array, loss: Array) -> Array:
    """Smaller eigenvalue / larger absolute one of the 2x2 finite-difference Hessian in (alpha, beta): `(n - 2, m - 2)`.

    Between -1 and 1; negative where the picture bends downwards in some direction; NaN beside values that are not finite.
    """
    a, b = float(alphas[1] - alphas[0]), float(betas[1] - betas[0])
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        mid = loss[1:-1, 1:-1]
        faa = (loss[2:, 1:-1] - 2 * mid + loss[:-2, 1:-1]) / a**2
        fbb = (loss[1:-1, 2:] - 2 * mid + loss[1:-1, :-2]) / b**2
        fab = (loss[2:, 2:] - loss[2:, :-2] - loss[:-2, 2:] + loss[:-2, :-2]) / (4 * a * b)
        center, radius = (faa + fbb) / 2, np.hypot((faa - fbb) / 2, fab)
        low, size = center - radius, np.maximum(np.abs(center + radius), np.abs(center - radius))
        found: Array = np.where(size == 0, 0.0, low / size)
    return found


def nonconvex_share(alphas: Array, betas: Array, loss: Array) -> float:
    """Share of interior cells whose 2x2 finite-difference Hessian in (alpha, beta) is not convex.

    A cell counts when its smaller eigenvalue lies below -0.05 times the absolute value of its larger one; cells with a
    non-finite neighbour are left out. NaN if none is left.
    """
    if min(loss.shape) < 3:
        return float("nan")
    bent = plane_convexity(alphas, betas, loss)
    known = np.isfinite(bent)
    return float((bent[known] < -0.05).mean()) if known.any() else float("nan")


def trajectory_card(objective: Objective, part: Slice, path: Trajectory) -> dict[str, Any]:
    """The path on the slice by least squares: coordinates, distance off it, and loss there beside loss at the checkpoint."""
    offsets = path.thetas.to(part.origin) - part.origin
    directions = part.directions.T
    found = coordinates(directions, offsets)
    on_plane = found @ directions.double().T
    actual = objective.losses(path.thetas.to(part.origin)).numpy()
    projected = part.evaluate(found.cpu().numpy())["loss"]
    return {
        "trajectory_steps": np.array(path.steps),
        "trajectory_coordinates": found.cpu().numpy(),
        "trajectory_residual": (offsets.double() - on_plane).norm(dim=1).cpu().numpy(),
        "trajectory_loss": actual,
        "trajectory_plane_loss": projected,
        "trajectory_height_error": np.abs(actual - projected),
    }


def random_walk_card(axes: Axes, path: Trajectory, found: Array, *, centered: bool) -> dict[str, Any]:
    """Where a random walk at the same steps would lie on its own principal axes, as long as the path `found (t, k)` in all."""
    about = found - (found.mean(0) if centered else found[-1])
    assert axes.explained_variance is not None
    length = (float((about**2).sum()) / axes.explained_variance) ** 0.5
    walk = length * random_walk_path(np.array(path.steps), found.shape[1], centered=centered)
    return {"random_walk_coordinates": found - about + walk}


def projected_flow(objective: Objective, part: Slice, point: list[float]) -> np.ndarray:
    """The projected gradient flow -(D'D)^-1 D' grad L `(k,)` at coordinates `(k,)`, in axis units."""
    gradient = objective.gradient(part.point(point))
    return -coordinates(part.directions.T, gradient[None])[0].cpu().numpy()
