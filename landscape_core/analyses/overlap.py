"""The share of the gradient in the top of the Hessian over a run (Gur-Ari, Roberts, Dyer 2018, arXiv:1812.04754)."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..linalg.operators import generator
from ..objective import Objective
from ..specs import DENSE_LIMIT, Array, InputError, OverlapSpec, Progress
from .context import Context, Path
from .spectrum_work import REPORT_SECONDS, STATE_BYTES, Arrays, evenly, rate_of, stored_statistics
from .stability import stability
from .top_space import TopSpace, common, parts, rounding_floor, size_of_space, top_space

NEAR = 0.5  # of the subspace that the two checkpoints before had in common: from there on a warm start pays


def run(spec: OverlapSpec, context: Context) -> Arrays:
    """The overlap as a Result names it; yields the curves as checkpoint after checkpoint is finished.

    Arrays over t checkpoints: `steps`, `loss`, `gradient_norm`, `gradient_share` = |U'g|^2 / |g|^2 with U the top k
    eigenvectors, `contributions (t, k)` to it, `gradient_share_k_minus_1`; the mean over mini-batches
    `gradient_share_minibatch`, its standard deviation `..._spread` and their mean `gradient_norm_minibatch`;
    `displacement_share`, of the way to the next checkpoint shown, since a run keeps no update vectors; `eigenvalues (t, k)`,
    `residuals (t, k)`, `eigenvalue_next` (at least); `persistence (t, t)` = |U_s'U_t|_F^2 / k, `persistence_reference`;
    `products_steps`, `warm`. NaN where a checkpoint is still to come or its loss overflows (no products then, and a note), and
    shares also where the gradient is not longer than `gradient_floor`, what rounding of the weights makes.
    """
    return (yield from _Overlap(spec, context).run())


class _Overlap:
    """The work on one run: everything known so far, and the bases that later checkpoints are compared with."""

    def __init__(self, spec: OverlapSpec, context: Context):
        self.spec, self.context, self.objective = spec, context, context.objective
        if context.own_path is None:
            raise InputError("overlap looks at a whole run: give a run as the source, or path= in Python")
        path = context.own_path()
        at = _reference(spec.reference, path)
        self.steps = evenly(path.steps, spec.checkpoints, at)
        self.at = self.steps.index(at)
        thetas = dict(zip(path.steps, path.thetas, strict=True))
        self.thetas = [thetas[step] for step in self.steps]
        self.k, self.size = size_of_space(spec.k, self.objective), self.objective.space.size
        if spec.method == "dense" and self.size > DENSE_LIMIT:
            raise InputError(f"method=dense is for at most {DENSE_LIMIT:,} parameters (this has {self.size:,})")
        self.chosen = _minibatches(spec, self.objective)
        self.series = _empty(len(self.steps), self.k)
        self.bases: dict[int, Tensor] = {}
        self.notes: list[str] = stored_statistics(spec, self.objective)
        self._shown = 0.0
        self._resume()
        self.fixed = self._fixed()

    def _fixed(self) -> dict[str, Any]:
        """What is known before anything is computed."""
        context, spec, p, k = self.context, self.spec, self.size, self.k
        whole = spec.split == "train" and spec.samples is None
        limits = [stability(context.training, rate_of(context, step), whole=whole) for step in self.steps]
        return {
            "steps": np.array(self.steps),
            "lr_steps": np.array([item["lr"] for item in limits]),
            "stability_limit_steps": np.array([item["stability_limit"] for item in limits]),
            **{name: limits[-1][name] for name in ("stability_kind", "stability_rule", "stability_words")},
            "k": k,
            "baseline": k / p,
            # A random direction's share has the law Beta(k/2, (p - k)/2).
            "baseline_deviation": (2 * k * (p - k) / (p + 2)) ** 0.5 / p,
            "reference_step": self.steps[self.at],
            "parameters": p,
            "sample_size": self.objective.size(),
            "minibatch_size": min(spec.minibatch_size, self.objective.size()) if spec.minibatches else 0,
            "weight_decay": float(context.training.get("weight_decay") or 0.0),
        }

    # -- going on -----------------------------------------------------------------------------------------------------

    def run(self) -> Arrays:
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
            raise InputError("the loss overflows or is undefined at every checkpoint")
        return {**self.fixed, **self.series, "products": np.nansum(self.series["products_steps"]), **self._noted()}

    def _checkpoint(self, i: int) -> Generator[Progress, None, None]:
        spec, series, objective = self.spec, self.series, self.objective
        theta = self.thetas[i].to(objective.theta)
        loss, gradient = objective.loss(theta), objective.gradient(theta)
        if not (math.isfinite(loss) and bool(gradient.isfinite().all())):
            series["products_steps"][i] = series["warm"][i] = 0
            self.notes.append(f"step {self.steps[i]:,} is left out: the loss overflows or is undefined there")
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
        space = yield from self._searched(search, i)
        self.notes += [note for note in operator.notes if note not in self.notes]
        self.bases[i] = space.vectors
        for j, other in self.bases.items():
            series["persistence"][i, j] = series["persistence"][j, i] = common(space.vectors, other)
        series["persistence_reference"] = series["persistence"][self.at].copy()
        series["eigenvalues"][i], series["residuals"][i] = space.values, space.residuals
        series["eigenvalue_next"][i], series["products_steps"][i] = space.following, space.products
        series["warm"][i] = start is not None
        series["loss"][i] = loss
        self._gradients(i, theta, gradient, space)

    def _gradients(self, i: int, theta: Tensor, gradient: Tensor, space: TopSpace) -> None:
        """The shares of the gradients at a checkpoint, and of the way to the next one."""
        series, objective = self.series, self.objective
        floor = series["gradient_floor"][i] = rounding_floor(space, theta)
        norm = series["gradient_norm"][i] = float(gradient.double().norm())
        if norm > floor:
            found = series["contributions"][i] = parts(space.vectors, gradient)
            series["gradient_share"][i], series["gradient_share_k_minus_1"][i] = found.sum(), found[:-1].sum()
        if self.chosen:
            small = [objective.minibatch_gradient(theta, chosen) for chosen in self.chosen]
            norms = np.array([float(g.double().norm()) for g in small])
            shares = np.array([parts(space.vectors, g).sum() for g in small])[norms > floor]
            series["gradient_norm_minibatch"][i] = norms.mean()
            if shares.size:
                series["gradient_share_minibatch"][i] = shares.mean()
                series["gradient_share_minibatch_spread"][i] = shares.std(ddof=1) if shares.size > 1 else np.nan
        if i + 1 < len(self.steps):
            series["displacement_share"][i] = parts(space.vectors, self.thetas[i + 1].to(theta) - theta).sum()

    def _start(self, i: int) -> Tensor | None:
        """The eigenvectors of the checkpoint before where a search from their sum is expected to be shorter, else None."""
        before = self.bases.get(i - 1)
        if before is None or self.spec.warm == "never" or self.spec.exact(self.size):
            return None
        shared = self.series["persistence"][i - 1, i - 2] if i > 1 else 1.0
        return before if self.spec.warm == "always" or not shared < NEAR else None

    def _searched(self, search: Generator[int, None, TopSpace], i: int) -> Generator[Progress, None, TopSpace]:
        """The space of a search, with news while it lasts."""
        while True:
            try:
                products = next(search)
            except StopIteration as end:
                space: TopSpace = end.value
                return space
            if time.monotonic() - self._shown >= REPORT_SECONDS:
                yield self._progress(f"step {self.steps[i]:,}", products, None)

    # -- where it stands ----------------------------------------------------------------------------------------------

    def _known(self, i: int) -> bool:
        """Whether a checkpoint is finished."""
        return bool(np.isfinite(self.series["products_steps"][i]))

    def _noted(self) -> dict[str, Array]:
        return {"notes": np.array(self.notes or [""])}

    def _report(self, words: str) -> Progress:
        """Where the work stands, with everything known so far and the bases that another attempt would go on with."""
        known = {name: np.asarray(value) for name, value in (self.fixed | self.series).items()}
        return self._progress(words, 0, {**known, **self._noted(), **self._state()})

    def _progress(self, words: str, now: int, partial: dict[str, Array] | None) -> Progress:
        self._shown = time.monotonic()
        products = self.series["products_steps"]
        finished = int(np.isfinite(products).sum())
        done = float(np.nansum(products)) + now
        each = np.nanmean(products) if finished else self.spec.work(self.size)["products"] / self.spec.checkpoints
        total = max(done + 1, float(np.nansum(products)) + (len(self.steps) - finished) * float(each))
        return Progress(done, total, f"{words}: {finished} of {len(self.steps)} checkpoints", partial)

    def _state(self) -> dict[str, Array]:
        """The bases as far as they are few bytes: in half precision where that is needed, else not at all."""
        count = self.size * self.k * len(self.bases)
        own = self.objective.theta.element_size()
        if not count or 2 * count > STATE_BYTES:
            return {}
        # Half precision has no small numbers: unit vectors are kept times the root of p, with entries around one.
        kept = [b if own * count <= STATE_BYTES else (b * self.size**0.5).half() for b in self.bases.values()]
        return {"state_places": np.array(list(self.bases)), "state_bases": torch.stack(kept).cpu().numpy()}

    def _resume(self) -> None:
        """Take over what an earlier attempt left of the same checkpoints."""
        partial = {name: np.asarray(value) for name, value in self.context.partial.items()}
        if not np.array_equal(partial.get("steps", []), self.steps) or any(
            name not in partial or partial[name].shape != value.shape for name, value in self.series.items()
        ):
            return
        self.series = {name: np.array(partial[name]) for name in self.series}
        self.notes += [str(note) for note in partial.get("notes", []) if str(note) and str(note) not in self.notes]
        bases = partial.get("state_bases", np.zeros(0))
        scale = self.size**-0.5 if bases.dtype == np.float16 else 1.0
        for place, basis in zip(partial.get("state_places", []), bases, strict=True):
            self.bases[int(place)] = torch.from_numpy(np.array(basis)).to(self.objective.theta) * scale
        if any(np.isfinite(self.series["loss"][i]) and i not in self.bases for i in range(len(self.steps))):
            self.notes.append("the work was interrupted with more vectors than could be kept: their persistence is left empty")


def _empty(count: int, k: int) -> dict[str, Array]:
    """The series of `run`, with nothing known yet."""
    curves = (
        "loss gradient_norm gradient_floor gradient_share gradient_share_k_minus_1 gradient_share_minibatch "
        "gradient_share_minibatch_spread gradient_norm_minibatch displacement_share eigenvalue_next persistence_reference "
        "products_steps warm"
    )
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(curves.split(), (count,))
    shapes |= {"contributions": (count, k), "eigenvalues": (count, k), "residuals": (count, k), "persistence": (count, count)}
    return {name: np.full(shape, np.nan) for name, shape in shapes.items()}


def _reference(text: str, path: Path) -> int:
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
