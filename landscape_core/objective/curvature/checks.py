"""Whether second derivatives can be believed: symmetry, and differences of the gradient."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ...specs import InputError
from ..facts import Slope
from ..foreign import pass_over
from ..plain import PlainObjective
from ..recognised import beside as sure_of_nothing
from ..settled import beside
from ..slope import AGREE, BEND
from .convolution import lean_convolutions
from .outputs import OutputLoss
from .r_operator import Step, find_chain
from .reference import HessianOperator

ROWS = 4  # samples that forms of layers are tried on
WAYS = (BEND, 1e-7, 1e-6, 1e-5, 1e-9, 1e-4, 1e-3, 1e-2)  # of differences, relative to |theta|
STEP = 1e-7  # of products by differences: fewer kinks are crossed than at 1e-6, and float64 rounds them by less than 1e-6
LEAN = 1e-9  # relative deviation, in float64, that rounding explains


@dataclass(frozen=True)
class Facts:
    """What was found: whether autograd's Hessian is that of the gradient, and sentences by topic for the notes."""

    sound: bool = True
    notes: dict[str, str] = field(default_factory=dict)
    chain: tuple[Step, ...] = ()  # the steps of a network that is a chain
    lean: bool = False  # whether there are convolutions, and their lean forms give the same products
    step: float = STEP  # of differences, relative to |theta|


_known: WeakKeyDictionary[PlainObjective, Facts] = WeakKeyDictionary()


def facts(objective: PlainObjective) -> Facts:
    """What `look` finds, once an Objective."""
    found = _known.get(objective)
    if found is None:
        found = _known[objective] = look(objective)
    return found


def look(objective: PlainObjective) -> Facts:
    """A look at all samples in float64, beside the given weights: is Hv the difference of the gradients around, along one v?

    (g(theta + h v) - g(theta - h v)) / 2h is had anyway (`slope`); where Hv is not that, other steps h are tried, so that
    neither kinks crossed on the way (large h: a ResNet has a million on a few images) nor rounding inside the model (small h)
    count as a failure: autograd is given up only where the differences agree with each other and not with it, or u'Hv is not
    v'Hu. Where PyTorch knows no second derivative, products are differences. What cannot be examined counts as sound: the
    products themselves will say what is wrong. So does a chain of layers under a loss whose curvature is recognised: there is
    nothing in it that could be wrong.
    """
    chain = find_chain(objective)
    if chain and _has_known_curvature(objective):
        return Facts(chain=chain)
    slope = objective.sloped()
    notes: dict[str, str] = {}
    try:
        double = objective.to(torch.float64)
        before = double.counts.copy()
        with _Watch() as watch:
            product = _product(double, slope)
        if watch.attention:
            notes["attention"] = (
                "attention runs on the math backend inside products: the fused kernels have no second derivative"
            )
        if product is None:
            step, good = _best(double, slope)
            notes["differences"] = (
                "PyTorch has no second derivative of the model: products are central differences of gradients in float64, "
                f"good to {good}"
            )
            return Facts(sound=False, notes=notes, chain=chain, step=step)
        reason, step = _examine(double, slope, product)
        double.counts = before
        objective.counts["check_products"] += 1
        lean = not reason and _leans(objective)
    except Exception as error:
        pass_over(error)
        return Facts()
    if reason:
        step, good = _best(double, slope)
        notes["differences"] = (
            f"the model's second derivatives are not those of its gradient ({reason}): products are central "
            f"differences of gradients in float64 instead, good to {good}"
        )
    return Facts(not reason, notes, chain, lean, step)


def _product(double: PlainObjective, slope: Slope) -> Tensor | None:
    """Hv by double backward; None where PyTorch has no second derivative."""
    try:
        return HessianOperator(double, slope.theta) @ slope.v
    except InputError as error:
        if isinstance(error.__cause__, NotImplementedError) or "not implemented" in str(error):
            return None
        raise


