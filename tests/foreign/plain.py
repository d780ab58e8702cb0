"""What a loss, its gradient and its Hessian are, in plain float64 PyTorch and scipy: nothing of this program."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


class Unrounded(TorchFunctionMode):
    """Inside, what a network does in float32 on purpose (T5's norms, the softmax of attention) is done in float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def wide(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        if func is Tensor.float:
            return args[0].double()
        return func(*map(wide, args), **{name: wide(value) for name, value in (kwargs or {}).items()})


class HardSigmoid(nn.Module):
    """Written out, so that autograd knows its second derivative."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 3).clamp(0, 6) / 6


class HardSwish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x + 3).clamp(0, 6) / 6


def written_out(model: nn.Module) -> nn.Module:
    """A float64 copy whose derivatives are those of the function: none is left out by a setting or an operation of PyTorch."""
    own = copy.deepcopy(model).double().eval()
    for module in own.modules():
        if isinstance(module, nn.Embedding):
            module.padding_idx = None  # it takes the row's gradient away, not its part in the function
        for name, child in module.named_children():
            if isinstance(child, nn.Hardsigmoid):
                setattr(module, name, HardSigmoid())
            if isinstance(child, nn.Hardswish):
                setattr(module, name, HardSwish())
    return own


class Plain:
    """L(theta) = sum_b n_b loss(model(x_b), y_b) / sum_b n_b, for theta `(p,)` float64.

    `call(model, inputs)` gives the outputs. `rounded`: with the roundings to float32 that the network has inside.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        batches: Sequence[tuple[Any, Any]],
        weights: Sequence[int],
        call: Callable[[nn.Module, Any], Any],
        *,
        rounded: bool = False,
    ):
        self.model = written_out(model)
        self.loss_function, self.call, self.rounded = loss, call, rounded
        self.batches = [tuple(_double(part) for part in pair) for pair in batches]
        self.weights = [weight / sum(weights) for weight in weights]
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.theta = torch.cat([p.detach().reshape(-1) for p in self.parameters])

    @contextmanager
    def _at(self, theta: Tensor) -> Iterator[None]:
        with torch.no_grad():
            for parameter, part in zip(self.parameters, self._parts(theta), strict=True):
                parameter.copy_(part)
        with sdpa_kernel(SDPBackend.MATH):
            if self.rounded:
                yield
            else:
                with Unrounded():
                    yield

    def _terms(self) -> Iterator[Tensor]:
        for weight, (inputs, targets) in zip(self.weights, self.batches, strict=True):
            yield weight * self.loss_function(self.call(self.model, inputs), targets)

    def loss(self, theta: Tensor) -> float:
        with torch.no_grad(), self._at(theta):
            return sum(float(term) for term in self._terms())

    def gradient(self, theta: Tensor) -> Tensor:
        with self._at(theta):
            return sum((_flat(torch.autograd.grad(term, self.parameters, **UNUSED)) for term in self._terms()), theta * 0)

    def product(self, theta: Tensor, vector: Tensor) -> Tensor:
        """The Hessian times a vector."""
        with self._at(theta):
            return self._times(self._gradients(), vector)

    def top(self, theta: Tensor, k: int) -> np.ndarray:
        """The k largest eigenvalues of the Hessian, descending."""
        with self._at(theta):
            gradients = self._gradients()
            return largest(lambda vector: self._times(gradients, vector), len(theta), k)

    def eigenvalues(self, theta: Tensor) -> np.ndarray:
        """All eigenvalues of the Hessian, descending."""
        with self._at(theta):
            gradients = self._gradients()
            matrix = torch.stack([self._times(gradients, unit) for unit in torch.eye(len(theta), dtype=torch.float64)])
        return torch.linalg.eigvalsh((matrix + matrix.T) / 2).flip(0).numpy()

    def top_gauss_newton(self, theta: Tensor, k: int) -> np.ndarray:
        """The k largest eigenvalues of sum_b J_b' (d2 term_b / d outputs2) J_b, descending."""
        with self._at(theta):
            blocks = [
                self._gauss_newton(weight, self.call(self.model, inputs), targets)
                for weight, (inputs, targets) in zip(self.weights, self.batches, strict=True)
            ]
            return largest(lambda vector: sum((block(vector) for block in blocks), vector * 0), len(theta), k)

    def _gauss_newton(self, weight: float, outputs: Any, targets: Any) -> Callable[[Tensor], Tensor]:
        values = scores(outputs)
        free = [value.detach().requires_grad_() for value in values]
        slope = torch.autograd.grad(weight * self.loss_function(like(outputs, free), targets), free, create_graph=True)
        dual = [torch.zeros_like(value, requires_grad=True) for value in values]
        back = torch.autograd.grad(values, self.parameters, dual, create_graph=True, **UNUSED)  # J'u, linear in u

        def times(vector: Tensor) -> Tensor:
            ahead = torch.autograd.grad(back, dual, self._parts(vector), retain_graph=True, **UNUSED)  # J v
            bent = torch.autograd.grad(slope, free, ahead, retain_graph=True, **UNUSED)
            return _flat(torch.autograd.grad(values, self.parameters, bent, retain_graph=True, **UNUSED))

        return times

    def top_empirical_fisher(self, theta: Tensor, k: int) -> np.ndarray:
        """The k largest eigenvalues of (1/N) sum_i g_i g_i' over the gradients of the rows, descending."""
        with self._at(theta):
            rows = [_flat(torch.autograd.grad(value, self.parameters, **UNUSED)) for value in self._rows()]
        gradients = torch.stack(rows)
        return torch.linalg.eigvalsh(gradients @ gradients.T / len(rows)).flip(0)[:k].numpy()

    def row_losses(self, theta: Tensor) -> np.ndarray:
        """The loss of each row by itself `(N,)`."""
        with torch.no_grad(), self._at(theta):
            return np.array([float(value) for value in self._rows()])

    def _rows(self) -> Iterator[Tensor]:
        for inputs, targets in self.batches:
            for i in range(len(next(_tensors(targets)))):
                x, y = (_map(part, lambda t, i=i: t[i : i + 1]) for part in (inputs, targets))
                yield self.loss_function(self.call(self.model, x), y)

    def _gradients(self) -> list[tuple[Tensor, ...]]:
        return [torch.autograd.grad(term, self.parameters, create_graph=True, **UNUSED) for term in self._terms()]

    def _times(self, gradients: list[tuple[Tensor, ...]], vector: Tensor) -> Tensor:
        parts, found = self._parts(vector), torch.zeros_like(vector)
        for gradient in gradients:
            value = sum((g * part).sum() for g, part in zip(gradient, parts, strict=True) if g.requires_grad)
            found += _flat(torch.autograd.grad(value, self.parameters, retain_graph=True, **UNUSED))
        return found

    def _parts(self, vector: Tensor) -> list[Tensor]:
        rows = vector.split([p.numel() for p in self.parameters])
        return [row.view_as(p) for row, p in zip(rows, self.parameters, strict=True)]


