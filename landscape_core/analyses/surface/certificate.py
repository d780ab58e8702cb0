"""How far a slice can be trusted: what it holds of gradient, curvature and path, and whether its centre is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...linalg import basis, coordinates, cosine, random_walk_path, share
from ...measuring.context import Trajectory
from ...objective import Objective, Slice
from ...objective.curvature import CurvatureOperator
from ...objective.trees import tensors
from ...specs import Array, InputError
from .directions import Axes
from .probes import sample_losses, standard_error
from .shape import Rounding
from .shape import nonconvex_share as nonconvex_share
from .shape import plane_convexity as plane_convexity

ROUNDED = 8  # units in the last place that a sum over many entries may be off by, of its norm


def axes_card(axes: Axes) -> dict[str, Any]:
    """Units, norms and cosine of the axes, explained variance beside its random-walk null, and the anchors' coordinates."""
    card: dict[str, Any] = {}
    for i, direction in enumerate(axes.directions.T):
        card[f"direction_{i}"] = direction.cpu().numpy()
        card[f"axis_norm_{i}"] = float(direction.double().norm())
        card[f"unit_{i}"] = axes.units[i]
    card["axis_cosine"] = cosine(*axes.directions.T) if axes.directions.shape[1] == 2 else float("nan")
    card["axis_cosine_null"] = cosine_null(axes) if axes.directions.shape[1] == 2 and not axes.straightened else float("nan")
    if axes.residuals:
        card["axis_residuals"] = np.array(axes.residuals)
    card["explained_variance"] = float("nan") if axes.explained_variance is None else axes.explained_variance
    card["explained_variance_null"] = float("nan") if axes.explained_variance_null is None else axes.explained_variance_null
    if axes.explained_variance_walk is not None:
        card["explained_variance_walk"], card["explained_variance_walk_deviation"] = axes.explained_variance_walk
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


def center_card(part: Slice) -> dict[str, Any]:
    """The centre as the picture has it, and room for what it is held to: NaN until known."""
    fast = part.evaluate(np.zeros((1, len(part.directions))))
    unknown = dict.fromkeys(
        ("center_loss_reference", "center_deviation", "center_rounding", "center_loss_standard_error"), float("nan")
    )
    accuracy = float(fast["accuracy"][0]) if "accuracy" in fast else float("nan")
    return {"center_loss": float(fast["loss"][0]), "center_accuracy": accuracy, **unknown}


def reference_card(double: Objective, part: Slice, loss: float) -> dict[str, float]:
    """The centre beside a plain float64 evaluation, and what rounding of the outputs explains of the difference.

    Deviations are relative, |fast - plain| / |plain|: losses come in all units. Outputs of size s cannot give a loss better
    than about eps s: `center_rounding`, in the loss's own unit.
    """
    theta = part.origin.double()
    plain = double.evaluate(theta)
    gap, size = abs(loss - plain["loss"]), abs(plain["loss"])
    card = {
        "center_loss_reference": plain["loss"],
        "center_deviation": gap / size if size else 0.0 if gap == 0 else float("inf"),
        "center_rounding": float(torch.finfo(part.origin.dtype).eps) * _largest_output(double, theta),
    }
    return card | ({"center_accuracy": plain["accuracy"]} if "accuracy" in plain else {})


def _largest_output(objective: Objective, theta: Tensor) -> float:
    """Largest absolute value among the model's outputs on its first samples."""
    objective.network.set(theta)
    with torch.no_grad():
        outputs = objective.network(objective.chunks()[0].inputs)
    sizes = [float(t.abs().max()) for t in tensors(outputs) if t.is_floating_point() and t.numel()]
    return max((size for size in sizes if np.isfinite(size)), default=0.0)


def error_card(double: Objective, part: Slice) -> dict[str, float]:
    """The standard error of the mean loss over the sample. Raises InputError where samples have no losses of their own."""
    losses = sample_losses(double, part.origin.double())
    return {"center_loss_standard_error": standard_error(losses, double.reduction)}


def gradient_rounding(objective: Objective, gradient: Tensor) -> float:
    """What moving each weight by a unit in the last place or so makes of the gradient at the centre; the larger of two."""
    theta, generator = objective.theta, torch.Generator().manual_seed(0)
    found = []
    for _ in range(2):
        signs = torch.randint(0, 2, (len(theta),), generator=generator).to(theta) * 2 - 1
        moved = objective.gradient(theta * (1 + torch.finfo(theta.dtype).eps * signs))
        found.append(float((moved.double() - gradient.double()).norm()))
    return max(found)


