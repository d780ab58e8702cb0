"""Curvature the ways it is computed today, and ours: each library multiplies, finds eigenpairs, densities and traces.

Data are given in one batch to all. Vectors are flat, in the order of the network's parameters.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from models import CASES, TRAINING_STEPS, trained
from torch import Tensor, nn

from landscape_core.linalg import Lanczos, Quadrature, Trace
from landscape_core.measuring.symmetries import equal_diagonals
from landscape_core.objective import Objective, host
from landscape_core.objective.curvature import HessianOperator

SAMPLES = {"resnet": 128}  # its graphs are large
PAIRS, TOLERANCE, TRACE = 10, 1e-3, 0.01
STRICT_TOLERANCE = 1e-8  # with which PyHessian comes nearest to the residuals of the others
BLOCK = {"digits": 8}  # probes advanced together, where it pays


class Library:
    """One case, and what a library computes of its Hessian."""

    def __init__(self, name: str, steps: int = TRAINING_STEPS):
        model, inputs, targets = trained(CASES[name], steps)
        self.name, self.model, self.loss = name, model, nn.CrossEntropyLoss()
        self.inputs, self.targets = inputs[: SAMPLES.get(name)], targets[: SAMPLES.get(name)]
        self.parameters = list(model.parameters())
        self.p = sum(p.numel() for p in self.parameters)
        self.products = 0

    def gradient(self) -> None:
        """One plain gradient over all data."""
        torch.autograd.grad(self.loss(self.model(self.inputs), self.targets), self.parameters)

    def operator(self) -> Callable[[Tensor], Tensor]:
        """A new product with the Hessian, of `(p,)`."""
        raise NotImplementedError

    def eigenpairs(self) -> tuple[Tensor, Tensor]:
        """(values (k,), vectors (p, k)), as many as `PAIRS`, to `TOLERANCE` in the library's own sense."""
        raise NotImplementedError

    def density(self, probes: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """(nodes, weights), each (probes, steps)."""
        raise NotImplementedError

    def double(self) -> HessianOperator:
        """The referee: plain double backward in float64, chunk by chunk."""
        batches = [*zip(self.inputs.split(256), self.targets.split(256), strict=True)]
        objective = Objective(self.model, self.loss, batches, dtype=torch.float64)
        return HessianOperator(objective, objective.theta)

    def exact(self) -> Tensor:
        """The whole Hessian in float64."""
        objective = Objective(self.model, self.loss, [(self.inputs, self.targets)], dtype=torch.float64)
        return objective.hessian().dense()


class Ours(Library):
    def __init__(self, name: str, steps: int = TRAINING_STEPS):
        super().__init__(name, steps)
        self.objective = self._objective()

    def _objective(self) -> Objective:
        return Objective(self.model, self.loss, [(self.inputs, self.targets)])

    def gradient(self) -> None:
        with host.tuned(torch.float32, torch.device("cpu")):  # as in products
            self.objective.gradient()

    def operator(self) -> Callable[[Tensor], Tensor]:
        return self.objective.hessian().__matmul__

    def others(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Our other products, beside `operator`."""
        objective = self.objective
        plain = HessianOperator(objective, objective.theta)
        return {
            "double backward": plain.__matmul__,
            "Gauss-Newton": objective.gauss_newton().__matmul__,
            "empirical Fisher": objective.empirical_fisher().__matmul__,
        }

    def eigenpairs(self) -> tuple[Tensor, Tensor]:
        objective = self._objective()
        solver = Lanczos(objective.hessian(), PAIRS, tolerance=TOLERANCE)
        for _ in solver:
            pass
        found = solver.pairs()
        self.products = found.products
        assert bool(found.top_converged.all())
        return found.top, found.top_vectors

    def density(self, probes: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        block = BLOCK.get(self.name, 1)
        quadrature = Quadrature(self._objective().hessian(), probes, steps, block=block)
        for _ in quadrature:
            pass
        self.products = quadrature.products
        return quadrature.nodes, quadrature.weights

    def trace(self, seed: int) -> tuple[float, float]:
        """(estimate, standard error): top ten of the Hessian first, the rest by probes, until the error is small enough."""
        return self._traced(self._objective().hessian(), seed)

    def convex_trace(self, seed: int) -> tuple[float, float]:
        """The same of the Gauss-Newton matrix, whose diagonal is the Hessian's in networks of ReLU."""
        assert equal_diagonals(self.objective)
        return self._traced(self._objective().gauss_newton(), seed)

    def _traced(self, operator: Any, seed: int) -> tuple[float, float]:
        solver = Lanczos(operator, PAIRS, tolerance=TOLERANCE, seed=seed)
        for _ in solver:
            pass
        pairs = solver.pairs()
        known = pairs.top, pairs.top_vectors
        trace = Trace(operator, known=known, relative=TRACE, seed=seed, block=BLOCK.get(self.name, 1), max_products=2000)
        for _ in trace:
            pass
        self.products = pairs.products + trace.products
        return trace.estimate, trace.standard_error


class PyHessian(Library):
    def __init__(self, name: str, steps: int = TRAINING_STEPS):
        super().__init__(name, steps)
        module = importlib.import_module("pyhessian.hessian")  # the package hides it behind its class
        product = module.hessian_vector_product

        def counted(*arguments: object) -> object:
            self.products += 1
            return product(*arguments)

        module.hessian_vector_product = counted
        # Release 0.1 calls torch.eig, which torch has removed: without this, density() raises.
        torch.eig = _eig  # type: ignore[attr-defined]
        self._make = module.hessian
        self._product = product

    def _hessian(self) -> object:
        self.model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        self.products = 0
        found = self._make(self.model, self.loss, data=(self.inputs, self.targets), cuda=False)
        self.model.zero_grad(set_to_none=True)  # what it left there is a cycle that keeps the graph
        return found

    def operator(self) -> Callable[[Tensor], Tensor]:
        found = self._hessian()
        sizes = [p.numel() for p in self.parameters]

        def product(v: Tensor) -> Tensor:
            parts = [part.view_as(p) for part, p in zip(v.split(sizes), self.parameters, strict=True)]
            return _flat(self._product(found.gradsH, found.params, parts))

        return product

    def eigenpairs(self) -> tuple[Tensor, Tensor]:
        return self._eigenpairs(100, TOLERANCE)  # its defaults

    def strict(self) -> tuple[Tensor, Tensor]:
        """Iterated until its residuals are as small as those of the others: its tolerance is on changes of eigenvalues."""
        return self._eigenpairs(2000, STRICT_TOLERANCE)

    def _eigenpairs(self, most: int, tolerance: float) -> tuple[Tensor, Tensor]:
        values, vectors = self._hessian().eigenvalues(maxIter=most, tol=tolerance, top_n=PAIRS)
        return torch.tensor(values), torch.stack([_flat(v) for v in vectors], 1)

    def density(self, probes: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        nodes, weights = self._hessian().density(iter=steps, n_v=probes)
        return np.array(nodes), np.array(weights)

    def samples(self, count: int) -> list[float]:
        """Values z'Hz of `count` probes."""
        return self._hessian().trace(maxIter=count, tol=0)

    def stock(self, seed: int) -> float:
        """Its trace with its own rule to stop: two running means that differ by less than its default 1e-3."""
        found = self._hessian()
        torch.manual_seed(seed)
        return float(np.mean(found.trace()))


class Curvlinops(Library):
    def _linear(self) -> object:
        from curvlinops import HessianLinearOperator

        self.products = 0
        data = [(self.inputs, self.targets)]
        return HessianLinearOperator(self.model, self.loss, self.parameters, data, check_deterministic=False)

    def operator(self) -> Callable[[Tensor], Tensor]:
        return self._linear().__matmul__

    def eigenpairs(self) -> tuple[Tensor, Tensor]:
        from scipy.sparse.linalg import LinearOperator, eigsh

        matrix = self._linear().to_scipy(dtype=np.float32)

        def counted(v: np.ndarray) -> np.ndarray:
            self.products += 1
            return matrix.matvec(v)

        start = np.random.default_rng(0).standard_normal(self.p).astype(np.float32)
        operator = LinearOperator(matrix.shape, matvec=counted, dtype=np.float32)
        values, vectors = eigsh(operator, k=PAIRS, which="LA", tol=TOLERANCE, v0=start)
        return torch.from_numpy(values), torch.from_numpy(np.ascontiguousarray(vectors))

    def density(self, probes: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        from curvlinops.papyan2020traces.spectrum import fast_lanczos

        operator = self._linear()
        torch.manual_seed(0)
        runs = [fast_lanczos(operator, steps) for _ in range(probes)]
        self.products = probes * steps
        return np.array([v.numpy() for v, _ in runs]), np.array([u[0].numpy() ** 2 for _, u in runs])

    def hutchpp(self, budget: int, seed: int) -> float:
        from curvlinops import hutchpp_trace

        torch.manual_seed(seed)
        return float(hutchpp_trace(self._linear(), budget))

    def xtrace(self, budget: int, seed: int) -> float:
        from curvlinops import xtrace

        torch.manual_seed(seed)
        return float(xtrace(self._linear(), budget))


class Eigenthings(Library):
    most = 4 * PAIRS  # its number of steps is given by hand; its default, twice the pairs, does not converge

    def _linear(self) -> object:
        from hessian_eigenthings.operators.hessian import HessianOperator as Operator

        self.products = 0
        return Operator(self.model, [(self.inputs, self.targets)], lambda model, batch: self.loss(model(batch[0]), batch[1]))

    def operator(self) -> Callable[[Tensor], Tensor]:
        return self._linear().matvec

    def eigenpairs(self) -> tuple[Tensor, Tensor]:
        from hessian_eigenthings.algorithms.lanczos import lanczos

        found = lanczos(self._linear(), k=PAIRS, max_iter=self.most, tol=TOLERANCE, which="LA", seed=0)
        self.products = found.iterations
        return found.eigenvalues, found.eigenvectors.T

    def density(self, probes: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        from hessian_eigenthings.algorithms.spectral_density import spectral_density

        found = spectral_density(self._linear(), num_runs=probes, lanczos_steps=steps, seed=0)
        self.products = probes * steps
        return found.raw_eigenvalues.numpy(), found.raw_weights.numpy()

    def hutchpp(self, budget: int, seed: int) -> float:
        from hessian_eigenthings.algorithms.trace import trace

        return trace(self._linear(), num_matvecs=budget, seed=seed).estimate


def available() -> dict[str, type[Library]]:
    """Us and the peers that are installed."""
    peers: dict[str, tuple[str, type[Library]]] = {
        "PyHessian 0.1": ("pyhessian", PyHessian),
        "curvlinops 3.0.1": ("curvlinops", Curvlinops),
        "eigenthings 1.0.0a5": ("hessian_eigenthings", Eigenthings),
    }
    return {name: kind for name, (module, kind) in peers.items() if importlib.util.find_spec(module)} | {"ours": Ours}


def residual(library: Library, values: Tensor, vectors: Tensor) -> float:
    """The largest |Hv - lv| / |l| of pairs with unit v, by the referee."""
    v, found = vectors.double(), values.double()
    v = v / v.norm(dim=0)
    return float(((library.double() @ v - v * found).norm(dim=0) / found.abs()).max())


def deviation(nodes: np.ndarray, weights: np.ndarray, exact: np.ndarray) -> float:
    """Integral of |estimated - exact density|, both smoothed by 1 % of the spectrum's extent: 2 at most."""
    low, high = exact.min(), exact.max()
    width = 0.01 * (high - low)
    grid = np.linspace(low - 5 * width, high + 5 * width, 1000)

    def smooth(places: np.ndarray, shares: np.ndarray) -> np.ndarray:
        kernel = np.exp(-0.5 * ((grid[:, None] - places) / width) ** 2) / (width * math.sqrt(2 * math.pi))
        return kernel @ shares

    estimated = smooth(nodes.ravel(), weights.ravel() / len(nodes))
    return float(np.abs(estimated - smooth(exact, np.full(len(exact), 1 / len(exact)))).sum() * (grid[1] - grid[0]))


def _flat(parts: object) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def _eig(matrix: Tensor, eigenvectors: bool = True) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """What torch.eig gave for a symmetric matrix: (values and their imaginary parts (n, 2), vectors)."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], 1), vectors
