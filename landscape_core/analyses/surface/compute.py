"""The loss on a line or a plane through a checkpoint, with the certificate that says how far to trust the picture."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...measuring.context import Context
from ...measuring.growing import REPORT_SECONDS, Growing, Running
from ...measuring.watching import network_card
from ...objective import Objective, Slice
from ...specs import Array, Progress
from . import certificate, shape, whole_hessian
from .arrays import QUANTITIES
from .directions import Axes, spanned
from .extras import Extras, reason
from .grid import Estimate, levels
from .probes import Probes, rounding_of
from .spec import EXTREME_PRODUCTS, SPECTRUM_PRODUCTS, SurfaceSpec

ARROW_COST = 4.0  # a gradient in forward passes, for the progress bar
PRODUCT_COST = 6.0  # a Hessian-vector product in the same
ROUNDED = 4  # times what a unit in the last place of the weights makes of a gradient: less is rounding
CHECK = "the check against float64"


def run(spec: SurfaceSpec, context: Context) -> Running:
    """f(a, b) = L(theta + a d0 + b d1) on a grid, coarse to fine, then the certificate. Returns the Result's arrays."""
    return (yield from (_plane if spec.dimensions == 2 else _lines)(spec, context))


def _plane(spec: SurfaceSpec, context: Context) -> Running:
    axes = spanned(spec, context)
    part = context.objective.slice(context.objective.theta, axes.directions)
    path = context.path(spec.trajectory) if spec.trajectory or spec.directions == "pca" else None
    grid, extras = Grid(spec, axes, context), Extras(*context.objective.notes)
    extra = ARROW_COST * (spec.flow**2 + 4) + PRODUCT_COST * _products(spec)
    yield from grid.fill(part, extra)
    loss = grid.values["loss"]
    arrays = grid.arrays() | certificate.axes_card(axes)
    yield from grid.report("certificate", 4 * ARROW_COST)
    known, rounding = _certify(context, axes, part, grid, loss, extras)
    arrays |= known
    alphas, betas = grid.axes
    arrays["nonconvex_share"] = shape.nonconvex_share(alphas, betas, loss, rounding)
    arrays["hidden_share"] = shape.hidden_share(alphas, betas, loss, rounding)
    arrays["convexity_plane"] = shape.plane_convexity(alphas, betas, loss, rounding)
    arrays["picture_shape"] = shape.plane_shape(alphas, betas, loss, rounding)
    if path is not None:
        arrays |= extras.get("the path in the picture", lambda: certificate.trajectory_card(context.objective, part, path))
        if spec.directions == "pca" and "trajectory_coordinates" in arrays:
            arrays |= certificate.random_walk_card(axes, path, arrays["trajectory_coordinates"], centered=spec.centered)
    yield from extras.run("the gradient flow", _flow(spec, context, part, axes, grid, arrays))
    yield from extras.run("the comparison with the whole Hessian", _spectrum(spec, context, part, grid, arrays))
    yield from extras.run("the map of convexity", _convexity(spec, context, part, axes, grid, arrays))
    return arrays | {"notes": np.array(extras.notes or [""])}


def _lines(spec: SurfaceSpec, context: Context) -> Running:
    """One line, or `repeats` lines along random directions of seeds seed, seed+1, ...: arrays `(S, n)`."""
    first = spanned(spec, context)
    grid, extras = Grid(spec, first, context, lines=spec.repeats), Extras(*context.objective.notes)
    curvatures = []
    for line in range(spec.repeats):
        axes = first if line == 0 else spanned(spec, context, line)
        part = context.objective.slice(context.objective.theta, axes.directions)
        yield from grid.fill(part, 4.0 + PRODUCT_COST * _products(spec), line)
        curvatures.append(_curvature(context.objective, part, extras)["curvature_0"])
    part, loss = context.objective.slice(context.objective.theta, first.directions), grid.values["loss"]
    arrays = grid.arrays() | certificate.axes_card(first)
    known, rounding = _certify(context, first, part, grid, loss[0], extras)
    arrays |= known
    arrays["curvatures"] = np.array(curvatures)
    arrays["nonconvex_share"], arrays["hidden_share"] = shape.bent_share(grid.axes[0], loss, rounding)
    arrays["picture_shape"] = shape.line_shape(grid.axes[0], loss, rounding)
    if spec.trajectory or spec.directions == "pca":
        path = context.path(spec.trajectory)
        arrays |= extras.get("the path in the picture", lambda: certificate.trajectory_card(context.objective, part, path))
    yield from extras.run("the comparison with the whole Hessian", _spectrum(spec, context, part, grid, arrays))
    return arrays | {"notes": np.array(extras.notes or [""])}


