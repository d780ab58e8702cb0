"""What lies on top of a slice: the centre, anchors, the path of training, and the arrows of the gradient flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...drawing.known import has, scalar
from ...drawing.numbers import number
from ...specs import Array
from .quantity import Quantity, base_quantity, format_value

STEP = {"step": True}  # marks the trace that shows the checkpoint a person has stepped to
ARROW = 0.85  # longest arrow, in spacings of the arrow grid


def interpolate(part: Quantity, points: Array) -> Array:
    """The quantity at `points (t, 2)` by bilinear interpolation (linear on a line); NaN outside the grid."""
    points = np.asarray(points, dtype=np.float64)
    i, u = _locate(part.alphas, points[:, 0])
    if part.betas is None:
        mean = part.values.mean(axis=0)
        return (1 - u) * mean[i] + u * mean[i + 1]
    j, v = _locate(part.betas, points[:, 1])
    z = part.values
    return (1 - v) * ((1 - u) * z[i, j] + u * z[i + 1, j]) + v * ((1 - u) * z[i, j + 1] + u * z[i + 1, j + 1])


def _locate(axis: Array, at: Array) -> tuple[Array, Array]:
    index = np.clip(np.searchsorted(axis, at, side="right") - 1, 0, axis.size - 2)
    share = (at - axis[index]) / (axis[index + 1] - axis[index])
    inside = (share >= -1e-9) & (share <= 1 + 1e-9)
    return index, np.where(inside, share, np.nan)


@dataclass(frozen=True)
class Route:
    """The trajectory on the slice. Points outside the grid are kept; `inside` says which can be drawn on the surface."""

    steps: Array
    points: Array  # (t, 2), the second coordinate 0 on a line
    inside: Array
    height: Array  # the quantity at the checkpoint itself; NaN unless the quantity is the loss over the sample
    plane: Array  # the quantity at its projection
    residual: Array  # off-plane distance

    def hover(self, quantity: str) -> list[str]:
        """One text a point."""
        texts = []
        for k, step in enumerate(self.steps):
            lines = [f"<b>step {int(step):,}</b>", f"α {number(self.points[k, 0])}, β {number(self.points[k, 1])}"]
            if np.isfinite(self.height[k]):
                lines.append(f"{quantity} of the checkpoint {format_value(quantity, self.height[k])}")
            if np.isfinite(self.plane[k]):
                lines.append(f"{quantity} of its shadow in the plane {format_value(quantity, self.plane[k])}")
            if np.isfinite(self.residual[k]):
                lines.append(f"distance from the plane {number(self.residual[k])}")
            texts.append("<br>".join(lines))
        return texts

    @property
    def stepping(self) -> dict[str, list[int]]:
        """What a trace of this path says of itself, so that a person can step along it."""
        return {"steps": [int(step) for step in self.steps]}

    def remarks(self) -> list[str]:
        out = int((~self.inside).sum())
        return [f"{out} of {self.steps.size} checkpoints of the path lie outside the picture."] if out else []


def read_path(data: Mapping[str, Any], part: Quantity) -> Route | None:
    """The trajectory, or None where the result has none."""
    if not has(data, "trajectory_steps", "trajectory_coordinates"):
        return None
    steps = np.asarray(data["trajectory_steps"]).reshape(-1)
    points = np.asarray(data["trajectory_coordinates"], dtype=np.float64).reshape(steps.size, -1)
    points = np.column_stack([points[:, 0], points[:, 1] if points.shape[1] > 1 else np.zeros(steps.size)])
    inside = (points[:, 0] >= part.alphas[0]) & (points[:, 0] <= part.alphas[-1])
    if part.betas is not None:
        inside &= (points[:, 1] >= part.betas[0]) & (points[:, 1] <= part.betas[-1])
    unknown = np.full(steps.size, np.nan)

    def column(name: str) -> Array:
        return np.asarray(data[name], dtype=np.float64).reshape(-1) if has(data, name) else unknown

    own = part.quantity == "loss"
    plane = column("trajectory_plane_loss") if own else unknown
    plane = np.where(np.isfinite(plane), plane, interpolate(part, points))
    height = column("trajectory_loss") if own else unknown
    return Route(steps, points, inside, height, plane, column("trajectory_residual"))


def read_walk(data: Mapping[str, Any]) -> Array | None:
    """Where a random walk at the path's steps would lie in the plane of its principal axes `(t, 2)`, or None."""
    if not has(data, "random_walk_coordinates"):
        return None
    points = np.asarray(data["random_walk_coordinates"], dtype=np.float64)
    return points if points.ndim == 2 and points.shape[1] == 2 else None


