"""What random vectors say of all eigenvalues: sums of functions, shares, densities, each with an error that can be believed.

A probe v, uniform on the sphere of the d dimensions in which nothing is known, gives m nodes and weights of the measure
sum_j (v.u_j)^2 delta(l_j). Two things part it from the eigenvalues, and both are in every error given here:

- chance. Of a sum tr F = sum_j f(l_j) the probe's d v'Fv has variance 2 d / (d + 2) (tr F^2 - (tr F)^2 / d), exactly. tr F^2 is
  itself read from the probes, so that even one of them has an error; what it is worth is said by Student's factor.
- the quadrature: m nodes are fewer than d eigenvalues. The rules of m' < m steps are known too, those of Gauss and of Laurie's
  anti-Gauss ("Anti-Gaussian quadrature formulas", Math. Comp. 65, 1996), whose error has the opposite sign. How far they
  scatter over the last quarter of the steps is how far f is unresolved. Of steps, which no quadrature resolves, only bounds are
  given: those of Chebyshev, Markov and Stieltjes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc, ndtr, stdtrit

Function = Callable[[np.ndarray], np.ndarray]
TWO = float(ndtr(2.0))  # the quantile that two standard errors of a normal estimate reach
CONFIDENCE = 0.99  # of each end of a pair of bounds: both hold in 95 of 100, whatever the spectrum, and mostly in 98
REACH = 2.5  # errors to both sides that are bounds of the same kind
CLEARLY = 0.5  # of the error of the probes: what a quadrature may leave open, and so be off in one direction
ORDERS = 6  # of the rules that are compared, at most
WIDER = 1.25  # by what the kernel of a density grows until it is resolved


def student(freedom: float) -> float:
    """What a standard error from few values is multiplied by, so that two of it hold as often as two of a normal one."""
    return float(stdtrit(freedom, TWO)) / 2


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error; `chance` is the part of the probes, `unresolved` what quadratures differ by.

    `error` is a standard error where `resolved`. Else it is a bound: the truth lies within twice of it, but as a rule far less
    off.
    """

    value: float
    error: float
    chance: float
    unresolved: float

    @property
    def bounds(self) -> tuple[float, float]:
        """(at least, at most): both hold in 95 of 100 sets of probes, resolved or not."""
        return self.value - REACH * self.error, self.value + REACH * self.error

    @property
    def resolved(self) -> bool:
        """Whether the quadrature adds less to the error than the probes, clearly: of numbers that just pass, those would be
        given whose quadratures agree by luck.
        """
        return self.within(CLEARLY)

    def within(self, share: float) -> bool:
        """Whether the quadrature adds less than this share of what the probes do."""
        return self.unresolved <= share * self.chance or self.unresolved <= 1e-9 * abs(self.value)


