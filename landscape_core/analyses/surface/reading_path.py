"""What is said of a path of training that lies on or beside a slice."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ...drawing.known import Known, has, scalar
from ...drawing.numbers import number, percent
from ...drawing.sources import LI
from ...drawing.statement import Reading, Verdict
from ...specs import Array
from .spec import SurfaceSpec

WALK = 0.02  # how much more than a random walk a path's axes must explain, besides what chance makes of a walk
OFF = (0.05, 0.5, 0.9)  # share of a checkpoint's distance off the slice: all but in it, its shadow means less, little
EXACT = 1e-5  # of a loss: no more than rounding in float32
ANTOGNINI = "Antognini & Sohl-Dickstein 2018; " + LI


def trajectory(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    """How much of the path the axes hold, how far it is off them, and what that does to its height."""
    yield from _explained(data, spec)
    if has(data, "trajectory_residual", "trajectory_coordinates"):
        yield _beside(data, "plane" if spec.dimensions == 2 else "line")
    if has(data, "trajectory_height_error", "trajectory_loss"):
        yield from _height(data)


def _explained(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    explained, null = scalar(data, "explained_variance"), scalar(data, "explained_variance_null")
    if explained is None:
        return
    words = ""
    verdict: Verdict = "ok"
    count = np.size(data["trajectory_steps"]) if "trajectory_steps" in data else None
    p = np.size(data["direction_0"]) if "direction_0" in data else 0
    # Centred or about the last, n checkpoints span n - 1 dimensions.
    if (count is not None and count - 1 <= spec.dimensions) or 0 < p <= spec.dimensions:
        words = f"Any path {f'of {count} checkpoints ' if count else ''}would lie in such axes whole."
    elif null is not None:
        walk, deviation = (scalar(data, f"explained_variance_walk{end}") for end in ("", "_deviation"))
        null = null if walk is None else walk
        slack = max(WALK, 2 * (deviation or 0.0))
        words = f"A random walk recorded at the same steps would give {percent(null)} on average. "
        if explained > null + slack:
            words += "More of this path lies along its axes."
        elif explained < null - slack:
            words += "Less of this path lies along its axes."
        else:
            verdict = "warn"
            words += "This is no more than that: the curve you see may be what any random walk looks like."
    about = "the mean of the path" if spec.centered else "the last checkpoint"
    formula = (
        f"squared displacement about {about} held by the axes / all of it; null from min(tᵢ, tⱼ); "
        f"warns within {WALK}, or two standard deviations of walks"
    )
    yield Reading("Path explained", percent(explained), words.strip(), formula, ANTOGNINI, verdict)


def _beside(data: Known, what: str) -> Reading:
    residual = np.asarray(data["trajectory_residual"], dtype=float)
    away = np.hypot(residual, _shadow_length(data))
    floor = scalar(data, "trajectory_rounding") or 0.0
    rounding = floor + 1e-6 * away
    share = np.divide(residual, away, out=np.zeros_like(residual), where=away > 0)
    formula = f"‖θₜ − θ − D(DᵀD)⁻¹Dᵀ(θₜ − θ)‖; of ‖θₜ − θ‖; note from {OFF[1]}, warning from {OFF[2]} in the median"
    if (residual <= rounding).all():
        words = f"The path lies in the {what}, but for rounding."
        return Reading("Path beside the picture", "in it", words, formula, "", "ok")
    worst = int(np.argmax(residual))
    step = int(np.asarray(data["trajectory_steps"])[worst])
    off = share[(away > 0) & (residual > rounding)]
    middle = float(np.median(share[away > 0]))
    verdict: Verdict = "ok" if middle < OFF[1] else "note" if middle < OFF[2] else "warn"
    if off.max() < OFF[0]:
        words = (
            f"The path all but lies in the {what}: no checkpoint has more than {percent(float(off.max()), 2)} of its "
            f"distance off it. The farthest is step {step:,}."
        )
    else:
        words = (
            f"The path does not lie in the {what}; you see its shadow. Of half the checkpoints {percent(middle, 2)} or more of "
            f"the distance is off it; the farthest is step {step:,}."
        )
    return Reading("Path beside the picture", f"up to {number(float(residual[worst]))} off", words, formula, "", verdict)


def _height(data: Known) -> Iterator[Reading]:
    errors = np.asarray(data["trajectory_height_error"], dtype=float)
    losses = np.asarray(data["trajectory_loss"], dtype=float)
    known = np.isfinite(errors)
    if not known.any():
        return
    formula = "|L(θₜ) − L(shadow of θₜ)|; note above 10 %, warning above 100 % of L(θₜ)"
    size = np.where(np.isfinite(losses), np.abs(losses), 0.0)
    if (errors[known] <= EXACT * size[known]).all():
        words = "The loss of every checkpoint is the loss under its shadow, but for rounding."
        yield Reading("Height of the path", "right", words, formula, "", "ok")
        return
    worst = int(np.argmax(np.where(known, errors, -1)))
    relative = errors[worst] / size[worst] if size[worst] else math.inf
    verdict: Verdict = "ok" if relative < 0.1 else "note" if relative < 1 else "warn"
    step = int(np.asarray(data["trajectory_steps"])[worst])
    words = (
        "The largest difference between the loss of a checkpoint and the loss under its shadow, "
        f"at step {step:,}, where the loss is {number(float(losses[worst]))}."
    )
    yield Reading("Height of the path", f"off by up to {number(float(errors[worst]))}", words, formula, "", verdict)


def _shadow_length(data: Known) -> Array:
    """‖D c‖ of each checkpoint's coordinates c, from the axes' norms and cosine."""
    points = np.asarray(data["trajectory_coordinates"], dtype=float)
    points = points.reshape(points.shape[0], -1)
    n0, n1, cosine = (scalar(data, name) for name in ("axis_norm_0", "axis_norm_1", "axis_cosine"))
    a = points[:, 0] * (n0 or 1.0)
    if points.shape[1] == 1:
        return np.abs(a)
    b = points[:, 1] * (n1 or 1.0)
    return np.sqrt(np.maximum(a**2 + b**2 + 2 * (cosine or 0.0) * a * b, 0))
