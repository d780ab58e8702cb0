"""What any network allows: BatchNorm folded into the layer before it, pooling by slices, steps that write over their input,
biases added in place, convolutions that end in a sum and a ReLU.

Each function changes a graph so that it computes the same values; each knows one pattern and leaves all else alone.
"""

from __future__ import annotations

import functools
import itertools
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from .graph import CONVOLUTIONS, argument, shape

LAYERS = (F.linear, *CONVOLUTIONS)
POOLS = (F.max_pool2d, F.max_pool2d_with_indices, torch.max_pool2d)


# -- BatchNorm with stored statistics -----------------------------------------------------------------------------------


def fold_batchnorm(graph: fx.Graph, keep: set[fx.Node]) -> None:
    """norm(W x + b) = (s W) x + (b - mean) s + shift with s = gain / sqrt(var + eps): per point instead of per sample.

    Layers in `keep` stay as they are; behind those and elsewhere the norm becomes h s + (shift - mean s).
    """
    for node in list(graph.nodes):
        if node.target is not F.batch_norm or node.args[5] or not shape(node):
            continue
        source, mean, var, gain, shift, _, _, eps = node.args
        with graph.inserting_before(node):
            scale = graph.call_function(norm_scale, (gain, var, eps))
            if source not in keep and source.target in LAYERS and len(source.users) == 1 and _same_features(source):
                x, weight, bias = (argument(source, i, name) for i, name in enumerate(("input", "weight", "bias")))
                moved = graph.call_function(norm_shift, (scale, mean, shift, bias))
                scaled = graph.call_function(scaled_filters, (weight, scale))
                kwargs = {k: v for k, v in source.kwargs.items() if k not in ("input", "weight", "bias")}
                new = graph.call_function(source.target, (x, scaled, moved, *source.args[3:]), kwargs)
            else:
                new = graph.call_function(
                    scale_features, (source, scale, graph.call_function(norm_shift, (scale, mean, shift)))
                )
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        graph.erase_node(node)
        if not source.users:
            graph.erase_node(source)


def _same_features(layer: fx.Node) -> bool:
    """Whether the layer's outputs lie along the dimension that the norm reads, the second."""
    return layer.target in CONVOLUTIONS or len(shape(layer) or ()) == 2


def norm_scale(gain: Tensor | None, var: Tensor, eps: float) -> Tensor:
    """Gain / sqrt(var + eps), a number for each feature."""
    scale = torch.rsqrt(var + eps)
    return scale if gain is None else gain * scale


def norm_shift(scale: Tensor, mean: Tensor, shift: Tensor | None, bias: Tensor | None = None) -> Tensor:
    """(bias - mean) scale + shift, a number for each feature."""
    moved = -mean * scale if bias is None else (bias - mean) * scale
    return moved if shift is None else moved + shift


def scaled_filters(weight: Tensor, scale: Tensor) -> Tensor:
    """Weights `(..., out, in, ...)` times a number for each output `(..., out)`."""
    return weight * scale.reshape(*scale.shape, *[1] * (weight.dim() - scale.dim()))


