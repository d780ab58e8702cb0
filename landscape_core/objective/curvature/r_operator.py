"""Hessian products of chains of Linear layers and elementwise steps by their own rule, many vectors in one product.

The R-operator of Pearlmutter (1994) written out: what does not depend on the vector (values h, slopes of the steps, adjoints G
of every layer) is kept, and for a block of k vectors every layer is a product of `(samples, k features)` matrices. With R the
derivative along a vector V = (V_W, V_b): forward R z = h V_W' + V_b + R h W', backward R dh = R G W + G V_W, and the product's
entries are R G' h + G' R h.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..batches import Batch
from ..foreign import Unplannable, pass_over
from ..plain import PlainObjective
from ..plans.chain import ELEMENTWISE
from ..plans.graph import Traced, argument, shape
from ..plans.stages import outputs
from .outputs import OutputLoss

BLOCK = 1 << 19  # numbers in one layer's values for a block of vectors: what a core's cache holds


@dataclass(frozen=True)
class Weights:
    """A Linear layer: the places of its weight and bias in theta's entries, or the frozen tensors themselves."""

    weight: int | Tensor
    bias: int | Tensor | None


Step = Weights | Callable[[Tensor], Tensor]  # a layer, or a function of each number


def find_chain(objective: PlainObjective) -> tuple[Step, ...]:
    """The steps of a network that is a chain, under a loss of its outputs alone; empty for any other."""
    if objective.found().entangled:
        return ()
    try:
        batch = next(objective.batches("train")[0].chunks(2))
        network = objective.network
        network(batch.inputs)
        return _steps(Traced(network, batch)) if network.pure and isinstance(batch.inputs, Tensor) else ()
    except Exception as error:  # whatever a model does when traced: the graph of its gradient serves it
        pass_over(error)
        return ()


def _steps(traced: Traced) -> tuple[Step, ...]:
    found: list[Step] = []
    value = None
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            value = node
        elif node.op == "get_attr":
            continue
        elif node.op == "output":
            if outputs(traced.graph) is not value:
                raise Unplannable("not a chain")
        elif not node.args or node.args[0] is not value:
            raise Unplannable("not a chain")
        elif node.target is F.linear and len(shape(node) or ()) == 2:
            parts = [argument(node, 1, "weight"), argument(node, 2, "bias")]
            if any(part is not None and part.op != "get_attr" for part in parts):
                raise Unplannable("a computed weight")
            places = [None if part is None else traced.entry(part) for part in parts]
            weight, bias = (
                part if part is None else place if place is not None else traced.tensor(part).detach()
                for part, place in zip(parts, places, strict=True)
            )
            if weight is None:
                raise Unplannable("no weight")
            found.append(Weights(weight, bias))
            value = node
        elif node.target in ELEMENTWISE and found and node.all_input_nodes == [value]:
            found.append(_function(node.target, node.args[1:], dict(node.kwargs)))
            value = node
        elif node.target in (torch.flatten, "flatten") and not found and len(shape(node) or ()) == 2:
            value = node
        else:
            raise Unplannable("not a chain")
    if not any(isinstance(step, Weights) for step in found):
        raise Unplannable("no layer")
    return tuple(found)


def _function(target: Callable[..., Tensor], args: Sequence[object], kwargs: dict[str, object]) -> Callable[[Tensor], Tensor]:
    return lambda z: target(z, *args, **kwargs)


