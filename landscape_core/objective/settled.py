"""Is the loss one function of theta? Asked once an Objective, of all its samples, in float64, beside the given weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from ..specs import InputError
from .batches import Batch
from .facts import Found
from .foreign import pass_over
from .plain import PlainObjective
from .reasons import Failed
from .taken import Split

BESIDE = 0.02  # standard deviation of the way to a point beside the given weights: a silent last layer hides what samples do
SAME = 1e-9  # relative deviation of two float64 evaluations that rounding explains
INNER = 1e-4  # what it explains in a model that computes in float32 inside
NEAR = 1e-8  # a change of theta, relative, whose second difference no loss in float64 shows: it is rounding


def settle(objective: PlainObjective, split: Split) -> Found:
    """Two evaluations that must agree: of whole batches, and of the same in pieces with a graph for derivatives.

    Where they do not, a third and a fourth tell why: samples see each other, or the value depends on whether derivatives are
    asked for, or the function moves from call to call, which is refused in one line. Raises InputError for that, for a model or
    a loss that fails, and for a loss that reads weights of the caller's which cannot be replaced.
    """
    double, theta, first, derives = _first(objective, split)
    whole = double.batches(split)
    network = double.network
    if not all(map(math.isfinite, first)):
        theta = double.theta
        first = _terms(double, theta, whole, graph=derives)
    pieces = [_pieces(double, batch) for batch in whole]
    try:
        parts = _each(double, theta, pieces, graph=True)
    except Failed:  # a model that takes whole batches only
        parts = [[math.nan]] * len(first)
    second, spread = [sum(part) for part in parts], [sum(map(abs, part)) for part in parts]
    cut = any(len(part) > 1 for part in pieces) and all(map(math.isfinite, first))
    separate = cut and _agree(first, second, spread, double.dtype)
    if not separate:
        third = _terms(double, theta, whole, graph=True)
        if not _agree(first, third, first, double.dtype):
            again = _terms(double, theta, whole, graph=derives)
            if not _agree(first, again, first, double.dtype):
                raise InputError(_moves(double, first, again))
            derives = True
        elif cut:
            separate = _rounds_inside(double, theta, whole, first, second)
    if double is not objective:
        objective.counts["check_losses"] += double.counts["check_losses"]
    one = all(batch.rows == 1 for batch in whole)
    bound = double.bound
    entangled = bound or (bool(network.call.moving) and _reads(double, theta, whole[0]))
    return Found(separate or one, derives, entangled, network.call.shared, _notes(double))


def beside(theta: Tensor) -> Tensor:
    """A point near theta `(p,)`, always the same; what is not finite there is taken for zero."""
    noise = torch.randn(len(theta), generator=torch.Generator().manual_seed(0)).to(theta)
    return theta.nan_to_num(0.0, 0.0, 0.0) + BESIDE * noise


def _first(objective: PlainObjective, split: Split) -> tuple[PlainObjective, Tensor, list[float], bool]:
    """The Objective that is asked, where, its terms of whole batches there, and whether they need a graph.

    In float64 beside the given weights; at these themselves where the model fails beside them; with what the loss closes over
    in its own arithmetic, should it see to that by itself; and in the Objective's own arithmetic, where the model mixes some.
    """
    double = objective.to(torch.float64)
    attempts = [(double, cast, near) for cast in (True, False) for near in (True, False)]
    if double is not objective:
        attempts += [(objective, True, near) for near in (True, False)]
    errors: list[Failed] = []
    for asked, cast, near in attempts:
        if asked.casts != cast:
            asked.take_loss(cast=cast)
        asked.assume(split)
        theta = beside(asked.theta) if near else asked.theta
        try:
            first, derives = _watched(objective, asked, theta, split)
        except Failed as error:
            errors.append(error)
            continue
        if not cast:
            objective.casts = False
        return asked, theta, first, derives
    if double is objective:
        double.take_loss()
    _only_in_training(objective, objective.theta, objective.batches(split))
    raise errors[1] if double is objective else errors[-1]


def _watched(given: PlainObjective, double: PlainObjective, theta: Tensor, split: Split) -> tuple[list[float], bool]:
    """The terms of whole batches, and whether they need a graph; watched for weights of the caller's."""
    watch, whole = _Touched(given.callers()), double.batches(split)
    try:
        with watch:
            return _terms(double, theta, whole, graph=False), False
    except Failed as error:
        try:
            with watch:
                found = _terms(double, theta, whole, graph=True)
        except Failed:
            raise error from None
        double.assume(split, derives=True)
        return found, True
    finally:
        if watch.names:
            raise InputError(
                f"the loss or the model reads {', '.join(sorted(watch.names))} of the model that was given, which stay as they "
                "are while the picture moves: let the model return what the loss needs, or refer to the model by its own name"
            )


def _terms(objective: PlainObjective, theta: Tensor, batches: Sequence[Batch], *, graph: bool) -> list[float]:
    return [part[0] for part in _each(objective, theta, [[batch] for batch in batches], graph=graph)]


