"""Attention written out, softmax(Q K' / c) V with or without a constant mask, as PyTorch's fused function."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from .graph import Traced, argument, shape

PRODUCTS = (operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm")
SOFTMAX = (F.softmax, torch.softmax, "softmax")
MASKED = (torch.masked_fill, "masked_fill", "masked_fill_")
DIVISIONS, FACTORS = (operator.truediv, torch.div, "div"), (operator.mul, torch.mul, "mul")


@dataclass(frozen=True)
class _Scores:
    """scale * query @ key', minus infinity where `mask`."""

    query: fx.Node
    key: fx.Node
    scale: float
    mask: fx.Node | None


def fuse_attention(traced: Traced) -> None:
    """Put `attention` in the place of each product softmax(scores) @ value whose scores are known in full."""
    for node in list(traced.graph.nodes):
        if node.target not in PRODUCTS or len(node.args) != 2:
            continue
        weights, value = node.args
        if not isinstance(weights, fx.Node) or not isinstance(value, fx.Node) or not _is_softmax(weights):
            continue
        found = _scores(traced, argument(weights, 0, "input"), 1.0, None)
        if found is None or not len(shape(found.query) or ()) == len(shape(value) or ()) >= 3:
            continue
        with traced.graph.inserting_before(node):
            new = traced.graph.call_function(attention, (found.query, found.key, value, found.mask, found.scale))
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        traced.graph.erase_node(node)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """softmax(scale Q K') V along the last two dimensions; what `mask` marks is not looked at."""
    return F.scaled_dot_product_attention(query, key, value, None if mask is None else ~mask, scale=scale)


def _is_softmax(node: fx.Node) -> bool:
    last = (-1, len(shape(node) or ()) - 1)
    return (
        node.target in SOFTMAX and len(node.users) == 1 and argument(node, 1, "dim") in last and len(node.all_input_nodes) == 1
    )


def _scores(traced: Traced, node: Any, scale: float, mask: fx.Node | None) -> _Scores | None:
    """Read scores backwards: numbers and one mask on the way to query @ key'."""
    if not isinstance(node, fx.Node) or len(node.users) != 1:
        return None
    first, second = (argument(node, i, name) for i, name in enumerate(("input", "other")))
    if node.target in MASKED and mask is None:
        cover, number = argument(node, 1, "mask"), argument(node, 2, "value")
        usable = isinstance(cover, fx.Node) and number == -torch.inf and _covers_no_row(traced, cover)
        return _scores(traced, first, scale, cover) if usable else None
    if node.target in DIVISIONS and isinstance(second, (int, float)) and second:
        return _scores(traced, first, scale / second, mask)
    if node.target in FACTORS and isinstance(second, (int, float)):
        return _scores(traced, first, scale * second, mask)
    if node.target in PRODUCTS and isinstance(second, fx.Node) and (key := _transposed(second)) is not None:
        return _Scores(first, key, scale, mask)
    return None


def _covers_no_row(traced: Traced, mask: fx.Node) -> bool:
    """Whether a mask is constant and leaves something to look at everywhere: else softmax gives NaN, and the fused may not."""
    if mask.op != "get_attr" or traced.entry(mask) is not None:
        return False
    tensor = traced.tensor(mask)
    return isinstance(tensor, Tensor) and tensor.dtype == torch.bool and bool((~tensor).any(-1).all())


def _transposed(node: fx.Node) -> fx.Node | None:
    """K of a node that is K' along the last two dimensions."""
    dims = len(shape(node) or ())
    if node.target == "transpose" or node.target is torch.transpose:
        sides = {dim % dims for dim in (argument(node, 1, "dim0"), argument(node, 2, "dim1"))} if dims else set()
        key = node.args[0]
        return key if sides == {dims - 1, dims - 2} and isinstance(key, fx.Node) else None
    if node.target is getattr and node.args[1] == "mT":
        return node.args[0]  # type: ignore[return-value]
    return None
