"""Many points of one slice: what they share is kept, what a point needs is prepared once, and data is the outer loop."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batches import Batch
from ..host import tuned
from ..plain import PlainObjective
from ..threads import workers
from ..trees import map_tensors
from .program import Program
from .tally import Tally

GROUP = 16  # points that follow each other on the same piece of data
JOINED, JOINED_BYTES = 64, 4 << 20  # points in one product, if at least JOINED_FROM of them fit: inputs and outputs of a step
JOINED_FROM = 4
PREPARED_BYTES = 256 << 20  # parameters of points that wait for their turn
STORED_BYTES = 1 << 30  # outputs of first layers that a plan keeps; more are computed afresh in each run


@dataclass(frozen=True)
class Group:
    """Points that are evaluated together."""

    points: slice
    coordinates: Tensor  # (points, 1 + k), a leading 1 for the origin
    weights: list[Any]  # what the program needs of theta: for each point, or one for all if they are joined


class Plan:
    """Evaluates points origin + directions @ c of one slice by a program, over `batches`: pieces of the sample.

    `base` holds origin and directions `(1 + k, p)`; `cross_entropy`: whether the loss is a mean cross-entropy of classes.
    """

    def __init__(
        self, objective: PlainObjective, program: Program, base: Tensor, batches: tuple[Batch, ...], *, cross_entropy: bool
    ):
        self.objective, self.program, self.batches = objective, program, batches
        entries = objective.space.entries
        self._axes = [[row[e.offset : e.offset + e.size].view(e.shape) for e in entries] for row in base]
        self._shapes = [entries[i].shape for i in program.entries]
        columns = [base[:, entries[i].offset : entries[i].offset + entries[i].size] for i in program.entries]
        self._base = torch.cat(columns, 1) if columns else base[:, :0]  # (1 + k, p'): the parameters that a point needs
        self._tallies = [Tally(objective, batch, cross_entropy=cross_entropy) for batch in batches]
        self._keep = sum(b.rows for b in batches) * program.stored * len(base) <= STORED_BYTES
        self._kept: list[tuple[list[Tensor], list[Any]]] = []
        rows = max(b.rows for b in batches)
        self._joined = program.is_chain and JOINED_BYTES // (program.widest * rows) >= JOINED_FROM
        self._group = min(JOINED, JOINED_BYTES // (program.widest * rows)) if self._joined else GROUP

    def run(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Values at points `(n, k)`: arrays `(n,)` float64."""
        objective, count = self.objective, len(points)
        order = np.lexsort(points.T[::-1])  # points of one row of a grid follow each other
        coordinates = torch.from_numpy(np.hstack([np.ones((count, 1)), points[order]])).to(self._base)
        losses = torch.zeros(len(self.batches), count, dtype=torch.float64, device=objective.device)
        shares = {name: torch.zeros_like(losses) for name in self._tallies[0].names}

        def prepare(part: slice) -> Group:
            return Group(part, coordinates[part], self._weights(coordinates[part]))

        def evaluate(task: tuple[int, list[Group]]) -> None:
            number, groups = task
            read = self._kept[number] if self._keep else self._read(number)
            for group in groups:
                loss, found = self._tallies[number](self._outputs(group, *read), samples_last=self.program.is_chain)
                losses[number, group.points] = loss
                for name, share in found.items():
                    shares[name][number, group.points] = share

        numbers = range(len(self.batches))
        parts = self._parts(count)
        with (
            tuned(objective.dtype, objective.device),
            objective.network.exactly(),
            workers(objective.device, len(self.batches) * len(parts)) as (each, _),
        ):
            if self._keep and not self._kept:
                self._kept = each(self._read, numbers)
            for block in self._blocks(parts):
                groups = each(prepare, block)
                tasks = [[group] for group in groups] if self._keep else [groups]
                each(evaluate, itertools.product(numbers, tasks))
        objective.counts["forwards"] += count
        total, mass = losses.sum(0), sum(b.weight for b in self.batches)
        values = {"loss": total / mass if objective.reduction == "mean" else total}
        for name, share in shares.items():
            values[name] = share.sum(0) / sum(tally.mass(name) for tally in self._tallies)
        values = objective.named(values)
        back = np.argsort(order)
        return {name: value.cpu().numpy()[back] for name, value in values.items()}

    # -- points -----------------------------------------------------------------------------------------------------

    def _parts(self, count: int) -> list[slice]:
        """The points in groups of nearly equal size, enough of them for every thread."""
        most = min(self._group, max(1, PREPARED_BYTES // max(1, self._base.shape[1] * self._base.element_size())))
        edges = np.linspace(0, count, -(-count // most) + 1).round().astype(int)
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]

    def _blocks(self, parts: list[slice]) -> Iterator[list[slice]]:
        """The groups whose parameters are held at one time."""
        size = max(1, max(p.stop - p.start for p in parts) * self._base.shape[1] * self._base.element_size())
        step = max(1, PREPARED_BYTES // size)
        return (parts[i : i + step] for i in range(0, len(parts), step))

    def _weights(self, coordinates: Tensor) -> list[Any]:
        theta = coordinates @ self._base
        if self._joined:
            return [self._values(theta)]
        return [self._values(row) for row in theta]

    def _values(self, theta: Tensor) -> Any:
        """What the program needs of theta `(..., p')`."""
        parts = theta.split([shape.numel() for shape in self._shapes], -1)
        views = (part.view((*theta.shape[:-1], *shape)) for part, shape in zip(parts, self._shapes, strict=True))
        return self.program.weights(*views)

    # -- data -------------------------------------------------------------------------------------------------------

    def _read(self, number: int) -> tuple[list[Tensor], list[Any]]:
        """What all points share on one piece of data: the affine layers' outputs `(1 + k, ...)`, and other values."""
        inputs = self.batches[number].inputs
        if self.program.channels_last:
            inputs = map_tensors(inputs, _channels_last)
        sources, values = self.program.read(inputs)
        stored = []
        for layer, source in zip(self.program.affine, sources, strict=True):
            z = layer.stored(self.program.traced, source, self._axes)
            stored.append(torch.stack([part.T for part in z]) if self.program.is_chain else torch.stack(z))
        return stored, values

    def _outputs(self, group: Group, stored: list[Tensor], values: list[Any]) -> Any:
        """The network's outputs for a group: of each point, or of all if they are joined."""
        if self._joined:
            first = [(group.coordinates @ z.flatten(1)).view(-1, *z.shape[1:]) for z in stored]
            return self.program.combine(*first, *values, *group.weights[0])
        found = []
        rows: list[Tensor] = []
        before = None
        for coordinates, weights in zip(group.coordinates.tolist(), group.weights, strict=True):
            *head, last = coordinates
            if head != before:  # points of one row share all but their last coordinate
                rows, before = [_combined(z, head) for z in stored], head
            first = [torch.add(row, z[-1], alpha=last) for row, z in zip(rows, stored, strict=True)]
            found.append(self.program.combine(*first, *values, *weights))
        return found


def _combined(z: Tensor, weights: list[float]) -> Tensor:
    total = z[0]
    for part, weight in zip(z[1:-1], weights[1:], strict=True):
        total = torch.add(total, part, alpha=weight)
    return total


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
