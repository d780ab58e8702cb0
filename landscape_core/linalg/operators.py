"""What the solvers ask of a linear operator, and the two steps that they share."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ..specs import InputError


class LinearOperator(Protocol):
    """A symmetric operator on vectors of length p: `shape` is (p, p), `@` takes `(p,)` and `(p, k)`. A matrix is one."""

    @property
    def shape(self) -> Any:
        """(p, p)."""

    def __matmul__(self, vectors: Tensor) -> Tensor: ...


def kind_of(operator: Any, like: Tensor | None = None) -> tuple[torch.dtype, torch.device]:
    """The dtype and device of an operator's vectors: its own, else those of `like`, else float64 on the CPU."""
    dtype = getattr(operator, "dtype", None) or (like.dtype if like is not None else torch.float64)
    device = getattr(operator, "device", None) or (like.device if like is not None else torch.device("cpu"))
    return dtype, torch.device(device)


def size_of(operator: Any) -> int:
    """P of an operator. Raises InputError if it is not square."""
    rows, columns = operator.shape
    if rows != columns:
        raise InputError(f"a symmetric operator is square (got {rows} x {columns})")
    return int(rows)


def multiplied(operator: Any, vectors: Tensor) -> Tensor:
    """The product with `(p,)` or `(p, k)`. Raises InputError where it is not finite: no spectrum can be had then."""
    found: Tensor = operator @ vectors
    if not bool(torch.isfinite(found).all()):
        raise InputError("a product with the operator is not finite: the loss overflows or is undefined at these weights")
    return found


def random_signs(p: int, count: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Rademacher vectors `(p, count)`, drawn on the CPU: the same on every device."""
    signs = torch.randint(0, 2, (count, p), generator=generator, dtype=torch.int8).T
    return signs.to(device=device, dtype=dtype) * 2 - 1


def orthogonal(rows: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
    """(rest, coefficients): `vector (p,)` without its parts along orthonormal `rows (m, p)`, in two Gram-Schmidt passes.

    One pass leaves parts as large as rounding times the vector, which Lanczos turns into ghost copies of found eigenvalues.
    """
    first = rows @ vector
    rest = vector - first @ rows
    second = rows @ rest
    return rest - second @ rows, first + second
