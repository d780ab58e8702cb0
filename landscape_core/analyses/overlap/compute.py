"""The share of the gradient in the top of the Hessian over a run (Gur-Ari, Roberts, Dyer 2018, arXiv:1812.04754)."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...linalg.operators import generator
from ...measuring.context import Context, Trajectory
from ...measuring.growing import STATE_BYTES, Growing, Running
from ...measuring.path import evenly, not_trained_on, rate_of, stored_statistics
from ...measuring.stability import stability_over, trained_decay
from ...measuring.top_space import (
    TopSpace,
    chance_bounds,
    classes_of,
    common,
    common_by_chance,
    dense_allowed,
    rounding_floor,
    shares_along,
    size_of_space,
    softmax_of,
    top_space,
)
from ...objective import Objective
from ...specs import Array, InputError, Progress
from .arrays import OF_LOSS, TRAINED
from .spec import OverlapSpec

NEAR = 0.5  # of the subspace that the two checkpoints before had in common: from there on a warm start pays


def run(spec: OverlapSpec, context: Context) -> Running:
    """The overlap as a Result names it; yields the curves as checkpoint after checkpoint is finished.

    The displacement is the way to the next checkpoint shown, since a run keeps no update vectors. NaN where a checkpoint is
    still to come or its loss is not finite (no products then, and a note), and shares also where the gradient is no longer than
    `gradient_floor`, what rounding of the weights makes. Where weight decay is a part of the loss that is trained (SGD, Adam),
    what is of L + wd/2 |theta|^2 ends in `_trained`: its gradient is g + wd theta, its Hessian H + wd has the same top space.
    """
    return (yield from _Overlap(spec, context).run())


class _Overlap:
    """The work on one run: everything known so far, and the bases that later checkpoints are compared with."""

    def __init__(self, spec: OverlapSpec, context: Context):
        self.spec, self.context, self.objective = spec, context, context.objective
        path = context.path()
        at = _reference(spec.reference, path)
        self.steps = evenly(path.steps, spec.checkpoints, at)
        self.at = self.steps.index(at)
        thetas = dict(zip(path.steps, path.thetas, strict=True))
        self.thetas = [thetas[step] for step in self.steps]
        self.k, self.size = size_of_space(spec.k, self.objective), self.objective.space.size
        dense_allowed(spec.method == "dense", self.size)
        self.chosen = _minibatches(spec, self.objective)
        self.decay = trained_decay(context.training)
        self.series = _empty(len(self.steps), self.k, ("", TRAINED) if self.decay else ("",))
        self.bases: dict[int, Tensor] = {}
        self.growing = Growing(context)
        self.growing.note(*stored_statistics(spec, self.objective))
        self.separate = _separate(self.objective)
        if any(part is not None for part in self.chosen) and not self.separate:
            drawn = _drawable(self.chosen, self.objective)
            if drawn and self.separate is None:
                self.growing.note(
                    "the loss is not finite at the weights that were opened: whether that of a mini-batch is a part of "
                    "it is not known there"
                )
            elif drawn:
                self.growing.note(
                    "samples of a batch see each other in this loss: that of a mini-batch is another loss, and its gradients "
                    "do not add up to the full one"
                )
            else:
                self.growing.note("mini-batches are left out: the batches given do not split into samples")
            self.chosen = self.chosen if drawn else []
        self._resume()
        self.fixed = self._fixed()

    def _fixed(self) -> dict[str, Any]:
        """What is known before anything is computed."""
        context, spec, p, k = self.context, self.spec, self.size, self.k
        rates = [rate_of(context, step) for step in self.steps]
        return {
            "steps": np.array(self.steps),
            **stability_over(context.training, rates, differs=not_trained_on(spec, self.objective)),
            "k": k,
            "baseline": k / p,
            # A random direction's share has the law Beta(k/2, (p - k)/2).
            "baseline_deviation": (2 * k * (p - k) / (p + 2)) ** 0.5 / p,
            "baseline_bounds": np.array(chance_bounds(k, p)),
            "persistence_chance": common_by_chance(k, p),
            "classes": classes_of(self.objective),
            "softmax": softmax_of(self.objective),
            "reduction": self.objective.reduction if self.separate else "",
            "reference_step": self.steps[self.at],
            "parameters": p,
            "sample_size": self.objective.size(),
            "minibatch_size": min(spec.minibatch_size, self.objective.size()) if self.chosen else 0,
            "weight_decay": float(context.training.get("weight_decay") or 0.0),
            "trained_decay": self.decay,
        }

    # -- going on -----------------------------------------------------------------------------------------------------

    def run(self) -> Running:
        count = len(self.steps)
        finished = [i for i in range(count) if self._known(i)]
        yield self._report("starting" if not finished else "going on")
        for i, step in enumerate(self.steps):
            if i in finished:
                continue
            try:
                yield from self._checkpoint(i)
            except InputError as error:
                raise InputError(f"step {step:,}: {error}") from None
            yield self._report(f"step {step:,}")
        if not np.isfinite(self.series["loss"]).any():
            found = {_not_finite(theta) for theta in self.thetas}
            what = found.pop() if len(found) == 1 else "weights or loss are not finite"
            raise InputError(f"{what} at every checkpoint")
        self._put()
        self.growing.put(products=np.nansum(self.series["products_steps"]))
        return self.growing.arrays

    def _checkpoint(self, i: int) -> Generator[Progress, None, None]:
        spec, series, objective = self.spec, self.series, self.objective
        theta = self.thetas[i].to(objective.theta)
        loss, gradient = objective.loss(theta), objective.gradient(theta)
        if not (math.isfinite(loss) and bool(gradient.isfinite().all())):
            series["products_steps"][i] = series["warm"][i] = 0
            self.growing.note(f"step {self.steps[i]:,} is left out: {_not_finite(theta)} there")
            return
        operator = objective.hessian(theta) if spec.operator == "hessian" else objective.gauss_newton(theta)
        start = self._start(i)
        search = top_space(
            operator,
            self.k,
            exact=spec.exact(self.size),
            tolerance=spec.tolerance,
            seed=spec.seed,
            start=start,
            multiples=spec.multiples,
        )
        stage = f"step {self.steps[i]:,}"
        space = yield from self.growing.until(search, stage, self._words(stage))
        self.growing.note(operator)
        self.bases[i] = space.vectors
        for j, other in self.bases.items():
            series["persistence"][i, j] = series["persistence"][j, i] = common(space.vectors, other)
        series["persistence_reference"] = series["persistence"][self.at].copy()
        series["eigenvalues"][i], series["residuals"][i] = space.values, space.residuals
        series["eigenvalue_next"][i], series["products_steps"][i] = space.following, space.products
        series["warm"][i] = start is not None
        series["loss"][i] = loss
        small = [objective.minibatch_gradient(theta, chosen) for chosen in self.chosen]
        floor = series["gradient_floor"][i] = rounding_floor(space, theta)
        self._gradients(i, "", space, gradient, small, floor)
        if self.decay:
            series[f"loss{TRAINED}"][i] = loss + 0.5 * self.decay * float(theta.double().square().sum())
            pull, floor = self.decay * theta, rounding_floor(space, theta, self.decay)
            self._gradients(i, TRAINED, space, gradient + pull, [g + pull for g in small], floor)
        if i + 1 < len(self.steps):
            series["displacement_share"][i] = shares_along(space.vectors, self.thetas[i + 1].to(theta) - theta).sum()

    def _gradients(self, i: int, end: str, space: TopSpace, gradient: Tensor, small: list[Tensor], floor: float) -> None:
        """The shares of the gradients of one loss at a checkpoint: NaN for one that is no longer than rounding makes it."""
        series = self.series
        norm = series[f"gradient_norm{end}"][i] = float(gradient.double().norm())
        if norm > floor:
            found = series[f"contributions{end}"][i] = shares_along(space.vectors, gradient)
            series[f"gradient_share{end}"][i], series[f"gradient_share_k_minus_1{end}"][i] = found.sum(), found[:-1].sum()
        if small:
            norms = np.array([float(g.double().norm()) for g in small])
            shares = np.array([shares_along(space.vectors, g).sum() for g in small])[norms > floor]
            series[f"gradient_norm_minibatch{end}"][i] = norms.mean()
            if shares.size:
                series[f"gradient_share_minibatch{end}"][i] = shares.mean()
                series[f"gradient_share_minibatch_spread{end}"][i] = shares.std(ddof=1) if shares.size > 1 else np.nan

    def _start(self, i: int) -> Tensor | None:
        """The eigenvectors of the checkpoint before where a search from their sum is expected to be shorter, else None."""
        before = self.bases.get(i - 1)
        if before is None or self.spec.warm == "never" or self.spec.exact(self.size):
            return None
        shared = self.series["persistence"][i - 1, i - 2] if i > 1 else 1.0
        return before if self.spec.warm == "always" or not shared < NEAR else None

    # -- where it stands ----------------------------------------------------------------------------------------------

    def _known(self, i: int) -> bool:
        """Whether a checkpoint is finished."""
        return bool(np.isfinite(self.series["products_steps"][i]))

    def _words(self, words: str) -> str:
        """What is said beside the bar; the work still expected is that of the searches so far."""
        products = self.series["products_steps"]
        finished = np.isfinite(products)
        each = float(np.nanmean(products)) if finished.any() else self.spec.work(self.size)["products"] / self.spec.checkpoints
        stages = [f"step {step:,}" for step in self.steps]
        self.growing.done |= {stage: float(products[i]) for i, stage in enumerate(stages) if finished[i]}
        self.growing.expected = dict.fromkeys(stages, each)
        return f"{words}: {int(finished.sum())} of {len(stages)} checkpoints"

    def _put(self) -> None:
        self.growing.put(**self.fixed, **self.series, notes=np.array(self.growing.notes or [""]))

    def _report(self, words: str) -> Progress:
        """Where the work stands, with everything known so far and the bases that another attempt would go on with."""
        self._put()
        self.growing.keep("spaces", self._state())
        return self.growing.report(self._words(words))

    def _state(self) -> dict[str, Array]:
        """The bases as far as they are few bytes: in half precision where that is needed, else not at all."""
        count = self.size * self.k * len(self.bases)
        own = self.objective.theta.element_size()
        if not count or 2 * count > STATE_BYTES:
            return {}
        # Half precision has no small numbers: unit vectors are kept times the root of p, with entries around one.
        kept = [b if own * count <= STATE_BYTES else (b * self.size**0.5).half() for b in self.bases.values()]
        return {"places": np.array(list(self.bases)), "bases": torch.stack(kept).cpu().numpy()}

    def _resume(self) -> None:
        """Take over what an earlier attempt left of the same checkpoints."""
        series = dict(self.series)
        if not self.growing.resumed(series, steps=self.steps):
            return
        left = self.growing.state_of("spaces")
        finished = [i for i in range(len(self.steps)) if np.isfinite(series["loss"][i])]
        if finished and not left and 2 * self.size * self.k * len(finished) <= STATE_BYTES:
            return  # its vectors could have been kept: it is of another version of the program, and the work begins anew
        self.series = series
        self.growing.note(*(str(note) for note in self.growing.partial.get("notes", []) if str(note)))
        bases = left.get("bases", np.zeros(0))
        scale = self.size**-0.5 if bases.dtype == np.float16 else 1.0
        for place, basis in zip(left.get("places", []), bases, strict=True):
            self.bases[int(place)] = torch.from_numpy(np.array(basis)).to(self.objective.theta) * scale
        if any(i not in self.bases for i in finished):
            self.growing.note("the work was interrupted with more vectors than could be kept: their persistence is left empty")


def _empty(count: int, k: int, ends: tuple[str, ...]) -> dict[str, Array]:
    """The series of `run`, with nothing known yet."""
    others = "gradient_floor displacement_share eigenvalue_next persistence_reference products_steps warm"
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(others.split(), (count,))
    shapes |= {name + end: (count, k) if "k" in dims.split() else (count,) for end in ends for name, _, dims, _ in OF_LOSS}
    shapes |= {"eigenvalues": (count, k), "residuals": (count, k), "persistence": (count, count)}
    return {name: np.full(shape, np.nan) for name, shape in shapes.items()}


def _reference(text: str, path: Trajectory) -> int:
    """The step that `first`, `last` or a number names."""
    step = {"first": path.steps[0], "last": path.steps[-1]}.get(text)
    if step is None:
        step = int(text)
    if step not in path.steps:
        near = min(path.steps, key=lambda other: abs(other - step))
        raise InputError(f"field 'reference': the run has no checkpoint at step {step}; the nearest is {near}")
    return step


def _minibatches(spec: OverlapSpec, objective: Objective) -> list[Tensor | None]:
    """Places of the samples of each mini-batch, drawn without replacement; None where one would be all of them."""
    n = objective.size()
    if spec.minibatch_size >= n:
        return [None] if spec.minibatches else []
    return [torch.randperm(n, generator=generator(spec.seed, i))[: spec.minibatch_size] for i in range(spec.minibatches)]


def _not_finite(theta: Tensor) -> str:
    """What is not finite where there is no loss with a gradient."""
    return "the loss overflows or is undefined" if bool(theta.isfinite().all()) else "the weights are not finite"


def _separate(objective: Objective) -> bool | None:
    """Whether the samples of a batch do not see each other; None where no finite loss shows it."""
    if objective.separate():
        return True
    return None if not (objective.coupled or math.isfinite(objective.loss())) else False


def _drawable(chosen: list[Tensor | None], objective: Objective) -> bool:
    """Whether a mini-batch can be drawn at all: a graph, or a model of whole batches, takes no part of one."""
    try:
        objective.minibatch_gradient(None, chosen[0])
    except InputError:
        return False
    return True
