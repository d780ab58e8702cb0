"""What the solvers ask of a linear operator, and the two steps that they share."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..specs import InputError

STATE_BYTES = 32 << 20  # of vectors that the state of unfinished probes may hold; of more, they begin anew


class LinearOperator(Protocol):
    """A symmetric operator on vectors of length p: `shape` is (p, p), `@` takes `(p,)` and `(p, k)`. A matrix is one."""

    @property
    def shape(self) -> Any:
        """(p, p)."""

    def __matmul__(self, vectors: Tensor) -> Tensor: ...


def kind_of(operator: Any, dtype: torch.dtype | None, device: torch.device | None) -> tuple[torch.dtype, torch.device]:
    """The dtype and device of the vectors: as given, else the operator's own, else float64 on the CPU."""
    own = getattr(operator, "dtype", None), getattr(operator, "device", None)
    return dtype or own[0] or torch.float64, torch.device(device or own[1] or "cpu")


def size_of(operator: Any) -> int:
    """P of an operator. Raises InputError if it is not square."""
    rows, columns = operator.shape
    if rows != columns:
        raise InputError(f"a symmetric operator is square (got {rows} x {columns})")
    return int(rows)


def multiplied(operator: Any, vectors: Tensor, dtype: torch.dtype) -> Tensor:
    """The product with `(p,)` or `(p, k)` in a dtype. Raises InputError for one of another shape."""
    found: Tensor = operator @ vectors
    if found.shape != vectors.shape:
        raise InputError(f"the operator turned vectors of shape {tuple(vectors.shape)} into {tuple(found.shape)}")
    return found.detach().to(dtype)


def finite(numbers: np.ndarray) -> np.ndarray:
    """The numbers, already off the device. Raises InputError where a product was not finite: no spectrum can be had then."""
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


def orthogonal(rows: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
    """(rest, coefficients): `vector (p,)` without its parts along orthonormal `rows (m, p)`, in two Gram-Schmidt passes.

    One pass leaves parts as large as rounding times the vector, which Lanczos turns into ghost copies of found eigenvalues.
    """
    first = rows @ vector
    rest = vector - first @ rows
    second = rows @ rest
    return rest - second @ rows, first + second
