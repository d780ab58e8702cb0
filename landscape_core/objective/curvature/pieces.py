"""What the products of one chunk of data share: kept in memory while it fits, made anew beyond."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..batches import Batch
from ..foreign import pass_over
from ..network import Network
from ..plain import PlainObjective
from ..trees import tensors

MEMORY = 2 << 30  # bytes that kept graphs may take by default, where a quarter of the free memory is not less


class Piece(Protocol):
    """One chunk of data with all that its products at this theta share; its size in `nbytes`, unless that is a graph's."""

    def add(self, members: Sequence[int], rows: Tensor, product: Tensor) -> None:
        """Add the matrix times each row of `rows` `(k, m)` to `product` `(k, m)`; m counts the parameters of `members`."""


Make = Callable[[Batch, int], Piece]


class Pieces:
    """The pieces of the data at theta `(p,)`, kept while they fit into `memory` bytes; blocks of one operator share them."""

    def __init__(self, objective: PlainObjective, theta: Tensor, memory: int | None):
        self._objective, self._theta = objective, theta
        self._network: Network | None = None
        self._memory = memory
        self._kept: dict[int, Piece] = {}
        self._room: int | None = None  # bytes left
        # Bytes of a graph, by the shapes of a sample: a constant, and for each row.
        self.linear: dict[tuple[torch.Size, ...], tuple[float, float]] = {}
        self.built = 0  # pieces made so far

    @property
    def network(self) -> Network:
        """A copy of the model at this theta, for this operator alone: kept graphs point into its parameters."""
        if self._network is None:
            network = self._objective.replica()
            network.set(self._theta)
            self._network = network
        return self._network

    def each(self, make: Make) -> Iterator[Piece]:
        """One piece after another, by `make(batch, number)` where it is not kept."""
        for number, batch in enumerate(self._objective.chunks("train")):
            piece = self._kept.get(number)
            if piece is None:
                piece = make(batch, number)
                self.built += 1
                if self._fits(piece, batch, make):
                    self._kept[number] = piece
            yield piece

    def _fits(self, piece: Piece, batch: Batch, make: Make) -> bool:
        """Whether there is room for one more piece; takes it."""
        if self._room is None:
            self._room = _free(self._theta.device) if self._memory is None else self._memory
        needed = getattr(piece, "nbytes", None)
        if needed is None:
            kind = tuple(t.shape[1:] for t in tensors(batch.inputs))
            if kind not in self.linear:
                self.linear[kind] = self._bytes(batch, make)
            constant, per_row = self.linear[kind]
            needed = constant + per_row * batch.rows
        if needed > self._room:
            return False
        self._room -= int(needed)
        return True

    def _bytes(self, batch: Batch, make: Make) -> tuple[float, float]:
        """What a graph keeps, as a constant and a part for each row: measured on two small pieces, or on this one."""
        few = max(2, batch.rows // 16)
        if 4 * few <= batch.rows:
            try:
                small, double = (self._measured(next(batch.chunks(n)), make) for n in (few, 2 * few))
                return max(0.0, 2 * small - double), max(0.0, double - small) / few
            except Exception as error:  # a model or a loss that takes whole batches only
                pass_over(error)
        try:
            return 0.0, self._measured(batch, make) / max(1, batch.rows)
        except RuntimeError:  # torch.func inside a model forbids to look: nothing is kept
            return math.inf, 0.0

    def _measured(self, batch: Batch, make: Make) -> int:
        sizes: dict[int, int] = {}
        own = self.network.buffer.untyped_storage().data_ptr()

        def pack(t: Tensor) -> Tensor:
            if t.layout == torch.strided:
                storage = t.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
            return t.detach()  # the tensor itself would close a cycle

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            make(batch, 0)
        sizes.pop(own, None)
        return sum(sizes.values())


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return min(torch.cuda.mem_get_info(device)[0] // 4, 4 * MEMORY)
    try:
        return min(MEMORY, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)
    except (ValueError, OSError):  # not every system tells
        return MEMORY
