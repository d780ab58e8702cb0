"""What all curvature operators share: columns, counts, blocks of parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...specs import DENSE_LIMIT, InputError
from ..batches import Batch
from ..host import tuned
from ..plain import PlainObjective
from .pieces import Piece, Pieces
from .reference import one_line_errors, twice_differentiable

COLUMNS = 64  # of the identity in one block, for the dense matrix


class CurvatureOperator:
    """A symmetric matrix at one theta over the whole training sample, known by its products.

    `@` takes `(p,)` or `(p, k)` on any device, in any floating dtype, and answers in the Objective's own. Chunks of the data
    are worked on one after another. What a chunk's products share is kept between products while it fits into `memory` bytes
    (default: 2 GiB, or a quarter of what is free if that is less) and made anew for each product beyond; both give the same
    numbers. An operator keeps its theta and is not disturbed by anything the Objective does later; it is not thread-safe.
    """

    kind = ""

    def __init__(self, objective: PlainObjective, theta: Tensor, *, memory: int | None = None):
        self.objective = objective
        self.theta = theta.detach().to(objective.theta, copy=True)
        if self.theta.shape != objective.theta.shape:
            raise InputError(f"theta must have shape ({len(objective.theta)},) (got {tuple(theta.shape)})")
        self.members: tuple[int, ...] = tuple(range(len(objective.space.entries)))
        self._notes: dict[str, str] = {}
        self._zeros = self._products = 0
        self._pieces = Pieces(objective, self.theta, memory)

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
            which = f"all {self._products}" if self._zeros == self._products else f"{self._zeros} of {self._products}"
            were = f"{which} products were" if self._zeros > 1 else f"{which} products was"
            were = "the only product was" if self._products == 1 else were
            along = "along those directions" if self._zeros > 1 else "along that direction"
            found.append(f"{were} exactly zero: the loss has no curvature {along}")
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
        if not bool(product.isfinite().all()) and bool(rows.isfinite().all()):
            raise InputError(self.not_finite())
        if not bool(product.any(1).all()):
            self._zeros += int((~product.any(1) & rows.any(1)).sum())
        return product.T.reshape(vectors.shape)

    def not_finite(self) -> str:
        """What is not finite at this point: weights, loss, gradient, or only the curvature."""
        if not bool(self.theta.isfinite().all()):
            return "the weights are not finite at this point"
        gradient, loss = self.objective.raw_gradient(self.theta)
        if not math.isfinite(loss):
            kind = "not a number" if math.isnan(loss) else "infinite"
            return f"the loss is {kind} at this point, so there is no curvature: the weights are too large for this arithmetic"
        what = "second derivative" if bool(gradient.isfinite().all()) else "gradient"
        return (
            f"the model's own {what} is not finite at this point, although its loss is {loss:.4g}: "
            "a norm, root, logarithm or quotient at zero, or numbers too large for this arithmetic"
        )

    def _multiply(self, rows: Tensor, product: Tensor) -> None:
        """Add the matrix times each row `(k, m)` to `product` `(k, m)`."""
        with twice_differentiable(self._pieces.network):
            self._add(rows, product)

    def _add(self, rows: Tensor, product: Tensor) -> None:
        for piece in self._pieces.each(self.piece):
            piece.add(self.members, rows, product)

    def piece(self, batch: Batch, number: int) -> Piece:
        """What the products of one chunk share; `number` counts the chunks. A graph is built on `self._pieces.network`."""
        raise NotImplementedError

    def dense(self) -> Tensor:
        """The matrix `(p, p)`, symmetric. Raises InputError for p > DENSE_LIMIT."""
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
