"""Networks of Linear layers and elementwise steps: samples last in memory, so that points can be joined in one product.

With values `(points, features, samples)` a layer is W h + b for all points at once, the scores `(points, classes, samples)`
are reduced over classes along contiguous memory, and one call serves as many small points as fit the cache.
"""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from .graph import shape
from .layers import scale_features
from .stages import outputs

ELEMENTWISE = (
    *(torch.relu, torch.tanh, torch.sigmoid, torch.erf, torch.exp, torch.sin, torch.cos, torch.square, torch.abs),
    *(
        F.tanh,
        F.sigmoid,
        F.gelu,
        F.silu,
        F.elu,
        F.selu,
        F.celu,
        F.leaky_relu,
        F.softplus,
        F.softsign,
        F.mish,
        F.hardtanh,
        F.relu6,
    ),
    *(F.hardswish, F.logsigmoid),
)
SUMS = (operator.add, operator.sub, operator.mul, torch.add, torch.sub, torch.mul)


def is_chain(graph: fx.Graph, given: set[fx.Node]) -> bool:
    """Whether a graph of `given` values `(samples, features)` and parameters has only steps that work for joined points."""
    result = outputs(graph)
    if not isinstance(result, fx.Node) or len(shape(result) or ()) != 2:
        return False
    values = set(given)
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        tensors = [a for a in node.all_input_nodes if a in values]
        known = node.args and node.args[0] in tensors and len(shape(node) or ()) == 2
        if not known or node.op != "call_function":
            return False
        if node.target in (F.linear, scale_features):
            right = len(tensors) == 1 and not node.kwargs
        elif node.target in SUMS:
            right = all(isinstance(a, (int, float)) or (a in values and shape(a) == shape(node)) for a in node.args)
            right = right and not node.kwargs
        else:
            right = node.target in ELEMENTWISE and node.all_input_nodes == [node.args[0]]
        if not right:
            return False
        values.add(node)
    return result in values


def samples_last(graph: fx.Graph) -> None:
    """Rewrite a chain for values `(features, samples)` or `(points, features, samples)`."""
    for node in graph.nodes:
        if node.target is F.linear:
            node.target = layer
        elif node.target is scale_features:
            node.target = scale_rows
        size = shape(node)
        if size is not None and len(size) == 2:
            node.meta["shape"] = size[::-1]


def layer(h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """W h + b with h `(..., in, samples)`; a frozen weight has no dimension of points."""
    if bias is None:
        return weight @ h
    column = bias[..., None]
    if weight.dim() == 3 and h.dim() == 3:
        return torch.baddbmm(column, weight, h) if bias.dim() == 2 else torch.baddbmm(column[None], weight, h)
    if weight.dim() == 2 and h.dim() == 2:
        return torch.addmm(column, weight, h)
    return weight @ h + column


def scale_rows(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Values `(..., features, samples)` times scale plus shift, numbers `(..., features)`."""
    return torch.addcmul(shift[..., None], h, scale[..., None])
