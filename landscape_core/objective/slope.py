"""Is autograd's gradient that of the loss? Asked once an Objective, of all samples, in float64, beside the given weights."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
from torch import Tensor

from ..specs import InputError
from .facts import Slope
from .plain import PlainObjective
from .settled import beside

BEND = 1e-8  # way of the two gradients, relative to |theta|: hardly a kink is crossed, and float64 rounds by less than 1e-6
WAYS = (1e-5, 1e-4, 1e-6, 1e-3, 1e-7)  # of two losses, relative to |theta|; the first agrees where nothing is wrong
SURE = 0.1  # of its distance to what autograd says: how near two differences must be to speak against it
AGREE = 1e-3  # relative deviation that differences explain


def look(objective: PlainObjective) -> Slope:
    """The gradient along a random v beside (L(theta + h v) - L(theta - h v)) / 2h: two gradients, two losses; more in doubt."""
    double = objective.to(torch.float64)
    theta = beside(double.theta)
    v = torch.randn(len(theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(theta)
    v /= v.norm()
    try:
        found = _look(double, theta, v)
    except InputError:
        # What cannot be had beside the weights, or in float64, is not examined: it says so itself where it is used.
        nothing = torch.full_like(theta, torch.nan)
        return Slope(theta, v, nothing, float("nan"))
    if double is not objective:
        objective.counts["check_losses"] += double.counts["check_losses"]
    objective.counts["check_gradients"] += 2
    return found


def _look(double: PlainObjective, theta: Tensor, v: Tensor) -> Slope:
    size = max(1.0, float(theta.norm()))
    h = BEND * size
    (after, _), (before, _) = (double.raw_gradient(theta + sign * h * v) for sign in (1, -1))
    mean, bend = (after + before) / 2, (after - before) / (2 * h)
    said, norm = float(mean @ v), float(mean.norm())
    known = Slope(theta, v, bend, norm)
    if not bool(mean.isfinite().all()):
        return known
    least = max(abs(said), norm / len(theta) ** 0.5)  # what g'v is expected to be, should it be small by chance
    noise: float | None = None
    found: dict[float, float] = {}
    for way in WAYS:
        step = way * size
        up, down = (_loss(double, theta + sign * step * v) for sign in (1, -1))
        change = found[way] = (up - down) / (2 * step)
        rounding = 64 * torch.finfo(torch.float64).eps * (abs(up) + abs(down)) / step
        if not abs(change - said) > AGREE * (least + abs(change)) / 2 + rounding:
            return known
        noise = _noise(double, theta, v) if noise is None else noise
        if abs(change - said) <= 4 * noise / step:
            return known
    changes = [found[way] for way in sorted(found)]
    apart, change = min((abs(a - b), a) for a, b in itertools.pairwise(changes))
    if apart > SURE * abs(change - said):  # differences that do not agree with each other accuse nobody
        return known
    wrong = (
        f"autograd's gradient is not that of the loss: along a random direction it says {said:.3g}, the loss changes by "
        f"{change:.3g} (a straight-through estimator, a detached part, a custom backward?); values can be had, nothing that "
        "needs a gradient"
    )
    return replace(known, wrong=wrong)


def _noise(double: PlainObjective, theta: Tensor, v: Tensor) -> float:
    """Second differences of L over ways so short that they show rounding alone: that of a model in float32, or less, inside."""
    size, center = max(1.0, float(theta.norm())), _loss(double, theta)
    ways = (BEND, 3 * BEND, 10 * BEND, 1e-6, 1e-5)
    return max(abs(sum(_loss(double, theta + s * way * size * v) for s in (1, -1)) - 2 * center) for way in ways)


def _loss(double: PlainObjective, theta: Tensor) -> float:
    double.counts["check_losses"] += 1
    return double.raw_loss(theta)