class SpectralMeasure:
    """Nodes and weights `(probes, m)` of probes in `size` dimensions, beside eigenvalues `known (k,)` of the k others."""

    def __init__(self, nodes: np.ndarray, weights: np.ndarray, size: int, known: Sequence[float] | np.ndarray = ()):
        self.nodes, self.weights, self.size = np.asarray(nodes, float), np.asarray(weights, float), size
        self.known = np.asarray(known, float)
        self.probes, self.steps = self.nodes.shape
        # A space that was exhausted has no further steps: its quadrature is exact.
        self.exact = (self.weights == 0).any(1) | (self.steps >= size)

    @property
    def parameters(self) -> int:
        """P: all eigenvalues."""
        return self.size + len(self.known)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights `(probes, k + m)` of all p dimensions: what is known first, at 1 / p each."""
        part = np.full((self.probes, len(self.known)), 1 / self.parameters)
        nodes = np.hstack([np.broadcast_to(self.known, part.shape), self.nodes])
        return nodes, np.hstack([part, self.weights * (self.size / self.parameters)])

    # -- smooth functions -----------------------------------------------------------------------------------------------

    def total(self, *functions: Function, of: Callable[..., np.ndarray] | None = None) -> Estimate:
        """Tr f(H) of one function, or of(tr f(H), tr g(H), ...) of several, smooth in them.

        The value is the mean of the rules of the last quarter of the steps, taken back by half their scatter (no more than half
        of what it moved since half the steps, and in that direction): quadratures of a kink near which eigenvalues gather miss
        it by .4 to .9 of that scatter, those that converge by less.
        """
        combined = of or (lambda x: x)
        last, half = ([self._sums(rules, f) for f in functions] for rules in (self._late, self._early))
        at = [float(column.mean()) for column in last]
        values, before = combined(*last), combined(*half)
        value, scatter = float(values.mean()), float(values.std())
        if self.steps < 2 and not self.exact.all():
            scatter = float("inf")
        moved = float(np.mean(before)) - value
        value -= float(np.sign(moved)) * min(scatter, abs(moved)) / 2 if np.isfinite(scatter) else 0.0
        chance = self._chance(self._linear(functions, at, combined))
        # A scatter is itself known only by half of it. Of kinks it falls to a third from half of the steps to all of them.
        expected = max(scatter, float(np.std(before)) / 3)
        unresolved = (scatter * expected) ** 0.5
        resolved = Estimate(value, 0.0, chance, unresolved).resolved
        error = float(np.hypot(chance, scatter / 2 if resolved else expected))
        return Estimate(value, error, chance, unresolved)

    def course(self, function: Function) -> tuple[np.ndarray, np.ndarray]:
        """Tr f(H) by the rules of the last quarter of the steps, and by those up to half of the steps, `(r,)` each."""
        return self._sums(self._late, function), self._sums(self._early, function)

    def _linear(self, functions: Sequence[Function], at: Sequence[float], combined: Callable[..., np.ndarray]) -> np.ndarray:
        """The function `(probes, m)` at the nodes whose trace moves as the combination does, near the values `at`."""
        found = np.zeros_like(self.nodes)
        for i, function in enumerate(functions):
            step = 1e-4 * abs(at[i]) or 1e-4
            high, low = (combined(*(np.asarray(x + sign * step * (i == j)) for j, x in enumerate(at))) for sign in (1, -1))
            found += float(high - low) / (2 * step) * function(self.nodes)
        return found

    def _sums(self, rules: Sequence[tuple[np.ndarray, np.ndarray]], function: Function) -> np.ndarray:
        """Tr f(H) by each rule `(r,)`."""
        sure = float(function(self.known).sum()) if self.known.size else 0.0
        return np.array([sure + self.size * float((w * function(x)).sum(1).mean()) for x, w in rules])

    def _chance(self, values: np.ndarray) -> float:
        """Standard error over probes of a trace whose function has these `values (probes, m)` at the nodes."""
        mean = float((self.weights * values).sum(1).mean())
        squares = float((self.weights * (values - mean) ** 2).sum(1).mean())
        if not squares > 0:
            return 0.0
        fourths = float((self.weights * (values - mean) ** 4).sum(1).mean())
        # How well the sum of squares is known: as well as the variance of so many normal numbers.
        freedom = max(1.0, self.probes * self.size * squares**2 / fourths)
        return student(freedom) * self.size * (2 / (self.size + 2) * squares / self.probes) ** 0.5

    # -- quadratures of fewer steps -----------------------------------------------------------------------------------

    @cached_property
    def _coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """Diagonal `(probes, m)` and off-diagonal `(probes, m - 1)` of the Lanczos matrices with these nodes and weights."""
        q = np.sqrt(self.weights / self.weights.sum(1, keepdims=True))
        basis = np.zeros((self.probes, self.steps, self.steps))
        diagonal, off = np.zeros((self.probes, self.steps)), np.zeros((self.probes, self.steps))
        scale = np.abs(self.nodes).max(1).clip(min=np.finfo(float).tiny)
        for j in range(self.steps):
            basis[:, j] = q
            rest = self.nodes * q
            diagonal[:, j] = (rest * q).sum(1)
            for _ in range(2):
                rest = rest - np.einsum("nj,njm->nm", np.einsum("njm,nm->nj", basis[:, : j + 1], rest), basis[:, : j + 1])
            norm = np.linalg.norm(rest, axis=1)
            alive = norm > 1e-14 * scale
            off[:, j] = np.where(alive, norm, 0.0)
            q = np.where(alive[:, None], rest / np.where(alive, norm, 1.0)[:, None], 0.0)
        return diagonal, off[:, :-1]

    def _rules(self, last: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rules of Gauss and anti-Gauss of the last quarter of steps up to `last`; of exhausted spaces always the whole one."""
        first = max(2, last - last // 4)
        orders = np.unique(np.linspace(first, last, min(ORDERS, max(1, last - first + 1))).astype(int))
        if self.exact.all() or self.steps < 2:
            return [(self.nodes, self.weights)]
        found = []
        for order in orders:
            for size, factor in ((order - 1, 1.0), (order, 2**0.5)):
                nodes, weights = self._gauss(size, factor)
                for values, whole in ((nodes, self.nodes), (weights, self.weights)):
                    values[self.exact] = whole[self.exact]
                found.append((nodes, weights))
        return found

    @cached_property
    def _late(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return self._rules(self.steps)

    @cached_property
    def _early(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return self._rules(max(2, self.steps // 2))

    def _gauss(self, order: int, factor: float = 1.0, node: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights `(probes, m)`, those beyond `order` without weight; the last off-diagonal entry times `factor`.

        With `node`, the last entry of the diagonal is chosen so that this is one of the nodes.
        """
        diagonal, off = (part[:, :order].copy() for part in self._coefficients)
        off = off[:, : order - 1]
        if order > 1:
            off[:, -1] *= factor
        if node is not None and order > 1:
            # The leading block M has the node in the whole matrix where the last entry is node + b^2 e'(M - node)^-1 e.
            inner, sides = diagonal[:, :-1] - node, off[:, :-1] ** 2
            pivot = inner[:, 0]
            for i in range(1, order - 1):
                pivot = inner[:, i] - sides[:, i - 1] / np.where(pivot == 0, np.finfo(float).tiny, pivot)
            diagonal[:, -1] = node + off[:, -1] ** 2 / np.where(pivot == 0, np.finfo(float).tiny, pivot)
        matrix = np.zeros((self.probes, order, order))
        at = np.arange(order)
        matrix[:, at, at] = diagonal
        matrix[:, at[:-1], at[1:]] = matrix[:, at[1:], at[:-1]] = off
        values, vectors = np.linalg.eigh(matrix)
        nodes, weights = np.zeros((2, *self.nodes.shape))
        nodes[:, :order], weights[:, :order] = values, vectors[:, 0] ** 2
        return nodes, weights

    # -- steps ----------------------------------------------------------------------------------------------------------

    def enclosed(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """(at least, at most) of each probe's measure below a threshold, `(probes,)`, in the dimensions of the probes.

        By the rule that has a node there: the weights before it, and its own besides (Chebyshev, Markov, Stieltjes).
        """
        below = (self.weights * (self.nodes < threshold)).sum(1)
        if self.exact.all() or self.steps < 2:
            return (below, below) if self.exact.all() else (np.zeros(self.probes), np.ones(self.probes))
        nodes, weights = self._gauss(self.steps, node=threshold)
        at = np.where(weights > 0, np.abs(nodes - threshold), np.inf).argmin(1)
        low = np.array([row[:i].sum() for row, i in zip(weights, at, strict=True)])
        high = low + weights[np.arange(self.probes), at]
        return np.where(self.exact, below, low), np.where(self.exact, below, high).clip(max=1.0)

    def share_bounds(self, threshold: float) -> tuple[float, float]:
        """Bounds of the share of all p eigenvalues below a threshold: both hold in 95 of 100 sets of probes.

        What the quadrature proves of each probe, and what so many probes say of a share: v'Fv of a projection on a share s of d
        dimensions is distributed as Beta(s d / 2, (1 - s) d / 2).
        """
        low, high = (float(part.mean()) for part in self.enclosed(threshold))
        known = float((self.known < threshold).sum())
        least, most = share_at_least(low, self.probes, self.size), 1 - share_at_least(1 - high, self.probes, self.size)
        return tuple((known + self.size * share) / self.parameters for share in (least, most))  # type: ignore[return-value]

    def share_below(self, threshold: float) -> Estimate:
        """The share of all p eigenvalues below a threshold: the middle of what the quadratures prove, with half that range."""
        low, high = (float(part.mean()) for part in self.enclosed(threshold))
        middle, p = (low + high) / 2, self.parameters
        chance = self._chance(np.asarray(self.nodes < threshold, float)) / p
        unresolved = (high - low) / 2 * self.size / p
        value = (float((self.known < threshold).sum()) + self.size * middle) / p
        error = float(np.hypot(chance, unresolved / (2 if unresolved <= CLEARLY * chance else 1)))
        return Estimate(value, error, chance, unresolved)

    # -- densities ----------------------------------------------------------------------------------------------------

    def density(self, grid: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(density, its standard error, scatter of the quadratures) `(g,)`: the mean over all p of N(t; l_j, width^2)."""
        sure = _kernel(self.known, grid, width).sum(0) if self.known.size else np.zeros_like(grid)
        rules = np.array([_smeared(x, w, grid, width) for x, w in self._late])
        mean, scatter = rules.mean(0), rules.std(0)
        squares, fourths = (_smeared(self.nodes, self.weights, grid, width, power) for power in (2, 4))
        spread = (squares - mean**2).clip(min=0)
        tiny = np.finfo(float).tiny
        freedom = (self.probes * self.size * squares**2 / fourths.clip(min=tiny)).clip(min=1.0)
        factor = stdtrit(freedom, TWO) / 2
        chance = factor * (2 / (self.size + 2) * spread / self.probes) ** 0.5
        share = self.size / self.parameters
        error = share * np.hypot(chance, np.where(scatter <= chance, scatter / 2, scatter))
        return sure / self.parameters + share * mean, error, share * scatter

    def resolved_width(self, grid: np.ndarray, width: float) -> float:
        """The smallest kernel, from `width` on, whose density the quadratures agree on: where an eigenvalue could be read.

        That is, where they scatter by no more than the standard error in 19 of 20 places at which the density amounts to half
        an eigenvalue or more.
        """
        while width < grid[-1] - grid[0]:
            mean, error, scatter = self.density(grid, width)
            seen = mean * self.parameters * width * (2 * np.pi) ** 0.5 >= 0.5
            if not seen.any() or (scatter[seen] <= 0.8 * error[seen]).mean() >= 0.95:
                break
            width *= WIDER
        return width


def _smeared(nodes: np.ndarray, weights: np.ndarray, grid: np.ndarray, width: float, power: int = 1) -> np.ndarray:
    """Mean over probes of sum_i w_i N(t; theta_i, width^2)^power, `(g,)`."""
    x, w = nodes.reshape(-1), weights.reshape(-1) / len(nodes)
    seen = w > 1e-15
    kernel = _kernel(x[seen], grid, width / power**0.5)  # whose power is a kernel again
    scale = (width * (2 * np.pi) ** 0.5) ** (1 - power) / power**0.5
    return np.asarray(w[seen] @ kernel * scale)


def _kernel(places: np.ndarray, grid: np.ndarray, width: float) -> np.ndarray:
    """N(t; place, width^2), `(places, g)`."""
    return np.asarray(np.exp(-0.5 * ((grid - places[:, None]) / width) ** 2) / (width * (2 * np.pi) ** 0.5))


def share_at_least(seen: float, probes: int, size: int | None = None, *, least: int = 2) -> float:
    """The smallest share of `size` dimensions of which so many probes have `seen` or more on average in 10 of 1000 cases.

    Where the size is unknown: of as few as can be, `least`, or those in which the share is a single one. At most `seen`: of
    less than one dimension the law is so skewed that even a share of `seen` has as much in fewer cases than that.
    """
    seen, tail = min(seen, 1 - 1e-12), 1 - CONFIDENCE

    def above(share: float) -> float:
        n = probes * (size or max(least, 1 / share))
        return 1 - float(betainc(n * share / 2, n * (1 - share) / 2, seen)) - tail

    first = 1e-12 if size is None else 1e-3 / (probes * size)
    if seen <= first or above(first) >= 0:
        return 0.0
    return float(brentq(above, first, seen, xtol=1e-14)) if above(seen) > 0 else seen
