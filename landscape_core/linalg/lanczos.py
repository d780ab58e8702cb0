"""Eigenpairs at both ends of the spectrum of a symmetric operator: thick-restart Lanczos, with a dense referee."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..specs import InputError
from .operators import kind_of, multiplied, orthogonal, size_of

MEMORY = 2 << 30  # bytes that the basis may take unless told otherwise
ROWS = 320  # and the vectors it may hold: beyond that a restart is cheaper than the small problem
ATTEMPTS = 6  # times that multiplied-out residuals may be larger than the estimates said
COLUMNS = 1 << 16  # of the basis that a restart works on at a time
MIXTURES = 2  # products with random combinations that stand for one with each pair
SAFETY = 3.0  # times what they find must be allowed for; both are below a third of the truth in at most 7 % of all cases
SPARE = 8  # vectors beyond twice the wanted that a basis must be able to hold
PATIENCE = 3.0  # a search for further copies may cost this many times what was spent before


@dataclass(frozen=True)
class Eigenpairs:
    """Algebraically largest (`top`, descending) and smallest (`bottom`, ascending) eigenvalues with their vectors.

    Residuals: |H v - l v| / |l| at the top, / |H| at the bottom, where |H| is the largest absolute Ritz value, `norm`.
    """

    top: Tensor  # (k,) float64
    top_vectors: Tensor  # (p, k)
    top_residuals: Tensor  # (k,)
    bottom: Tensor  # (k',)
    bottom_vectors: Tensor
    bottom_residuals: Tensor
    top_converged: Tensor  # (k,) bool
    bottom_converged: Tensor
    products: int
    norm: float


class Lanczos:
    """Thick-restart Lanczos (Wu & Simon, SIAM J. Matrix Anal. Appl. 22, 2000) with full re-orthogonalisation.

    Iterating advances by one product at a time and ends when every wanted pair has an estimated residual below half the
    tolerance and, multiplied out, below the tolerance; or at `max_products`. Two products with random combinations of the
    pairs verify them where that leaves no doubt, a product with each where it does. The basis is kept in the operator's dtype
    as rows `(m, p)`, at most `memory` bytes of it; the small problem V'HV is solved in float64, from all coefficients of the
    orthogonalisation, so that restarts, warm starts and fresh vectors need no case of their own.

    Lanczos from one vector sees one vector of each eigenspace. With `multiples`, once all is converged the search goes on in
    the complement of what was found, from a random vector, until the next eigenvalue there is known to lie further inside.

    `start`: a vector `(p,)`, or vectors `(p, j)` whose sum is taken (eigenvectors of a neighbouring operator). `state`: what
    `state()` gave, to go on where it stood. Raises InputError for sizes that do not fit.
    """

    def __init__(
        self,
        operator: Any,
        top: int,
        bottom: int = 0,
        *,
        tolerance: float = 1e-3,
        start: Tensor | None = None,
        seed: int = 0,
        memory: int | None = None,
        max_products: int | None = None,
        multiples: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        state: Mapping[str, np.ndarray] | None = None,
    ):
        self.operator, self.p = operator, size_of(operator)
        self.top, self.bottom, self.tolerance, self.multiples = top, bottom, tolerance, multiples
        if top < 0 or bottom < 0 or not 1 <= top + bottom <= self.p:
            raise InputError(f"between 1 and p = {self.p} eigenpairs can be wanted (got {top} and {bottom})")
        self.dtype, self.device = kind_of(operator, dtype, device)
        self.limit = max_products if max_products is not None else max(20 * self.p, 1000)
        self.rows = self._rows(memory)
        self._generator = torch.Generator().manual_seed(seed)
        self._basis = torch.empty(0, self.p, dtype=self.dtype, device=self.device)
        self._projected = np.zeros((self.rows, self.rows))  # V'HV
        self.count = 0  # rows that have been multiplied; the next one waits for it, unless they are p
        self.products = 0
        self._tail = 0.0  # norm of what the last product had outside the basis
        self._scale = 0.0  # largest absolute Ritz value so far
        self._strictness = 0.5  # of the tolerance: what estimated residuals must reach
        self._searched: np.ndarray | None = None  # eigenvalues that a search for further copies started from
        self._budget = 0
        self._found: Eigenpairs | None = None
        if state is not None and self._fits(state):
            self._resume(state)
        else:
            self._put(0, self._first(start))

    def _rows(self, memory: int | None) -> int:
        """Vectors that the basis may hold, besides the one that waits."""
        wanted = self.top + self.bottom
        least = min(self.p, 2 * wanted + SPARE)
        vector = self.p * torch.empty(0, dtype=self.dtype).element_size()
        bound = (MEMORY if memory is None else memory) // vector - 1
        if bound < least and memory is not None:
            raise InputError(
                f"memory for {max(0, bound)} basis vectors of p = {self.p} is too little for {wanted} eigenpairs: "
                f"they need {least}, {(least + 1) * vector / 2**20:,.0f} MiB"
            )
        return min(self.p, max(bound, least), max(ROWS, 3 * wanted))

    # -- going on -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[int]:
        while self._found is None:
            if self.count == self.rows < self.p:
                self._restart(self._kept(), self._basis[self.count].clone())
            self._expand()
            yield self.products
            if self._settled():
                pairs = self._verified()
                yield self.products
                self._found = pairs if self._complete(pairs) else None

    def _expand(self) -> None:
        """One product: a column of V'HV, and the next basis vector."""
        m = self.count
        product = multiplied(self.operator, self._basis[m]).to(self.dtype)
        self.products += 1
        rest, coefficients = orthogonal(self._basis[: m + 1], product)
        column = coefficients.double().cpu().numpy()
        self._projected[: m + 1, m] = self._projected[m, : m + 1] = column
        self.count = m + 1
        self._tail = float(rest.double().norm()) if self.count < self.p else 0.0
        self._scale = max(self._scale, float(np.abs(column).max()))
        if self._tail <= 10 * torch.finfo(self.dtype).eps * float(np.linalg.norm(column)):
            self._tail = 0.0  # the span is invariant: only a fresh vector leads on
        if self.count < self.p:
            self._put(self.count, rest / self._tail if self._tail else self._fresh())

    def _put(self, index: int, vector: Tensor) -> None:
        """Row `index` of the basis; memory is taken as it is needed."""
        if index >= len(self._basis):
            larger = torch.empty(min(self.rows + 1, index + 32), self.p, dtype=self.dtype, device=self.device)
            larger[: len(self._basis)] = self._basis
            self._basis = larger
        self._basis[index] = vector

    def _fresh(self) -> Tensor:
        """A random unit vector orthogonal to the basis."""
        vector = torch.randn(self.p, generator=self._generator).to(self._basis)
        for _ in range(2):
            vector = orthogonal(self._basis[: self.count], vector)[0]
            vector = vector / vector.norm()
        return vector

    def _first(self, start: Tensor | None) -> Tensor:
        if start is not None:
            if start.shape[0] != self.p or start.dim() > 2:
                raise InputError(f"a start must have shape (p,) or (p, j) with p = {self.p} (got {tuple(start.shape)})")
            vectors = start.reshape(self.p, -1).to(self._basis)
            vector = (vectors / vectors.norm(dim=0)).sum(1)
            if bool(torch.isfinite(vector).all()) and float(vector.norm()) > 0:
                return vector / vector.norm()
        vector = torch.randn(self.p, generator=self._generator).to(self._basis)
        return vector / vector.norm()

    # -- restarts -----------------------------------------------------------------------------------------------------

    def _kept(self) -> np.ndarray:
        """Which Ritz pairs a full basis keeps: the wanted, and as many of their neighbours as leave half the room free."""
        wanted = self.top + self.bottom
        spare = max(0, (self.rows - wanted) // 2 - 2)
        high, low = (n + (spare * n) // wanted for n in (self.top, self.bottom))
        return np.unique(np.r_[:low, self.count - high : self.count])

    def _restart(self, kept: np.ndarray, following: Tensor) -> None:
        """Put the Ritz vectors `kept` in the place of the basis, before the vector that is to be multiplied next."""
        values, vectors = self._small()
        mix = torch.from_numpy(np.ascontiguousarray(vectors[:, kept].T)).to(self._basis)
        for a in range(0, self.p, COLUMNS):
            self._basis[: len(kept), a : a + COLUMNS] = mix @ self._basis[: self.count, a : a + COLUMNS]
        self._projected[:] = 0
        self._projected[np.arange(len(kept)), np.arange(len(kept))] = values[kept]
        self.count = len(kept)
        self._put(self.count, following)

    # -- where it stands ----------------------------------------------------------------------------------------------

    def _small(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (ascending) and eigenvectors of V'HV in float64."""
        return np.linalg.eigh(self._projected[: self.count, : self.count])

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of the wanted among ascending Ritz values: top descending, bottom ascending; no place twice."""
        top = np.arange(self.count)[::-1][: self.top]
        return top, np.arange(min(self.bottom, self.count - len(top)))

    def _floor(self) -> float:
        """Residuals that rounding in the products leaves."""
        return 32 * float(torch.finfo(self.dtype).eps) * self._scale

    def _limits(self, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        """Absolute residuals of top and bottom values that count as converged."""
        sizes = np.r_[np.abs(top), np.full(len(bottom), self._scale)]
        return np.maximum(self.tolerance * sizes, self._floor())

    def _settled(self) -> bool:
        """Whether to multiply out: the estimated residuals |tail y_last| of all wanted pairs are small enough."""
        if self.products >= self.limit or self.count == self.p:
            return True
        if self.count < min(self.p, self.top + self.bottom + 1) or (self.count > 96 and self.count % 4):
            return False
        values, vectors = self._small()
        errors = self._tail * np.abs(vectors[-1])
        top, bottom = self._places()
        good = (errors[np.r_[top, bottom]] <= self._strictness * self._limits(values[top], values[bottom])).all()
        if good and self._searched is not None and self.products < self._budget:
            return self._passed(values, errors)
        return bool(good)

    def _passed(self, values: np.ndarray, errors: np.ndarray) -> bool:
        """Whether the next pair inward is known well enough to say that it is no copy of the innermost wanted one."""
        pairs = [(self.count - self.top - 1, self.count - self.top)] if self.top else []
        pairs += [(self.bottom, self.bottom - 1)] if self.bottom else []
        gaps = ((errors[i], abs(values[i] - values[o]), abs(values[o])) for i, o in pairs if 0 <= i < self.count)
        return all(error <= max(gap / 4, self.tolerance * size / 20, self._floor()) for error, gap, size in gaps)

    def _complete(self, pairs: Eigenpairs) -> bool:
        """Whether verified pairs are the answer. If not, what remains to be done is set up."""
        if self.products >= self.limit or self.count == self.p:
            return True
        if not bool(pairs.top_converged.all() and pairs.bottom_converged.all()):
            self._strictness /= 4
            return self._strictness < 0.5 * 4.0**-ATTEMPTS
        if not self.multiples:
            return True
        values = np.r_[pairs.top.numpy(), pairs.bottom.numpy()]
        if self._searched is not None and np.abs(values - self._searched).max() <= self.tolerance * self._scale:
            return True
        self._searched = values
        self._budget = self.products + int(PATIENCE * self.products) + 10
        top, bottom = self._places()
        self._restart(np.r_[bottom, top[::-1]], self._basis[self.count])
        self._put(self.count, self._fresh())
        return False

    # -- what is found ------------------------------------------------------------------------------------------------

    def pairs(self) -> Eigenpairs:
        """The wanted pairs as they stand: fewer at first, with estimated residuals; verified ones at the end."""
        if self._found is not None:
            return self._found
        values, vectors = self._small()
        errors = self._tail * np.abs(vectors[-1:]).reshape(-1)
        top, bottom = self._places()
        return self._pairs(
            values[top], values[bottom], self._vectors(vectors, top), self._vectors(vectors, bottom), errors[np.r_[top, bottom]]
        )

    def values(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(top, their relative residuals, bottom, theirs) as they stand, without the vectors: cheap."""
        values, vectors = self._small()
        errors = self._tail * np.abs(vectors[-1:]).reshape(-1)
        top, bottom = self._places()
        return values[top], self._relative(errors[top], values[top]), values[bottom], errors[bottom] / (self._scale or 1.0)

    def ritz(self) -> np.ndarray:
        """All Ritz values `(m,)`, ascending."""
        return self._small()[0]

    def _vectors(self, small: np.ndarray, places: np.ndarray) -> Tensor:
        mix = torch.from_numpy(np.ascontiguousarray(small[:, places].T)).to(self._basis)
        return (mix @ self._basis[: self.count]).T

    def _verified(self) -> Eigenpairs:
        """The wanted Ritz pairs, multiplied out: by random combinations of them where that settles it, else one by one."""
        values, small = self._small()
        top, bottom = self._places()
        places = np.r_[top, bottom]
        vectors = self._vectors(small, places)
        if self.count < self.p and len(places) > MIXTURES:
            parts = self._tail * small[-1, places]
            rest = self._rest(vectors, values[places], parts)
            if (np.abs(parts) + SAFETY * rest <= self._limits(values[top], values[bottom])).all():
                errors = np.hypot(parts, rest / len(places) ** 0.5)
                return self._pairs(values[top], values[bottom], vectors[:, : len(top)], vectors[:, len(top) :], errors)
        vectors = vectors / vectors.norm(dim=0)
        products = multiplied(self.operator, vectors.contiguous()).to(self.dtype)
        self.products += vectors.shape[1]
        rayleigh = (vectors * products).sum(0, dtype=torch.float64)
        errors = (products - vectors * rayleigh.to(self.dtype)).norm(dim=0).double().cpu().numpy()
        found, k = rayleigh.cpu().numpy(), len(top)
        return self._pairs(found[:k], found[k:], vectors[:, :k], vectors[:, k:], errors)

    def _rest(self, vectors: Tensor, values: np.ndarray, parts: np.ndarray) -> float:
        """What residuals of k Ritz pairs hold beyond the recurrence's estimates, in `MIXTURES` products in place of k.

        The recurrence says H y_i - l_i y_i = parts_i w, w the waiting basis vector; rounding, and a basis that was cut, leave
        e_i besides. For normal c the squared norm of H (Y c) - Y (l c) - (parts c) w = sum_i c_i e_i has the mean
        sum_i |e_i|^2. The root of the largest found is given.
        """
        mixed = torch.randn(len(values), MIXTURES, generator=self._generator, dtype=torch.float64)
        weighted = torch.from_numpy(values)[:, None] * mixed
        found = multiplied(self.operator, (vectors @ mixed.to(vectors)).contiguous()).to(self.dtype)
        self.products += MIXTURES
        along = (torch.from_numpy(parts) @ mixed).to(vectors)
        rest = found - vectors @ weighted.to(vectors) - torch.outer(self._basis[self.count], along)
        return float(rest.norm(dim=0).max())

    def _pairs(self, top: np.ndarray, bottom: np.ndarray, high: Tensor, low: Tensor, errors: np.ndarray) -> Eigenpairs:
        good = errors <= self._limits(top, bottom)
        k = len(top)
        return Eigenpairs(
            torch.from_numpy(top),
            high,
            torch.from_numpy(self._relative(errors[:k], top)),
            torch.from_numpy(bottom),
            low,
            torch.from_numpy(errors[k:] / (self._scale or 1.0)),
            torch.from_numpy(good[:k]),
            torch.from_numpy(good[k:]),
            self.products,
            self._scale,
        )

    def _relative(self, errors: np.ndarray, values: np.ndarray) -> np.ndarray:
        """|Hv - lv| / |l|, of a value that is nothing but rounding taken against that."""
        return errors / np.maximum(np.abs(values), max(self._floor(), np.finfo(float).tiny))

    # -- going on another day -----------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """What `state` takes to go on: basis `(m + 1, p)`, V'HV, counts."""
        rows = min(self.count + 1, self.p)
        numbers = [self.count, self.products, self._tail, self._scale, self._strictness, self._budget]
        searched = np.array([]) if self._searched is None else self._searched
        return {
            "basis": self._basis[:rows].cpu().numpy().copy(),
            "projected": self._projected[: self.count, : self.count].copy(),
            "numbers": np.array(numbers, dtype=float),
            "searched": searched,
        }

    def _fits(self, state: Mapping[str, np.ndarray]) -> bool:
        basis = np.asarray(state["basis"])
        same = basis.ndim == 2 and basis.shape[1] == self.p and len(basis) <= self.rows + 1
        return same and len(basis) == min(len(state["projected"]) + 1, self.p)

    def _resume(self, state: Mapping[str, np.ndarray]) -> None:
        for index, row in enumerate(np.asarray(state["basis"])):
            self._put(index, torch.from_numpy(row).to(self._basis))
        self.count = len(state["projected"])
        self._projected[: self.count, : self.count] = state["projected"]
        _, products, self._tail, self._scale, self._strictness, budget = (float(x) for x in state["numbers"])
        self.products, self._budget = int(products), int(budget)
        self._searched = np.asarray(state["searched"]) if len(state["searched"]) else None


def eigenpairs(operator: Any, top: int, bottom: int = 0, **options: Any) -> Eigenpairs:
    """The `top` largest and `bottom` smallest eigenvalues with vectors, by `Lanczos` with its options, run to the end."""
    solver = Lanczos(operator, top, bottom, **options)
    for _ in solver:
        pass
    return solver.pairs()


def dense_eigenpairs(matrix: Tensor, top: int, bottom: int = 0) -> tuple[Eigenpairs, Tensor]:
    """The same of a dense symmetric matrix `(p, p)` in float64, and all its eigenvalues `(p,)`, descending."""
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1] or not 0 <= top + bottom <= len(matrix):
        raise InputError(f"{top} + {bottom} eigenpairs of a square matrix are wanted (got shape {tuple(matrix.shape)})")
    if not bool(torch.isfinite(matrix).all()):
        raise InputError("the matrix is not finite: the loss overflows or is undefined at these weights")
    a = matrix.double()
    values, vectors = torch.linalg.eigh(a)
    places = torch.cat([torch.arange(len(a) - 1, len(a) - 1 - top, -1), torch.arange(bottom)])
    chosen, columns = values[places], vectors[:, places]
    errors = (a @ columns - columns * chosen).norm(dim=0)
    norm = float(values.abs().max()) if len(values) else 0.0
    floor = max(torch.finfo(torch.float64).eps * norm, torch.finfo(torch.float64).tiny)
    relative = errors[:top] / chosen[:top].abs().clamp_min(floor)
    good = torch.ones(top + bottom, dtype=torch.bool)
    found = Eigenpairs(
        chosen[:top], columns[:, :top], relative, chosen[top:], columns[:, top:], errors[top:] / (norm or 1.0),
        good[:top], good[top:], len(a), norm,
    )  # fmt: skip
    return found, values.flip(0)
