"""The trace of an operator, of its diagonal blocks, and its diagonal, from products with random vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..specs import InputError
from .operators import kind_of, multiplied, random_signs, size_of

Method = Literal["hutchinson", "hutch++", "xtrace"]
CHUNK = 8  # vectors that Hutch++ and XTrace multiply at a time


class Trace:
    """Estimates tr H until its standard error is at most max(relative |estimate|, absolute), or `max_products` are spent.

    hutchinson: mean of z'Hz over Rademacher z (Hutchinson 1989; variance of one 2 sum_{i != j} H_ij^2). With `known` =
    (eigenvalues, orthonormal vectors `(p, j)`) their part is taken exactly, sum l, and the rest estimated in the complement,
    z'PHPz. It alone gives `segments` (traces of diagonal blocks whose lengths are given) and `diagonal` (z * PHPz; Bekas,
    Kokiopoulou & Saad 2007) with standard errors.
    hutch++: a sketch of a third of `max_products` columns is taken exactly, the rest estimated (Meyer et al., SOSA 2021).
    xtrace: every probe is used both for the sketch and, left out of it, for the rest (Epperly, Tropp & Webber, SIAM J. Matrix
    Anal. Appl. 45, 2024); the standard error is that of its leave-one-out estimates.

    The error must have been estimated from at least `min_probes` probes: two that agree by luck stop nothing. Iterating gives
    the number of products so far. `state` (hutchinson): what `state()` gave.
    """

    def __init__(
        self,
        operator: Any,
        *,
        method: Method = "hutchinson",
        known: tuple[Tensor, Tensor] | None = None,
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
        self.method, self.relative, self.absolute = method, relative, absolute
        self.min_probes, self.max_products, self.block = min_probes, max_products, max(1, block)
        self.products = 0
        self.converged = False
        self._generator = torch.Generator().manual_seed(seed)
        self._lengths = list(segments) if segments is not None else [self.p]
        self._samples = np.zeros((0, len(self._lengths)))
        self._diagonal = torch.zeros(2, self.p, dtype=torch.float64, device=self.device)  # sum, sum of squares
        self._sure, self._basis = np.zeros(len(self._lengths)), None
        self._sure_diagonal: Tensor | float = 0.0
        if known is not None and known[1].shape[1]:
            if method != "hutchinson":
                raise InputError("known eigenpairs go with method hutchinson")
            values, vectors = known
            self._basis = vectors.to(device=self.device, dtype=self.dtype)
            self._sure_diagonal = self._basis.double().square() @ values.to(self.device).double()
            self._sure = self._by_segment(self._sure_diagonal[:, None])[0]
        if state is not None and method == "hutchinson" and state["samples"].shape[1:] == self._samples.shape[1:]:
            self._samples = np.array(state["samples"])
            self._diagonal = torch.from_numpy(np.array(state["diagonal"])).to(self.device)
            self.products = len(self._samples)
            for _ in range(self.products):
                self._signs(1)

    # -- the estimate -----------------------------------------------------------------------------------------------------

    @property
    def estimate(self) -> float:
        """The trace; NaN before the first probe."""
        return float(self._sure.sum() + self._samples.sum(1).mean()) if len(self._samples) else float("nan")

    @property
    def standard_error(self) -> float:
        """Of `estimate`; NaN before the second probe."""
        return _error(self._samples.sum(1)) if len(self._samples) else float("nan")

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
        return (mean + self._sure_diagonal).cpu().numpy(), variance.sqrt().cpu().numpy()

    def state(self) -> dict[str, np.ndarray]:
        """What `state` takes to go on."""
        return {"samples": self._samples, "diagonal": self._diagonal.cpu().numpy()}

    # -- the methods ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[int]:
        steps = {"hutchinson": self._hutchinson, "hutch++": self._hutch, "xtrace": self._xtrace}
        yield from steps[self.method]()

    def _enough(self) -> bool:
        error = self.standard_error
        self.converged = len(self._samples) >= self.min_probes and error <= max(
            self.relative * abs(self.estimate), self.absolute
        )
        return self.converged or self.products >= self.max_products

    def _hutchinson(self) -> Iterator[int]:
        while not self._enough():
            count = min(self.block, self.max_products - self.products)
            self._probe(count)
            yield self.products

    def _probe(self, count: int) -> None:
        """Samples of z * PHPz, where P takes away what is known."""
        signs = self._signs(count)
        seen = self._without(signs)
        products = self._without(self._times(seen))
        found = (signs * products).double()
        self._diagonal[0] += found.sum(1)
        self._diagonal[1] += found.square().sum(1)
        self._samples = np.vstack([self._samples, self._by_segment(found)])

    def _hutch(self) -> Iterator[int]:
        sketch = min(self.p, max(1, self.max_products // 3))
        rows = []
        for signs in self._signs(sketch).split(CHUNK, 1):
            rows.append(self._times(signs))
            yield self.products
        self._basis = torch.linalg.qr(torch.cat(rows, 1))[0]
        exact = 0.0
        for columns in self._basis.split(CHUNK, 1):
            exact += float((columns * self._times(columns)).sum(dtype=torch.float64))
            yield self.products
        self._sure = np.array([exact])
        self._lengths = [self.p]
        yield from self._hutchinson()

    def _xtrace(self) -> Iterator[int]:
        probes = images = basis = mapped = torch.empty(self.p, 0, dtype=self.dtype, device=self.device)
        while not self._enough():
            count = min(CHUNK, (self.max_products - self.products) // 2, self.p - probes.shape[1])
            if count < 1:
                break
            signs = self._signs(count)
            image = self._times(signs)
            yield self.products
            rest = image
            for _ in range(2):
                rest = rest - basis @ (basis.T @ rest)
            fresh = torch.linalg.qr(rest)[0]
            fresh = torch.linalg.qr(fresh - basis @ (basis.T @ fresh))[0]
            mapped = torch.cat([mapped, self._times(fresh)], 1)
            probes, images, basis = (torch.cat(pair, 1) for pair in ((probes, signs), (images, image), (basis, fresh)))
            self._samples = _leave_one_out(probes, images, basis, mapped)[:, None]
            yield self.products

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _signs(self, count: int) -> Tensor:
        """One probe after the other, so that what is drawn does not depend on blocks."""
        columns = [random_signs(self.p, 1, self._generator, self.dtype, self.device) for _ in range(count)]
        return torch.cat(columns, 1)

    def _times(self, vectors: Tensor) -> Tensor:
        self.products += vectors.shape[1]
        return multiplied(self.operator, vectors.contiguous(), self.dtype)

    def _without(self, vectors: Tensor) -> Tensor:
        return vectors if self._basis is None else vectors - self._basis @ (self._basis.T @ vectors)

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
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")
