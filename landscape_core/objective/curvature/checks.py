"""Whether second derivatives can be believed: symmetry, and differences of the gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..foreign import pass_over
from ..plain import PlainObjective
from ..recognised import beside
from .convolution import lean_convolutions
from .outputs import OutputLoss
from .r_operator import Step, find_chain
from .reference import HessianOperator

ROWS = 4  # samples that the check looks at: what a model's derivatives leave out shows on any
STEPS = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-4, 1e-3, 1e-2)  # relative to |theta|
STEP = 1e-7  # of products by differences: fewer kinks are crossed than at 1e-6, and float64 rounds them by less than 1e-6
LEAN = 1e-9  # relative deviation, in float64, that rounding explains
AGREE = 1e-3  # relative deviation that differences explain


@dataclass(frozen=True)
class Facts:
    """What was found: whether autograd's Hessian is that of the gradient, and sentences by topic for the notes."""

    sound: bool = True
    notes: dict[str, str] = field(default_factory=dict)
    chain: tuple[Step, ...] = ()  # the steps of a network that is a chain
    lean: bool = False  # whether there are convolutions, and their lean forms give the same products


_known: WeakKeyDictionary[PlainObjective, Facts] = WeakKeyDictionary()


def facts(objective: PlainObjective) -> Facts:
    """What `look` finds, once an Objective."""
    found = _known.get(objective)
    if found is None:
        found = _known[objective] = look(objective)
    return found


def look(objective: PlainObjective) -> Facts:
    """A look at a few samples in float64, beside the given weights: right on a kink a difference would see its jump.

    u'Hv = v'Hu for random u and v, and Hv = (g(theta + h v) - g(theta - h v)) / 2h for at least one of several steps h, so
    that neither kinks crossed on the way (large h: a ResNet has a million on a few images) nor rounding inside the model
    (small h) count as a failure. What cannot be examined counts as sound: the products themselves will say what is wrong. So
    does a chain of layers under a loss whose curvature is recognised: there is nothing in it that could be wrong.
    """
    chain = find_chain(objective)
    if chain and _has_known_curvature(objective):
        return Facts(chain=chain)
    try:
        small = _sample(objective)
        theta, vectors = _beside(small)
        with _Watch() as watch:
            plain = HessianOperator(small, theta) @ vectors
            sound, reason = _examine(small, theta, vectors, plain)
        lean = sound and _leans(small, theta, vectors, plain)
    except Exception as error:
        pass_over(error)
        return Facts()
    notes = {}
    if watch.attention:
        notes["attention"] = "attention runs on the math backend inside products: the fused kernels have no second derivative"
    if not sound:
        notes["differences"] = (
            f"the model's second derivatives are not those of its gradient ({reason}): products are central differences "
            "of gradients instead"
        )
    return Facts(sound, notes, chain, lean)


def _has_known_curvature(objective: PlainObjective) -> bool:
    """Whether the loss, on a few samples, has the curvature of cross-entropy or of squared error by the outputs."""
    try:
        piece = next(objective.batches("train")[0].chunks(ROWS))
        with torch.no_grad():
            outputs = beside(objective.network(piece.inputs))
        return OutputLoss(objective, outputs.requires_grad_(), piece).spreads
    except Exception as error:  # whatever a loss does with so few: it is examined
        pass_over(error)
        return False


def _sample(objective: PlainObjective) -> PlainObjective:
    piece = next(objective.batches("train")[0].chunks(ROWS))
    return objective.over([(piece.inputs, piece.targets)], dtype=torch.float64)


def _beside(small: PlainObjective) -> tuple[Tensor, Tensor]:
    """A point near the given weights, and two random directions `(p, 2)`."""
    generator = torch.Generator().manual_seed(0)
    noise, u, v = (torch.randn(len(small.theta), generator=generator).to(small.theta) for _ in range(3))
    return small.theta.nan_to_num(0.0, 0.0, 0.0) + 0.02 * noise, torch.stack([u / u.norm(), v / v.norm()], 1)


def _leans(small: PlainObjective, theta: Tensor, vectors: Tensor, plain: Tensor) -> bool:
    """Whether convolutions in their lean forms give the products that PyTorch's own give, `plain`."""
    try:
        with lean_convolutions() as forms:
            found = HessianOperator(small, theta) @ vectors
    except Exception as error:  # whatever a model does with what it is given: PyTorch's own forms serve it
        pass_over(error)
        return False
    return forms.used and float((found - plain).abs().max()) <= LEAN * float(plain.abs().max())


def _examine(small: PlainObjective, theta: Tensor, vectors: Tensor, plain: Tensor) -> tuple[bool, str]:
    (u, v), (hu, hv) = vectors.unbind(1), plain.unbind(1)
    gradient = small.gradient(theta)
    if not bool(torch.isfinite(hu).all() and torch.isfinite(hv).all() and torch.isfinite(gradient).all()):
        return True, ""
    rounding = 1e-9 * (1 + float(gradient.norm()))
    if abs(float(u @ hv - v @ hu)) > AGREE * float(hu.norm() + hv.norm()) / 2 + rounding:
        return False, "u'Hv is not v'Hu"
    for step in STEPS:
        h = step * max(1.0, float(theta.norm()))
        change = (small.gradient(theta + h * v) - small.gradient(theta - h * v)) / (2 * h)
        if float((change - hv).norm()) <= AGREE * float(change.norm() + hv.norm()) / 2 + rounding / step * 1e-6:
            return True, ""
    return False, "they miss differences of the gradient at every step"


class _Watch(TorchFunctionMode):
    """Sees whether attention is called."""

    attention = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        self.attention |= name in ("scaled_dot_product_attention", "multi_head_attention_forward")
        return func(*args, **(kwargs or {}))


def differences(objective: PlainObjective, theta: Tensor, vector: Tensor) -> Tensor:
    """(g(theta + h v) - g(theta - h v)) / 2h `(p,)` with h|v| = 1e-7 max(1, |theta|): the Objective should be float64."""
    norm = float(vector.norm())
    if norm == 0:
        return torch.zeros_like(vector)
    h = STEP * max(1.0, float(theta.norm())) / norm
    return (objective.gradient(theta + h * vector) - objective.gradient(theta - h * vector)) / (2 * h)
