"""Training on with updates projected inside or outside the top of the Hessian (Song, Ahn, Yun 2025, arXiv:2405.16002)."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.special import fdtri
from torch import Tensor

from ...linalg.operators import generator
from ...linalg.subspaces import basis
from ...measuring.context import Context
from ...measuring.growing import STATE_BYTES, Growing, Running
from ...measuring.path import not_trained_on, own_step
from ...measuring.stability import trained_decay
from ...measuring.top_space import size_of_space, top_space
from ...specs import Array, InputError, Progress, TrainingSpec
from ...tasks.optimisation import BatchOrder, learning_rate, make_optimizer, optimizer_tensors, restore_optimizer
from .arrays import BRANCHES, TRAINED
from .spec import NEEDED, CounterfactualSpec, setting_unknown

SETTINGS = (*NEEDED, "momentum", "weight_decay", "schedule")
CHANCE = 0.98  # of draws of other random directions fall less than what is called more than chance
ROUNDING = 16  # units in the last place of the loss: a fall must be longer to be one


def run(spec: CounterfactualSpec, context: Context) -> Running:
    """The experiment as a Result names it; yields the curves of all branches as they grow together.

    Every branch makes the optimiser's update on the same mini-batches and then keeps a part of it: all ("free"), U U'd
    ("inside"), d - U U'd ("outside"), or the part in a random k-dimensional space ("random"); U are the top k eigenvectors of
    the Hessian of the whole sample at the branch's own weights, anew every `refresh` steps. Where weight decay is a part of the
    loss that is trained (SGD, Adam), curves and falls of L + wd/2 |theta|^2 end in `_trained`; its top space is that of L. NaN
    for what is still to come, or has diverged.
    """
    return (yield from _Experiment(spec, context).run())


class _Branch:
    """One way of training on: its weights, its optimiser and the space it is projected with."""

    def __init__(self, name: str, training: TrainingSpec, theta: Tensor):
        self.name = name
        self.theta = theta.clone().requires_grad_()
        self.optimizer = make_optimizer(training, [self.theta])
        self.space: Tensor | None = None  # (p, k), orthonormal

    def update(self, gradient: Tensor, rate: float) -> None:
        """One step of the optimiser, of which the branch's part is kept."""
        before = self.theta.detach().clone()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.theta.grad = gradient
        self.optimizer.step()
        if self.space is not None:
            with torch.no_grad():
                way = self.theta - before
                inside = self.space @ (self.space.T @ way)
                self.theta.copy_(before + (way - inside if self.name == "outside" else inside))


