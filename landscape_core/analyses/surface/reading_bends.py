"""What is said of how a slice bends: at its centre, beside the whole Hessian, and over the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ...drawing.known import Known, has, scalar, text
from ...drawing.numbers import ROUNDING, number, percent, plus_minus, settled, span
from ...drawing.sources import BOETTCHER, LI
from ...drawing.statement import Reading, Verdict
from .spec import SurfaceSpec

BENT = 1.25  # ratio of finite to infinitesimal curvature that is worth a word
NONE = 1e-6  # of the larger curvature in a plane: one below that is none
NEGATIVE = 1e-3  # of the norm of the Hessian: what its smallest eigenvalue must lie below zero to be called so


def curvature(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    """Along each axis, at the point and over a grid step, and in the plane."""
    note = text(data, "curvature_note")
    if note:
        yield Reading("Curvature", "unknown", f"It can't be computed here: {note.rstrip('.')}.", "", "", "note")
        return
    rounding = scalar(data, "curvature_rounding") or 0.0  # per L2²
    for i in range(spec.dimensions):
        exact = scalar(data, f"curvature_{i}")
        if exact is None:
            continue
        exact = settled(exact, rounding * (scalar(data, f"axis_norm_{i}") or 1.0) ** 2)
        words, verdict = _over_a_step(data, i, exact)
        words += _other_lines(data)
        formula = (
            f"dᵀHd by a Hessian-vector product, beside (f(h) − 2f(0) + f(−h)) / h²; ratio fine within {1 / BENT:.1f} to {BENT}"
        )
        yield Reading(f"Curvature along {'αβ'[i]}", f"{number(exact)} per unit²", words.strip(), formula, "", verdict)
    values = np.asarray(data["plane_curvatures"], dtype=float) if has(data, "plane_curvatures") else np.empty(0)
    if values.size == 2 and np.isfinite(values).all():
        yield _in_the_plane(float(values.min()), float(values.max()), rounding)


def _over_a_step(data: Known, i: int, exact: float) -> tuple[str, Verdict]:
    """What the picture itself bends by along an axis, over one step of its grid, beside the curvature at the point."""
    name = ("alphas", "betas")[i]
    finite, floor = scalar(data, f"second_difference_{i}"), scalar(data, f"second_difference_rounding_{i}") or 0.0
    steps = np.asarray(data[name], dtype=float) if has(data, name) else np.empty(0)
    if finite is None or steps.size < 2:
        return "The picture itself has no second difference at the centre: a value beside it is not finite.", "note"
    over = f"over one grid step of {number(float(steps[1] - steps[0]), 2)}"
    if abs(finite) <= floor:
        if not exact:
            return f"Neither at the point nor {over} does anything but rounding bend it.", "ok"
        return f"The picture itself, {over}, bends by less than the rounding of its losses shows.", "note"
    words = f"The picture itself, {over}, bends by {number(finite)}"
    if abs(finite - exact) <= floor or (exact and 1 / BENT < finite / exact < BENT):
        return words + ": the grid resolves it.", "ok"
    if exact * finite < 0:
        return words + ": the sign differs, so the picture shows the shape at that distance and not at the centre.", "warn"
    times = f", {number(finite / exact, 2)} times as much" if exact else ""
    return words + times + ": you see the shape at that distance, not at the point.", "note"


def _other_lines(data: Known) -> str:
    """The curvature of a bundle of lines."""
    every = np.asarray(data["curvatures"], dtype=float) if has(data, "curvatures") else np.empty(0)
    every = every[np.isfinite(every)]
    if every.size < 2:
        return ""
    spread = number(float(every.std(ddof=1)), 2)
    return f" Over {every.size} random lines it is {number(float(every.mean()))} on average, with a deviation of {spread}."


def _in_the_plane(low: float, high: float, rounding: float) -> Reading:
    """The two curvatures of the plane at its centre."""
    floor = max(rounding, NONE * max(abs(low), abs(high)))
    low, high = settled(low, floor), settled(high, floor)
    if low > 0:
        words = "It bends upwards in every direction of this plane; that says little about the other directions."
    elif low < 0 < high:
        words = "It bends downwards one way and upwards another already within this plane: not a minimum."
    elif high > 0:
        words = "It bends upwards one way and not at all across it, within this plane."
    elif low == high == 0:
        words = "Nothing bends within this plane at its centre: it is flat or tilted there."
    elif high < 0:
        words = "It bends downwards in every direction of this plane: not a minimum."
    else:
        words = "It bends downwards one way and not at all across it, within this plane: not a minimum."
    formula = "eigenvalues of QᵀHQ, Q an orthonormal basis of the plane"
    value = f"{span(number(low), number(high))} per L2²"
    return Reading("Curvature in the plane", value, words, formula, "", "ok" if low > 0 else "note")


def eigenvalues(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    """The slice's curvature beside the whole Hessian's extremes and trace."""
    top, bottom = scalar(data, "hessian_top"), scalar(data, "hessian_bottom")
    if top is None or bottom is None:
        return
    what = "plane" if spec.dimensions == 2 else "line"
    inside = np.asarray(data["plane_curvatures"], dtype=float)
    size = max(abs(top), abs(bottom))
    floor = max(scalar(data, "curvature_rounding") or 0.0, NONE * size)
    low, high = (settled(float(value), floor) for value in (inside.min(), inside.max()))
    p = np.size(data["direction_0"])
    # A Ritz value lies above the smallest eigenvalue: below zero it proves one there, by more than its sign is in doubt.
    negative = bottom < -NEGATIVE * size
    hidden = negative and low > 0
    words = f"Within this {what} it bends by {span(number(low), number(high))}. "
    if hidden:
        words += f"All of that is upwards, while {_negatives(data, p)} not seen. "
    elif negative and low < 0:
        words += f"Downhill curvature exists and this {what} shows some of it. "
    if 0 < high < 0.1 * top:
        words += f"The sharpest direction bends {number(top / high, 2)} times as much."
    elif high <= 0 < settled(top, NONE * size):
        words += f"The sharpest direction bends upwards by {number(top)}."
    value = span(number(settled(bottom, NONE * size)), number(settled(top, NONE * size)))
    formula = "extreme eigenvalues of the Hessian at the centre by Lanczos, beside those of QᵀHQ"
    yield Reading("Whole Hessian", value, words.strip(), formula, BOETTCHER, "warn" if hidden else "ok")
    yield from _trace(data)


def _trace(data: Known) -> Iterator[Reading]:
    trace, spread = scalar(data, "hessian_trace"), scalar(data, "hessian_trace_standard_error")
    held, baseline = scalar(data, "trace_share"), scalar(data, "trace_share_baseline")
    if trace is None or baseline is None:
        return
    words = f"The trace is {number(trace)}{plus_minus(spread, trace)}. Isotropic axes hold {percent(baseline, 2)} on average."
    verdict: Verdict = "ok"
    if held is None:
        verdict = "note"
        words += " The trace is not known well enough for a share of it."
    elif held > 1 + max(ROUNDING, 2 * (scalar(data, "trace_share_error") or 0.0)):
        words += " More than all of it: elsewhere negative curvature takes away."
    elif held < 0:
        words += " Below zero: the slice and the whole bend opposite ways on average."
    formula = "tr(QᵀHQ) / tr H, the trace by Hutchinson's estimate beside exact outliers; baseline (number of axes) / p"
    share = (
        "unknown" if held is None else f"{percent(held, 2)}{plus_minus(100 * (scalar(data, 'trace_share_error') or 0.0), 100)}"
    )
    yield Reading("Trace in the picture", share, words, formula, "", verdict)


def _negatives(data: Known, p: int) -> str:
    """How many eigenvalues are negative, as far as that is known."""
    share, error = scalar(data, "hessian_negative"), scalar(data, "hessian_negative_error")
    if share is not None and error is not None and share > 2 * error and share * p >= 1:
        count, spread = number(share * p, 2), plus_minus(error * p, p, 1)
        if count == "1":
            return f"about one direction{spread} that bends downwards is"
        return f"directions that bend downwards, about {count}{spread}, are"
    least = (
        int(np.ceil(p * float(np.asarray(data["hessian_negative_bounds"])[0]) - 1e-6))
        if has(data, "hessian_negative_bounds")
        else 0
    )
    if least < 2:
        return "directions that bend downwards are"
    return f"at least {least:,} directions that bend downwards are"


SHAPES = {
    "flat": "Flat: the loss is the same everywhere in the picture, but for rounding.",
    "tilted": "Tilted, if not flat: no second difference of the picture stands above the rounding of its losses.",
    "bowl": "A quadratic bowl: every {cell} bends upwards by as much.",
    "trough": "A quadratic trough: every {cell} bends upwards along the same direction by as much, and not across it.",
    "saddle": "A quadratic saddle: every {cell} bends the same way, upwards along one direction and downwards along another.",
    "ridge": "A quadratic ridge: every {cell} bends downwards along the same direction by as much, and not across it.",
    "dome": "A quadratic dome: every {cell} bends downwards by as much.",
}


def shape(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    """The shape of the picture by its second differences: flat, tilted, quadratic, rugged, or how much of it is not convex."""
    share, kind, hidden = scalar(data, "nonconvex_share"), text(data, "picture_shape"), scalar(data, "hidden_share")
    cell, cells = ("cell", "cells") if spec.dimensions == 2 else ("point", "points")
    formula = (
        "share of interior cells whose 2×2 finite-difference Hessian has min λ < −0.05 |max λ|, and below zero by more than "
        "rounding"
        if spec.dimensions == 2
        else "share of interior points with a second difference below zero by more than rounding"
    )
    if kind in ("flat", "tilted"):
        yield Reading("Not convex", "no bend above rounding", SHAPES[kind], formula, LI, "ok")
        return
    if share is None:
        return
    words = SHAPES.get(kind, "").format(cell=cell) or _uneven(share, kind, cells, spec.dimensions == 2)
    if hidden is not None and hidden > 0:
        words = words.replace(": convex at this resolution", ", as far as rounding shows")
        words += f" At {percent(hidden, 2)} of the {cells} no bend stands above the rounding of the losses."
    yield Reading("Not convex", f"{percent(share, 2)} of {cells}", words, formula, LI, "ok")


def _uneven(share: float, kind: str, cells: str, plane: bool) -> str:
    """A picture that is no quadratic."""
    some = " in some direction" if plane else ""
    if kind == "rugged":
        return (
            f"Rugged at this scale: along a line of the grid the bend changes its sign three times or more on average, and "
            f"{percent(share, 2)} of the {cells} bend downwards{some}."
        )
    if share == 0:
        return f"None of the {cells} bends downwards{some}: convex at this resolution."
    if share < 0.02:
        return f"Convex at this resolution but for a few {cells}."
    if share < 0.5:
        return f"About one in {max(1, math.floor(1 / share + 0.5))} {cells} bends downwards{some}."
    smooth = ", as on a saddle: along the lines of the grid the bend seldom changes its sign" if kind == "uneven" else ""
    return f"Most of the {cells} bend downwards{some}{smooth}."
