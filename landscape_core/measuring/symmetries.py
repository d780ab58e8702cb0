"""What a network's build alone says of its curvature: directions that are flat at every theta, where the Hessian has the
diagonal of the Gauss-Newton matrix, and a rescaling that changes nothing but the curvature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..objective import Objective
from ..specs import InputError

SAME = 1e-6  # relative: outputs or losses that differ by less are the same function
RANK = 1e-9  # of the largest eigenvalue of X'X in float64: what counts as zero


@dataclass(frozen=True)
class ZeroModes:
    """Directions along which the loss is constant at every theta: how many at least, and why."""

    count: int
    reasons: tuple[str, ...] = ()


def zero_modes(objective: Objective, kind: str, members: Sequence[int]) -> ZeroModes:
    """Exact zero eigenvalues of the curvature `kind` over the parameter tensors `members`, at every theta.

    - Softmax shift: a loss that does not see a constant added to all outputs of a sample is constant along every vector added
      to all rows of the last linear layer's (W, b): h + 1 directions.
    - Inputs that do not span their space: with X (N, d) the inputs of the first linear layer, each of its neurons has
      d + 1 - rank [X 1] directions that no sample sees (constant or collinear pixels).
    - Gauss-Newton and Fisher matrices have at most N (C - 1) or N C non-zero eigenvalues, the empirical Fisher N.

    A lower bound: dead units add to it. Layers are found by running one batch, so any model will do.
    """
    space = objective.space
    sizes = {space.entries[i].name: space.entries[i].size for i in members}
    reasons: list[str] = []
    count = twice = 0
    found = _linear_layers(objective)
    shift = _shift_invariant(objective)
    if found.last and shift:
        name, layer = found.last
        parts = [n for n, part in ((f"{name}.weight", layer.in_features), (f"{name}.bias", 1)) if n in sizes]
        own = sum(layer.in_features if n.endswith("weight") else 1 for n in parts)
        if own:
            count += own
            reasons.append(f"{own} from adding the same vector to all rows of the last layer")
    if found.first and (null := _unseen(objective, found, sizes)):
        name, layer = found.first
        own = null * layer.out_features
        # A single layer: the vectors counted above that lie in the unseen part of its inputs are counted twice.
        twice = null if found.last and found.last[0] == name and shift else 0
        count += own - twice
        reasons.append(f"{layer.out_features} × {null} from inputs that are constant or depend on others")
    p = sum(sizes.values())
    rank = _largest_rank(objective, kind, shift)
    if rank is not None and p - rank > count:
        return ZeroModes(p - rank, (f"rank at most {rank:,} with {objective.size():,} samples",))
    return ZeroModes(count, tuple(reasons))


@dataclass(frozen=True)
class _Layers:
    first: tuple[str, nn.Linear] | None  # sees the inputs themselves
    last: tuple[str, nn.Linear] | None  # gives the outputs themselves


def _linear_layers(objective: Objective) -> _Layers:
    """The linear layers that see the inputs and give the outputs, in a model that uses each of them once."""
    network = objective.replica()
    network.set(objective.theta)
    seen: list[tuple[str, nn.Linear, Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: seen.append((name, m, i[0], o)))
        for name, module in network.model.named_modules()
        if type(module) is nn.Linear
    ]
    batch = next(iter(objective.batches()))
    try:
        with torch.no_grad():
            outputs = network(batch.inputs)
    except RuntimeError:
        return _Layers(None, None)
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, *_ in seen]
    once = [row for row in seen if names.count(row[0]) == 1]
    inputs = batch.inputs
    first = last = None
    for name, layer, given, made in once:
        if torch.is_tensor(inputs) and given.dim() == 2 and given.numel() == inputs.numel():
            same = given.shape[0] == inputs.shape[0] and torch.equal(given, inputs.reshape(given.shape).to(given))
            first = (name, layer) if same and first is None else first
        if made is outputs and made.dim() == 2:
            last = (name, layer)
    return _Layers(first, last)


def _unseen(objective: Objective, found: _Layers, sizes: dict[str, int]) -> int:
    """Dimensions of (w, b) of one neuron of the first layer that no sample sees."""
    assert found.first is not None
    name, layer = found.first
    weight, bias = f"{name}.weight" in sizes, f"{name}.bias" in sizes
    if not weight:
        return 0
    d = layer.in_features + (1 if bias else 0)
    gram = torch.zeros(d, d, dtype=torch.float64)
    for batch in objective.batches():
        x = batch.inputs.reshape(len(batch.inputs), -1).double().cpu()
        x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1) if bias else x
        gram += x.T @ x
    # Scaled to unit diagonal, so that a faint pixel is not taken for an absent one.
    scale = gram.diagonal().clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
    values = torch.linalg.eigvalsh(gram * scale[:, None] * scale[None, :])
    return int((values <= RANK * values[-1]).sum())


def _shift_invariant(objective: Objective) -> bool:
    """Whether the loss stays the same when a constant is added to all outputs of a sample."""
    network = objective.replica()
    network.set(objective.theta)
    batch = next(iter(objective.batches()))
    try:
        with torch.no_grad():
            outputs = network(batch.inputs)
            if not torch.is_tensor(outputs) or outputs.dim() != 2 or outputs.shape[1] < 2:
                return False
            shift = torch.linspace(-1, 1, len(outputs)).to(outputs)[:, None]
            one, two = (float(objective.term(o, batch)) for o in (outputs, outputs + shift))
    except (RuntimeError, InputError):
        return False
    return abs(one - two) <= 10 * SAME * max(1.0, abs(one))


def _largest_rank(objective: Objective, kind: str, shift: bool) -> int | None:
    """The largest rank that a matrix made of the samples' gradients can have; None for the Hessian."""
    if kind == "hessian":
        return None
    if kind == "empirical_fisher":
        return objective.size()
    outputs = objective.logits()
    if outputs.dim() != 2:
        return None
    return len(outputs) * (outputs.shape[1] - (1 if shift else 0))


def equal_diagonals(objective: Objective) -> bool:
    """Whether the Hessian's diagonal, and so its trace and its layers', is that of the Gauss-Newton matrix at every theta.

    H - G = sum_k dL/dz_k D2 z_k of the outputs z. So it is where z is piecewise linear in each parameter tensor by itself:
    ReLU networks without normalisation by the batch and without parameters that act in several places. Looked for as
    v' D2(u'z) v = 0 with random u, and v in one tensor after the other, at weights beside the given ones: a silent layer would
    hide the others. The loss need not be known.
    """
    network = objective.replica()
    draw = torch.Generator().manual_seed(0)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=draw, dtype=torch.float64).to(like)

    network.set(objective.theta + 0.02 * normal(objective.theta))
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
        raise InputError("rescale needs a network of at least two linear or convolutional layers")
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
