"""What all curvature operators share: columns, counts, blocks of parameters, pieces of data kept in memory or built anew."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ...specs import InputError
from ..batches import Batch, tensors
from ..host import tuned
from .checks import Facts, facts
from .reference import one_line_errors, twice_differentiable

if TYPE_CHECKING:
    from ..network import Network
    from ..objective import Objective

DENSE_LIMIT = 3000  # parameters up to which the whole matrix is made
MEMORY = 2 << 30  # bytes that kept graphs may take by default, where a quarter of the free memory is not less
COLUMNS = 64  # of the identity in one block, for the dense matrix


class Piece(Protocol):
    """One chunk of data with all that its products at this theta share; its size in `nbytes`, unless that is a graph's."""

    def add(self, members: Sequence[int], rows: Tensor, product: Tensor) -> None:
        """Add the matrix times each row of `rows` `(k, m)` to `product` `(k, m)`; m counts the parameters of `members`."""


class CurvatureOperator:
    """A symmetric matrix at one theta over the whole training sample, known by its products.

    `@` takes `(p,)` or `(p, k)` on any device, in any floating dtype, and answers in the Objective's own. Chunks of the data
    are worked on one after another. What a chunk's products share is kept between products while it fits into `memory` bytes
    (default: 2 GiB, or a quarter of what is free if that is less) and made anew for each product beyond; both give the same
    numbers. An operator keeps its theta and is not disturbed by anything the Objective does later; it is not thread-safe.
    """

    kind = ""

    def __init__(self, objective: Objective, theta: Tensor, *, memory: int | None = None):
        self.objective = objective
        self.theta = theta.detach().to(objective.theta, copy=True)
        if self.theta.shape != objective.theta.shape:
            raise InputError(f"theta must have shape ({len(objective.theta)},) (got {tuple(theta.shape)})")
        self.members: tuple[int, ...] = tuple(range(len(objective.space.entries)))
        self._notes: dict[str, str] = {}
        self._zeros = self._products = 0
        self._store = Store(self, memory)

    # -- what it is -------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """`(m, m)`, m the number of parameters it acts on."""
        size = sum(self.objective.space.entries[i].size for i in self.members)
        return size, size

    @property
    def dtype(self) -> torch.dtype:
        """The Objective's arithmetic."""
        return self.objective.dtype

    @property
    def device(self) -> torch.device:
        """Where products are computed and left."""
        return self.theta.device

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that it acts on, in the order of its coordinates."""
        return tuple(self.objective.space.entries[i].name for i in self.members)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person must know about the products made so far: one sentence each."""
        found = [*self._notes.values()]
        if self._zeros:
            which = "all" if self._zeros == self._products else f"{self._zeros} of"
            found.append(f"{which} {self._products} products were exactly zero: the loss has no curvature there")
        return tuple(found)

    # -- products ---------------------------------------------------------------------------------------------------

    def __matmul__(self, vectors: Tensor) -> Tensor:
        m = self.shape[0]
        if vectors.dim() not in (1, 2) or vectors.shape[0] != m:
            raise InputError(f"vectors must have shape (p,) or (p, k) with p = {m} (got {tuple(vectors.shape)})")
        with torch.inference_mode(False), tuned(self.dtype, self.device):
            rows = vectors.detach().to(self.theta).reshape(m, -1 if vectors.numel() else 0).T.contiguous()
            rows = rows.clone() if rows.is_inference() else rows
            product = torch.zeros_like(rows)
            if rows.shape[0]:
                with one_line_errors():
                    self._multiply(rows, product)
        self.objective.counts["products"] += len(rows)
        self._products += len(rows)
        if not bool(product.any(1).all()):
            self._zeros += int((~product.any(1) & rows.any(1)).sum())
        return product.T.reshape(vectors.shape)

    def _multiply(self, rows: Tensor, product: Tensor) -> None:
        """Add the matrix times each row `(k, m)` to `product` `(k, m)`."""
        with twice_differentiable(self._store.network):
            self._add(rows, product)

    def _add(self, rows: Tensor, product: Tensor) -> None:
        for piece in self._store.pieces():
            piece.add(self.members, rows, product)

    def build(self, store: Store, batch: Batch, number: int) -> Piece:
        """What the products of one chunk share; `number` counts the chunks. A graph is built on `store.network`."""
        raise NotImplementedError

    def dense(self) -> Tensor:
        """The matrix `(p, p)`, symmetric. Raises InputError for p > 3000."""
        m = self.shape[0]
        if m > DENSE_LIMIT:
            raise InputError(
                f"a dense matrix is made for at most {DENSE_LIMIT} parameters (this has {m}): restrict it to layers"
            )
        found = torch.empty(m, m, dtype=self.dtype, device=self.device)
        for i in range(0, m, COLUMNS):
            n = min(COLUMNS, m - i)
            columns = torch.zeros(m, n, dtype=self.dtype, device=self.device)
            columns[i : i + n].fill_diagonal_(1)
            found[:, i : i + n] = self @ columns
        return (found + found.T) / 2

    # -- blocks -----------------------------------------------------------------------------------------------------

    def restrict(self, entries: str | Sequence[str]) -> CurvatureOperator:
        """The diagonal block of the named parameters, in the order of theta; it shares what is kept with this operator.

        A name is one of `names`, or a module's, which stands for all parameters below it. Raises InputError for others.
        """
        wanted = [entries] if isinstance(entries, str) else list(entries)
        chosen: set[int] = set()
        for name in wanted:
            found = self.objective.space.under(name) & {*self.members}
            if not found:
                raise InputError(f"no parameter or layer is named {name!r}; there are: {', '.join(self.names)}")
            chosen |= found
        if not chosen:
            raise InputError("an operator needs at least one parameter")
        block = copy.copy(self)
        block.members = tuple(sorted(chosen))
        block._notes = dict(self._notes)
        block._zeros = block._products = 0
        return block

    def facts(self) -> Facts:
        """What a first look at the model's derivatives found, once an Objective."""
        if self.objective.curvature_facts is None:
            self.objective.curvature_facts = facts(self.objective)
        return self.objective.curvature_facts

    def parts(self, members: Sequence[int], row: Tensor) -> list[Tensor]:
        """The tensors of a flat vector `(m,)` over the parameters of `members`."""
        entries = [self.objective.space.entries[i] for i in members]
        pieces = row.split([e.size for e in entries])
        return [piece.view(e.shape) for piece, e in zip(pieces, entries, strict=True)]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """One vector of all entries."""
    return torch.cat([t.reshape(-1) for t in tensors])