def _has_known_curvature(objective: PlainObjective) -> bool:
    """Whether the loss, on a few samples, has the curvature of cross-entropy or of squared error by the outputs."""
    try:
        piece = next(objective.batches("train")[0].chunks(ROWS))
        with torch.no_grad():
            outputs = sure_of_nothing(objective.network(piece.inputs))
        return OutputLoss(objective, outputs.requires_grad_(), piece).spreads
    except Exception as error:  # whatever a loss does with so few: it is examined
        pass_over(error)
        return False


def _leans(objective: PlainObjective) -> bool:
    """Whether convolutions in their lean forms give the products that PyTorch's own give, on a few samples."""
    piece = next(objective.batches("train")[0].chunks(ROWS))
    small = objective.over([(piece.inputs, piece.targets)], dtype=torch.float64)
    small.assume("train", derives=objective.found().derives)
    theta = beside(small.theta)
    v = torch.randn(len(theta), generator=torch.Generator().manual_seed(1)).to(theta)
    try:
        plain = HessianOperator(small, theta) @ v
        with lean_convolutions() as forms:
            found = HessianOperator(small, theta) @ v
    except Exception as error:  # whatever a model does with what it is given: PyTorch's own forms serve it
        pass_over(error)
        return False
    return forms.used and float((found - plain).abs().max()) <= LEAN * float(plain.abs().max())


def _examine(double: PlainObjective, slope: Slope, product: Tensor) -> tuple[str, float]:
    """Why Hv is wrong, empty where it is not, and the step at which differences are best."""
    if not bool(product.isfinite().all() and slope.bend.isfinite().all()):
        return "", STEP
    size, floor = max(1.0, float(slope.theta.norm())), 1e-14 * (1 + slope.norm)

    def off(a: Tensor, b: Tensor) -> float:
        return float((a - b).norm()) / max(1e-300, float(a.norm() + b.norm()) / 2)

    bends: list[tuple[float, Tensor]] = []
    for way in WAYS:
        bend = slope.bend if way == BEND else differences(double, slope.theta, slope.v, way)
        bends.append((way, bend))
        if float((bend - product).norm()) <= AGREE * float(bend.norm() + product.norm()) / 2 + floor / (way * size):
            return "", STEP
    if _asymmetric(double, slope, product):
        return "u'Hv is not v'Hu", STEP
    # The two neighbouring steps that agree best.
    bends.sort(key=lambda item: item[0])
    pairs = [(off(one, other), way, one) for (way, one), (_, other) in itertools.pairwise(bends)]
    away, way, bend = min(pairs, key=lambda item: item[0])
    return ("they miss differences of the gradient at every step" if 4 * away < off(bend, product) else ""), way


def _asymmetric(double: PlainObjective, slope: Slope, product: Tensor) -> bool:
    """Whether u'Hv is not v'Hu for a random u."""
    u = torch.randn(len(slope.v), generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(slope.v)
    u /= u.norm()
    other = HessianOperator(double, slope.theta) @ u
    size = float(product.norm() + other.norm()) / 2
    return abs(float(u @ product - slope.v @ other)) > 10 * AGREE * size


def _best(double: PlainObjective, slope: Slope) -> tuple[float, str]:
    """The step of differences that agrees best with the next, and by how much, in words."""
    bends = [(way, differences(double, slope.theta, slope.v, way)) for way in (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)]
    norm = max(1e-300, float(slope.bend.norm()))
    best = min((float((a - b).norm()) / norm, way) for (way, a), (_, b) in itertools.pairwise(bends))
    return best[1], f"about {max(best[0], 1e-10):.0e} of their length"


class _Watch(TorchFunctionMode):
    """Sees whether attention is called."""

    attention = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        self.attention |= name in ("scaled_dot_product_attention", "multi_head_attention_forward")
        return func(*args, **(kwargs or {}))


def differences(objective: PlainObjective, theta: Tensor, vector: Tensor, step: float = STEP) -> Tensor:
    """(g(theta + h v) - g(theta - h v)) / 2h `(p,)` with h|v| = step max(1, |theta|): the Objective should be float64."""
    norm = float(vector.norm())
    if norm == 0:
        return torch.zeros_like(vector)
    h = step * max(1.0, float(theta.norm())) / norm
    after, before = (objective.raw_gradient(theta + sign * h * vector)[0] for sign in (1, -1))
    return (after - before) / (2 * h)