class _Experiment:
    """The work from one checkpoint: the branches, their curves, and the state that another attempt goes on from."""

    def __init__(self, spec: CounterfactualSpec, context: Context):
        self.spec, self.context, self.objective = spec, context, context.objective
        self.start = own_step(context) or 0
        self.training = _training(spec, context.training)
        self.k = size_of_space(spec.k, self.objective)
        self.origin = self.objective.theta
        self.branches = [_Branch(name, self.training, self.origin) for name in BRANCHES]
        self.points = sorted({round(i * spec.steps / spec.records) for i in range(spec.records + 1)})
        self.decay = trained_decay(self.training.model_dump())
        self.ends = ("", TRAINED) if self.decay else ("",)
        curves = [f"loss_{name}{end}" for end in self.ends for name in BRANCHES] + [f"distance_{name}" for name in BRANCHES]
        self.curves = {name: np.full(len(self.points), np.nan) for name in curves}
        self.done = self.products = 0
        self.growing = Growing(context, {"steps": spec.steps})
        self.differs = not_trained_on(spec, self.objective)
        if self.differs:
            self.growing.note(self.differs)
        size = self.training.batch_size
        self.order = BatchOrder(self.objective.size(), size, self.training.seed)
        self.begun = self._resume()
        for _ in range((self.start if spec.batch_size is None else 0) + self.done):
            next(self.order)  # go on with the batches that the run itself would have seen

    def run(self) -> Running:
        if not self.begun:
            self._record()
            yield self._report()
        while self.done < self.spec.steps:
            if self.done % self.spec.refresh == 0:
                yield from self._refresh()
            chosen, rate = next(self.order), self._rate(self.start + self.done)
            for branch in self.branches:
                branch.update(self.objective.minibatch_gradient(branch.theta.detach(), chosen), rate)
            self.done += 1
            if self.done in self.points:
                self._record()
                yield self._report()
            elif self.growing.due:
                yield self.growing.news(self._words())
        return {**self._arrays(), **self._drops()}

    def _rate(self, step: int) -> float:
        """The learning rate of the update after `step`; what follows the end of the run goes on with its last one."""
        return learning_rate(self.training, min(step, self.training.steps - 1))

    def _refresh(self) -> Generator[Progress, None, None]:
        """New spaces at each branch's own weights."""
        for branch in self.branches:
            if branch.name == "random":
                source = generator(self.spec.seed, self.done)
                drawn = torch.randn(len(self.origin), self.k, generator=source, dtype=torch.float64)
                branch.space = basis(drawn).to(self.origin).contiguous()
            elif branch.name != "free":
                try:
                    yield from self._search(branch)
                except InputError:
                    if branch.space is None:
                        raise
                    # It has diverged since: there is no curvature any more, and its curve shows why.

    def _search(self, branch: _Branch) -> Generator[Progress, None, None]:
        operator = self.objective.hessian(branch.theta.detach())
        search = top_space(operator, self.k, tolerance=self.spec.tolerance, seed=self.spec.seed, start=branch.space)
        found = yield from self.growing.until(search, None, self._words())
        self.growing.note(operator)
        branch.space = found.vectors.contiguous()  # as it comes back from a saved state, for the same bits
        self.products += found.products

    def _record(self) -> None:
        at = self.points.index(self.done)
        for branch in self.branches:
            theta = branch.theta.detach()
            loss, size = self.objective.loss(theta), float(theta.double().square().sum())
            for end, value in zip(self.ends, (loss, loss + 0.5 * self.decay * size), strict=False):
                self.curves[f"loss_{branch.name}{end}"][at] = value if math.isfinite(value) else np.nan
            self.curves[f"distance_{branch.name}"][at] = float((theta - self.origin).double().norm())

    # -- where it stands ----------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, Any]:
        training = self.training
        return {
            "steps": self.start + np.array(self.points),
            **self.curves,
            "start": self.start,
            "k": self.k,
            "baseline": self.k / len(self.origin),
            "parameters": len(self.origin),
            "theta_norm": float(self.origin.double().norm()),
            "sample_size": self.objective.size(),
            "optimizer": training.optimizer,
            "lr": self._rate(self.start),
            "momentum": training.momentum,
            "weight_decay": training.weight_decay,
            "trained_decay": self.decay,
            "batch_size": training.batch_size,
            "own_settings": self._own(),
            "products": self.products,
            "notes": np.array(self.growing.notes or [""]),
        }

    def _own(self) -> bool:
        """Whether the free branch trains on as the run did: the same optimiser with its rate over time, on the same loss."""
        own, given = self.context.training, self.training.model_dump(mode="json")
        same = all(name in own for name in NEEDED) and all(given[name] == own.get(name, given[name]) for name in SETTINGS)
        return same and not self.differs

    def _drops(self) -> dict[str, float]:
        """The fall of each branch's loss over the free one's, and what chance would give; NaN where that does not fall."""
        found: dict[str, float] = {}
        for end in self.ends:
            curves = {name: self.curves[f"loss_{name}{end}"] for name in BRANCHES}
            falls = {name: float(curve[0] - curve[-1]) for name, curve in curves.items()}
            free, unit = falls["free"], ROUNDING * torch.finfo(self.origin.dtype).eps * abs(float(curves["free"][0]))
            fell = free > unit
            found |= {f"drop_{name}{end}": fall / free if fell else float("nan") for name, fall in falls.items()}
            random = falls["random"] / free if fell else float("nan")
            found[f"drop_chance{end}"] = random_bound(random, self._refreshes(curves["random"]), self.k, len(self.origin))
        return found

    def _refreshes(self, curve: Array) -> float:
        """In how many refreshes the random branch fell, as that many equal parts: (sum f)^2 / sum f^2 of the falls f."""
        edges = np.append(np.arange(0, self.spec.steps, self.spec.refresh), self.spec.steps)
        falls = -np.diff(curve[np.unique(np.searchsorted(self.points, edges))])
        falls = falls[falls > 0]
        return float(falls.sum() ** 2 / np.square(falls).sum()) if falls.size else 1.0

    def _words(self) -> str:
        self.growing.done["steps"] = self.done
        loss = self.curves["loss_free"]
        known = loss[np.isfinite(loss)]
        words = f"step {self.start + self.done:,} of {self.start + self.spec.steps:,}"
        return words + (f", loss {known[-1]:.3g}" if known.size else "")

    def _report(self) -> Progress:
        self.growing.put(**self._arrays())
        self.growing.keep("branches", self._state())
        return self.growing.report(self._words())

    def _state(self) -> dict[str, Array]:
        """Weights, spaces and optimiser memory of all branches."""
        found: dict[str, Tensor] = {"done": torch.tensor([self.done, self.products])}
        for branch in self.branches:
            found[f"{branch.name}_theta"] = branch.theta.detach()
            if branch.space is not None:
                found[f"{branch.name}_space"] = branch.space
            found |= {f"{branch.name}_memory_{name}": value for name, value in optimizer_tensors(branch.optimizer).items()}
        if sum(value.numel() * value.element_size() for value in found.values()) > STATE_BYTES:
            return {}  # not even copied
        return {name: value.cpu().numpy().copy() for name, value in found.items()}

    def _resume(self) -> bool:
        """Go on from what an earlier attempt left. False where there is nothing."""
        left = self.growing.state_of("branches")
        if "done" not in left or not self.growing.resumed(self.curves, steps=self.start + np.array(self.points)):
            return False
        self.done, self.products = (int(number) for number in left["done"])
        for branch in self.branches:
            with torch.no_grad():
                branch.theta.copy_(torch.from_numpy(left[f"{branch.name}_theta"]))
            space = left.get(f"{branch.name}_space")
            branch.space = None if space is None else torch.from_numpy(np.array(space)).to(self.origin)
            prefix = f"{branch.name}_memory_"
            memory = {name.removeprefix(prefix): value for name, value in left.items() if name.startswith(prefix)}
            restore_optimizer(branch.optimizer, {name: torch.from_numpy(np.array(value)) for name, value in memory.items()})
        return True