@dataclass(frozen=True)
class Arrows:
    """Arrows of the flow as polylines: `(k, 6, 2)`, each tail, tip, left barb, tip, right barb, NaN."""

    lines: Array

    @property
    def flat(self) -> Array:
        return self.lines.reshape(-1, 2)


def read_arrows(data: Mapping[str, Any], part: Quantity) -> Arrows | None:
    """The projected gradient flow -(D'D)^-1 D' grad L as arrows; length grows with the root of the speed.

    Heads are built in units of the picture's sides, so that they look the same whatever the extents.
    """
    if part.betas is None or not has(data, "flow", "flow_alphas", "flow_betas"):
        return None
    flow = np.asarray(data["flow"], dtype=np.float64)
    a, b = np.asarray(data["flow_alphas"], dtype=np.float64), np.asarray(data["flow_betas"], dtype=np.float64)
    size = np.array([np.ptp(part.alphas), np.ptp(part.betas)])
    tails = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2) / size
    vectors = flow.reshape(-1, 2) / size
    speed = np.linalg.norm(vectors, axis=1)
    good = np.isfinite(speed) & (speed > 0)
    if not good.any():
        return None
    tails, vectors, speed = tails[good], vectors[good], speed[good]
    spacing = min(np.ptp(a) / size[0] / max(a.size - 1, 1), np.ptp(b) / size[1] / max(b.size - 1, 1)) or 0.1
    length = ARROW * spacing * np.sqrt(speed / speed.max())
    unit = vectors / speed[:, None]
    across = unit[:, ::-1] * [-1, 1]
    start, tip = tails - unit * length[:, None] / 2, tails + unit * length[:, None] / 2
    head = (np.minimum(length, 0.6 * spacing) * 0.38)[:, None]
    left, right = tip - head * (unit - 0.6 * across), tip - head * (unit + 0.6 * across)
    gap = np.full_like(tip, np.nan)
    return Arrows(np.stack([start, tip, left, tip, right, gap], axis=1) * size)


def center_point(data: Mapping[str, Any], part: Quantity) -> tuple[float, float, float] | None:
    """(α, β, value) of the weights that the slice goes through, or None where they lie outside the picture."""
    inside = part.alphas[0] <= 0 <= part.alphas[-1] and (part.betas is None or part.betas[0] <= 0 <= part.betas[-1])
    if not inside:
        return None
    value = scalar(data, f"center_{base_quantity(part.quantity)}") if not part.quantity.endswith("_test") else None
    if value is None:
        value = float(interpolate(part, np.zeros((1, 2)))[0])
    return 0.0, 0.0, value


def anchor_points(data: Mapping[str, Any], part: Quantity) -> list[tuple[float, float, float, str]]:
    """(α, β, value, label) of the other checkpoints that the slice goes through."""
    if not has(data, "anchors", "anchor_labels"):
        return []
    points = np.asarray(data["anchors"], dtype=np.float64)
    points = points.reshape(points.shape[0], -1)
    points = np.column_stack([points[:, 0], points[:, 1] if points.shape[1] > 1 else np.zeros(points.shape[0])])
    values = interpolate(part, points)
    labels = np.asarray(data["anchor_labels"]).reshape(-1)
    return [(float(p[0]), float(p[1]), float(v), str(label)) for p, v, label in zip(points, values, labels, strict=True)]