def _certify(
    context: Context, axes: Axes, part: Slice, grid: Grid, loss: Array, extras: Extras
) -> tuple[dict[str, Any], shape.Rounding]:
    """What is said of the centre and the slice, and the rounding of its losses; `loss` is that of the plane or first line.

    Whatever cannot be had is left out with a note: the grid is done and worth keeping.
    """
    objective = context.objective
    arrays: dict[str, Any] = certificate.center_card(part) | certificate.sample_card(objective) | network_card(objective)
    arrays["masked_cells"] = int((~np.isfinite(grid.values["loss"])).sum())
    checked = extras.get(CHECK, lambda: _checked(context, part, arrays["center_loss"]))
    double = checked.pop("double", objective)
    arrays |= checked
    probes = Probes(double, part, grid.axes, loss)
    measured = extras.get("the rounding of the losses", lambda: {"scatter": probes.scatter()})
    arrays |= extras.get("the standard error", lambda: certificate.error_card(double, part))
    if np.isfinite(arrays["center_loss_standard_error"]):
        arrays |= extras.get("what could be chance of the sample", probes.differences)
    if checked:
        measured |= extras.get(CHECK, lambda: {"deviations": probes.deviations()})
    rounding = rounding_of(objective.dtype, *measured.values())
    arrays |= dict.fromkeys(("gradient_norm", "gradient_share", "gradient_share_baseline", "gradient_rounding"), float("nan"))
    arrays |= extras.get("the gradient", lambda: _slope(objective, axes))
    arrays |= certificate.difference_card(part, grid.spacing, rounding)
    arrays |= _curvature(objective, part, extras)
    return arrays, rounding


def _slope(objective: Objective, axes: Axes) -> dict[str, float]:
    """The gradient beside the axes; no share of one that is no more than rounding."""
    gradient = objective.gradient()
    card = certificate.gradient_card(axes, gradient)
    card["gradient_rounding"] = ROUNDED * certificate.gradient_rounding(objective, gradient)
    if card["gradient_norm"] <= card["gradient_rounding"]:
        card["gradient_share"] = float("nan")
    return card


def _checked(context: Context, part: Slice, loss: float) -> dict[str, Any]:
    """The loss in float64, `double`, and the centre held to it."""
    double = context.double()
    return {"double": double, **certificate.reference_card(double, part, loss)}


def _curvature(objective: Objective, part: Slice, extras: Extras) -> dict[str, Any]:
    """The curvature in a slice; where there is none, NaN and the reason."""
    try:
        operator = objective.hessian(part.origin)
        found = certificate.curvature_card(operator, part)
        extras.note(*(words for words in operator.notes if "exactly zero" not in words))  # the curvature says it
        return found
    except Exception as error:
        k = len(part.directions)
        unknown = {"plane_curvatures": np.full(k, np.nan), "curvature_rounding": np.nan, "curvature_note": reason(error)}
        return unknown | {f"curvature_{i}": np.nan for i in range(k)}


def _flow(
    spec: SurfaceSpec, context: Context, part: Slice, axes: Axes, grid: Grid, arrays: dict[str, Any]
) -> Iterator[Progress]:
    """Arrows on a coarser grid of their own, kept off the rim."""
    if not spec.flow:
        return
    a, b = (np.linspace(low, high, spec.flow + 2)[1:-1] for low, high in axes.intervals)
    flow = np.empty((spec.flow, spec.flow, 2))
    for i in range(spec.flow):
        for j in range(spec.flow):
            flow[i, j] = certificate.projected_flow(context.objective, part, [a[i], b[j]])
        yield from grid.report("gradient flow", ARROW_COST * (4 + spec.flow * (i + 1)))
    arrays |= {"flow": flow, "flow_alphas": a, "flow_betas": b}


def _products(spec: SurfaceSpec) -> int:
    """Hessian-vector products that follow the grid, about."""
    return (SPECTRUM_PRODUCTS if spec.spectrum else 0) + EXTREME_PRODUCTS * spec.convexity**2


def _spectrum(spec: SurfaceSpec, context: Context, part: Slice, grid: Grid, arrays: dict[str, Any]) -> Iterator[Progress]:
    """The whole Hessian at the centre, beside the curvature in the slice."""
    if not spec.spectrum or not np.isfinite(arrays["plane_curvatures"]).all():
        return
    done, begun = 0, time.perf_counter()
    rest = PRODUCT_COST * _products(spec)
    for card in whole_hessian.spectrum_card(context.objective, part, float(arrays["plane_curvatures"].sum()), spec.seed):
        arrays |= card
        done = min(done + 1, SPECTRUM_PRODUCTS)
        if time.perf_counter() - begun > REPORT_SECONDS:
            begun = time.perf_counter()
            yield from grid.report("spectrum of the Hessian", grid.extra - rest + PRODUCT_COST * done)


def _convexity(
    spec: SurfaceSpec, context: Context, part: Slice, axes: Axes, grid: Grid, arrays: dict[str, Any]
) -> Iterator[Progress]:
    """The extreme eigenvalues of the whole Hessian on a coarser grid of their own, kept off the rim."""
    if not spec.convexity or arrays["curvature_note"]:
        return
    a, b = (np.linspace(low, high, spec.convexity + 2)[1:-1] for low, high in axes.intervals)
    each = PRODUCT_COST * EXTREME_PRODUCTS
    for done, (low, high) in enumerate(whole_hessian.convexity_map(context.objective, part, a, b), 1):
        arrays |= {"convexity_min": low, "convexity_max": high}
        yield from grid.report(
            f"convexity, {done} of {spec.convexity**2} points", grid.extra - each * (spec.convexity**2 - done)
        )
    size = np.maximum(np.abs(low), np.abs(high))
    arrays["convexity"] = np.divide(low, size, out=np.zeros_like(low), where=size != 0)
    arrays |= {"convexity_alphas": a, "convexity_betas": b}


