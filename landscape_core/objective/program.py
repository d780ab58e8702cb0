"""A network as straight-line code of its inputs and parameters, with what many points of one slice can share taken out.

The model is traced by torch.fx and written again with every parameter an argument: no module is touched, so threads share
one program. On the way the layer that reads the data is cut off (it is linear in its parameters, so on a slice its output is
a combination of a few that are computed once), BatchNorm with stored statistics is folded into the layer before it, and a
ReLU writes over the value that nobody else reads. What cannot be traced or is not known here has no program.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .network import Network

Take = Callable[[list[Tensor]], Tensor]  # from the parameters of a point, in the order of theta, to a tensor of the program
RELUS = (F.relu, torch.relu, torch.relu_)
ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Identity, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Dropout)
ELEMENTWISE_FUNCTIONS = (*RELUS, torch.tanh, torch.sigmoid, F.gelu, F.silu, F.tanh, F.sigmoid)
RESHAPES = (nn.Flatten, nn.Unflatten, nn.Identity)
SMALL_LAYER = 8192  # weights of a Linear up to which several points are worth joining into one product


class Unsupported(Exception):
    """The network has no program; the plain path serves it."""


@dataclass(frozen=True)
class First:
    """The layer that reads the data: `prepare(*inputs)` gives its input, `apply(x, weight, bias)` its output.

    `pool` is the side of a max pooling that follows it (through at most a ReLU); its output is then kept with the pooled
    cells in front, `(pool^2, n, channels, h, w)`, so that pooling is a maximum of contiguous arrays.
    """

    prepare: Callable[..., Tensor]
    apply: Callable[..., Tensor]
    weight: int  # entry of theta
    bias: int | None
    pool: int = 1

    def outputs(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """The layer's output for one set of parameters."""
        z = self.apply(x, parameters[self.weight], None if self.bias is None else parameters[self.bias])
        if self.pool == 1:
            return z
        steps = range(self.pool)
        return torch.stack([z[:, :, i :: self.pool, j :: self.pool] for i in steps for j in steps])


@dataclass(frozen=True)
class Program:
    """`forward(tensors, first, *inputs)`: `tensors` from `takes`, `first` the first layer's output (None without one)."""

    forward: Callable[..., Any]
    takes: tuple[Take, ...]
    first: First | None
    joinable: bool  # every step also works on (points, samples, features), with small layers
    channels_last: bool


def build(network: Network) -> Program:
    """The program of a network with stored BatchNorm statistics. Raises Unsupported."""
    if not isinstance(network.model, nn.Module) or isinstance(network.model, torch.jit.ScriptModule):
        raise Unsupported
    try:
        traced = fx.symbolic_trace(network.model)
    except Exception as error:
        raise Unsupported(str(error)) from error
    return _Writer(network, traced).program()


