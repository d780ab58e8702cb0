"""What the solvers ask of a linear operator, and the two steps that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..specs import InputError

PIECE = 1 << 15  # entries of a vector that are summed in its own precision
STATE_BYTES = 32 << 20  # of vectors that the state of unfinished probes may hold; of more, they begin anew


class LinearOperator(Protocol):
    """A symmetric operator on vectors of length p: `shape` is (p, p), `@` takes `(p,)` and `(p, k)`. A matrix is one."""

    @property
    def shape(self) -> Any:
        """(p, p)."""

    def __matmul__(self, vectors: Tensor) -> Tensor: ...


def kind_of(
    operator: LinearOperator, dtype: torch.dtype | None, device: torch.device | None
) -> tuple[torch.dtype, torch.device]:
    """The dtype and device of the vectors: as given, else the operator's own, else float64 on the CPU."""
    own = getattr(operator, "dtype", None), getattr(operator, "device", None)
    return dtype or own[0] or torch.float64, torch.device(device or own[1] or "cpu")


def size_of(operator: LinearOperator) -> int:
    """P of an operator. Raises InputError if it is not square."""
    rows, columns = operator.shape
    if rows != columns:
        raise InputError(f"a symmetric operator is square (got {rows} x {columns})")
    return int(rows)


def multiplied(operator: LinearOperator, vectors: Tensor, dtype: torch.dtype) -> Tensor:
    """The product with `(p,)` or `(p, k)` in a dtype. Raises InputError for one of another shape."""
    found: Tensor = operator @ vectors
    if found.shape != vectors.shape:
        raise InputError(f"the operator turned vectors of shape {tuple(vectors.shape)} into {tuple(found.shape)}")
    return found.detach().to(dtype)


def finite(numbers: np.ndarray) -> np.ndarray:
    """The numbers, already off the device. Raises InputError where a product was not finite: no eigenvalues can be had then."""
    if not np.isfinite(numbers).all():
        raise InputError("a product with the operator is not finite: the loss overflows or is undefined at these weights")
    return numbers


def generator(seed: int, index: int) -> torch.Generator:
    """The generator, on the CPU, of random vector number `index` of a seed: the same whatever was drawn before, and where."""
    key = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(key >> np.uint64(1)))


def random_signs(p: int, seed: int, index: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Rademacher vector `(p,)` number `index` of a seed."""
    signs = torch.randint(0, 2, (p,), generator=generator(seed, index), dtype=torch.int8)
    return signs.to(device=device, dtype=dtype) * 2 - 1


def random_direction(p: int, seed: int, index: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Vector `(p,)` number `index` of a seed, uniform on the unit sphere."""
    normal = torch.randn(p, generator=generator(seed, index), dtype=torch.float32)
    return unit(normal.to(device=device, dtype=dtype))


def unit(vectors: Tensor) -> Tensor:
    """Vectors `(p,)` or `(p, k)` over their norms, which are summed in float64."""
    return vectors / torch.linalg.vector_norm(vectors, dim=0, dtype=torch.float64).to(vectors.dtype)


def orthogonal(rows: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
    """(rest, coefficients in float64): `vector (p,)` without its parts along orthonormal `rows (m, p)`, in two passes.

    One pass leaves parts as large as rounding times the vector, which Lanczos turns into ghost copies of found eigenvalues.
    Long sums are taken in pieces that are added up in float64: a float32 product over a million entries on the CPU is wrong by
    some 1e-4 of the vectors' norms, and no second pass can mend what it cannot see.
    """
    piece = _piece(rows, vector)
    if vector.shape[0] <= piece:
        taken = rows @ vector
        rest = torch.addmv(vector, rows.T, taken, alpha=-1)
        again = rows @ rest
        return rest.addmv_(rows.T, again, alpha=-1), taken.double() + again
    starts = range(0, len(vector), piece)
    first = torch.zeros(len(rows), dtype=torch.float64, device=vector.device)
    second = torch.zeros_like(first)
    for a in starts:
        first += rows[:, a : a + piece] @ vector[a : a + piece]
    rest, taken = vector.clone(), first.to(vector.dtype)
    for a in starts:  # what the first pass leaves of a piece is read again while it is near
        part, block = rest[a : a + piece], rows[:, a : a + piece]
        part.addmv_(block.T, taken, alpha=-1)
        second += block @ part
    return rest.addmv_(rows.T, second.to(vector.dtype), alpha=-1), taken.double() + second


def orthogonal_each(rows: Tensor | Sequence[Tensor], vectors: Tensor) -> tuple[Tensor, Tensor]:
    """`orthogonal` of k vectors `(k, p)`, each with rows of its own: a list, or `(k, m, p)`, which short ones take together."""
    if isinstance(rows, Tensor) and vectors.shape[1] <= _piece(rows[0], vectors[0]):
        taken = vectors[:, None] @ rows.mT  # as rows: several times faster than as columns
        rest = torch.baddbmm(vectors[:, None], taken, rows, alpha=-1)
        again = rest @ rows.mT
        return rest.baddbmm_(again, rows, alpha=-1)[:, 0], (taken.double() + again)[:, 0]
    rests, coefficients = zip(*map(orthogonal, rows, vectors), strict=True)
    return torch.stack(rests), torch.stack(coefficients)


def _piece(rows: Tensor, vector: Tensor) -> int:
    """Over how many entries a sum is taken in the vector's own precision."""
    return vector.shape[0] if vector.device.type != "cpu" else min(PIECE, max(PIECE // 8, 2**19 // max(1, rows.shape[0])))
