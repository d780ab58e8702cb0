"""The Hessian as a linear operator on flat vectors: the plain reference by double backward."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..specs import InputError

if TYPE_CHECKING:
    from .network import Network
    from .objective import Objective


class HessianOperator:
    """H = d2 L / d theta2 at one theta, over the whole training sample. `H @ v` for v `(p,)` or `(p, k)`.

    Reverse over reverse (Pearlmutter 1994), one graph a batch, shared by the columns. Attention runs on PyTorch's math
    backend inside, and recurrent layers without cuDNN, since the fused kernels have no second derivative. Raises InputError
    when the model has none, or for vectors of another length.
    """

    def __init__(self, objective: Objective, theta: Tensor):
        self.objective = objective
        self.theta = theta
        self.shape = (objective.space.size, objective.space.size)

    def __matmul__(self, vectors: Tensor) -> Tensor:
        if vectors.dim() not in (1, 2) or vectors.shape[0] != self.shape[1]:
            raise InputError(f"vectors must have shape (p,) or (p, k) with p = {self.shape[1]} (got {tuple(vectors.shape)})")
        columns = vectors.detach().to(self.theta).reshape(self.shape[1], -1 if vectors.numel() else 0)
        network = self.objective.network
        network.set(self.theta)
        with torch.inference_mode(False), torch.enable_grad(), network.exactly():
            product = torch.zeros_like(columns)
            with sdpa_kernel(SDPBackend.MATH), _recurrent(network):
                for value in self.objective.weighted_terms("train"):
                    _add_product(value, network, columns, product)
        self.objective.counts["products"] += columns.shape[1]
        return product.reshape(vectors.shape)


def _severed(gradient: Tensor) -> bool:
    """Whether the graph of a gradient ends in a function that allows no further derivative."""
    waiting, seen = [gradient.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False


def _recurrent(network: Network) -> AbstractContextManager[None]:
    """Keeps a model with recurrent layers off cuDNN."""
    if any(isinstance(module, nn.RNNBase) for module in network.model.modules()):
        return torch.backends.cudnn.flags(enabled=False)
    return nullcontext()


def _add_product(value: Tensor, network: Network, columns: Tensor, product: Tensor) -> None:
    """Add the Hessian of a number times each column `(p, k)` to `product`."""
    try:
        gradient = network.gradient(value, create_graph=True)
        if _severed(gradient):  # autograd would leave this part out, and not say so
            raise NotImplementedError("its gradient runs through a function marked once_differentiable")
        for column, found in zip(columns.T, product.T, strict=True):
            found += network.gradient(gradient, column, retain_graph=True)
    except (RuntimeError, NotImplementedError) as error:
        if "out of memory" in str(error):
            raise
        line = str(error).strip().splitlines()[0]
        raise InputError(f"the model cannot be differentiated twice, so its curvature is not available: {line}") from None
