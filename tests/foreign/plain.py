"""What a loss, its gradient and its Hessian are, in plain float64 PyTorch and scipy: nothing of this program."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
            for parameter, part in zip(self.parameters, theta.split([p.numel() for p in self.parameters]), strict=True):
                parameter.copy_(part.view_as(parameter))
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

            def times(vector: np.ndarray) -> np.ndarray:
                return self._times(gradients, torch.from_numpy(vector.reshape(-1).copy())).numpy()

            matrix = LinearOperator((len(theta), len(theta)), matvec=times, dtype=np.float64)
            start = np.random.default_rng(0).standard_normal(len(theta))
            return np.sort(eigsh(matrix, k=k, which="LA", tol=1e-7, v0=start, return_eigenvectors=False))[::-1]

    def _gradients(self) -> list[tuple[Tensor, ...]]:
        return [torch.autograd.grad(term, self.parameters, create_graph=True, **UNUSED) for term in self._terms()]

    def _times(self, gradients: list[tuple[Tensor, ...]], vector: Tensor) -> Tensor:
        parts = [part.view_as(p) for part, p in zip(vector.split(self._sizes), self.parameters, strict=True)]
        found = torch.zeros_like(vector)
        for gradient in gradients:
            value = sum((g * part).sum() for g, part in zip(gradient, parts, strict=True) if g.requires_grad)
            found += _flat(torch.autograd.grad(value, self.parameters, retain_graph=True, **UNUSED))
        return found

    @property
    def _sizes(self) -> list[int]:
        return [p.numel() for p in self.parameters]


UNUSED = {"allow_unused": True, "materialize_grads": True}


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().reshape(-1) for part in parts])


def _double(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.double() if tree.is_floating_point() else tree
    if isinstance(tree, dict):
        return {name: _double(value) for name, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(_double(value) for value in tree)
    return tree
