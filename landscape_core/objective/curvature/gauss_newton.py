"""The Gauss-Newton matrix, and what it shares with every J' M J: the model's linearisation at its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...specs import InputError
from ..batches import Batch
from ..network import Network
from ..plain import PlainObjective
from ..space import ParameterSpace
from ..trees import map_tensors
from .operator import CurvatureOperator
from .outputs import OutputLoss, depending
from .pieces import Piece
from .reference import severed

STEP = 1e-6  # of differences of outputs, relative to |theta|: float64 rounds them by 1e-10
Changed = Callable[[Mapping[int, Tensor]], Sequence[Tensor]]  # of parts of a vector, by entry of theta
Middle = Callable[[Sequence[Tensor]], list[Tensor]]  # of a change of each tensor of the outputs


class GaussNewton(CurvatureOperator):
    """G = sum_b J_b' (d2 L / d outputs2) J_b, J the derivative of the outputs by theta (Schraudolph 2002).

    For any loss that autograd can differentiate twice by the outputs; positive semidefinite where the loss is convex in them.
    """

    kind = "ggn"
    _double: PlainObjective | None = None

    def piece(self, batch: Batch, number: int) -> Piece:
        """The linearised model of one chunk with a matrix in the middle."""
        if self.objective.found().entangled:
            raise InputError(
                "the loss reads more than the model's outputs (its weights, or what it stores), so it has no curvature by the "
                "outputs alone: take the Hessian"
            )
        network = self._pieces.network
        outputs = network(batch.inputs)
        loss = OutputLoss(self.objective, outputs, batch)
        read = [leaf for leaf, slope in zip(loss.leaves, loss.slope, strict=True) if bool(slope.any())]
        if batch.rows > 1 and read and all(leaf.dim() == 0 for leaf in read):
            raise InputError(
                "the loss is one of the model's outputs, so it has no curvature by them: let loss compute it from the scores, "
                "or take the Hessian"
            )
        middle = self.middle(network, outputs, loss, batch, number)
        return Linearised(self.objective.space, network, loss.tensors, middle, lambda parts: self._changed(batch, parts))

    def _changed(self, batch: Batch, parts: Mapping[int, Tensor]) -> list[Tensor]:
        """J v of a batch for v in some entries of theta: (z(theta + h v) - z(theta - h v)) / 2h of the outputs z in float64."""
        self._notes.setdefault(
            "differences", "PyTorch has no second derivative of the model: changes of its outputs are differences in float64"
        )
        objective = self.objective
        double = self._double = self._double or objective.to(torch.float64)
        vector = torch.zeros_like(double.theta)
        for i, entry in enumerate(objective.space.entries):
            if i in parts:
                vector[entry.offset : entry.offset + entry.size] = parts[i].reshape(-1)
        norm = float(vector.norm())
        h = STEP * max(1.0, float(self.theta.norm())) / (norm or 1.0)
        inputs = map_tensors(batch.inputs, lambda t: t.double() if t.is_floating_point() else t)
        found = []
        for sign in (1, -1):
            double.network.set(self.theta.double() + sign * h * vector)
            with torch.enable_grad():
                found.append([t.detach() for t in depending(double.network(inputs))])
        return [((a - b) / (2 * h)).to(self.dtype) for a, b in zip(*found, strict=True)]

    def middle(self, network: Network, outputs: Any, loss: OutputLoss, batch: Batch, number: int) -> Middle:  # noqa: ARG002
        """M, as a function."""
        return loss.curvature


class Linearised:
    """J' M J of one chunk. J v is the derivative of J'u by u along v (both kept), so forward mode is not needed.

    Where PyTorch has no second derivative of the model, J v is a central difference of the outputs in float64 (`changed`).
    """

    def __init__(self, space: ParameterSpace, network: Network, outputs: Sequence[Tensor], middle: Middle, changed: Changed):
        self._space, self._parameters = space, network.parameters
        self._outputs, self._middle, self._changed = outputs, middle, changed
        self._dummies = [torch.zeros_like(t, requires_grad=True) for t in outputs]
        found = torch.autograd.grad(outputs, self._parameters, self._dummies, create_graph=True, allow_unused=True)
        given = {i: g for i, g in enumerate(found) if g is not None}
        self._differences = severed(given.values())
        self._transposed = given if self._differences else {i: g for i, g in given.items() if g.requires_grad}

    def add(self, members: Sequence[int], rows: Tensor, product: Tensor) -> None:
        own = [i for i in members if i in self._transposed]
        if not own:
            return
        parameters = [self._parameters[i] for i in own]
        for row, found in zip(rows, product, strict=True):
            change = self._along(members, own, row)
            pulled = torch.autograd.grad(self._outputs, parameters, self._middle(change), retain_graph=True, allow_unused=True)
            places = dict(zip(members, self._space.tensors(found, members), strict=True))
            with torch.no_grad():
                for i, part in zip(own, pulled, strict=True):
                    if part is not None:
                        places[i] += part

    def _along(self, members: Sequence[int], own: Sequence[int], row: Tensor) -> Sequence[Tensor]:
        """J v for v in the coordinates of `members`."""
        parts = dict(zip(members, self._space.aligned(row, members), strict=True))
        if not self._differences:
            try:
                return torch.autograd.grad(
                    [self._transposed[i] for i in own],
                    self._dummies,
                    [parts[i] for i in own],
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
            except (RuntimeError, NotImplementedError) as error:
                if "not implemented" not in str(error):
                    raise
                self._differences = True
        return self._changed(parts)