@dataclass
class _Layer:
    """What one Linear layer keeps: its input h `(n, in)` and the adjoint of its output G `(n, out)`.

    If the bias is a parameter, h has a column of ones more: its part is then in the products with the weight.
    """

    places: dict[str, int]  # in theta's entries, of its weight and its bias if they are parameters
    weight: Tensor
    h: Tensor
    adjoint: Tensor
    own: dict[str, int] = field(default_factory=dict)  # those of the places that products are taken with
    inputs: Tensor = field(init=False)  # the columns of h that belong to them
    _room: dict[str, Tensor] = field(default_factory=dict)

    def choose(self, members: Container[int]) -> None:
        """Take products with those of the parameters that are members."""
        self.own = {name: place for name, place in self.places.items() if place in members}
        inner = self.weight.shape[1]
        self.inputs = self.h[:, 0 if "weight" in self.own else inner : inner + ("bias" in self.own)]

    def times(self, a: Tensor, b: Tensor, name: str) -> Tensor:
        """Matrix product a b in memory that the next takes again: pages of a new tensor cost as much as the arithmetic."""
        size = a.shape[0] * b.shape[1]
        room = self._room.get(name)
        if room is None or room.numel() < size:
            room = self._room[name] = a.new_empty(size)
        return torch.mm(a, b, out=room[:size].view(a.shape[0], -1))


@dataclass
class _Bend:
    """What one elementwise step keeps: its slope, and its second derivative times the adjoint of its output."""

    slope: Tensor
    bent: Tensor | None