def gradient_card(axes: Axes, gradient: Tensor) -> dict[str, float]:
    """The share of the gradient in the slice, |Q'g|^2 / |g|^2, beside what such axes hold on average.

    Random axes are d_i = f + r_i: a fixed part f (copied biases and normalisation parameters), the same in both, and noise
    r_i with variances v. With V = sum v, F = |f|^2 and A = sum v_j g_j^2 one axis is expected to hold
    (A + (f.g)^2) / ((V + F) |g|^2). Two span r_0 - r_1, which holds A / V, and f + (r_0 + r_1) / 2, which holds
    ((f.g)^2 + A / 2) / (F + V / 2): what is common counts once. 1/p each only where all variances are equal and f = 0.
    Other axes: k/p.
    """
    k = axes.directions.shape[1]
    g = gradient.double()
    expected = k / len(g)
    if axes.variance is not None and axes.mean is not None:
        noise, fixed = float((axes.variance * g**2).sum()), float((axes.mean @ g) ** 2)
        spread, common = float(axes.variance.sum()), float(axes.mean @ axes.mean)
        # r_0 - r_1 and the mean of the two axes are orthogonal, and so is what each holds.
        held = (fixed + noise / k) / (common + spread / k) + (noise / spread if k == 2 and spread else 0.0)
        size = float(g @ g)
        expected = held / size if size else float("nan")
    return {"gradient_norm": float(g.norm()), "gradient_share": share(axes.directions, g), "gradient_share_baseline": expected}


def cosine_null(axes: Axes) -> float:
    """Root mean square of the cosine of two axes of this random kind; NaN where they are not random.

    Of d_i = f + r_i with variances v in r: (|f|^4 + sum v^2)^(1/2) / (|f|^2 + sum v), 1 / sqrt(p) only for equal variances.
    """
    if axes.variance is None or axes.mean is None:
        return float("nan")
    common = float(axes.mean @ axes.mean)
    return float((common**2 + float(axes.variance.square().sum())) ** 0.5 / (common + float(axes.variance.sum())))


def difference_card(part: Slice, spacing: list[float], rounding: Rounding) -> dict[str, float]:
    """The second difference (f(h) - 2 f(0) + f(-h)) / h^2 along each axis at the grid's spacing h, and its rounding floor."""
    k = len(part.directions)
    steps = np.concatenate([np.zeros((1, k)), *(h * np.stack([e, -e]) for h, e in zip(spacing, np.eye(k), strict=True))])
    values = part.evaluate(steps)["loss"]
    card: dict[str, float] = {}
    with np.errstate(all="ignore"):
        errors = rounding(values)
        for i, h in enumerate(spacing):
            square, ends = np.float64(h) ** 2, slice(1 + 2 * i, 3 + 2 * i)
            card[f"second_difference_{i}"] = float((values[ends].sum() - 2 * values[0]) / square)
            card[f"second_difference_rounding_{i}"] = float((errors[ends].sum() + 2 * errors[0]) / square)
    return card


def curvature_card(operator: CurvatureOperator, part: Slice) -> dict[str, Any]:
    """Curvature d'Hd of each axis (per squared axis unit), eig(Q'HQ), and what rounding may make of either (per L2^2).

    A second difference meets d'Hd only as its step goes to zero; for ReLU nets kinks keep them apart.
    """
    directions = part.directions.T
    k = directions.shape[1]
    products = (operator @ directions).double()
    inner = directions.double().T @ products
    if not bool(inner.isfinite().all()):
        raise InputError("the Hessian-vector products are not finite")
    card: dict[str, Any] = {f"curvature_{i}": float(inner[i, i]) for i in range(k)} | {"curvature_note": ""}
    # Q = D R^-1, so Q'HQ = R^-T (D'HD) R^-1 needs no further product.
    inverse = torch.linalg.inv(basis(directions).T @ directions.double())
    card["plane_curvatures"] = torch.linalg.eigvalsh(inverse.T @ ((inner + inner.T) / 2) @ inverse).cpu().numpy()
    norms = directions.double().norm(dim=0)
    # A symmetric operator gives d0'Hd1 = d1'Hd0: what it misses, and the last place of the products, is rounding.
    missed = ((inner - inner.T).abs() / torch.outer(norms, norms)).max()
    last = ROUNDED * torch.finfo(directions.dtype).eps * (products.norm(dim=0) / norms).max()
    card["curvature_rounding"] = float(missed + last)
    return card


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
        "trajectory_rounding": ROUNDED * float(torch.finfo(part.origin.dtype).eps * part.origin.double().norm()),
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