class Store:
    """The pieces of the data, kept while they fit; blocks of one operator share it."""

    def __init__(self, operator: CurvatureOperator, memory: int | None):
        self._objective, self._theta = operator.objective, operator.theta
        self.builder = copy.copy(operator)  # without a store: no cycle
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

    def pieces(self) -> Iterator[Piece]:
        """One piece after another."""
        for number, batch in enumerate(self._objective.sweep.batches("train")):
            piece = self._kept.get(number)
            if piece is None:
                piece = self.builder.build(self, batch, number)
                self.built += 1
                if self._fits(piece, batch):
                    self._kept[number] = piece
            yield piece

    def _fits(self, piece: Piece, batch: Batch) -> bool:
        """Whether there is room for one more piece; takes it."""
        if self._room is None:
            self._room = _free(self._theta.device) if self._memory is None else self._memory
        needed = getattr(piece, "nbytes", None)
        if needed is None:
            kind = tuple(t.shape[1:] for t in tensors(batch.inputs))
            if kind not in self.linear:
                self.linear[kind] = self._bytes(batch)
            constant, per_row = self.linear[kind]
            needed = constant + per_row * batch.rows
        if needed > self._room:
            return False
        self._room -= int(needed)
        return True

    def _bytes(self, batch: Batch) -> tuple[float, float]:
        """What a graph keeps, as a constant and a part for each row: measured on two small pieces, or on this one."""
        few = max(2, batch.rows // 16)
        if 4 * few <= batch.rows:
            try:
                small, double = (self._measured(next(batch.chunks(n))) for n in (few, 2 * few))
                return max(0.0, 2 * small - double), max(0.0, double - small) / few
            except Exception:  # a model or a loss that takes whole batches only
                pass
        try:
            return 0.0, self._measured(batch) / max(1, batch.rows)
        except RuntimeError:  # torch.func inside a model forbids to look: nothing is kept
            return math.inf, 0.0

    def _measured(self, batch: Batch) -> int:
        sizes: dict[int, int] = {}
        own = self.network.buffer.untyped_storage().data_ptr()

        def pack(t: Tensor) -> Tensor:
            if t.layout == torch.strided:
                storage = t.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
            return t.detach()  # the tensor itself would close a cycle

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            self.builder.build(self, batch, 0)
        sizes.pop(own, None)
        return sum(sizes.values())


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return min(torch.cuda.mem_get_info(device)[0] // 4, 4 * MEMORY)
    try:
        return min(MEMORY, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)
    except (ValueError, OSError):  # not every system tells
        return MEMORY
