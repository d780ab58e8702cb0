"""Stochastic Lanczos quadrature: the density of all eigenvalues from products with random vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from ..specs import InputError
from .measure import SpectralMeasure, share_at_least, student
from .operators import (
    STATE_BYTES,
    LinearOperator,
    finite,
    kind_of,
    multiplied,
    orthogonal_each,
    random_direction,
    size_of,
    unit,
)

MEMORY = 1 << 30  # bytes that the bases of one block may take unless told otherwise
WIDTH, GRID = 0.007, 1001  # of a density by default: the kernel's share of the range of the nodes, and points


class Quadrature:
    """Gauss quadrature of the spectral measure of each of `probes` random vectors v with |v| = 1.

    `steps` steps of Lanczos with full re-orthogonalisation give T = U diag(theta) U'; the nodes theta_i with weights U_1i^2
    (sum 1) integrate polynomials up to degree 2 steps - 1 exactly: sum_i w_i theta_i^m = v'H^m v. Averaged over probes that are
    uniform on the sphere they stand for the eigenvalue density (1/p) sum_j delta(l_j). Ubaru, Chen & Saad, SIAM J. Matrix Anal.
    Appl. 38, 2017; Ghorbani, Krishnan & Xiao, ICML 2019. Iterating advances `block` probes by one step at a time and gives the
    number of products so far. `state`: what `state()` gave. `memory` bounds the bases: steps are cut to what fits, see `steps`.

    `known`: orthonormal eigenvectors `(p, k)`, which the probes leave out: the measure is then that of the p - k other
    eigenvalues, of PHP with P the projection on their space. `measure` puts both together.

    `start`: a vector `(p,)`, not zero, that takes the place of a single probe: the measure is then that of this vector.
    """

    def __init__(
        self,
        operator: LinearOperator,
        probes: int = 8,
        steps: int = 64,
        *,
        known: Tensor | None = None,
        start: Tensor | None = None,
        seed: int = 0,
        block: int = 1,
        memory: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        state: Mapping[str, np.ndarray] | None = None,
    ):
        if probes < 1 or steps < 1 or block < 1:
            raise InputError(f"probes, steps and block are at least 1 (got {probes}, {steps}, {block})")
        self.operator, self.p = operator, size_of(operator)
        self.dtype, self.device = kind_of(operator, dtype, device)
        self._known = torch.empty(self.p, 0) if known is None else known
        if self._known.shape[:1] != (self.p,) or not 0 <= self._known.shape[1] < self.p:
            raise InputError(f"known vectors must have shape (p, k) with k < p = {self.p} (got {tuple(self._known.shape)})")
        self._known = self._known.to(device=self.device, dtype=self.dtype)
        self.size = self.p - self._known.shape[1]
        vector = self.p * torch.empty(0, dtype=self.dtype).element_size()
        room = max(2, (MEMORY if memory is None else memory) // vector)
        self.block = max(1, min(block, probes, room // 2))
        self.steps = min(steps, self.size, max(2, room // self.block))
        if start is not None and (probes != 1 or start.shape != (self.p,)):
            raise InputError(f"a start of shape ({self.p},) goes with one probe (got {tuple(start.shape)} and {probes})")
        self.probes, self._start = probes, start
        self.nodes = np.zeros((0, self.steps))
        self.weights = np.zeros((0, self.steps))
        self.products = 0
        self.seed = seed
        self._at = 0  # steps that the present block has done
        self._bases = torch.empty(0, self.steps, self.p, dtype=self.dtype, device=self.device)
        self._small = np.zeros((0, self.steps, self.steps))
        self._sizes = np.zeros(0, dtype=int)  # steps after which a probe's space was exhausted
        if state is not None and state["nodes"].shape[1:] == (self.steps,) and len(state["nodes"]) <= probes:
            self._resume(state)

    def __iter__(self) -> Iterator[int]:
        while len(self.nodes) < self.probes:
            if not len(self._bases):
                self._begin()
            while self._at < self._sizes.max():
                self._step()
                if self._at >= self._sizes.max():
                    self._end()
                    yield self.products
                    break
                yield self.products

    def _begin(self) -> None:
        """The next probes, as many as advance together."""
        done = len(self.nodes)
        count = min(self.block, self.probes - done)
        self._bases = torch.empty(count, self.steps, self.p, dtype=self.dtype, device=self.device)
        for i in range(count):
            start = self._start
            if start is None:
                start = random_direction(self.p, self.seed, done + i, self.dtype, self.device)
            self._bases[i, 0] = unit(self._free(unit(start.to(self._bases))))
        self._small = np.zeros((count, self.steps, self.steps))
        self._sizes = np.full(count, self.steps)
        self._at = 0

    def _step(self) -> None:
        """One product with the last vector of every probe whose space is not exhausted."""
        m, alive = self._at, np.flatnonzero(self._sizes > self._at)
        whole = len(alive) == len(self._bases)
        last, bases = self._bases[:, m], self._bases[:, : m + 1]
        given = last if whole else last[torch.from_numpy(alive)]
        products = self._free(multiplied(self.operator, given.T, self.dtype)).T.contiguous()
        self.products += len(alive)
        rests, coefficients = orthogonal_each(bases if whole else [bases[i] for i in alive], products)
        norms = torch.linalg.vector_norm(rests, dim=1, keepdim=True, dtype=torch.float64)
        rows = finite(torch.cat([coefficients, norms], 1).cpu().numpy())  # the only wait for the device
        columns, tails = rows[:, :-1], rows[:, -1]
        self._small[alive, : m + 1, m] = self._small[alive, m, : m + 1] = columns
        scales = np.maximum(np.abs(self._small[alive]).max((1, 2)), np.linalg.norm(columns, axis=1))
        exhausted = tails <= 10 * torch.finfo(self.dtype).eps * scales
        self._sizes[alive[exhausted]] = m + 1  # the span is invariant: the quadrature is exact
        if m + 1 < self.steps and whole and not exhausted.any():
            torch.div(rests, norms.to(self.dtype), out=self._bases[:, m + 1])
        elif m + 1 < self.steps:
            for i in np.flatnonzero(~exhausted):
                torch.div(rests[i], float(tails[i]), out=self._bases[alive[i], m + 1])
        self._at = m + 1

    def _free(self, vectors: Tensor) -> Tensor:
        """Vectors `(p,)` or `(p, k)` without what they have along the known ones, in two passes."""
        for _ in range(2 if self._known.shape[1] else 0):
            vectors = vectors - self._known @ (self._known.T @ vectors)
        return vectors

    def measure(self, known: np.ndarray | Tensor = ()) -> SpectralMeasure:  # type: ignore[assignment]
        """The measure of the finished probes beside the eigenvalues `known (k,)` of the known vectors."""
        return SpectralMeasure(self.nodes, self.weights, self.size, np.asarray(known, float))

    def _end(self) -> None:
        """Nodes and weights of the present block."""
        nodes, weights = np.zeros((2, len(self._bases), self.steps))
        for i, size in enumerate(self._sizes):
            values, vectors = np.linalg.eigh(self._small[i, :size, :size])
            nodes[i, :size], weights[i, :size] = values, vectors[0] ** 2
            nodes[i, size:] = values[-1]
        self.nodes, self.weights = np.vstack([self.nodes, nodes]), np.vstack([self.weights, weights])
        self._bases = self._bases[:0]

    def state(self) -> dict[str, np.ndarray]:
        """The finished probes, and the unfinished where their vectors are few bytes; else that block begins anew."""
        found = {"nodes": self.nodes, "weights": self.weights, "products": np.array(self.products)}
        bases = self._bases[:, : min(self._at + 1, self.steps)]
        if 0 < bases.numel() * bases.element_size() <= STATE_BYTES:
            found |= {"bases": bases.cpu().numpy().copy(), "small": self._small.copy(), "sizes": self._sizes.copy()}
            found["at"] = np.array(self._at)
        return found

    def _resume(self, state: Mapping[str, np.ndarray]) -> None:
        self.nodes, self.weights = (np.array(state[name]) for name in ("nodes", "weights"))
        self.products = int(state["products"])
        if "bases" in state and len(state["bases"]) == min(self.block, self.probes - len(self.nodes)):
            self._begin()
            bases = torch.from_numpy(np.asarray(state["bases"])).to(self._bases)
            self._bases[:, : bases.shape[1]] = bases
            self._small, self._sizes = np.array(state["small"]), np.array(state["sizes"])
            self._at = int(state["at"])


def density(
    nodes: np.ndarray, weights: np.ndarray, grid: np.ndarray, width: float, p: int | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """(density `(g,)`, its standard error, captured mass): sum_i w_i N(t; theta_i, width^2) at t in `grid`, mean over probes.

    `width` is the standard deviation of the kernel, in units of the eigenvalues. The captured mass is the share of the
    smoothed measure that lies between the ends of the grid; nothing is renormalised. With p, all that `SpectralMeasure.density`
    knows enters; without, the error is the spread of the probes alone (NaN of one), with Student's factor.
    """
    inside = ndtr((grid[-1] - nodes) / width) - ndtr((grid[0] - nodes) / width)
    mass = float((weights * inside).sum(1).mean())
    if p is not None:
        mean, error, _ = SpectralMeasure(nodes, weights, p).density(grid, width)
        return mean, error, mass
    kernel = np.exp(-0.5 * ((grid[None, None, :] - nodes[:, :, None]) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    mean, error = _over_probes((weights[:, :, None] * kernel).sum(1))
    return mean, error, mass


@dataclass(frozen=True)
class SpectralDensity:
    """The density of all eigenvalues, smoothed: of a share of them a unit of eigenvalue, so that its integral is `mass`.

    `grid`, `density`, `error` (standard error) `(g,)`; `nodes`, `weights` `(probes, steps)` of the quadrature, for
    `function_of` and `share_below`; `width` is the kernel's standard deviation, in units of the eigenvalues.
    """

    grid: np.ndarray
    density: np.ndarray
    error: np.ndarray
    mass: float
    width: float
    nodes: np.ndarray
    weights: np.ndarray
    products: int


def spectral_density(
    operator: LinearOperator,
    *,
    probes: int = 8,
    steps: int = 64,
    grid: np.ndarray | None = None,
    width: float | None = None,
    seed: int = 0,
    block: int = 1,
    memory: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> SpectralDensity:
    """The eigenvalue density of a symmetric operator `(p, p)` by `Quadrature`, run to the end, and `density`.

    By default the kernel is 0.007 of the range of the nodes wide, or as wide as it takes for so many steps to resolve it, and
    1001 points reach five widths beyond that range. Raises InputError for sizes that do not fit.
    """
    found = Quadrature(operator, probes, steps, seed=seed, block=block, memory=memory, dtype=dtype, device=device)
    for _ in found:
        pass
    measure = found.measure()
    low, high = float(found.nodes.min()), float(found.nodes.max())
    if width is None:
        width = WIDTH * (high - low) or max(abs(high), 1.0) * 1e-6
        width = measure.resolved_width(np.linspace(low - 5 * width, high + 5 * width, GRID // 4), width)
    if not width > 0:
        raise InputError(f"width must be positive (got {width})")
    grid = np.linspace(low - 5 * width, high + 5 * width, GRID) if grid is None else np.asarray(grid, dtype=float)
    if grid.ndim != 1 or len(grid) < 2 or not (np.diff(grid) > 0).all():
        raise InputError(f"grid must hold at least 2 ascending numbers (got shape {grid.shape})")
    mean, error, mass = density(found.nodes, found.weights, grid, width, found.p)
    return SpectralDensity(grid, mean, error, mass, width, found.nodes, found.weights, found.products)


def function_of(
    nodes: np.ndarray, weights: np.ndarray, function: Callable[[np.ndarray], np.ndarray], p: int
) -> tuple[float, float]:
    """(tr f(H), its error) from `SpectralMeasure.total`: effective dimension, log-determinant, moments.

    The error holds chance and what the quadrature leaves open. Where that is more than chance (a kink or a pole that so many
    steps do not resolve) it is no standard error but a bound: the truth lies within twice of it.
    """
    found = SpectralMeasure(nodes, weights, p).total(function)
    return found.value, found.error


def share_below(nodes: np.ndarray, weights: np.ndarray, threshold: float) -> tuple[float, float]:
    """(share of eigenvalues below a threshold, half the range of its bounds): the middle of `share_bounds`.

    No standard error but a bound: no quadrature says on which side of a threshold eigenvalues near it lie.
    """
    low, high = share_bounds(nodes, weights, threshold)
    return (low + high) / 2, (high - low) / 2


def share_bounds(nodes: np.ndarray, weights: np.ndarray, threshold: float, p: int | None = None) -> tuple[float, float]:
    """(at least, at most) of the share of eigenvalues below a threshold: both hold in 95 of 100 sets of probes.

    What the quadrature of each probe proves (Chebyshev, Markov, Stieltjes: between two nodes it says nothing), and how far the
    mean over so many probes may lie from the matrix, `SpectralMeasure.share_bounds`; without p, from that of the smallest
    matrix that has so many nodes.
    """
    steps = nodes.shape[1]
    measure = SpectralMeasure(nodes, weights, p or steps + 1)
    low, high = (float(part.mean()) for part in measure.enclosed(threshold))
    least, most = (share_at_least(seen, measure.probes, p, least=steps) for seen in (low, 1 - high))
    return least, 1 - most


def _over_probes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis and its standard error with Student's factor; NaN for a single value."""
    n = len(values)
    error = student(n - 1) * values.std(0, ddof=1) / n**0.5 if n > 1 else np.full(values.shape[1:], np.nan)
    return values.mean(0), error
