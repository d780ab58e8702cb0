"""The Gauss-Newton matrix, and what it shares with every J' M J: the model's linearisation at its outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..batches import Batch
from ..network import Network
from ..space import ParameterSpace
from .operator import CurvatureOperator
from .outputs import OutputLoss
from .pieces import Piece
from .reference import refuse_severed

Middle = Callable[[Sequence[Tensor]], list[Tensor]]  # of a change of each tensor of the outputs


class GaussNewton(CurvatureOperator):
    """G = sum_b J_b' (d2 L / d outputs2) J_b, J the derivative of the outputs by theta (Schraudolph 2002).

    For any loss that autograd can differentiate twice by the outputs; positive semidefinite where the loss is convex in them.
    """

    kind = "ggn"

    def piece(self, batch: Batch, number: int) -> Piece:
        """The linearised model of one chunk with a matrix in the middle."""
        network = self._pieces.network
        outputs = network(batch.inputs)
        loss = OutputLoss(self.objective, outputs, batch)
        return Linearised(self.objective.space, network, loss.tensors, self.middle(network, outputs, loss, batch, number))

    def middle(self, network: Network, outputs: Any, loss: OutputLoss, batch: Batch, number: int) -> Middle:  # noqa: ARG002
        """M, as a function."""
        return loss.curvature


class Linearised:
    """J' M J of one chunk. J v is the derivative of J'u by u along v (both kept), so forward mode is not needed."""

    def __init__(self, space: ParameterSpace, network: Network, outputs: Sequence[Tensor], middle: Middle):
        self._space, self._parameters = space, network.parameters
        self._outputs, self._middle = outputs, middle
        self._dummies = [torch.zeros_like(t, requires_grad=True) for t in outputs]
        found = torch.autograd.grad(outputs, self._parameters, self._dummies, create_graph=True, allow_unused=True)
        self._transposed = {i: g for i, g in enumerate(found) if g is not None and g.requires_grad}
        refuse_severed(self._transposed.values())

    def add(self, members: Sequence[int], rows: Tensor, product: Tensor) -> None:
        own = [i for i in members if i in self._transposed]
        if not own:
            return
        parameters = [self._parameters[i] for i in own]
        transposed = [self._transposed[i] for i in own]
        for row, found in zip(rows, product, strict=True):
            parts = dict(zip(members, self._space.tensors(row, members), strict=True))
            places = dict(zip(members, self._space.tensors(found, members), strict=True))
            change = torch.autograd.grad(
                transposed,
                self._dummies,
                [parts[i] for i in own],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            pulled = torch.autograd.grad(self._outputs, parameters, self._middle(change), retain_graph=True, allow_unused=True)
            with torch.no_grad():
                for i, part in zip(own, pulled, strict=True):
                    if part is not None:
                        places[i] += part