UNUSED = {"allow_unused": True, "materialize_grads": True}


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().reshape(-1) for part in parts])


def largest(times: Callable[[Tensor], Tensor], p: int, k: int) -> np.ndarray:
    """The k largest eigenvalues of a symmetric operator, descending."""
    matrix = LinearOperator((p, p), matvec=lambda v: times(torch.from_numpy(v.reshape(-1).copy())).numpy(), dtype=np.float64)
    start, basis = np.random.default_rng(0).standard_normal(p), min(p - 1, 40 if p < 1e5 else 12)
    return np.sort(eigsh(matrix, k=k, which="LA", tol=1e-5, ncv=basis, v0=start, return_eigenvectors=False))[::-1]


def scores(outputs: Any) -> list[Tensor]:
    """What a loss depends on: the tensors given out, or their `logits`."""
    return [outputs] if isinstance(outputs, Tensor) else list(outputs) if type(outputs) is tuple else [outputs.logits]


def like(outputs: Any, values: list[Tensor]) -> Any:
    """Outputs with other scores."""
    if isinstance(outputs, Tensor):
        return values[0]
    return tuple(values) if type(outputs) is tuple else SimpleNamespace(logits=values[0])


def _double(tree: Any) -> Any:
    return _map(tree, lambda t: t.double() if t.is_floating_point() else t)


def _map(tree: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {name: _map(value, function) for name, value in tree.items()}
    return type(tree)(_map(value, function) for value in tree)


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    else:
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(value)
