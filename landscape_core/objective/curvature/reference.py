"""The plain reference that every faster Hessian operator is held to: double backward, nothing kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...specs import InputError
from ..network import Network
from ..plain import PlainObjective


class HessianOperator:
    """H = d2 L / d theta2 at one theta, over the whole training sample. `H @ v` for v `(p,)` or `(p, k)`.

    Reverse over reverse (Pearlmutter 1994), one graph a batch, shared by the columns. Attention runs on PyTorch's math
    backend inside, and recurrent layers without cuDNN, since the fused kernels have no second derivative. Raises InputError
    when the model has none, or for vectors of another length.
    """

    def __init__(self, objective: PlainObjective, theta: Tensor):
        self.objective = objective
        self.theta = theta
        self.shape = (objective.space.size, objective.space.size)

    def __matmul__(self, vectors: Tensor) -> Tensor:
        if vectors.dim() not in (1, 2) or vectors.shape[0] != self.shape[1]:
            raise InputError(f"vectors must have shape (p,) or (p, k) with p = {self.shape[1]} (got {tuple(vectors.shape)})")
        columns = vectors.detach().to(self.theta).reshape(self.shape[1], -1 if vectors.numel() else 0)
        network = self.objective.network
        network.set(self.theta)
        with twice_differentiable(network):
            product = torch.zeros_like(columns)
            for value in self.objective.weighted_terms("train"):
                with one_line_errors():
                    gradient = network.gradient(value, create_graph=True)
                    refuse_severed([gradient])
                    for column, found in zip(columns.T, product.T, strict=True):
                        found += network.gradient(gradient, column, retain_graph=True)
        self.objective.counts["products"] += columns.shape[1]
        return product.reshape(vectors.shape)


@contextmanager
def twice_differentiable(network: Network) -> Iterator[None]:
    """Inside, gradients are on, whatever the caller's mode, and every layer takes a backend that has a second derivative."""
    attention = sdpa_kernel(SDPBackend.MATH)
    with torch.inference_mode(False), torch.enable_grad(), network.exactly(), attention, _recurrent(network):
        yield


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what PyTorch raises about missing derivatives into one InputError line."""
    try:
        yield
    except InputError:  # in words already
        raise
    except (RuntimeError, NotImplementedError) as error:
        if "out of memory" in str(error):
            raise
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"the model cannot be differentiated twice, so its curvature is not available: {line}") from error


def refuse_severed(gradients: Iterable[Tensor]) -> None:
    """Raises NotImplementedError if gradients are `severed`."""
    if severed(gradients):
        raise NotImplementedError("its gradient runs through a function marked once_differentiable")


def severed(gradients: Iterable[Tensor]) -> bool:
    """Whether a gradient's graph ends in a function that allows no further derivative.

    Autograd would leave that part out, and not say so.
    """
    waiting, seen = [gradient.grad_fn for gradient in gradients], set()
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
