"""The trace of an operator, of its diagonal blocks, and its diagonal, from products with random vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..specs import InputError
from .measure import student
from .operators import STATE_BYTES, LinearOperator, finite, kind_of, multiplied, random_signs, size_of

Method = Literal["hutchinson", "hutch++", "xtrace"]
CHUNK = 8  # vectors that Hutch++ and XTrace multiply at a time
SHARED = 1.38  # by what leave-one-out estimates, which share their sketch, scatter too little: .67 to .90 of it was measured


class Trace:
    """Estimates tr H until its standard error is at most max(relative |estimate|, absolute), or `max_products` are spent.

    hutchinson: mean of z'Hz over Rademacher z (Hutchinson 1989; variance of one 2 sum_{i != j} H_ij^2). With `known`,
    orthonormal vectors Q `(p, j)` or (eigenvalues, eigenvectors), their part is taken exactly, at one product a vector unless
    the eigenvalues are given, and the rest estimated in the complement, z'PHPz with P = I - QQ'.
    hutch++: the same with Q an orthonormal basis of H times a third of `max_products` probes (Meyer et al., SOSA 2021).
    xtrace: every probe is used both for the sketch and, left out of it, for the rest (Epperly, Tropp & Webber, SIAM J. Matrix
    Anal. Appl. 45, 2024); the standard error is that of its leave-one-out estimates.

    Standard errors from few probes carry Student's factor, so that two of them hold as often as those of many; XTrace's is
    raised by 1.38 besides, as its leave-one-out estimates share a sketch (benchmarks/coverage.py has what they hold).

    The first two also give, with standard errors, the traces of the diagonal blocks whose lengths are `segments`, and the
    `diagonal`: the mean of z * PHPz (Bekas, Kokiopoulou & Saad 2007) beside what is exact.

    It does not stop by luck: at least `min_probes` probes are taken, and the standard error must be small enough even when
    raised by its own relative error, 1 / sqrt(2 (n - 1)) from n probes. Iterating gives the number of products so far.
    `state`: what `state()` gave. Raises InputError for sizes that do not fit.
    """

    def __init__(
        self,
        operator: LinearOperator,
        *,
        method: Method = "hutchinson",
        known: tuple[Tensor, Tensor] | Tensor | None = None,
        relative: float = 0.01,
        absolute: float = 0.0,
        min_probes: int = 8,
        max_products: int = 200,
        seed: int = 0,
        block: int = 1,
        segments: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        state: Mapping[str, np.ndarray] | None = None,
    ):
        self.operator, self.p = operator, size_of(operator)
        self.dtype, self.device = kind_of(operator, dtype, device)
        if method not in ("hutchinson", "hutch++", "xtrace"):
            raise InputError(f"method is hutchinson, hutch++ or xtrace (got {method!r})")
        if segments is not None and sum(segments) != self.p:
            raise InputError(f"segments must add up to p = {self.p} (got {sum(segments)})")
        if min_probes < 2 or max_products < min_probes:
            raise InputError(f"at least 2 probes, and products for them, are needed (got {min_probes}, {max_products})")
        if method == "xtrace" and segments is not None:
            raise InputError("segments go with method hutchinson or hutch++")
        if method != "hutchinson" and known is not None:
            raise InputError("known eigenpairs go with method hutchinson")
        self.method, self.relative, self.absolute = method, relative, absolute
        self.min_probes, self.max_products, self.block = min_probes, max_products, max(1, block)
        self.seed = seed
        self.products = 0
        self.converged = False
        self._drawn = 0
        self._lengths = list(segments) if segments is not None else [self.p]
        self._samples = np.zeros((0, len(self._lengths)))
        self._diagonal = torch.zeros(2, self.p, dtype=torch.float64, device=self.device)  # sum, sum of squares
        self._basis, self._probes, self._images, self._mapped = (
            torch.empty(self.p, 0, dtype=self.dtype, device=self.device) for _ in range(4)
        )
        self._sure_diagonal = torch.zeros(self.p, dtype=torch.float64, device=self.device)
        self._sure = np.zeros(len(self._lengths))
        if isinstance(known, tuple):
            self._basis = known[1].to(device=self.device, dtype=self.dtype)
            self._take(self._basis.double().square() @ known[0].to(self.device).double())
        elif known is not None:
            self._basis = known.to(device=self.device, dtype=self.dtype)
        self._mapping = known is not None and not isinstance(known, tuple)  # products with the basis are still due
        if self._basis.shape[0] != self.p:
            raise InputError(f"known vectors must have shape (p, j) with p = {self.p} (got {tuple(self._basis.shape)})")
        if state is not None and self._fits(state):
            self._resume(state)

    # -- the estimate -----------------------------------------------------------------------------------------------------

    @property
    def estimate(self) -> float:
        """The trace; NaN before the first probe."""
        return float(self._sure.sum() + self._samples.sum(1).mean()) if len(self._samples) else float("nan")

    @property
    def standard_error(self) -> float:
        """Of `estimate`; NaN before the second probe."""
        shared = SHARED if self.method == "xtrace" else 1.0
        return shared * _error(self._samples.sum(1)) if len(self._samples) else float("nan")

    @property
    def segments(self) -> np.ndarray:
        """Traces of the diagonal blocks `(s,)`."""
        return self._sure + self._samples.mean(0) if len(self._samples) else np.full(len(self._lengths), np.nan)

    @property
    def segments_standard_error(self) -> np.ndarray:
        """Of `segments`, `(s,)`."""
        return np.array([_error(column) for column in self._samples.T])

    @property
    def diagonal(self) -> tuple[np.ndarray, np.ndarray]:
        """(H_ii `(p,)`, standard errors): by hutchinson only."""
        n = len(self._samples)
        mean = self._diagonal[0] / n
        variance = (self._diagonal[1] / n - mean**2).clamp_min(0) / max(1, n - 1)
        factor = student(n - 1) if n > 1 else float("nan")
        return (mean + self._sure_diagonal).cpu().numpy(), factor * variance.sqrt().cpu().numpy()

    def state(self) -> dict[str, np.ndarray]:
        """What `state` takes to go on; without the vectors of an unfinished sketch where they are many bytes."""
        found = {
            "samples": self._samples,
            "diagonal": self._diagonal.cpu().numpy().copy(),
            "sure": self._sure_diagonal.cpu().numpy().copy(),
            "numbers": np.array([self.products, self._drawn, self._mapping], dtype=float),
        }
        sketch = {"basis": self._basis, "probes": self._probes, "images": self._images, "mapped": self._mapped}
        if sum(tensor.numel() * tensor.element_size() for tensor in sketch.values()) <= STATE_BYTES:
            found |= {name: tensor.cpu().numpy().copy() for name, tensor in sketch.items()}
        return found

    def _fits(self, state: Mapping[str, np.ndarray]) -> bool:
        same = state["samples"].shape[1:] == self._samples.shape[1:] and state["sure"].shape == (self.p,)
        # Known eigenpairs are given again; a sketch that was not kept is begun anew.
        return same and ("basis" in state or (self.method == "hutchinson" and not self._mapping))

    def _resume(self, state: Mapping[str, np.ndarray]) -> None:
        self._samples = np.array(state["samples"])
        self._diagonal = torch.from_numpy(np.array(state["diagonal"])).to(self.device)
        self._take(torch.from_numpy(np.array(state["sure"])).to(self.device))
        products, drawn, mapping = state["numbers"]
        self.products, self._drawn, self._mapping = int(products), int(drawn), bool(mapping)
        if "basis" in state:
            sketch = (torch.from_numpy(np.array(state[n])).to(self._basis) for n in ("basis", "probes", "images", "mapped"))
            self._basis, self._probes, self._images, self._mapped = sketch

    # -- the methods ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[int]:
        if self.method == "xtrace":
            yield from self._xtrace()
            return
        if self.method == "hutch++" and not self._basis.shape[1]:
            yield from self._sketch()
        if self._mapping:
            yield from self._map()
        while not self._enough():
            self._probe(min(self.block, self.max_products - self.products))
            yield self.products

    def _enough(self) -> bool:
        n, error = len(self._samples), self.standard_error
        raised = error * (1 + 1 / (2 * max(1, n - 1)) ** 0.5)
        small = n >= self.min_probes and raised <= max(self.relative * abs(self.estimate), self.absolute)
        self.converged = small or self._basis.shape[1] == self.p == self._mapped.shape[1]  # all of the space was seen
        return self.converged or self.products >= self.max_products

    def _probe(self, count: int) -> None:
        """Samples of z * PHPz, where P takes away what is known."""
        signs = self._signs(count)
        products = self._without(self._times(self._without(signs)))
        found = (signs * products).double()
        samples = finite(self._by_segment(found))
        self._diagonal[0] += found.sum(1)
        self._diagonal[1] += found.square().sum(1)
        self._samples = np.vstack([self._samples, samples])

    def _sketch(self) -> Iterator[int]:
        """An orthonormal basis of the operator's images of a third of the products."""
        wanted = min(self.p, max(1, self.max_products // 3))
        while self._images.shape[1] < wanted:
            images = self._times(self._signs(min(CHUNK, wanted - self._images.shape[1])))
            self._images = torch.cat([self._images, images], 1)
            yield self.products
        finite(self._images.sum(0).cpu().numpy())
        self._basis, self._images = torch.linalg.qr(self._images)[0], self._images[:, :0]
        self._mapping = True

    def _map(self) -> Iterator[int]:
        """The exact part of the basis Q: the diagonal of QQ'H + HQQ' - QQ'HQQ'."""
        while (done := self._mapped.shape[1]) < self._basis.shape[1]:
            self._mapped = torch.cat([self._mapped, self._times(self._basis[:, done : done + CHUNK])], 1)
            yield self.products
        q, y = self._basis.double(), self._mapped.double()
        inner = q.T @ y
        self._take((q * (2 * y - q @ ((inner + inner.T) / 2))).sum(1))
        if self._basis.shape[1] < self.p:
            self._mapped = self._mapped[:, :0]
        else:
            self._samples = np.zeros((2, len(self._lengths)))  # nothing is left to estimate
        self._mapping = False

    def _xtrace(self) -> Iterator[int]:
        while not self._enough():
            if self._basis.shape[1] == self._images.shape[1]:
                count = min(CHUNK, (self.max_products - self.products) // 2, self.p - self._probes.shape[1])
                if count < 1:
                    break
                self._probes = torch.cat([self._probes, self._signs(count)], 1)
                self._images = torch.cat([self._images, self._times(self._probes[:, -count:])], 1)
                yield self.products
            rest = self._images[:, self._basis.shape[1] :]
            finite(rest.sum(0).cpu().numpy())
            for _ in range(2):
                rest = rest - self._basis @ (self._basis.T @ rest)
            fresh = torch.linalg.qr(rest)[0]
            fresh = torch.linalg.qr(fresh - self._basis @ (self._basis.T @ fresh))[0]
            self._mapped = torch.cat([self._mapped, self._times(fresh)], 1)
            self._basis = torch.cat([self._basis, fresh], 1)
            self._samples = finite(_leave_one_out(self._probes, self._images, self._basis, self._mapped))[:, None]
            yield self.products

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _signs(self, count: int) -> Tensor:
        """The next probes `(p, count)`."""
        numbers = range(self._drawn, self._drawn + count)
        self._drawn += count
        return torch.stack([random_signs(self.p, self.seed, i, self.dtype, self.device) for i in numbers], 1)

    def _times(self, vectors: Tensor) -> Tensor:
        self.products += vectors.shape[1]
        return multiplied(self.operator, vectors.contiguous(), self.dtype)

    def _take(self, diagonal: Tensor) -> None:
        """Remember the exact part of the diagonal `(p,)`."""
        self._sure_diagonal = diagonal
        self._sure = finite(self._by_segment(diagonal[:, None])[0])

    def _without(self, vectors: Tensor) -> Tensor:
        return vectors - self._basis @ (self._basis.T @ vectors) if self._basis.shape[1] else vectors

    def _by_segment(self, columns: Tensor) -> np.ndarray:
        """Sums over the segments of columns `(p, c)`: `(c, s)`."""
        return torch.stack([part.sum(0) for part in columns.split(self._lengths)], 1).cpu().numpy()


def _leave_one_out(probes: Tensor, images: Tensor, basis: Tensor, mapped: Tensor) -> np.ndarray:
    """XTrace's estimates: for each probe w, tr(Q_w'HQ_w) + r'Hr with Q_w a basis of the other images, r = w - Q_w Q_w'w.

    All in the small space: with images = Q R, s the unit vector along column w of inv(R)', Q_w Q_w' = Q (I - ss') Q'. Where
    the images span less than there are probes, Q holds all that the operator does: tr(Q'HQ) is the trace.
    """
    q, y, omega, z = (t.double() for t in (basis, images, probes, mapped))
    r = q.T @ y
    small = q.T @ z
    small = (small + small.T) / 2
    sizes = torch.linalg.svdvals(r)
    if sizes[-1] <= 8 * torch.finfo(basis.dtype).eps * sizes[0]:
        return np.full(len(r), float(small.trace()))
    s = torch.linalg.inv(r).T
    s = s / s.norm(dim=0)
    w = q.T @ omega
    u = w - s * (s * w).sum(0)
    exact = small.trace() - (s * (small @ s)).sum(0)
    rest = (omega * y).sum(0) - 2 * (u * r).sum(0) + (u * (small @ u)).sum(0)
    return (exact + rest).cpu().numpy()


def _error(values: np.ndarray) -> float:
    """Standard error of the mean, with Student's factor."""
    n = len(values)
    return student(n - 1) * float(values.std(ddof=1)) / n**0.5 if n > 1 else float("nan")


@dataclass(frozen=True)
class TraceEstimate:
    """A trace with its standard error, in units of the eigenvalues, and the products that it took.

    `converged`: whether the error is as small as was asked, within the products allowed.
    """

    estimate: float
    standard_error: float
    products: int
    converged: bool


def estimated_trace(
    operator: LinearOperator,
    *,
    known: tuple[Tensor, Tensor] | Tensor | None = None,
    method: Method = "hutchinson",
    relative: float = 0.01,
    absolute: float = 0.0,
    max_products: int = 200,
    seed: int = 0,
    block: int = 1,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> TraceEstimate:
    """Tr H of a symmetric operator `(p, p)` by `Trace`, run to the end: until its standard error is at most
    max(relative |estimate|, absolute), or `max_products` are spent.

    `known`: (eigenvalues `(j,)`, eigenvectors `(p, j)`) found before, or orthonormal vectors alone, whose part is taken
    exactly. `block` probes are multiplied at a time. Raises InputError for sizes that do not fit.
    """
    found = Trace(
        operator,
        method=method,
        known=known,
        relative=relative,
        absolute=absolute,
        min_probes=min(8, max_products),
        max_products=max_products,
        seed=seed,
        block=block,
        dtype=dtype,
        device=device,
    )
    for _ in found:
        pass
    return TraceEstimate(found.estimate, found.standard_error, found.products, found.converged)
