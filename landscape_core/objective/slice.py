"""The loss on an affine family of points: lines and planes through parameter space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .plan import Plan

if TYPE_CHECKING:
    from .objective import Objective, Split


class Slice:
    """f(c) = L(origin + directions @ c) for coordinates c `(k,)`; origin `(p,)`, directions `(p, k)`."""

    def __init__(self, objective: Objective, origin: Tensor, directions: Tensor):
        self.objective = objective
        self.origin = origin.to(objective.theta)
        self.directions = directions.to(objective.theta).T.contiguous()  # (k, p): one axis after the other in memory
        self._plans: dict[str, Plan | None] = {}

    def point(self, coordinates: np.ndarray | list[float]) -> Tensor:
        """Theta `(p,)` at coordinates `(k,)`."""
        theta = self.origin.clone()
        for c, direction in zip(coordinates, self.directions, strict=True):
            theta.add_(direction, alpha=float(c))
        return theta

    def evaluate(self, coordinates: np.ndarray, split: Split = "train") -> dict[str, np.ndarray]:
        """Loss, accuracy and error at coordinates `(n, k)`: arrays `(n,)` float64; accuracy only for a classification."""
        points = np.asarray(coordinates, dtype=float).reshape(-1, len(self.directions))

        def fill(i: int, out: Tensor) -> None:
            torch.add(self.origin, self.directions[0], alpha=points[i, 0], out=out)
            for c, direction in zip(points[i, 1:], self.directions[1:], strict=True):
                out.add_(direction, alpha=c)

        plan = self._plan(split, points) if len(points) else None
        return self.objective.sweep.run(fill, len(points), split) if plan is None else plan.run(points, split)

    def _plan(self, split: Split, points: np.ndarray) -> Plan | None:
        """The plan of this slice for a split, if the network has a program that gives what the plain path gives."""
        if split not in self._plans:
            self._plans[split] = self.objective.sweep.plan(split, torch.stack([self.origin, *self.directions]), points[-1])
        return self._plans[split]