class Grid:
    """The cells of a slice: `(n, m)` for a plane, `(S, n)` for lines; NaN until evaluated, resumed from a partial."""

    def __init__(self, spec: SurfaceSpec, axes: Axes, context: Context, lines: int | None = None):
        self.shape = spec.shape if lines is None else (lines, *spec.shape)
        self.axes = [np.linspace(low, high, n) for (low, high), n in zip(axes.intervals, spec.shape, strict=True)]
        self.spacing = [float(axis[1] - axis[0]) for axis in self.axes]
        self.lines = lines
        self.splits = ("train", "test") if spec.test else ("train",)
        self.values: dict[str, Array] = {}
        self.evaluated = np.zeros(self.shape, dtype=bool)
        self.estimate = Estimate(tuple(self.axes))
        # What a picture says of its axes and sample, from the first points on.
        self.about = {f"unit_{i}": np.array(unit) for i, unit in enumerate(axes.units)} | certificate.sample_card(
            context.objective
        )
        self.stride = 0
        self.seconds = 0.0  # a point's, of the last batch
        self.growing = Growing(context)
        self._resume()

    def fill(self, part: Slice, extra: float, line: int | None = None) -> Iterator[Progress]:
        """Evaluate what is missing, coarse to fine. `extra` is the work besides the cells, in forward passes."""
        own = slice(None) if line is None else line
        if line is not None:
            self.estimate = Estimate(tuple(self.axes))
        self.extra = extra
        for stride, cells in levels(self.shape if line is None else self.shape[1:]):
            self.stride = stride
            todo = cells[~self.evaluated[own][tuple(cells.T)]]
            while len(todo):
                count = 8 if not self.seconds else max(1, int(REPORT_SECONDS / self.seconds))
                batch, todo = todo[:count], todo[count:]
                started = time.perf_counter()
                self._put(part, batch, line)
                self.seconds = (time.perf_counter() - started) / len(batch)
                if len(todo):
                    yield self.progress()
            self.estimate.complete(self.values["loss"][own], stride)
            yield self.progress()

    def _put(self, part: Slice, cells: np.ndarray, line: int | None) -> None:
        points = np.stack([axis[cells[:, i]] for i, axis in enumerate(self.axes)], 1)
        index = tuple(cells.T) if line is None else (line, *cells.T)
        for split in self.splits:
            for name, values in part.evaluate(points, split).items():  # type: ignore[arg-type]
                self._array(name if split == "train" else f"{name}_test")[index] = values
        self.evaluated[index] = True

    def _array(self, name: str) -> Array:
        return self.values.setdefault(name, np.full(self.shape, np.nan))

    def arrays(self) -> dict[str, Any]:
        """The grid as the Result names it."""
        return {**dict(zip(("alphas", "betas"), self.axes, strict=False)), **self.values}

    def progress(self, message: str = "", extra_done: float = 0.0) -> Progress:
        """Where the cells stand, with everything known so far."""
        done, total = int(self.evaluated.sum()), self.evaluated.size
        loss, estimate = self.values["loss"], self.estimate
        pictures = (
            [loss, loss]
            if self.lines is not None
            else [estimate.picture(loss, self.evaluated), estimate.log_picture(loss, self.evaluated)]
        )
        growing, passes = self.growing, len(self.splits)
        growing.sketch = {
            **self.about,
            **self.arrays(),
            "evaluated": self.evaluated.copy(),
            "estimate": pictures[0],
            "estimate_error": np.array(estimate.error),
            "estimate_log": pictures[1],
            "estimate_log_error": np.array(estimate.log_error),
            "level": np.array(self.stride),
        }
        growing.expected = {"points": passes * total, "rest": self.extra}
        growing.done = {"points": passes * done} | ({"rest": extra_done} if extra_done else {})
        return growing.report(message or f"{done:,} of {total:,} points")

    def report(self, message: str, extra_done: float) -> Iterator[Progress]:
        """One Progress for work besides the cells."""
        yield self.progress(f"all {self.evaluated.size:,} points, {message}", extra_done)

    def _resume(self) -> None:
        left = {"evaluated": self.evaluated}
        if not self.growing.resumed(left, **dict(zip(("alphas", "betas"), self.axes, strict=False))):
            return
        self.evaluated = left["evaluated"]
        known = {*QUANTITIES, *self.growing.context.objective.metrics}
        for name, values in self.growing.partial.items():
            if name.removesuffix("_test") in known and values.shape == self.shape:
                self.values[name] = values.astype(float)
