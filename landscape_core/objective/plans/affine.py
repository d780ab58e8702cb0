"""The layers that read the data: linear in their parameters, so on a slice their outputs are combinations of a few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from .graph import CONVOLUTIONS, Traced, argument, shape
from .layers import stacked_cells
from .stages import Stages

PAYS_FROM = 64  # multiplications for one output: computing it then costs more than combining stored ones


@dataclass(frozen=True)
class Affine:
    """z(c) = z_0 + sum_j c_j z_j for a layer of the data with parameters W_0 + sum_j c_j W_j.

    `node` is the layer, `result` what stands for it: itself, or its outputs stacked by the cells of a pooling to come.
    """

    node: fx.Node
    result: fx.Node
    source: fx.Node  # its input
    parameters: tuple[fx.Node | None, fx.Node | None]  # weight, bias

    def outputs(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's output for one set of parameters."""
        kwargs = {k: v for k, v in self.node.kwargs.items() if k not in ("input", "weight", "bias")}
        z: Tensor = self.node.target(x, weight, bias, *self.node.args[3:], **kwargs)  # type: ignore[operator]
        return stacked_cells(z, self.result.args[1]) if self.result is not self.node else z  # type: ignore[arg-type]

    def stored(self, traced: Traced, x: Tensor, points: list[list[Tensor]]) -> list[Tensor]:
        """z_0 and z_j from the parameters of the origin and of each direction, in the order of theta's entries."""
        found = []
        for number, tensors in enumerate(points):
            given: list[Any] = []
            for node in self.parameters:
                entry = None if node is None else traced.entry(node)
                if node is None:
                    given.append(None)
                elif entry is not None:
                    given.append(tensors[entry])
                else:  # frozen: a part of the origin only
                    constant = traced.tensor(node)
                    given.append(constant if number == 0 else torch.zeros_like(constant))
            found.append(self.outputs(x, *given))
        return found


def affine_layers(traced: Traced, *, every: bool) -> list[Affine]:
    """Layers of the data whose parameters are theta's own or frozen: those where storing pays, or `every` one."""
    found = []
    stages = Stages(traced)
    for node in stages.mixed:
        if node.target is not F.linear and node.target not in CONVOLUTIONS:
            continue
        x, weight, bias = (argument(node, i, name) for i, name in enumerate(("input", "weight", "bias")))
        given = [p for p in (weight, bias) if p is not None]
        if x in stages.data and all(p.op == "get_attr" for p in given) and (every or _pays(node, weight)):
            found.append(Affine(node, node, x, (weight, bias)))
    return found


def _pays(node: fx.Node, weight: fx.Node) -> bool:
    """Convolutions of one channel run far below the processor's peak."""
    size = shape(weight) or ()
    return torch.Size(size[1:]).numel() >= PAYS_FROM or (node.target in CONVOLUTIONS and size[1] == 1)
