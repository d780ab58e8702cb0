"""Spaces of directions in theta along which a network's function cannot change, and how many of them a matrix shows as flat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..objective import Entry

RANK = 1e-9  # of the largest eigenvalue of X'X in float64: what counts as zero
INDEPENDENT = 1e-14  # of the largest eigenvalue of D'D: directions that fewer others span


def flat(matrix: Tensor, directions: Tensor, basis: Tensor, zero: float, *, definite: bool) -> Tensor:
    """Orthonormal columns in the span of `directions` `(p, m)`, orthogonal to `basis`, along which the matrix is within `zero`.

    Along v that is |H v| <= zero, or v'Hv <= zero of a matrix that is `definite`.
    """
    lengths = directions.norm(dim=0)
    rest = directions[:, lengths > 0] / lengths[lengths > 0]
    if rest.shape[1] > len(rest):  # as many random mixtures span the same
        rest = rest @ torch.randn(rest.shape[1], len(rest), generator=torch.Generator().manual_seed(29), dtype=rest.dtype)
        rest /= rest.norm(dim=0)
    for _ in range(2):
        rest = rest - basis @ (basis.T @ rest)
    if not rest.shape[1]:
        return rest
    sizes, mixes = torch.linalg.eigh(rest.T @ rest)
    own = rest @ mixes[:, sizes > INDEPENDENT * max(1.0, float(sizes[-1]))]
    if not own.shape[1]:
        return own
    own = torch.linalg.qr(own / own.norm(dim=0))[0]
    own = torch.linalg.qr(own - basis @ (basis.T @ own))[0]
    bent = matrix @ own
    bends, mixes = torch.linalg.eigh(own.T @ bent if definite else bent.T @ bent)
    return own @ mixes[:, bends <= (zero if definite else zero**2)]


def unit_vectors(spots: Tensor) -> Tensor:
    """The unit vectors of the coordinates marked in `spots` `(p,)`, as columns."""
    return torch.eye(len(spots), dtype=torch.float64)[:, spots.cpu()]


def alike(parts: list[tuple[Entry, int]], size: int) -> Tensor:
    """Directions that add one vector to all slices of a tensor along a dimension."""
    found = []
    for entry, dim in parts:
        count = entry.size // entry.shape[dim]
        rest = entry.shape[:dim] + entry.shape[dim + 1 :]
        unit = torch.eye(count, dtype=torch.float64).view(count, *rest).unsqueeze(dim + 1)
        columns = torch.zeros(size, count, dtype=torch.float64)
        columns[_places(entry)] = unit.expand(count, *entry.shape).reshape(count, -1).T
        found.append(columns)
    return torch.cat(found, 1)


def neurons(null: Tensor, entries: list[Entry], rows: int, size: int) -> Tensor:
    """Directions that add a vector of `null` `(d, n)` to (w, b) of one neuron."""
    n = null.shape[1]
    found = torch.zeros(size, rows, n, dtype=torch.float64)
    spots = torch.cat([torch.arange(e.offset, e.offset + e.size).view(rows, -1) for e in entries], 1)  # (rows, d)
    for i in range(rows):
        found[spots[i], i] = null
    return found.reshape(size, rows * n)


def scales(parts: list[Entry], rows: int, theta: Tensor) -> Tensor:
    """The weights of each row themselves, as directions."""
    found = torch.zeros(len(theta), rows, dtype=torch.float64)
    for entry in parts:
        spots = torch.arange(entry.offset, entry.offset + entry.size).view(rows, -1)
        found[spots, torch.arange(rows)[:, None]] = theta[spots]
    return found


# -- two tensors, one behind the other --------------------------------------------------------------------------------------


def units(entry: Entry) -> int:
    """How many units a tensor makes: its first dimension."""
    return entry.shape[0] if entry.shape else 1


def reads(entry: Entry, count: int) -> bool:
    """Whether the second dimension of a tensor can count units, each of them read in one or several places."""
    if len(entry.shape) < 2:
        return entry.size == count
    return bool(entry.shape[1]) and entry.shape[1] % count == 0


def mixed(theta: Tensor, first: Entry, bias: Entry | None, second: Entry, mix: Tensor, back: Tensor) -> Tensor:
    """Theta with the units that `first` and its bias make mixed by `mix` `(h, h)`, and what `second` reads by `back`."""
    moved = theta.clone()
    for entry in (first, bias):
        if entry is not None:
            rows = _rows(moved, entry, len(mix))
            rows.copy_(mix.to(rows) @ rows)
    read = _read(moved, second, len(mix))
    read.copy_(torch.einsum("ohk,hj->ojk", read, back.to(read)))
    return moved


@dataclass(frozen=True)
class Pair:
    """Units made by `first` and its bias, read by `second`, with the bias behind it: z = B s(A x + b) + c."""

    first: Entry
    bias: Entry | None
    second: Entry
    behind: Entry | None

    def scales(self, theta: Tensor) -> Tensor:
        """Directions (A_i, b_i, -B_i) of each unit i."""
        h = units(self.first)
        return torch.stack([self._mixture(theta, torch.diag(row)) for row in torch.eye(h, dtype=torch.float64)], 1)

    def biases(self, theta: Tensor) -> Tensor:
        """Directions (b + e_i, c - B e_i)."""
        h = units(self.first)
        return torch.stack([self.moved(theta, unit) - theta for unit in torch.eye(h, dtype=torch.float64)], 1)

    def moved(self, theta: Tensor, by: Tensor) -> Tensor:
        """Theta with `by` `(h,)` added to b and B times that taken from c."""
        assert self.bias is not None
        assert self.behind is not None
        moved = theta.clone()
        moved[_places(self.bias)] += by.to(theta)
        read = _read(theta, self.second, len(by)).sum(2) @ by.to(theta)
        moved[_places(self.behind)] -= read if len(read) == self.behind.size else read.sum()
        return moved

    def linear(self, theta: Tensor) -> Tensor:
        """All directions that leave B (A x + b) + c alone, with s the identity.

        (M A, M b, -B M) for any M; what B does not read added to A and b; what A and b do not make added to B; and `biases`.
        """
        h, draw = units(self.first), torch.Generator().manual_seed(19)
        count = min(h * h, len(theta))
        found = [self._mixture(theta, torch.randn(h, h, generator=draw, dtype=torch.float64)) for _ in range(count)]
        made = [entry for entry in (self.first, self.bias) if entry is not None]
        rows = torch.cat([_rows(theta, entry, h) for entry in made], 1)
        read = _read(theta, self.second, h)
        unread, unmade = _kernel(read.permute(0, 2, 1).reshape(-1, h)), _kernel(rows.T)
        for entry in made:
            for i in range(entry.size // h):
                for vector in unread.T:
                    column = torch.zeros_like(theta)
                    _rows(column, entry, h)[:, i] = vector
                    found.append(column)
        for o in range(read.shape[0]):
            for k in range(read.shape[2]):
                for vector in unmade.T:
                    column = torch.zeros_like(theta)
                    _read(column, self.second, h)[o, :, k] = vector
                    found.append(column)
        columns = torch.stack(found, 1)
        return columns if self.bias is None or self.behind is None else torch.cat([columns, self.biases(theta)], 1)

    def _mixture(self, theta: Tensor, mix: Tensor) -> Tensor:
        """(M A, M b, -B M)."""
        found = torch.zeros_like(theta)
        for entry in (self.first, self.bias):
            if entry is not None:
                _rows(found, entry, len(mix)).copy_(mix @ _rows(theta, entry, len(mix)))
        read = _read(theta, self.second, len(mix))
        _read(found, self.second, len(mix)).copy_(-torch.einsum("ohk,hj->ojk", read, mix))
        return found


def _places(entry: Entry) -> slice:
    return slice(entry.offset, entry.offset + entry.size)


def _rows(theta: Tensor, entry: Entry, h: int) -> Tensor:
    """The tensor as what makes h units `(h, n)`, a view."""
    return theta[_places(entry)].view(h, -1)


def _read(theta: Tensor, entry: Entry, h: int) -> Tensor:
    """The tensor as what reads h units, each in k places: `(outputs, h, k)`, a view."""
    return theta[_places(entry)].view(entry.shape[0] if len(entry.shape) > 1 else 1, h, -1)


def _kernel(matrix: Tensor) -> Tensor:
    """Orthonormal columns z `(h, n)` with `matrix` `(m, h)` z = 0."""
    values, vectors = torch.linalg.eigh(matrix.T @ matrix)
    return vectors[:, values <= INDEPENDENT * max(float(values[-1]), torch.finfo(values.dtype).tiny)]


# -- inputs of layers -------------------------------------------------------------------------------------------------------


def plain(module: nn.Conv2d) -> bool:
    """Whether `patches` knows what a convolution is given."""
    return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def patches(module: Any, given: Tensor) -> Tensor:
    """What each unit of a linear layer or a convolution is given: `(n, d)`."""
    if isinstance(module, nn.Conv2d):
        patches = F.unfold(given, module.kernel_size, module.dilation, module.padding, module.stride)  # type: ignore[arg-type]
        return patches.transpose(1, 2).reshape(-1, patches.shape[1])
    return given.reshape(-1, given.shape[-1])


def gram_of(x: Tensor) -> Tensor:
    """[X 1]'[X 1] `(d + 1, d + 1)` in float64."""
    rows = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64, device=x.device)], 1)
    return (rows.T @ rows).cpu()


def null_space(gram: Tensor) -> Tensor:
    """Vectors `(d, n)` with X z = 0, from X'X scaled to unit diagonal: a faint pixel is not taken for an absent one."""
    scale = torch.where(gram.diagonal() > 0, gram.diagonal(), 1.0).rsqrt()
    values, vectors = torch.linalg.eigh(gram * scale[:, None] * scale[None, :])
    null = scale[:, None] * vectors[:, values <= RANK * values[-1]]
    return null / null.norm(dim=0) if null.shape[1] else null
