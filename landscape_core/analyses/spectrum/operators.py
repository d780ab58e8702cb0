"""The operator that a Spec asks for: a curvature over the chosen layers, shifted by weight decay, scaled by the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...objective import Objective
from ...specs import InputError
from .spec import SpectrumSpec


def curvature(objective: Objective, spec: SpectrumSpec, kind: str, theta: Tensor | None = None, shift: float = 0.0) -> Any:
    """The operator `kind` at theta (default: the weights given), restricted to the layers of the Spec."""
    at = objective.theta if theta is None else theta
    found: Any
    if kind == "fisher":
        found = objective.fisher(at, labels=spec.labels, seed=spec.seed)
    else:
        made = {"hessian": objective.hessian, "ggn": objective.gauss_newton, "empirical_fisher": objective.empirical_fisher}
        found = made[kind](at)  # type: ignore[operator]
    if spec.layers:
        found = found.restrict(spec.layers)
    return Shifted(found, shift) if shift else found


class Shifted:
    """A + c I."""

    def __init__(self, operator: Any, shift: float):
        self.operator, self.shift = operator, shift
        self.shape, self.dtype, self.device = operator.shape, operator.dtype, operator.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        product: Tensor = self.operator @ vectors
        return product + self.shift * vectors.to(product)

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of A."""
        return tuple(self.operator.notes)


class Scaled:
    """diag(s) A diag(s)."""

    def __init__(self, operator: Any, scale: Tensor):
        self.operator, self.scale = operator, scale
        self.shape, self.dtype, self.device = operator.shape, operator.dtype, operator.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        scale = self.scale if vectors.dim() == 1 else self.scale[:, None]
        return scale * (self.operator @ (scale * vectors.to(scale)))


def block(objective: Objective, spec: SpectrumSpec) -> tuple[tuple[int, ...], Tensor]:
    """The parameter tensors of the chosen layers, and their coordinates in theta."""
    entries = objective.space.entries
    named = {name: objective.space.under(name) for name in spec.layers or ()}
    unknown = [name for name, found in named.items() if not found]
    if unknown:
        raise InputError(f"no layer or parameter is named '{unknown[0]}'; there are: {', '.join(e.name for e in entries)}")
    members = range(len(entries)) if spec.layers is None else sorted(set().union(*named.values()))
    coordinates = torch.cat([torch.arange(entries[i].offset, entries[i].offset + entries[i].size) for i in members])
    return tuple(members), coordinates.to(objective.theta.device)


def block_size(objective: Objective, spec: SpectrumSpec) -> int:
    """Number of parameters of the chosen layers."""
    return len(block(objective, spec)[1])
