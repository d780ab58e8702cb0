"""Many points of one slice through a network's program: first layer shared, points joined or cached beside their data."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .accuracy import correct
from .batches import Batch
from .host import tuned
from .program import Program, Unsupported
from .threads import workers

if TYPE_CHECKING:
    from .objective import Objective, Split

GROUP_BYTES = 64 << 20  # parameters of the points that are evaluated together
SHARED_BYTES = 768 << 20  # outputs of the first layer that are kept for a slice; more are computed afresh for each call
JOINED_POINTS = 32
JOINED_BYTES = 1 << 20  # the widest value of joined points


class Plan:
    """Evaluates points origin + directions @ c of one slice. Raises Unsupported where the plain path must serve."""

    def __init__(self, objective: Objective, program: Program, base: Tensor, batches: tuple[Batch, ...]):
        self.objective, self.program, self.batches = objective, program, batches
        self.base = base  # (1 + k, p): origin and directions
        self._shared: list[Tensor] | None = None
        self._seen = sum(int((b.targets >= 0).sum()) for b in batches if isinstance(b.targets, Tensor))
        self._inputs: list[tuple[Any, ...]] = [self._arguments(batch) for batch in batches]

    def run(self, points: np.ndarray, split: Split) -> dict[str, np.ndarray]:
        """Values at points `(n, k)`: arrays `(n,)` float64."""
        objective, count = self.objective, len(points)
        ones = np.ones((count, 1))
        weights = torch.from_numpy(np.hstack([ones, points])).to(self.base)  # (n, 1 + k)
        losses = torch.zeros(count, dtype=torch.float64, device=objective.device)
        hits = torch.zeros(count, dtype=torch.float64, device=objective.device)
        classes = [True]

        def work(part: slice) -> None:
            for group in self._groups(part):
                classes[0] &= self._group(weights[group], losses[group], hits[group])

        with tuned(objective.dtype, objective.device):
            with torch.inference_mode():
                self._share()
            with workers(objective.device, count) as (submit, n):
                edges = np.linspace(0, count, n + 1).astype(int)
                parts = [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
                for finish in [submit(work, part) for part in parts]:
                    finish()
        objective.counts["forwards"] += count
        size = objective.size(split)
        values = {"loss": losses / size if objective.reduction == "mean" else losses}
        if classes[0]:
            values["accuracy"] = hits / self._seen
            values["error"] = 1 - values["accuracy"]
        return {name: value.cpu().numpy() for name, value in values.items()}

    # -- points -----------------------------------------------------------------------------------------------------

    def _groups(self, part: slice) -> list[slice]:
        most = max(1, GROUP_BYTES // (self.base.shape[1] * self.base.element_size()))
        if self.program.joinable:
            most = min(most, JOINED_POINTS)
        return [slice(i, min(i + most, part.stop)) for i in range(part.start, part.stop, most)]

    def _group(self, weights: Tensor, losses: Tensor, hits: Tensor) -> bool:
        """Add the losses and hits of a group of points; whether the task is a classification."""
        theta = weights @ self.base
        joined = self.program.joinable and len(weights) > 1
        views = [theta[:, e.offset : e.offset + e.size].view(-1, *e.shape) for e in self.objective.space.entries]
        if joined:
            together = [take(views) for take in self.program.takes]
        else:
            points = [[view[i] for view in views] for i in range(len(weights))]
            apart = [[take(point) for take in self.program.takes] for point in points]
        classes = True
        for number, (batch, inputs) in enumerate(zip(self.batches, self._inputs, strict=True)):
            shared = self._first(number)
            if joined:
                first = None if shared is None else (weights @ shared.flatten(1)).view(-1, *shared.shape[1:])
                classes &= self._joined(self.program.forward(together, first, *inputs), batch, losses, hits)
                continue
            row, before = torch.empty(0), None
            for i, own in enumerate(apart):
                first = None
                if shared is not None:
                    head = weights[i, :-1].tolist()
                    if head != before:  # points of one grid row share all but the last coordinate
                        row, before = _combined(shared, head), head
                    first = torch.add(row, shared[-1], alpha=float(weights[i, -1]))
                outputs = self.program.forward(own, first, *inputs)
                losses[i] += self.objective.term(outputs, batch).double()
                right = correct(outputs, batch.targets)
                classes &= right is not None
                if right is not None:
                    hits[i] += right.sum()
        return classes

    def _joined(self, outputs: Tensor, batch: Batch, losses: Tensor, hits: Tensor) -> bool:
        if outputs.dim() != 3:
            raise Unsupported("joined points need outputs (samples, features)")
        terms = torch.func.vmap(lambda own: self.objective.term(own, batch))(outputs)
        losses += terms.double()
        if correct(outputs[0], batch.targets) is None:
            return False
        value, index = outputs.max(-1)
        hits += ((index == batch.targets) & ~value.isnan()).sum(-1)
        return True

    # -- data -------------------------------------------------------------------------------------------------------

    def _arguments(self, batch: Batch) -> tuple[Any, ...]:
        inputs = batch.inputs if isinstance(batch.inputs, tuple) else (batch.inputs,)
        if not all(isinstance(t, Tensor) for t in inputs):
            raise Unsupported("inputs that are not tensors")
        if self.program.channels_last:
            inputs = tuple(t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in inputs)
        return inputs

    def _share(self) -> None:
        """The first layer's output for origin and directions, if all of it may be kept."""
        first = self.program.first
        if first is None or self._shared is not None:
            return
        sample = self._compute(0)
        if sample.numel() * sample.element_size() * len(self.batches) <= SHARED_BYTES:
            self._shared = [sample, *(self._compute(i) for i in range(1, len(self.batches)))]

    def _first(self, number: int) -> Tensor | None:
        if self.program.first is None:
            return None
        return self._compute(number) if self._shared is None else self._shared[number]

    def _compute(self, number: int) -> Tensor:
        """`(1 + k, ...)`: the first layer's output for the origin and each direction; it is linear in its parameters."""
        first = self.program.first
        assert first is not None
        x = first.prepare(*self._inputs[number])
        entries = self.objective.space.entries
        rows = [[row[e.offset : e.offset + e.size].view(e.shape) for e in entries] for row in self.base]
        return torch.stack([first.outputs(x, row) for row in rows])


def _combined(shared: Tensor, weights: list[float]) -> Tensor:
    row = shared[0] * weights[0] if weights[0] != 1 else shared[0]
    for value, weight in zip(shared[1:-1], weights[1:], strict=True):
        row = torch.add(row, value, alpha=weight)
    return row
