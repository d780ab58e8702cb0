"""The loss on an affine family of points: lines and planes through parameter space."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .foreign import pass_over
from .plain import PlainObjective
from .plans import Plan
from .sweep import Sweep
from .taken import Split

PLAN_FROM = 3  # points from which making a plan pays
LARGEST = 1e12  # weights up to which every intermediate value stays far from overflow in float32


class Slice:
    """f(c) = L(origin + directions @ c) for coordinates c `(k,)`; origin `(p,)`, directions `(p, k)`."""

    def __init__(self, objective: PlainObjective, sweep: Sweep, origin: Tensor, directions: Tensor):
        self.objective, self._sweep = objective, sweep
        self.origin = origin.to(objective.theta)
        self.directions = directions.to(objective.theta).T.contiguous()  # (k, p): one axis after the other in memory
        self._plans: dict[str, Plan | None] = {}

    def point(self, coordinates: np.ndarray | list[float]) -> Tensor:
        """Theta `(p,)` at coordinates `(k,)`."""
        theta = self.origin.clone()
        for c, direction in zip(self._finite(np.asarray(coordinates, float)), self.directions, strict=True):
            theta.add_(direction, alpha=float(c))
        return theta

    def _finite(self, coordinates: np.ndarray) -> np.ndarray:
        """Coordinates as far as this arithmetic goes: what lies beyond overflows there too."""
        largest = torch.finfo(self.origin.dtype).max
        return np.clip(coordinates, -largest, largest)

    def evaluate(self, coordinates: np.ndarray, split: Split = "train") -> dict[str, np.ndarray]:
        """Loss, accuracy and error at coordinates `(n, k)`: arrays `(n,)` float64; accuracy only for a classification."""
        points = np.asarray(coordinates, dtype=float).reshape(-1, len(self.directions))
        plan = self._plan(split, points)
        if plan is None:
            return self._plainly(points, split)
        try:
            values = plan.run(points)
        except Exception as error:  # batches unlike those of the check; the plain path says what is wrong, if anything
            pass_over(error)
            self._plans[split] = None
            return self._plainly(points, split)
        odd = ~np.isfinite(values["loss"]) | ~self._moderate(points)
        if odd.any():  # where numbers end, how they end depends on the order of operations
            for name, found in self._plainly(points[odd], split).items():
                values[name][odd] = found
        return values

    def _plainly(self, points: np.ndarray, split: Split) -> dict[str, np.ndarray]:
        points = self._finite(points)

        def fill(i: int, out: Tensor) -> None:
            torch.add(self.origin, self.directions[0], alpha=points[i, 0], out=out)
            for c, direction in zip(points[i, 1:], self.directions[1:], strict=True):
                out.add_(direction, alpha=c)

        return self._sweep.run(fill, len(points), split)

    def _plan(self, split: Split, points: np.ndarray) -> Plan | None:
        """The plan of this slice for a split, if the network has a program that gives what the plain path gives."""
        if split not in self._plans and len(points) >= PLAN_FROM:
            self._plans[split] = self._sweep.plan(split, torch.stack([self.origin, *self.directions]), points)
        return self._plans.get(split)

    def _moderate(self, points: np.ndarray) -> np.ndarray:
        """Which points have only coordinates that no product can overflow with."""
        reach = self._reach[0] + np.abs(points) @ self._reach[1:]
        return reach < LARGEST

    @cached_property
    def _reach(self) -> np.ndarray:
        return np.array([float(axis.abs().max()) for axis in (self.origin, *self.directions)])
