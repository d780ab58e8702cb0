"""Eigenpairs of a symmetric operator, the largest and the smallest: thick-restart Lanczos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..specs import LANCZOS_BYTES, InputError
from .dense import Eigenpairs
from .operators import LinearOperator, finite, generator, kind_of, multiplied, orthogonal, size_of, unit

ROWS = 320  # and the vectors it may hold: beyond that a restart is cheaper than the small problem
STRICTNESS = 0.5  # of the tolerance: what estimated residuals must reach
COLUMNS = 1 << 16  # of the basis that a restart works on at a time
SPARE = 8  # vectors beyond twice the wanted that a basis must be able to hold
PATIENCE = 3  # a search for further copies whose outcome is in doubt may take so many times its length


class Lanczos:
    """Thick-restart Lanczos (Wu & Simon, SIAM J. Matrix Anal. Appl. 22, 2000) with full re-orthogonalisation.

    Iterating advances by one product at a time and ends when every wanted pair has an estimated residual below half the
    tolerance and stands up to verification, or at `max_products`. The basis is kept in the operator's dtype as rows `(m, p)`,
    at most `memory` bytes of it; the small problem V'HV is solved in float64, from all coefficients of the
    orthogonalisation, so that restarts, warm starts and fresh vectors need no case of their own.

    `verify="mix"` multiplies one random mix of all wanted vectors: what it shows beyond the residuals that the recursion knows
    (rounding, a noisy or unsymmetric operator) is added to each of them, and if that could take any pair above the tolerance
    every pair is multiplied out. `verify="each"` always does that: residuals without an estimate in them, one product a pair.

    Lanczos from one vector sees one vector of each eigenspace. With `multiples`, once all is converged the search goes on in
    the complement of what was found, from a random vector, until 2 + log(p) / 2 further products have changed nothing and
    the next eigenvalue inward is told apart from the innermost wanted one (or three times as many were spent on it).

    `start`: a vector `(p,)`, or vectors `(p, j)` whose sum is taken (eigenvectors of a neighbouring operator). `state`: what
    `state()` gave, to go on where it stood. Raises InputError for sizes that do not fit.
    """

    def __init__(
        self,
        operator: LinearOperator,
        top: int,
        bottom: int = 0,
        *,
        tolerance: float = 1e-3,
        start: Tensor | None = None,
        seed: int = 0,
        memory: int | None = None,
        max_products: int | None = None,
        multiples: bool = False,
        verify: Literal["mix", "each"] = "mix",
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        state: Mapping[str, np.ndarray] | None = None,
    ):
        self.operator, self.p = operator, size_of(operator)
        self.top, self.bottom, self.tolerance = top, bottom, tolerance
        self.multiples, self.verify, self.seed = multiples, verify, seed
        if top < 0 or bottom < 0 or not 1 <= top + bottom <= self.p:
            raise InputError(f"between 1 and p = {self.p} eigenpairs can be wanted (got {top} and {bottom})")
        self.dtype, self.device = kind_of(operator, dtype, device)
        self.limit = max_products if max_products is not None else max(2 * self.p, 1000)
        self.rows = self._rows(memory)
        # Untouched memory costs nothing, and growing would need the old and the new basis at once.
        self._basis = torch.empty(min(self.rows + 1, self.p), self.p, dtype=self.dtype, device=self.device)
        self._projected = np.zeros((self.rows, self.rows))  # V'HV
        self._slack = np.zeros(self.rows)  # norms of what products with the rows have outside the basis, but for the tail
        self.count = 0  # rows that have been multiplied; the next one waits for it, unless they are p
        self.products = 0
        self._tail = 0.0  # norm of what the last product had outside the basis
        self._scale = 0.0  # largest absolute Ritz value so far
        self._drawn = 0  # random vectors so far
        self._since = 0  # products before the present search for further copies
        self._searched: np.ndarray | None = None  # wanted eigenvalues when it began
        self._found: Eigenpairs | None = None
        if state is not None and self._fits(state):
            self._resume(state)
        else:
            self._basis[0] = self._first(start)

    def _rows(self, memory: int | None) -> int:
        """Vectors that the basis may hold, besides the one that waits."""
        wanted = self.top + self.bottom
        least = min(self.p, 2 * wanted + SPARE)
        vector = self.p * torch.empty(0, dtype=self.dtype).element_size()
        bound = (LANCZOS_BYTES if memory is None else memory) // vector - 1
        if bound < least and memory is not None:
            raise InputError(
                f"memory for {max(0, bound)} basis vectors of p = {self.p} is too little for {wanted} eigenpairs: "
                f"they need {least}, {(least + 1) * vector / 2**20:,.0f} MiB"
            )
        return min(self.p, max(bound, least), max(ROWS, 3 * wanted))

    # -- going on -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[int]:
        while self._found is None:
            if not self._settled():
                self._expand()
                yield self.products
            elif self._may_hide_copies():
                self._search()
                self._expand()
                yield self.products
            else:
                before = self.products
                # Whatever it shows, the end: what is beyond the estimates is noise of the products, which more do not lower.
                self._found = self._verified()
                if self.products > before:
                    yield self.products

    def _expand(self) -> None:
        """One product: a column of V'HV, and the next basis vector."""
        if self.count == self.rows < self.p:
            self._restart(self._kept())
        m = self.count
        rest, coefficients = orthogonal(self._basis[: m + 1], multiplied(self.operator, self._basis[m], self.dtype))
        self.products += 1
        norm = torch.linalg.vector_norm(rest, dtype=torch.float64)
        numbers = finite(torch.cat([coefficients.double(), norm[None]]).cpu().numpy())  # the only wait for the device
        column = numbers[:-1]
        self._projected[: m + 1, m] = self._projected[m, : m + 1] = column
        self.count = m + 1
        self._scale = max(self._scale, float(np.abs(column).max()))
        # At rounding level the span is invariant: only a fresh vector leads on.
        invariant = numbers[-1] <= 10 * torch.finfo(self.dtype).eps * max(self._scale, float(np.linalg.norm(column)))
        self._tail = 0.0 if invariant or self.count == self.p else float(numbers[-1])
        if self.count < self.p:
            self._basis[self.count] = rest / self._tail if self._tail else self._fresh()

    def _random(self) -> Tensor:
        """The next random vector `(p,)`; which one depends on the seed and on how many were drawn, so it survives a resume."""
        self._drawn += 1
        vector = torch.randn(self.p, generator=generator(self.seed, self._drawn), dtype=self.dtype).to(self.device)
        return unit(vector)

    def _fresh(self) -> Tensor:
        """A random unit vector orthogonal to the basis."""
        vector = self._random()
        for _ in range(2):
            vector = orthogonal(self._basis[: self.count], vector)[0]
            vector = unit(vector)
        return vector

    def _first(self, start: Tensor | None) -> Tensor:
        if start is not None:
            if start.shape[0] != self.p or start.dim() > 2:
                raise InputError(f"a start must have shape (p,) or (p, j) with p = {self.p} (got {tuple(start.shape)})")
            vectors = start.reshape(self.p, -1).to(self._basis)
            vector = (vectors / vectors.norm(dim=0)).sum(1)
            if bool(torch.isfinite(vector).all()) and float(vector.norm()) > 0:
                return unit(vector)
        return self._random()

    # -- restarts -----------------------------------------------------------------------------------------------------

    def _kept(self) -> np.ndarray:
        """Which Ritz pairs a full basis keeps: the wanted, and as many of their neighbours as leave half the room free."""
        wanted = self.top + self.bottom
        spare = max(0, (self.rows - wanted) // 2 - 2)
        high, low = (n + (spare * n) // wanted for n in (self.top, self.bottom))
        return np.unique(np.r_[:low, self.count - high : self.count])

    def _restart(self, kept: np.ndarray, *, dropped: bool = False) -> None:
        """Put the Ritz vectors `kept` in the place of the basis, before the vector that is to be multiplied next.

        If that one is `dropped`, what the products had along it can only be remembered as a norm.
        """
        values, vectors = self._small()
        slack = np.sqrt(np.square(vectors[:, kept]).T @ np.square(self._slack[: self.count]))
        if dropped:
            slack = np.hypot(slack, self._tail * np.abs(vectors[-1, kept]))
        mix = torch.from_numpy(np.ascontiguousarray(vectors[:, kept].T)).to(self._basis)
        for a in range(0, self.p, COLUMNS):
            self._basis[: len(kept), a : a + COLUMNS] = mix @ self._basis[: self.count, a : a + COLUMNS]
        self._basis[len(kept)] = self._basis[self.count].clone()
        self._projected[:], self._slack[:] = 0, 0
        self._projected[np.arange(len(kept)), np.arange(len(kept))] = values[kept]
        self.count, self._slack[: len(kept)] = len(kept), slack

    # -- further copies of multiple eigenvalues ---------------------------------------------------------------------------

    def _may_hide_copies(self) -> bool:
        """Whether, with all that is wanted converged, another search is due."""
        if not self.multiples or self.products >= self.limit or self.count == self.p:
            return False
        values, _ = self._small()
        wanted = values[np.r_[self._places()]]
        return self._searched is None or bool(np.abs(wanted - self._searched).max() > self.tolerance / 2 * self._scale)

    def _search(self) -> None:
        """Begin one: keep what is wanted, go on from a random vector orthogonal to it."""
        top, bottom = self._places()
        self._searched = self._small()[0][np.r_[top, bottom]]
        self._since = self.products
        self._restart(np.r_[bottom, top[::-1]], dropped=True)
        self._basis[self.count] = self._fresh()

    def _searching(self, values: np.ndarray, errors: np.ndarray) -> bool:
        """Whether the present search must go on though all that is wanted is converged.

        Lanczos from a random vector brings out an eigenvalue apart from the rest within about log(p) / 2 products.
        """
        if self._searched is None:
            return False
        length, spent = 2 + int(np.ceil(np.log(self.p) / 2)), self.products - self._since
        if spent < length:
            return True
        pairs = [(self.count - self.top - 1, self.count - self.top)] if self.top else []
        pairs += [(self.bottom, self.bottom - 1)] if self.bottom else []
        apart = (errors[i] <= max(abs(values[i] - values[o]), self._floor()) for i, o in pairs if 0 <= i < self.count)
        return spent < PATIENCE * length and not all(apart)

    # -- where it stands ----------------------------------------------------------------------------------------------

    def _small(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (ascending) and eigenvectors of V'HV in float64."""
        values, vectors = np.linalg.eigh(self._projected[: self.count, : self.count])
        self._scale = max(self._scale, float(np.abs(values).max(initial=0.0)))
        return values, vectors

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of the wanted among ascending Ritz values: top descending, bottom ascending; no place twice."""
        top = np.arange(self.count)[::-1][: self.top]
        return top, np.arange(min(self.bottom, self.count - len(top)))

    def _errors(self, vectors: np.ndarray) -> np.ndarray:
        """Norms of H v - l v of Ritz pairs, as the recursion knows them."""
        missing = np.square(vectors).T @ np.square(self._slack[: self.count])
        return np.sqrt(np.square(self._tail * vectors[-1:].reshape(-1)) + missing)

    def _floor(self) -> float:
        """Residuals that rounding in the products leaves."""
        return 32 * float(torch.finfo(self.dtype).eps) * self._scale

    def _limits(self, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        """Absolute residuals of top and bottom values that count as converged."""
        sizes = np.concatenate([np.abs(top), np.full(len(bottom), self._scale)])
        return np.maximum(self.tolerance * sizes, self._floor())

    def _settled(self) -> bool:
        """Whether to multiply out: the estimated residuals |tail y_last| of all wanted pairs are small enough."""
        if self.products >= self.limit or self.count == self.p:
            return True
        if self.count < min(self.p, self.top + self.bottom + 1) or self.count % (4 if self.count > 96 else 2):
            return False  # the small problem costs as much as some products do
        values, vectors = self._small()
        errors = self._errors(vectors)
        top, bottom = self._places()
        good = (errors[np.concatenate([top, bottom])] <= STRICTNESS * self._limits(values[top], values[bottom])).all()
        return bool(good) and not self._searching(values, errors)

    # -- what is found ------------------------------------------------------------------------------------------------

    def pairs(self) -> Eigenpairs:
        """The wanted pairs as they stand: fewer at first, with estimated residuals; verified ones at the end."""
        if self._found is not None:
            return self._found
        values, vectors = self._small()
        return self._estimated(values, vectors, self._errors(vectors)[np.r_[self._places()]])

    def values(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(top, their relative residuals, bottom, theirs) as they stand, without the vectors: cheap."""
        values, vectors = self._small()
        errors = self._errors(vectors)
        top, bottom = self._places()
        return values[top], self._relative(errors[top], values[top]), values[bottom], errors[bottom] / (self._scale or 1.0)

    def ritz(self) -> np.ndarray:
        """All Ritz values `(m,)`, ascending."""
        return self._small()[0]

    def _vectors(self, small: np.ndarray, places: np.ndarray) -> Tensor:
        mix = torch.from_numpy(np.ascontiguousarray(small[:, places].T)).to(self._basis)
        return (mix @ self._basis[: self.count]).T

    def _verified(self) -> Eigenpairs:
        """The wanted Ritz pairs with residuals that products vouch for; without them where `max_products` leaves none."""
        values, vectors = self._small()
        top, bottom = self._places()
        places = np.r_[top, bottom]
        errors = self._errors(vectors)[places]
        sure = self.products + len(places) > self.limit  # of nothing more: there are no products left to ask
        if self.verify == "mix" and self.products < self.limit:
            surplus = self._surplus(vectors[:, places])
            errors = np.hypot(errors, surplus)
            # All of the surplus may come from one pair, of which the mix holds one part in the square root of their number.
            worst = np.hypot(errors, surplus * len(places) ** 0.5)
            sure = bool((worst <= self._limits(values[top], values[bottom])).all()) or self.products + len(places) > self.limit
        return self._estimated(values, vectors, errors) if sure else self._each(vectors, len(top), places)

    def _estimated(self, values: np.ndarray, small: np.ndarray, errors: np.ndarray) -> Eigenpairs:
        """The wanted Ritz pairs with the residuals `errors` of top and bottom."""
        top, bottom = self._places()
        return self._pairs(values[top], values[bottom], self._vectors(small, top), self._vectors(small, bottom), errors)

    def _surplus(self, small: np.ndarray) -> float:
        """|H x - what the recursion says of it|, x a random unit mix of the Ritz vectors `small (m, n)`; one product.

        Weights of random sign and of sizes between 3/4 and 5/4, so that no pair is left out and no two cancel.
        """
        rng = np.random.default_rng([self.seed, self.products])
        weights = rng.choice([-1.0, 1.0], small.shape[1]) * rng.uniform(0.75, 1.25, small.shape[1])
        mix = small @ (weights / np.linalg.norm(weights))
        known = self._projected[: self.count, : self.count] @ mix
        rows = self._basis[: self.count]
        product = multiplied(self.operator, torch.from_numpy(mix).to(rows) @ rows, self.dtype)
        self.products += 1
        rest = product - torch.from_numpy(known).to(rows) @ rows
        if self._tail:
            rest -= self._tail * float(mix[-1]) * self._basis[self.count]
        norm = finite(torch.linalg.vector_norm(rest, dtype=torch.float64).reshape(1).cpu().numpy())
        return max(0.0, float(norm[0]) - float(np.abs(mix) @ self._slack[: self.count]))

    def _each(self, small: np.ndarray, k: int, places: np.ndarray) -> Eigenpairs:
        """The Ritz pairs at `places`, the first k of them of the top, with residuals from a product with every vector."""
        vectors = self._vectors(small, places)
        vectors = unit(vectors)
        products = multiplied(self.operator, vectors.contiguous(), self.dtype)
        self.products += vectors.shape[1]
        values = (vectors * products).sum(0, dtype=torch.float64)
        errors = torch.linalg.vector_norm(products - vectors * values.to(self.dtype), dim=0, dtype=torch.float64)
        found, norms = finite(torch.stack([values, errors]).cpu().numpy())
        return self._pairs(found[:k], found[k:], vectors[:, :k], vectors[:, k:], norms)

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
        """What `state` takes to go on: basis `(m + 1, p)`, V'HV, counts; at the end also the residuals."""
        rows = min(self.count + 1, self.p)
        numbers = [self.products, self._tail, self._scale, self._drawn, self._since]
        found = self._found
        return {
            "basis": self._basis[:rows].cpu().numpy().copy(),
            "projected": self._projected[: self.count, : self.count].copy(),
            "slack": self._slack[: self.count].copy(),
            "numbers": np.array(numbers, dtype=float),
            "searched": np.array([]) if self._searched is None else self._searched,
            "verified": np.array([]) if found is None else torch.cat([found.top_residuals, found.bottom_residuals]).numpy(),
        }

    def _fits(self, state: Mapping[str, np.ndarray]) -> bool:
        basis, count = np.asarray(state["basis"]), len(state["projected"])
        return basis.ndim == 2 and basis.shape[1] == self.p and count <= self.rows and len(basis) == min(count + 1, self.p)

    def _resume(self, state: Mapping[str, np.ndarray]) -> None:
        for index, row in enumerate(np.asarray(state["basis"])):
            self._basis[index] = torch.from_numpy(row).to(self._basis)
        count = self.count = len(state["projected"])
        self._projected[:count, :count], self._slack[:count] = state["projected"], state["slack"]
        products, self._tail, self._scale, drawn, since = (float(x) for x in state["numbers"])
        self.products, self._drawn, self._since = int(products), int(drawn), int(since)
        self._searched = np.asarray(state["searched"]) if len(state["searched"]) else None
        if len(state["verified"]) == self.top + self.bottom:
            pairs, relative = self.pairs(), np.asarray(state["verified"])
            sizes = np.maximum(pairs.top.abs().numpy(), max(self._floor(), np.finfo(float).tiny))
            errors = np.r_[relative[: self.top] * sizes, relative[self.top :] * (self._scale or 1.0)]
            vectors = pairs.top_vectors, pairs.bottom_vectors
            self._found = self._pairs(pairs.top.numpy(), pairs.bottom.numpy(), *vectors, errors)


def eigenpairs(operator: LinearOperator, top: int, bottom: int = 0, **options: Any) -> Eigenpairs:
    """The `top` largest and `bottom` smallest eigenvalues with vectors, by `Lanczos` with its options, run to the end."""
    solver = Lanczos(operator, top, bottom, **options)
    for _ in solver:
        pass
    return solver.pairs()
