"""The Hessian as a linear operator: graphs of the gradient kept, or a chain's own rule, or differences of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ...specs import InputError
from ..batches import Batch
from .checks import differences
from .operator import CurvatureOperator, Piece, flat
from .reference import refuse_severed

if TYPE_CHECKING:
    from ..network import Network
    from ..objective import Objective

Method = Literal["auto", "graph", "differences"]


class Hessian(CurvatureOperator):
    """H = d2 L / d theta2 at one theta.

    `method="graph"`: reverse over reverse (Pearlmutter 1994), the gradient's graph kept for every chunk of data. "differences":
    central differences of float64 gradients, two an product, for models without a (right) second derivative. "auto" takes the
    graph, or differences if a first look shows that the model's second derivatives are wrong (`notes` says so). Attention runs
    on PyTorch's math backend inside, and recurrent layers without cuDNN, since the fused kernels have no second derivative.
    Raises InputError when the model has none, or for vectors of another length.
    """

    kind = "hessian"

    def __init__(self, objective: Objective, theta: Tensor, *, method: Method = "auto", memory: int | None = None):
        if method not in ("auto", "graph", "differences"):
            raise InputError(f"method must be 'auto', 'graph' or 'differences' (got {method!r})")
        self.method: Method = method
        self._double: Objective | None = None
        super().__init__(objective, theta, memory=memory)

    def _multiply(self, rows: Tensor, product: Tensor) -> None:
        if self.method == "auto":
            self.method = "graph" if self.facts().sound else "differences"
        if self.method == "graph":
            super()._multiply(rows, product)
            return
        self._notes.setdefault("differences", "products are central differences of gradients")
        self._double = self._double or self.objective.to(torch.float64)
        before = self._double.counts.copy()
        theta = self.theta.double()
        for row, found in zip(rows, product, strict=True):
            whole = torch.zeros_like(theta)
            for part, place in zip(self.parts(self.members, row), self._places(whole), strict=True):
                place.copy_(part)
            change = differences(self._double, theta, whole)
            found += flat(self._places(change)).to(found)
        self._double.counts = before

    def _places(self, whole: Tensor) -> list[Tensor]:
        split = [*self.objective.space.split(whole).values()]
        return [split[i] for i in self.members]

    def build(self, network: Network, batch: Batch, number: int) -> Piece:  # noqa: ARG002
        """The graph of the gradient of one chunk's part of the loss."""
        return _Graph(self, network, batch)


class _Graph:
    """The gradient of one chunk's term, differentiable once more."""

    def __init__(self, operator: Hessian, network: Network, batch: Batch):
        self._parts = operator.parts
        self._parameters = network.parameters
        value = operator.objective.weighted_term(network, batch)
        found: Sequence[Tensor | None] = [None] * len(self._parameters)
        if value.requires_grad:
            found = torch.autograd.grad(value, self._parameters, create_graph=True, allow_unused=True)
        # What has no graph does not depend on theta any more: no curvature.
        self._gradient = {i: g for i, g in enumerate(found) if g is not None and g.requires_grad}
        refuse_severed(self._gradient.values())

    def add(self, members: Sequence[int], rows: Tensor, product: Tensor) -> None:
        own = [i for i in members if i in self._gradient]
        if not own:
            return
        parameters = [self._parameters[i] for i in members]
        gradient = [self._gradient[i] for i in own]
        places = [members.index(i) for i in own]
        for row, found in zip(rows, product, strict=True):
            parts = self._parts(members, row)
            with torch.no_grad():
                second = torch.autograd.grad(
                    gradient, parameters, [parts[j] for j in places], retain_graph=True, allow_unused=True
                )
                for place, part in zip(self._parts(members, found), second, strict=True):
                    if part is not None:
                        place += part
