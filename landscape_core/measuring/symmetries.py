"""What a network's build alone says of its curvature: where the Hessian has the diagonal of the Gauss-Newton matrix, and a
rescaling that changes nothing but the curvature.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..objective import Objective
from ..objective.settled import beside
from ..specs import InputError

SAME = 1e-6  # relative: outputs or losses that differ by less are the same function


def equal_diagonals(objective: Objective) -> bool:
    """Whether the Hessian's diagonal, and so its trace and its layers', is that of the Gauss-Newton matrix at every theta.

    H - G = sum_k dL/dz_k D2 z_k of the outputs z. So it is where z is piecewise linear in each parameter tensor by itself:
    ReLU networks without normalisation by the batch and without parameters that act in several places. Looked for as
    v' D2(u'z) v = 0 with random u, and v in one tensor after the other, at weights beside the given ones: a silent layer would
    hide the others. The loss need not be known, but it must be one of the outputs alone.
    """
    if objective.found().entangled:
        return False
    network = objective.replica()
    draw = torch.Generator().manual_seed(0)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=draw, dtype=torch.float64).to(like)

    network.set(beside(objective.theta))
    batch = next(next(iter(objective.batches())).chunks(2))
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            outputs = network(batch.inputs)
            if not torch.is_tensor(outputs) or not outputs.requires_grad:
                return False
            slopes = torch.autograd.grad(
                (normal(outputs) * outputs).sum(), network.parameters, create_graph=True, materialize_grads=True
            )
            for parameter, slope in zip(network.parameters, slopes, strict=True):
                along = normal(parameter)
                change = (slope * along).sum()
                if not change.requires_grad:
                    continue
                (bend,) = torch.autograd.grad(change, parameter, retain_graph=True, materialize_grads=True)
                if not float((bend * along).detach().sum().abs()) <= SAME * float((slope * along).detach().norm()):
                    return False
    except RuntimeError:  # a model that takes whole batches only, or that cannot be differentiated twice
        return False
    return True


def rescaled(objective: Objective, factor: float) -> tuple[Tensor, float]:
    """Theta of the same function with its first layer times `factor` and its second divided by it, and how far the loss moved.

    Exact for ReLU networks without normalisation. Raises InputError where this changes the function.
    """
    names: list[str] = []
    network = objective.replica()
    network.set(objective.theta)
    hooks: list[Any] = []
    for name, module in network.model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            hooks.append(module.register_forward_hook(lambda *_, name=name: names.append(name)))
    try:
        with torch.no_grad():
            network(next(iter(objective.batches())).inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if len(names) < 2:
        raise InputError("rescaling needs a network of at least two linear or convolutional layers")
    theta = objective.theta.clone()
    parts = objective.space.split(theta)
    for part, scale in ((f"{names[0]}.weight", factor), (f"{names[0]}.bias", factor), (f"{names[1]}.weight", 1 / factor)):
        if part in parts:
            parts[part].mul_(scale)
    before, after = objective.loss(objective.theta), objective.loss(theta)
    off = abs(after - before) / max(1.0, abs(before))
    if not off <= 1e-4:
        raise InputError(
            f"Rescaling {names[0]} against {names[1]} changes this network's loss by {off:.2g}: it is no symmetry here "
            "(activation other than ReLU, a normalisation, or another branch)."
        )
    return theta, abs(after - before)