class _Writer:
    """Writes the traced graph again, node by node."""

    def __init__(self, network: Network, traced: fx.GraphModule):
        self.traced = traced
        self.modules: dict[Any, Any] = dict(traced.named_modules())
        self.index = {id(p): i for i, p in enumerate(network.parameters)}
        self.graph = fx.Graph()
        self.tensors = self.graph.placeholder("tensors")
        self.first_value = self.graph.placeholder("first")
        self.values: dict[fx.Node, Any] = {}
        self.takes: list[Take] = []
        self.folded: dict[fx.Node, nn.Module] = {}  # layer -> the BatchNorm that goes into it
        self.fresh: set[fx.Node] = set()  # values that a step of ours has just made
        self.joinable = all(id(p) in self.index for p in traced.parameters())  # a frozen tensor is one for all points
        self.channels_last = any(isinstance(m, nn.Conv2d) for m in self.modules.values())
        self.first_node: fx.Node | None = None
        self.pooled: fx.Node | None = None
        self.skipped: set[fx.Node] = set()
        self.first: First | None = None

    def program(self) -> Program:
        nodes = list(self.traced.graph.nodes)
        self._find_first(nodes)
        for node in nodes:
            if node.op == "placeholder" and node.args:
                raise Unsupported("a default argument")
            if node not in self.skipped:
                self.values[node] = self._write(node)
        self.graph.lint()
        module = fx.GraphModule(self.traced, self.graph)
        # The graph module holds no state of ours; only its generated function is kept.
        return Program(module.forward, tuple(self.takes), self.first, self.joinable, self.channels_last)

    # -- the layer that reads the data ------------------------------------------------------------------------------

    def _find_first(self, nodes: list[fx.Node]) -> None:
        pure: set[fx.Node] = set()  # what depends on the inputs alone
        for node in nodes:
            inputs = node.all_input_nodes
            if node.op == "placeholder":
                pure.add(node)
            elif node.op == "call_module" and len(inputs) == 1 and inputs[0] in pure and self._pays(node):
                self.first_node = node
                break
            elif inputs and inputs[0] in pure and self._is_reshape(node, pure):
                pure.add(node)
        if self.first_node is None:
            self.joinable = False  # the data would have to be repeated for every point
            return
        node = self.first_node
        module = self.modules[node.target]
        prefix = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for other in nodes:
            if other is node:
                break
            if other in pure:
                copies[other] = prefix.node_copy(other, copies.__getitem__)
        prefix.output(copies[node.all_input_nodes[0]])
        self.pooled = self._pooling_after(node)
        side = 1 if self.pooled is None else self.modules[self.pooled.target].kernel_size
        self.first = First(
            fx.GraphModule(self.traced, prefix).forward,
            F.linear if isinstance(module, nn.Linear) else _convolution(module),
            self.index[id(module.weight)],
            None if module.bias is None else self.index[id(module.bias)],
            side if isinstance(side, int) else side[0],
        )
        # Steps that only lead to the first layer are done in its `prepare`.
        keep = {other for other in pure if any(user not in pure and user is not node for user in other.users)}
        while True:
            more = {i for other in keep for i in other.all_input_nodes} - keep
            if not more:
                break
            keep |= more
        self.skipped = {other for other in pure - keep if other.op != "placeholder"}

    def _pays(self, node: fx.Node) -> bool:
        """Combining stored outputs must cost less than computing one: not so for 3x3 convolutions of colour images."""
        module = self.modules[node.target]
        parameters = [p for p in (getattr(module, "weight", None), getattr(module, "bias", None)) if p is not None]
        if type(module) not in (nn.Linear, nn.Conv2d) or not all(id(p) in self.index for p in parameters):
            return False
        if sum(other.op == "call_module" and self.modules[other.target] is module for other in self.traced.graph.nodes) > 1:
            return False
        if isinstance(module, nn.Linear):
            return True
        fan_in = module.weight[0].numel()
        return _is_plain(module) and (module.in_channels == 1 or fan_in >= 64)

    def _pooling_after(self, node: fx.Node) -> fx.Node | None:
        """A non-overlapping square MaxPool2d that alone reads the layer, or alone reads a ReLU that alone reads it."""
        users = list(node.users)
        if len(users) == 1 and self._is_relu(users[0]):
            users = list(users[0].users)
        if len(users) != 1 or users[0].op != "call_module":
            return None
        pool = self.modules[users[0].target]
        if not isinstance(pool, nn.MaxPool2d) or pool.return_indices or pool.ceil_mode:
            return None
        sides = [pool.kernel_size, pool.stride]
        same = all(side == pool.kernel_size for side in sides) and isinstance(pool.kernel_size, int)
        return users[0] if same and pool.padding == 0 and pool.dilation == 1 else None

    # -- one node after the other --------------------------------------------------------------------------------------

    def _write(self, node: fx.Node) -> Any:
        arguments = fx.node.map_arg((node.args, node.kwargs), lambda n: self.values[n])
        if node is self.first_node:
            self.fresh.add(self.first_value)
            return self.first_value
        if node is self.pooled:
            value = self.graph.call_function(_largest, (self.values[node.all_input_nodes[0]],))
            self.fresh.add(value)
            return value
        if self._is_relu(node):
            source = self.values[node.all_input_nodes[0]]
            alone = len(node.all_input_nodes[0].users) == 1
            value = self.graph.call_function(torch.relu_ if source in self.fresh and alone else torch.relu, (source,))
            self.fresh.add(value)
            return value
        if node.op == "placeholder":
            return self.graph.placeholder(node.name)
        if node.op == "output":
            return self.graph.output(arguments[0][0])
        if node.op == "get_attr":
            return self._attribute(node)
        if node.op == "call_module":
            return self._module(node, self.modules[node.target], arguments)
        target: Any = node.target
        if node.op == "call_function" and target in (operator.add, operator.mul, operator.sub, operator.iadd, torch.add):
            self.joinable &= all(not isinstance(a, fx.Node) or a in self.fresh for a in arguments[0])
            value = self.graph.call_function(torch.add if target is operator.iadd else target, *arguments)
            self.fresh.add(value)
            return value
        if node.op == "call_function":
            if getattr(target, "__module__", "").startswith("torch") and "inplace" in node.kwargs:
                raise Unsupported("an in-place function")
            self.joinable &= target in ELEMENTWISE_FUNCTIONS
            return self.graph.call_function(target, *arguments)
        if str(target).endswith("_"):
            raise Unsupported("an in-place method")
        self.joinable = False
        return self.graph.call_method(str(target), *arguments)

    def _module(self, node: fx.Node, module: Any, arguments: Any) -> Any:
        x = arguments[0][0] if arguments[0] else None
        if type(module) in (nn.Linear, nn.Conv2d) and isinstance(x, fx.Node):
            norm = self._norm_after(node)
            if norm is not None:
                self.folded[node] = norm
            weight, bias = self._layer_tensors(module, norm)
            if isinstance(module, nn.Linear):
                self.joinable &= norm is None and module.weight.numel() <= SMALL_LAYER
                value = self.graph.call_function(_linear, (x, weight, bias))
            else:
                self.joinable = False
                value = self.graph.call_function(_convolution(module), (x, weight, bias))
            self.fresh.add(value)
            return value
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            self.joinable = False
            if node.all_input_nodes[0] in self.folded:
                return x
            if module.running_mean is None or module.training:
                raise Unsupported("BatchNorm without stored statistics")
            statistics = [self._constant(t) for t in (module.running_mean, module.running_var) if t is not None]
            scale = [self._parameter(p) for p in (module.weight, module.bias)]
            value = self.graph.call_function(F.batch_norm, (x, *statistics, *scale, False, 0.0, module.eps))
            self.fresh.add(value)
            return value
        if type(module) is nn.LayerNorm:
            self.joinable = False
            affine = [self._parameter(p) for p in (module.weight, module.bias)]
            return self.graph.call_function(F.layer_norm, (x, list(module.normalized_shape), *affine, module.eps))
        if type(module) is nn.Embedding and module.max_norm is None:
            self.joinable = False
            return self.graph.call_function(F.embedding, (x, self._parameter(module.weight)))
        if any(True for _ in module.parameters()) or module.training or getattr(module, "inplace", False):
            raise Unsupported(f"{type(module).__name__}")
        self.joinable &= isinstance(module, ELEMENTWISE)
        return self.graph.call_module(str(node.target), *arguments)

    def _norm_after(self, node: fx.Node) -> nn.Module | None:
        users = list(node.users)
        module = self.modules[users[0].target] if len(users) == 1 and users[0].op == "call_module" else None
        known = isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and not module.training
        return module if known and isinstance(self.modules[node.target], nn.Conv2d) else None

    def _layer_tensors(self, module: Any, norm: Any) -> tuple[Any, Any]:
        keep = functools.partial(_laid_out, channels_last=self.channels_last and isinstance(module, nn.Conv2d))
        weight, bias = self._take(module.weight), None if module.bias is None else self._take(module.bias)
        if norm is None:
            return self._tensor(lambda p: keep(weight(p))), None if bias is None else self._tensor(bias)
        gain = None if norm.weight is None else self._take(norm.weight)
        shift = None if norm.bias is None else self._take(norm.bias)
        mean, rate = norm.running_mean, torch.rsqrt(norm.running_var + norm.eps)

        def folded(p: list[Tensor]) -> Tensor:
            scale = rate if gain is None else gain(p) * rate
            return keep(weight(p) * scale.view(-1, *[1] * (module.weight.dim() - 1)))

        def moved(p: list[Tensor]) -> Tensor:
            scale = rate if gain is None else gain(p) * rate
            offset = -mean if bias is None else bias(p) - mean
            return offset * scale if shift is None else offset * scale + shift(p)

        return self._tensor(folded), self._tensor(moved)

    # -- tensors -------------------------------------------------------------------------------------------------------

    def _take(self, parameter: Tensor) -> Take:
        index = self.index.get(id(parameter))
        if index is None:  # frozen
            return lambda _: parameter.detach()
        return lambda parameters: parameters[index]

    def _tensor(self, take: Take) -> fx.Node:
        self.takes.append(take)
        return self.graph.call_function(operator.getitem, (self.tensors, len(self.takes) - 1))

    def _parameter(self, parameter: Tensor | None) -> fx.Node | None:
        return None if parameter is None else self._tensor(self._take(parameter))

    def _constant(self, value: Tensor) -> fx.Node:
        return self._tensor(lambda _: value)

    def _attribute(self, node: fx.Node) -> fx.Node:
        value: Any = self.traced
        for part in str(node.target).split("."):
            value = getattr(value, part)
        if not isinstance(value, Tensor):
            raise Unsupported(f"attribute {node.target}")
        self.joinable = False
        return self._tensor(self._take(value)) if isinstance(value, nn.Parameter) else self._constant(value)

    def _is_reshape(self, node: fx.Node, pure: set[fx.Node]) -> bool:
        """A step without parameters, of the inputs alone."""
        if node.op == "call_module":
            return isinstance(self.modules[node.target], RESHAPES)
        return node.op in ("call_function", "call_method") and all(i in pure for i in node.all_input_nodes)

    def _is_relu(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return type(self.modules[node.target]) is nn.ReLU
        return (node.op == "call_function" and node.target in RELUS) or (node.op == "call_method" and node.target == "relu")


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """X W' + b; with a leading dimension of points on every operand, all of them in one product."""
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    wide = weight.transpose(1, 2)
    return torch.bmm(x, wide) if bias is None else torch.baddbmm(bias[:, None, :], x, wide)


def _is_plain(module: nn.Conv2d) -> bool:
    return module.padding_mode == "zeros"


def _convolution(module: nn.Conv2d) -> Callable[..., Tensor]:
    if not _is_plain(module):
        raise Unsupported(f"padding_mode={module.padding_mode}")
    settings = {"stride": module.stride, "padding": module.padding, "dilation": module.dilation, "groups": module.groups}
    return _Convolution(settings)


class _Convolution:
    """conv2d with its settings: a function that generated code can name."""

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings
        self.__name__ = self.__qualname__ = "convolution"
        self.__module__ = __name__

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, **self.settings)


def _largest(phases: Tensor) -> Tensor:
    """The maximum over the leading dimension `(pool^2, n, channels, h, w)`."""
    return functools.reduce(torch.maximum, phases.unbind(0))


def _laid_out(weight: Tensor, channels_last: bool) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last) if channels_last and weight.dim() == 4 else weight