def scale_features(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Values `(n, features, ...)` times scale plus shift, a number for each feature."""
    along = [-1, *[1] * (h.dim() - 2)]
    return torch.addcmul(shift.view(along), h, scale.view(along))


# -- max pooling ----------------------------------------------------------------------------------------------------------


def pool_by_slices(graph: fx.Graph, affine: set[fx.Node]) -> dict[fx.Node, fx.Node]:
    """Max pooling of cells that share nothing, as the largest of side^2 slices: PyTorch's is slow on contiguous images.

    Behind a layer in `affine` the slices are taken of the layer (before a ReLU between the two, which changes nothing), so
    that they are taken once for all points. Returns what now stands for those layers.
    """
    stacked = {}
    for node in list(graph.nodes):
        side = _cells(node)
        if not side:
            continue
        source = node.args[0]
        relu = source if source.target is torch.relu and len(source.users) == 1 else None
        layer = source if relu is None else relu.args[0]
        ahead = layer in affine and len(layer.users) == 1
        with graph.inserting_before(node):
            if ahead:
                cells = graph.call_function(stacked_cells, (layer, side))
                cells.meta["shape"] = (side * side, *(shape(node) or ()))
                stacked[layer] = cells
                new = graph.call_function(torch.amax, (cells, 0))
            else:
                new = graph.call_function(largest_in_cells, (source, side))
            new.meta = dict(node.meta)
            if ahead and relu is not None:
                new = graph.call_function(torch.relu, (new,))
                new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        graph.erase_node(node)
        if ahead and relu is not None:
            graph.erase_node(relu)
    return stacked


def _cells(node: fx.Node) -> int | None:
    """The side of the cells of a pooling of separate cells without border or gaps, of images `(n, channels, h, w)`."""
    if node.target not in POOLS or len(shape(node) or ()) != 4:
        return None
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    kernel, stride, *rest = (argument(node, i + 1, name) for i, name in enumerate(names))
    sides = {*_pair(kernel), *(_pair(stride) if stride else ())}
    plain = all(_pair(value or default) == (default, default) for value, default in zip(rest[:2], (0, 1), strict=True))
    return sides.pop() if len(sides) == 1 and plain and not any(rest[2:]) else None


def _pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)


def _slices(images: Tensor, side: int) -> list[Tensor]:
    high, wide = (size // side * side for size in images.shape[2:])
    return [images[:, :, i:high:side, j:wide:side] for i, j in itertools.product(range(side), repeat=2)]


def stacked_cells(images: Tensor, side: int) -> Tensor:
    """`(side^2, n, channels, h / side, w / side)`: the cells' elements in front."""
    return torch.stack(_slices(images, side))


def largest_in_cells(images: Tensor, side: int) -> Tensor:
    """Max pooling with kernel and stride `side`."""
    if not images.is_contiguous():  # channels last, where PyTorch's own is fast
        return F.max_pool2d(images, side)
    return functools.reduce(torch.maximum, _slices(images, side))


# -- writing over the input -----------------------------------------------------------------------------------------------

IN_PLACE = {torch.relu: torch.relu_, F.gelu: torch._C._nn.gelu_}  # type: ignore[attr-defined]
FRESH = (*LAYERS, scale_features, largest_in_cells, torch.amax, F.layer_norm, *IN_PLACE, *IN_PLACE.values())


def write_over(graph: fx.Graph, fresh: set[fx.Node]) -> None:
    """ReLU, GELU and sums in place where the input has just been made (`fresh`, or here) and has no other reader."""
    fresh = set(fresh)

    def own(value: Any) -> bool:
        return isinstance(value, fx.Node) and value in fresh and len(value.users) == 1

    for node in graph.nodes:
        if node.target in IN_PLACE and node.args and own(node.args[0]):
            node.target = IN_PLACE[node.target]
        elif node.target in (operator.add, torch.add) and len(node.args) == 2 and not node.kwargs:
            for mine, other in (node.args, node.args[::-1]):
                if own(mine) and isinstance(other, fx.Node) and shape(mine) == shape(node) == shape(other):
                    node.op, node.target, node.args = "call_method", "add_", (mine, other)
                    fresh.add(node)
                    break
            else:
                fresh.add(node)
        if node.op == "call_function" and node.target in FRESH:
            fresh.add(node)


def add_biases(graph: fx.Graph) -> None:
    """W x + b of many rows as a product and a sum in place: the product would first fill its result with the biases."""
    for node in list(graph.nodes):
        if node.target is F.linear and len(shape(node) or ()) > 2 and (bias := argument(node, 2, "bias")) is not None:
            x, weight = (argument(node, i, name) for i, name in enumerate(("input", "weight")))
            with graph.inserting_before(node):
                product = graph.call_function(F.linear, (x, weight))
                new = graph.call_method("add_", (product, bias))
            product.meta, new.meta = dict(node.meta), dict(node.meta)
            node.replace_all_uses_with(new)
            graph.erase_node(node)


# -- convolutions with what follows ---------------------------------------------------------------------------------------


def fuse_convolutions(graph: fx.Graph) -> None:
    """relu(W * x + b) and relu(W * x + b + h) in one oneDNN call each, which saves reading the result again.

    For float32 images with channels last on a CPU.
    """
    for node in list(graph.nodes):
        if node.target is not torch.relu_ or len(node.args) != 1:
            continue
        (source,) = node.args
        added = source if source.target == "add_" else None
        conv = source if added is None else source.args[0]
        given = () if added is None else (added.args[1],)
        if conv.target is not torch.conv2d or conv.kwargs or isinstance(argument(conv, 4, "padding"), str):
            continue
        x, weight, bias = (argument(conv, i, name) for i, name in enumerate(("input", "weight", "bias")))
        numbers = [[*_pair(argument(conv, 3 + i, "", default))] for i, default in enumerate((1, 0, 1))]
        with graph.inserting_before(node):
            function = convolution_relu if added is None else convolution_add_relu
            new = graph.call_function(function, (x, *given, weight, bias, *numbers, argument(conv, 6, "groups", 1)))
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        for old in (node, added, conv):
            if old is not None:
                graph.erase_node(old)


def convolution_relu(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> Tensor:
    """relu(W * x + b)."""
    found: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, stride, dilation, groups, "relu", [], None
    )
    return found


def convolution_add_relu(
    x: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """relu(W * x + b + h)."""
    found: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
        x, h, weight, bias, padding, stride, dilation, groups, "add", 1.0, "relu", [], None
    )
    return found
