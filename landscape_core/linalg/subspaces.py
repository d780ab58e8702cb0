"""Lines and planes in a vector space: angles, shares, least-squares coordinates. Everything here works in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from ..specs import InputError


def cosine(a: Tensor, b: Tensor) -> float:
    """a.b / (|a| |b|) of vectors `(p,)`; NaN if one is zero."""
    a, b = a.double(), b.double()
    return float(a @ b / (a.norm() * b.norm()))


def orthogonalised(vector: Tensor, axis: Tensor) -> Tensor:
    """The part of `vector (p,)` orthogonal to `axis (p,)`, rescaled to its norm. Raises InputError if they are parallel."""
    v, a = vector.double(), axis.double()
    rest = v - (v @ a) / (a @ a) * a
    if rest.norm() <= 1e-9 * v.norm():
        raise InputError("the two axes are parallel: they span a line, not a plane; choose other directions or dimensions=1")
    return (rest * (v.norm() / rest.norm())).to(vector.dtype)


def coordinates(directions: Tensor, vectors: Tensor) -> Tensor:
    """Least-squares coordinates (D'D)^-1 D'v: directions `(p, k)`, vectors `(n, p)`, result `(n, k)` float64.

    Right for axes of any norm and at any angle.
    """
    d = directions.double()
    inner = torch.stack([vector.double() @ d for vector in vectors])
    return torch.linalg.solve(d.T @ d, inner.T).T


def basis(directions: Tensor) -> Tensor:
    """An orthonormal basis `(p, k)` of the span of directions `(p, k)`, float64."""
    return torch.linalg.qr(directions.double())[0]


def share(directions: Tensor, vector: Tensor) -> float:
    """|Q'v|^2 / |v|^2: how much of `vector (p,)` lies in the span of directions `(p, k)`; NaN for a zero vector."""
    v = vector.double()
    return float((basis(directions).T @ v).square().sum() / v.square().sum())
