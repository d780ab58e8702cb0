"""The loss at weights that are not the given ones: what a network's build does there, it does everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..objective import Objective
from ..objective.trees import tensors
from ..specs import InputError

SAME = 1e-10  # relative: losses in float64 that differ by less are the same

DRAWS = 16  # random weights at which slopes are had, at most


class Elsewhere:
    """An Objective's loss and slopes in float64, at random weights of the sizes of its own."""

    def __init__(self, objective: Objective):
        self._given, self.space = objective, objective.space

    @cached_property
    def objective(self) -> Objective:
        """The same loss in float64."""
        return self._given.to(torch.float64)

    @cached_property
    def network(self) -> Any:
        """A private copy of its model."""
        return self.objective.replica()

    @cached_property
    def theta(self) -> Tensor:
        """The given weights `(p,)`."""
        return self.objective.theta

    def loss(self, theta: Tensor) -> float:
        """L(theta)."""
        return self.objective.raw_loss(theta)

    def slope(self, theta: Tensor, *, outputs: bool = False) -> Tensor:
        """The gradient `(p,)` of the loss, or of random weights times all `outputs`: exactly 0 where nothing is felt."""
        if not outputs:
            return self.objective.raw_gradient(theta)[0]
        network, total = self.network, torch.zeros_like(self.theta)
        network.set(theta)
        draw = torch.Generator().manual_seed(1)
        with torch.enable_grad(), network.exactly():
            for batch in self.objective.batches():
                for part in tensors(network(batch.inputs)):
                    if part.requires_grad:
                        weights = torch.randn(part.shape, generator=draw, dtype=torch.float64).to(part)
                        total += network.gradient((weights * part).sum())
        return total

    def drawn(self, seed: int, scale: float = 1.0, keep: int = 0) -> Tensor:
        """Random weights of the sizes of the given ones, of one over the root of the fan-in where those are 0.

        The first `keep` coordinates stay as they are.
        """
        draw = torch.Generator().manual_seed(seed)
        theta = self.theta.clone()
        for entry, part in zip(self.space.entries, self.space.split(theta).values(), strict=True):
            noise = torch.randn(part.shape, generator=draw, dtype=torch.float64).to(part)
            size = float(part.square().mean().sqrt()) or (entry.size // max(1, part.shape[0] if part.dim() else 1)) ** -0.5
            if entry.offset >= keep:
                part.copy_(scale * size * noise)
        return theta

    @cached_property
    def point(self) -> Tensor:
        """Weights at which the loss can be had, away from the given ones."""
        for theta in (self.drawn(1), self.drawn(2, 0.1), self.theta + self.drawn(3, 0.01)):
            value = self.loss(theta)
            if value == value and abs(value) != float("inf"):
                return theta
        raise InputError("the loss is not finite near these weights")

    def same(self, theta: Tensor, tolerance: float = SAME) -> bool:
        """Whether the loss at `theta` is the one elsewhere."""
        return abs(self.loss(theta) - self._base) <= tolerance * abs(self._base)

    @cached_property
    def _base(self) -> float:
        return self.loss(self.point)

    @cached_property
    def first_slope(self) -> Tensor:
        """The gradient `(p,)` elsewhere."""
        return self.slope(self.point)

    def slopes(self) -> Iterator[Tensor]:
        """Gradients elsewhere: at opposite weights, at the given ones, near them, and at random ones; finite ones only."""
        yield self.first_slope
        yield self.slope(-self.point)
        yield self.slope(self.theta)
        for seed in range(DRAWS):
            theta = self.drawn(31 + seed, 0.3 ** (seed % 3))
            slope = self.slope(self.theta + theta if seed % 2 else theta)
            if bool(slope.isfinite().all()):
                yield slope