class ChainPiece:
    """The products of one chunk at theta `(p,)`."""

    def __init__(self, objective: PlainObjective, theta: Tensor, steps: Sequence[Step], batch: Batch):
        entries = objective.space.entries
        given = objective.space.tensors(theta, range(len(entries)))

        def tensor(place: int | Tensor) -> Tensor:
            return given[place] if isinstance(place, int) else place

        self._sizes = [(e.size, e.shape) for e in entries]
        value = batch.inputs.flatten(1)
        before: list[Tensor] = []
        for step in steps:
            before.append(value)
            if isinstance(step, Weights):
                weight, bias = tensor(step.weight), step.bias
                value = F.linear(value, weight, None if bias is None else tensor(bias))
            else:
                value = step(value)
            value = value.detach()
        self._loss = OutputLoss(objective, value.requires_grad_(), batch)
        adjoint = self._loss.slope[0]
        self._steps: list[_Layer | _Bend] = []
        for step, entering in zip(reversed(steps), reversed(before), strict=True):
            if isinstance(step, Weights):
                weight = tensor(step.weight)
                places = {name: place for name, place in vars(step).items() if isinstance(place, int)}
                h = F.pad(entering, (0, 1), value=1.0) if "bias" in places else entering
                self._steps.insert(0, _Layer(places, weight, h, adjoint))
                adjoint = adjoint @ weight
            else:
                slope, second = _derivatives(step, entering)
                self._steps.insert(0, _Bend(slope, None if second is None else second * adjoint))
                adjoint = adjoint * slope
        layers = [s for s in self._steps if isinstance(s, _Layer)]
        self._members: Sequence[int] = ()
        self._widest = max(max(s.weight.shape) if i else s.weight.shape[0] for i, s in enumerate(layers)) * max(1, batch.rows)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        kept = [
            t for s in self._steps for t in ((s.h, s.adjoint) if isinstance(s, _Layer) else (s.slope, s.bent)) if t is not None
        ]
        worked = [t for s in self._steps if isinstance(s, _Layer) for t in (s.h, s.adjoint)]  # as large, in products
        return sum(t.numel() * t.element_size() for t in [*kept, *worked, *self._loss.slope])

    def add(self, members: Sequence[int], rows: Tensor, product: Tensor) -> None:
        """Add H times each row `(k, m)` to `product`."""
        if members is not self._members:
            self._members = members
            for step in self._steps:
                if isinstance(step, _Layer):
                    step.choose(members)
        k = rows.shape[0]
        width = -(-k // -(-k // max(1, BLOCK // self._widest)))  # in as many blocks as it takes, all about as wide
        with torch.no_grad():
            for a in range(0, k, width):
                self._add(self._split(members, rows[a : a + width]), self._split(members, product[a : a + width]))

    def _split(self, members: Sequence[int], rows: Tensor) -> dict[int, Tensor]:
        """Views `(k, *shape)` of the rows' parts, by entry."""
        k, pieces = rows.shape[0], rows.split_with_sizes([self._sizes[i][0] for i in members], 1)
        return {i: piece.view(k, *self._sizes[i][1]) for i, piece in zip(members, pieces, strict=True)}

    def _add(self, v: dict[int, Tensor], out: dict[int, Tensor]) -> None:
        k = next(iter(v.values())).shape[0]
        change: Tensor | None = None  # R of the value, (n, k, features)
        changes: list[Tensor | None] = []
        for step in self._steps:
            changes.append(change)
            if isinstance(step, _Bend):
                # In place where nobody asks for the value before: new tensors of this size are slow to come by.
                if change is not None and step.bent is None:
                    change.mul_(step.slope[:, None])
                elif change is not None:
                    change = change * step.slope[:, None]
            else:
                change = _forward(step, v, change, k)
        if change is None:
            return
        curved = self._each_curvature(change)
        # R of the adjoint, (n, k, features).
        for step, before in zip(reversed(self._steps), reversed(changes), strict=True):
            if isinstance(step, _Bend):
                curved.mul_(step.slope[:, None])
                if step.bent is not None and before is not None:
                    curved.addcmul_(step.bent[:, None], before)
            else:
                _collect(step, curved, before, out)
                if step is not self._steps[0]:
                    curved = _backward(step, v, curved, k)

    def _each_curvature(self, change: Tensor) -> Tensor:
        if self._loss.spreads:
            return self._loss.curvature_of_many(change)
        with torch.enable_grad():
            return torch.stack([self._loss.curvature([c.contiguous()])[0] for c in change.unbind(1)], 1)


def _forward(layer: _Layer, v: dict[int, Tensor], change: Tensor | None, k: int) -> Tensor | None:
    n, (wide, inner) = layer.h.shape[0], layer.weight.shape
    found = None if change is None else layer.times(change.reshape(n * k, inner), layer.weight.T, "forward")
    if layer.own:
        h, rows = layer.inputs, torch.cat([v[place].reshape(k * wide, -1) for place in layer.own.values()], 1)
        found = layer.times(h, rows.T, "forward") if found is None else found.view(n, k * wide).addmm_(h, rows.T)
    return None if found is None else found.view(n, k, wide)


def _backward(layer: _Layer, v: dict[int, Tensor], curved: Tensor, k: int) -> Tensor:
    n, (wide, inner) = layer.h.shape[0], layer.weight.shape
    found = layer.times(curved.reshape(n * k, wide), layer.weight, "backward")
    if "weight" in layer.own:
        weights = v[layer.own["weight"]].transpose(0, 1).reshape(wide, k * inner)
        found.view(n, k * inner).addmm_(layer.adjoint, weights)
    return found.view(n, k, inner)


def _collect(layer: _Layer, curved: Tensor, before: Tensor | None, out: dict[int, Tensor]) -> None:
    (n, k, wide), inner = curved.shape, layer.weight.shape[1]
    own = layer.own
    if not own:
        return
    found = _inner(curved.reshape(n, k * wide), layer.inputs).view(k, wide, -1)
    if "bias" in own:
        out[own["bias"]] += found[..., -1]
    if "weight" in own:
        out[own["weight"]] += found[..., :inner]
        if before is not None:
            found = _inner(layer.adjoint, before.reshape(n, k * inner)).view(wide, k, inner)
            out[own["weight"]] += found.transpose(0, 1)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """a'b, the wider of the two on the right: tall products are faster so."""
    return a.T @ b if a.shape[1] <= b.shape[1] else (b.T @ a).T


def _derivatives(step: Callable[[Tensor], Tensor], given: Tensor) -> tuple[Tensor, Tensor | None]:
    """First and second derivative of an elementwise function; None where the second is zero everywhere."""
    z = given.detach().requires_grad_()
    slope = torch.autograd.grad(step(z).sum(), z, create_graph=True)[0]
    if not slope.requires_grad:
        return slope.detach(), None
    second = torch.autograd.grad(slope.sum(), z, allow_unused=True)[0]
    return slope.detach(), second if second is not None and bool(second.any()) else None
