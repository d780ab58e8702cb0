"""Cutting a graph by what its values depend on, and making functions of the parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import fx

from .graph import Traced


class Stages:
    """The nodes that depend on the data alone, on both the data and theta (in order), and on theta or nothing."""

    def __init__(self, traced: Traced):
        self.data: set[fx.Node] = set()
        self.mixed: list[fx.Node] = []
        self.theta: set[fx.Node] = set()
        needs: dict[fx.Node, frozenset[str]] = {}
        for node in traced.graph.nodes:
            own = {"data"} if node.op == "placeholder" else {"theta"} if traced.entry(node) is not None else set()
            needs[node] = frozenset(own).union(*(needs[i] for i in node.all_input_nodes))
            if needs[node] == {"data"}:
                self.data.add(node)
            elif "data" not in needs[node]:
                self.theta.add(node)
            elif node.op != "output":
                self.mixed.append(node)


def outputs(graph: fx.Graph) -> Any:
    """What a graph returns: a node, or nodes in some nesting."""
    return next(node for node in graph.nodes if node.op == "output").args[0]


def nodes_in(tree: Any) -> list[fx.Node]:
    """The nodes in any nesting."""
    found: list[fx.Node] = []
    fx.node.map_arg(tree, found.append)
    return found


def ancestors(nodes: Iterable[fx.Node], stop: Iterable[fx.Node] = ()) -> set[fx.Node]:
    """The nodes and all that they need, not going past `stop`."""
    found: set[fx.Node] = set()
    stopped, waiting = set(stop), list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [] if node in stopped else node.all_input_nodes
    return found


def subgraph(traced: Traced, inputs: Sequence[fx.Node], wanted: Any) -> fx.Graph:
    """The part of a graph that computes `wanted` (nodes in any nesting) from the values of `inputs`."""
    needed = ancestors(nodes_in(wanted), inputs)
    graph = fx.Graph()
    made = {node: graph.placeholder(f"given_{i}") for i, node in enumerate(inputs)}
    for node in traced.graph.nodes:
        if node in needed and node not in made:
            made[node] = graph.node_copy(node, made.__getitem__)
    for node, copy in made.items():
        copy.meta = dict(node.meta)
    graph.output(fx.node.map_arg(wanted, made.__getitem__))
    return graph
