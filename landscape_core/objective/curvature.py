"""The Hessian as a linear operator on flat vectors: the plain reference by double backward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..specs import InputError

if TYPE_CHECKING:
    from .objective import Objective


class HessianOperator:
    """H = d2 L / d theta2 at one theta, over the whole training sample. `H @ v` for v `(p,)` or `(p, k)`.

    Reverse over reverse (Pearlmutter 1994), one graph a batch, shared by the columns. Attention runs on PyTorch's math
    backend inside, since the fused kernels have no second derivative. Raises InputError when the model has none.
    """

    def __init__(self, objective: Objective, theta: Tensor):
        self.objective = objective
        self.theta = theta
        self.shape = (objective.space.size, objective.space.size)

    def __matmul__(self, vectors: Tensor) -> Tensor:
        columns = vectors.reshape(vectors.shape[0], -1).to(self.theta)
        product = torch.zeros_like(columns)
        network = self.objective.network
        network.set(self.theta)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            for value in self.objective.weighted_terms("train"):
                product += _columns(value, network.parameters, columns)
        self.objective.counts["products"] += columns.shape[1]
        return product.reshape(vectors.shape)


def _columns(value: Tensor, parameters: list[torch.nn.Parameter], columns: Tensor) -> Tensor:
    """The Hessian of a scalar times each column `(p, k)`."""
    try:
        first = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True)
        flat = torch.cat(
            [torch.zeros_like(p).view(-1) if g is None else g.reshape(-1) for g, p in zip(first, parameters, strict=True)]
        )
        if not flat.requires_grad:  # the loss is linear in the parameters
            return torch.zeros_like(columns)
        found = []
        for column in columns.T:
            second = torch.autograd.grad(flat, parameters, column, retain_graph=True, allow_unused=True)
            found.append(
                torch.cat(
                    [
                        torch.zeros_like(p).view(-1) if g is None else g.reshape(-1)
                        for g, p in zip(second, parameters, strict=True)
                    ]
                )
            )
        return torch.stack(found, 1)
    except (RuntimeError, NotImplementedError) as error:
        if "out of memory" in str(error):
            raise
        line = str(error).strip().splitlines()[0]
        raise InputError(f"the model cannot be differentiated twice, so its curvature is not available: {line}") from None
