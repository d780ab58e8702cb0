"""A network as a graph of functions in which every parameter is a value of its own."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..batches import Batch
from ..foreign import Unplannable, pass_over
from ..network import Network

CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
OUT_OF_PLACE = {operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul, "add_": operator.add}


class Traced:
    """`graph` computes the network's outputs from one placeholder, its inputs, and `get_attr` nodes: the tensors in `root`.

    `entry` gives the place in theta of a trainable parameter's node; every other `get_attr` is constant. Each node that is a
    tensor for the example batch has its shape there in `meta["shape"]`. The network must be a function: nothing random, no
    buffer updated. Raises Unplannable where torch.fx cannot follow it.
    """

    def __init__(self, network: Network, batch: Batch):
        self.root = _Entry(network, batch.inputs)
        try:
            with torch.no_grad():
                self.graph = _Tracer(batch.inputs).follow(self.root)
        except Exception as error:  # whatever a model does with a proxy
            if not isinstance(error, (fx.proxy.TraceError, NotImplementedError)):  # what torch.fx refuses in words
                pass_over(error)
            raise Unplannable(f"torch.fx cannot trace the model: {error}") from error
        self._places = {id(p): i for i, p in enumerate(network.parameters)}
        for node in list(self.graph.nodes):
            self._simplify(node)
        for node in reversed(list(self.graph.nodes)):
            if not node.users and node.target in (getattr, operator.getitem):  # a size that nobody asked for
                self.graph.erase_node(node)
        self.graph.lint()
        self.itemsize = network.buffer.element_size()
        self.on_cpu = network.buffer.device.type == "cpu"
        _Shapes(self.root, graph=self.graph).run(batch.inputs)

    def function(self, graph: fx.Graph) -> Callable[..., Any]:
        """A part of the graph as straight-line code."""
        return fx.GraphModule(self.root, graph).forward

    def entry(self, node: fx.Node) -> int | None:
        """The index in theta's entries of the parameter that a node is; None for all else."""
        return self._places.get(id(self.tensor(node))) if node.op == "get_attr" else None

    def tensor(self, node: fx.Node) -> Any:
        """What a `get_attr` node names."""
        return operator.attrgetter(str(node.target))(self.root)

    def _simplify(self, node: fx.Node) -> None:
        """BatchNorm, dropout and ReLU in one form each; what writes in place made to return a new value, or refused."""
        if node.op == "call_module":
            self._write_out(node)
        elif node.target in DROPOUTS and not argument(node, 2, "training", True):
            node.replace_all_uses_with(argument(node, 0, "input"))
            self.graph.erase_node(node)
        elif node.op in ("call_function", "call_method"):
            name = str(node.target)
            writes = node.op == "call_method" and name.endswith("_") and not name.endswith("__")
            if writes or node.target in OUT_OF_PLACE or node.target in (F.relu_, torch.relu_) or node.kwargs.get("inplace"):
                if len(argument(node, 0, "input").users) > 1:
                    raise Unplannable("a value is read after it was overwritten")
                if not (node.target in OUT_OF_PLACE or node.target in RELUS or node.kwargs.get("inplace")):
                    raise Unplannable(f"{name} writes in place")
                node.target, node.op = OUT_OF_PLACE.get(node.target, node.target), "call_function"
                node.kwargs = {key: value for key, value in node.kwargs.items() if key != "inplace"}
            if node.target in RELUS:
                node.op, node.target = "call_function", torch.relu
                node.args, node.kwargs = (argument(node, 0, "input"),), {}
            if node.target is operator.setitem or node.kwargs.get("out") is not None:
                raise Unplannable("a value is written into")

    def _write_out(self, node: fx.Node) -> None:
        name = str(node.target)
        module: Any = self.root.get_submodule(name)
        if module.training or module._forward_hooks or module._forward_pre_hooks:
            raise Unplannable(f"{name} is more than a BatchNorm")
        tensors = [getattr(module, part) for part in ("running_mean", "running_var", "weight", "bias")]
        with self.graph.inserting_before(node):
            parts = ("running_mean", "running_var", "weight", "bias")
            values = [
                None if tensor is None else self.graph.get_attr(f"{name}.{part}")
                for part, tensor in zip(parts, tensors, strict=True)
            ]
            given = (node.args[0], *values, tensors[0] is None, 0.0, module.eps)
            new = self.graph.call_function(F.batch_norm, given)
        node.replace_all_uses_with(new)
        self.graph.erase_node(node)


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument of a call, given by position or by name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def shape(node: fx.Node) -> tuple[int, ...] | None:
    """The shape of a node's tensor for the example batch; None if it is no tensor."""
    return node.meta.get("shape")


