"""The Hessian as a linear operator: graphs of the gradient kept, or a chain's own rule, or differences of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal, get_args

import torch
from torch import Tensor

from ...specs import InputError
from ..batches import Batch
from ..network import Network
from ..plain import PlainObjective
from ..recognised import EXACT
from .checks import Facts, differences, facts
from .convolution import lean_convolutions
from .operator import CurvatureOperator
from .pieces import Piece
from .r_operator import ChainPiece
from .reference import refuse_severed, twice_differentiable

Method = Literal["auto", "graph", "chain", "differences"]

CHECKED = 8  # samples that the chain's rule is tried on


class Hessian(CurvatureOperator):
    """H = d2 L / d theta2 at one theta.

    `method="graph"`: reverse over reverse (Pearlmutter 1994), the gradient's graph kept for every chunk of data, convolutions
    in their lean forms where a few samples show them right. "chain": the rule written out for Linear layers and
    elementwise steps in a row, blocks of vectors in one product. "differences": central differences of float64 gradients, two a
    product, for models without a (right) second derivative. "auto" takes the chain if the network is one, which a few samples
    show, else the graph; or differences if a first look shows that the model's second derivatives are wrong (`notes` says so).
    `method` then names what is used. Attention runs on PyTorch's math backend inside, and recurrent layers without cuDNN, since
    the fused kernels have no second derivative. Raises InputError when the model has none, or for vectors of another length.
    """

    kind = "hessian"

    def __init__(self, objective: PlainObjective, theta: Tensor, *, method: Method = "auto", memory: int | None = None):
        if method not in get_args(Method):
            raise InputError(f"method must be one of {', '.join(get_args(Method))} (got {method!r})")
        self.method: Method = method
        self._double: PlainObjective | None = None
        super().__init__(objective, theta, memory=memory)

    def _multiply(self, rows: Tensor, product: Tensor) -> None:
        if self.method == "auto":
            with twice_differentiable(self.objective.network):
                self.method = self._choice()
        elif self.method == "chain" and not facts(self.objective).chain:
            raise InputError("the network is no chain of Linear layers and elementwise steps: use method='auto'")
        if self.method == "chain":
            with self.objective.network.exactly():  # arithmetic alone
                self._add(rows, product)
        elif self.method == "graph":
            super()._multiply(rows, product)
        else:
            with twice_differentiable(self.objective.network):
                self._differences(rows, product)

    def _differences(self, rows: Tensor, product: Tensor) -> None:
        self._notes.setdefault("differences", "products are central differences of gradients")
        self._double = self._double or self.objective.to(torch.float64)
        before = self._double.counts.copy()
        theta, space = self.theta.double(), self.objective.space
        for row, found in zip(rows, product, strict=True):
            whole = torch.zeros_like(theta)
            for part, place in zip(space.tensors(row, self.members), self._places(whole), strict=True):
                place.copy_(part)
            change = differences(self._double, theta, whole, facts(self.objective).step)
            found += torch.cat([t.reshape(-1) for t in self._places(change)]).to(found)
        self._double.counts = before

    def _choice(self) -> Method:
        self.objective.sloped().refuse()
        known = facts(self.objective)
        self._notes.update(known.notes)
        if not known.sound:
            return "differences"
        return "chain" if known.chain and self._follows(known) else "graph"

    def _follows(self, known: Facts) -> bool:
        """Whether the chain's rule gives the graph's product on a few samples."""
        network, batch = self.objective.network, self.objective.batches("train")[0]
        if self.objective.separate():
            batch = next(batch.chunks(CHECKED))
        network.set(self.theta)
        v = torch.randn(1, len(self.theta), generator=torch.Generator().manual_seed(0), dtype=self.dtype).to(self.theta)
        found, expected = torch.zeros_like(v), torch.zeros_like(v)
        every = range(len(self.objective.space.entries))
        ChainPiece(self.objective, self.theta, known.chain, batch).add(every, v, found)
        _Graph(self.objective, network, batch).add(every, v, expected)
        deviation = float((found - expected).norm())
        return deviation <= 100 * EXACT[self.dtype] * float(expected.norm())

    def _places(self, whole: Tensor) -> list[Tensor]:
        split = [*self.objective.space.split(whole).values()]
        return [split[i] for i in self.members]

    def piece(self, batch: Batch, number: int) -> Piece:  # noqa: ARG002
        """What products of one chunk's part of the loss share."""
        if self.method == "chain":
            with twice_differentiable(self.objective.network):
                return ChainPiece(self.objective, self.theta, facts(self.objective).chain, batch)
        return _Graph(self.objective, self._pieces.network, batch, lean=facts(self.objective).lean)


class _Graph:
    """The gradient of one chunk's term, differentiable once more."""

    def __init__(self, objective: PlainObjective, network: Network, batch: Batch, *, lean: bool = False):
        self._space = objective.space
        self._parameters = network.parameters
        with lean_convolutions() if lean else nullcontext():
            value = objective.weighted_term(network, batch)
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
            parts = self._space.aligned(row, members)
            with torch.no_grad():
                second = torch.autograd.grad(
                    gradient, parameters, [parts[j] for j in places], retain_graph=True, allow_unused=True
                )
                for place, part in zip(self._space.tensors(found, members), second, strict=True):
                    if part is not None:
                        place += part