def _each(objective: PlainObjective, theta: Tensor, pieces: Sequence[Sequence[Batch]], *, graph: bool) -> list[list[float]]:
    """The terms of pieces at theta, by batch."""
    network = objective.network
    network.set(theta)
    objective.counts["check_losses"] += 1
    # Without a graph as where many points are evaluated: in inference mode.
    with torch.inference_mode(not graph), torch.set_grad_enabled(graph), network.exactly():
        return [[float(objective.term(objective.outputs(network, p), p, network).detach()) for p in part] for part in pieces]


def _pieces(objective: PlainObjective, batch: Batch) -> list[Batch]:
    """A batch in two or more pieces, as few as fit a cache; itself if it has one row."""
    if objective.coupled:
        return [batch]
    rows = min(objective.cached_rows(batch), -(-batch.rows // 2))
    return [*batch.chunks(max(1, rows))]


def _agree(a: Sequence[float], b: Sequence[float], sizes: Sequence[float], dtype: torch.dtype) -> bool:
    same = SAME if dtype == torch.float64 else 5e-6
    rounding = 64 * torch.finfo(dtype).eps
    return all(
        x == y or (x != x and y != y) or abs(x - y) <= same * abs(x) + rounding * abs(size)
        for x, y, size in zip(a, b, sizes, strict=True)
    )


def _rounds_inside(
    objective: PlainObjective, theta: Tensor, whole: Sequence[Batch], first: Sequence[float], second: Sequence[float]
) -> bool:
    """Whether the model answers a change of theta that is rounding by as much as cutting it changed."""
    off = [abs(x - y) / abs(x) for x, y in zip(first, second, strict=True)]
    if not max(off) <= INNER:
        return False
    floor = 0.0
    for way in (NEAR, 10 * NEAR):
        up, down = (_terms(objective, theta * (1 + sign * way), whole, graph=False) for sign in (1, -1))
        floor = max(floor, *(abs(x + y - 2 * z) / abs(z) for x, y, z in zip(up, down, first, strict=True)))
    for weights in ([1.0] * len(whole), [batch.weight for batch in whole]):
        single = torch.tensor([x / weight for x, weight in zip(first, weights, strict=True)], dtype=torch.float64)
        if bool((single.float().double() - single).abs().max() <= 1e-15 * single.abs().max()):  # numbers of float32 themselves
            floor = max(floor, torch.finfo(torch.float32).eps)
    return max(off) <= 10 * floor


def _reads(objective: PlainObjective, theta: Tensor, batch: Batch) -> bool:
    """Whether the loss of the same outputs changes once the model was called elsewhere: it reads what the model left."""
    network = objective.network

    def loss(outputs: Any) -> float:
        return float(objective.term(outputs, batch, network).detach())

    with torch.inference_mode(False), torch.enable_grad(), network.exactly():
        network.set(theta)
        outputs = network(batch.inputs)
        before = loss(outputs)
        network.set(beside(theta))
        network(batch.inputs)
        try:
            after = loss(outputs)
        except Exception as error:  # a graph that is gone
            pass_over(error)
            return True
    return not _agree([before], [after], [before], objective.dtype)


def _moves(objective: PlainObjective, first: Sequence[float], again: Sequence[float]) -> str:
    names = [*objective.network.call.moving, *objective.loss_call.moving]
    because = f" ({', '.join(names)} changes between calls)" if names else ""
    a, b = next((x, y) for x, y in zip(first, again, strict=True) if x != y)
    return (
        f"the loss is no function of the weights{because}: the same batch gave {a:.6g} and then {b:.6g}; "
        "reset in forward what is kept, and give random generators a seed at each call"
    )


def _only_in_training(objective: PlainObjective, theta: Tensor, batches: Sequence[Batch]) -> None:
    """Raises InputError if the loss of what fails can be had in training mode alone."""
    network = objective.replica()
    network.set(theta)
    for batch in batches:
        works = []
        for training in (False, True):
            network.model.train(training)
            try:
                with torch.no_grad(), network.exactly():
                    objective.loss_function(network.apply(batch.inputs), batch.targets)
                works.append(True)
            except Exception:  # whatever it is: the first error says it
                works.append(False)
        if works == [False, True]:
            raise InputError(
                "the model gives what the loss needs in training mode only, and is looked at in evaluation mode (dropout off): "
                "let forward return the same in both"
            )


def _notes(objective: PlainObjective) -> tuple[str, ...]:
    found = []
    for who, call in (("model", objective.network.call), ("loss", objective.loss_call)):
        if call.drawn:
            found.append(f"the {who} draws random numbers: one draw is frozen, the same at every point")
        if call.moving:
            names = ", ".join(call.moving)
            found.append(f"the {who} changes {names} at a call: every call starts from what was there when it was given")
    return tuple(found)


class _Touched(TorchDispatchMode):
    """Sees operations on the caller's own parameters, by their memory: `{data pointer: name}`."""

    def __init__(self, callers: dict[int, str]):
        super().__init__()
        self._callers = callers
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for t in tree_iter((args, kwargs or {})):
            if isinstance(t, Tensor) and t.layout == torch.strided and not t.is_meta:
                name = self._callers.get(t.untyped_storage().data_ptr())
                if name is not None:
                    self.names.add(name)
        return func(*args, **(kwargs or {}))