class _Tracer(fx.Tracer):
    """Goes into every layer, down to functions of parameters; a BatchNorm asks for its input's dimensions and stays whole.

    Every step is also taken for the example's inputs, so that code may ask for sizes.
    """

    def __init__(self, inputs: Any):
        # Sizes are numbers here: to wrap all of `math` would be half of the work.
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]
        self._inputs = inputs
        self._values: dict[fx.Node, Any] = {}

    def follow(self, root: nn.Module) -> fx.Graph:
        """`trace`, after which nothing holds the network any more: tracers end in cycles."""
        try:
            return self.trace(root)
        finally:
            del self.root
            self._values.clear()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return isinstance(m, _BatchNorm)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Sized(node, self, self._value(node))

    def _value(self, node: fx.Node) -> Any:
        if node in self._values:
            return self._values[node]
        args: Any = fx.node.map_arg(node.args, self._value)
        kwargs: Any = fx.node.map_arg(node.kwargs, self._value)
        if node.op == "placeholder":
            value = self._inputs
        elif node.op == "get_attr":
            value = functools.reduce(_part, str(node.target).split("."), self.root)
        elif node.op == "call_module":
            value = args[0]  # as large as what a BatchNorm gives
        elif node.op == "call_method":
            value = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        else:
            value = None if node.op == "output" else node.target(*args, **kwargs)  # type: ignore[operator]
        self._values[node] = value
        return value


def _part(module: Any, name: str) -> Any:
    """An attribute of a module; `getattr` would be traced."""
    places = (vars(module), *(vars(module)[kind] for kind in ("_parameters", "_buffers", "_modules")))
    return next(place[name] for place in places if name in place)


class _Sized(fx.Proxy):
    """A value whose sizes are numbers, all but the first: batches may have another number of samples than the example."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, value: Any):
        super().__init__(node, tracer)
        self._value = value

    @property
    def shape(self) -> Any:
        whole: Any = fx.proxy.Attribute(self, "shape")
        return (whole[0], *self._value.shape[1:]) if isinstance(self._value, Tensor) and self._value.dim() else whole

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return int(self._value.dim())

    @property
    def ndim(self) -> int:
        return self.dim()

    def __len__(self) -> int:
        raise Unplannable("the number of samples decides what is computed")


class _Entry(nn.Module):
    """Calls the network with the parts of inputs that are built like an example."""

    def __init__(self, network: Network, example: Any):
        super().__init__()
        self.model = network.model
        self._call = network.apply
        self._example = example

    def forward(self, inputs: Any) -> Any:
        example = self._example
        if isinstance(example, Tensor):
            return self._call(inputs)
        flat = isinstance(example, (Mapping, tuple, list)) and not hasattr(example, "_fields")
        keys = list(example) if isinstance(example, Mapping) else range(len(example)) if flat else []
        if not flat or not all(isinstance(example[key], Tensor) for key in keys):
            raise Unplannable("nested inputs")
        if isinstance(example, Mapping):
            return self._call({key: inputs[key] for key in keys})
        return self._call(tuple(inputs[key] for key in keys))


class _Shapes(fx.Interpreter):
    """Notes the shapes of one run."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            n.meta["shape"] = tuple(value.shape)
        return value