def _training(spec: CounterfactualSpec, own: Mapping[str, Any]) -> TrainingSpec:
    """How to train on: the run's own way where the Spec leaves it open. Raises InputError where neither says."""
    unknown = setting_unknown(spec, own)
    if unknown:
        raise InputError(unknown)
    values = {name: own[name] for name in TrainingSpec.model_fields if name in own}
    if spec.optimizer is not None and spec.optimizer != own.get("optimizer"):
        values |= {"optimizer": spec.optimizer, "momentum": 0.0, "weight_decay": 0.0}
    if spec.lr is not None:
        values |= {"lr": spec.lr, "schedule": "constant"}
    if spec.batch_size is not None:
        values["batch_size"] = spec.batch_size
    return TrainingSpec.parse({**values, "record": None})


def random_bound(share: float, draws: float, k: int, p: int) -> float:
    """The share of the free fall that `draws` other random k-dimensional spaces stay below in 98 of 100 cases.

    `share` is what one such branch made of it, at least k/p. What random directions hold of a step is Beta(k/2, (p - k)/2), so
    the ratio of two branches is about F with k (p + 2) / (p - k) degrees of freedom a draw.
    """
    freedom = draws * k * (p + 2) / (p - k)
    return max(share, k / p) * float(fdtri(freedom, freedom, CHANCE))
