"""A network cut into what is done once for the data, once for a point, and once for each point on each piece of data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from ..batches import Batch
from ..foreign import Unplannable
from ..network import Network
from .affine import Affine, affine_layers
from .attention import fuse_attention
from .chain import is_chain, samples_last
from .graph import Traced, shape
from .layers import add_biases, fold_batchnorm, fuse_convolutions, pool_by_slices, write_over
from .stages import Stages, ancestors, nodes_in, outputs, subgraph

WIDE_CHANNELS = 16  # convolutions from so many on are faster with channels last in memory


@dataclass(frozen=True)
class Program:
    """outputs(c, batch) = combine(*z(c), *values, *weights(*parameters(c))) with (sources, values) = read(batch inputs)."""

    traced: Traced
    affine: tuple[Affine, ...]  # give z from the sources
    read: Callable[..., Any]
    weights: Callable[..., Any]
    entries: tuple[int, ...]  # of theta: the parameters that `weights` takes
    combine: Callable[..., Any]
    is_chain: bool  # `combine` takes and gives samples last, and points joined
    channels_last: bool
    stored: int  # bytes that the affine layers store for one sample and one axis
    widest: int  # bytes of the largest step, inputs and output, for one sample
    outputs: tuple[int, ...] | None  # shape of the network's outputs for an example; None if they are no tensor

    @classmethod
    def of(cls, network: Network, batch: Batch) -> Program:
        """The program of a network for batches like this one. Raises Unplannable."""
        example = next(batch.chunks(2))
        network(example.inputs)
        if not network.pure:
            raise Unplannable("the model is no function of its inputs")
        # A chain starts from stored layers whatever they cost.
        chain = _cut(Traced(network, example), example.rows, every=True)
        return chain if chain.is_chain else _cut(Traced(network, example), example.rows, every=False)


def _cut(traced: Traced, rows: int, *, every: bool) -> Program:
    affine = affine_layers(traced, every=every)
    layers = {layer.node for layer in affine}
    fold_batchnorm(traced.graph, layers)
    fuse_attention(traced)
    stacked = pool_by_slices(traced.graph, layers)
    affine = [replace(layer, result=stacked.get(layer.node, layer.node)) for layer in affine]
    channels_last = _channels_last(traced, layers)

    stages = Stages(traced)
    first = [layer.result for layer in affine]
    wanted = outputs(traced.graph)
    needed = ancestors(nodes_in(wanted), {*first, *stages.data, *stages.theta}) - {*first}
    data = [node for node in traced.graph.nodes if node in needed and node in stages.data]
    theta = [node for node in traced.graph.nodes if node in needed and node in stages.theta]
    own = [node for node in ancestors(theta) if traced.entry(node) is not None]

    combine = subgraph(traced, [*first, *data, *theta], wanted)
    given = [*combine.nodes][: len(first) + len(data)]
    chain = not data and is_chain(combine, set(given))
    itemsize = traced.itemsize
    parameters = {*[*combine.nodes][len(given) : len(given) + len(theta)]}
    sizes = [sum(map(_elements, {node, *node.all_input_nodes} - parameters)) for node in combine.nodes]
    widest = max(size for node, size in zip(combine.nodes, sizes, strict=True) if node not in parameters)
    write_over(combine, set(given[: len(first)]))
    if chain:
        samples_last(combine)
    elif traced.on_cpu:
        add_biases(combine)
        if channels_last and traced.itemsize == 4 and torch.backends.mkldnn.is_available():
            fuse_convolutions(combine)
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    return Program(
        traced,
        tuple(affine),
        traced.function(subgraph(traced, inputs, ([layer.source for layer in affine], data))),
        traced.function(subgraph(traced, own, theta)),
        tuple(traced.entry(node) or 0 for node in own),
        traced.function(combine),
        chain,
        channels_last,
        sum(map(_elements, first)) * itemsize // rows,
        max(1, widest * itemsize // rows),
        shape(wanted) if isinstance(wanted, fx.Node) else None,
    )


def _channels_last(traced: Traced, layers: set[fx.Node]) -> bool:
    """Lay the filters of wide convolutions out with channels last, once a point; whether there are any."""
    convolutions = [node for node in traced.graph.nodes if node.target is torch.conv2d and node not in layers]
    wide = any((shape(node.args[0]) or (0, 0))[1] >= WIDE_CHANNELS for node in convolutions)
    for node in convolutions if wide else []:
        with traced.graph.inserting_before(node):
            laid = traced.graph.call_function(filters_last, (node.args[1],))
        node.args = (node.args[0], laid, *node.args[2:])
    return wide


def filters_last(weight: Tensor) -> Tensor:
    """The same weights with channels last in memory."""
    return weight.contiguous(memory_format=torch.channels_last)


def _elements(node: fx.Node) -> int:
    return torch.Size(shape(node) or (0,)).numel()
