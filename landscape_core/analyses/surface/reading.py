"""What a picture says about this checkpoint, and what it doesn't show: the certificate in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...drawing.known import Known, has, scalar, text
from ...drawing.numbers import number
from ...drawing.sources import LI
from ...drawing.statement import Reading, Verdict
from .spec import RANDOM_DIRECTIONS, SurfaceSpec

SKEW = (0.1, 0.5)  # |cos| of the axes: above the first angles look bent, above the second shapes are misleading
HELD = 0.5  # share of the gradient from which on a slice shows most of where descent goes
BENT = 1.25  # ratio of finite to infinitesimal curvature that is worth a word
WALK = 0.02  # how much more than a random walk a path's plane must explain
OFF = 0.5  # share of a checkpoint's distance that may lie off the plane before its shadow stops meaning much
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}


def reading(data: Known, spec: SurfaceSpec) -> list[Reading]:
    """The certificate of a finished slice. Rows whose numbers the result doesn't hold are left out."""
    rows: list[Reading] = []
    for part in (_axes, _center, _gradient, _curvature, _spectrum, _shape, _trajectory, _masked, _modes, _limits):
        rows += part(data, spec)
    return rows


def _axes(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    units = [text(data, f"unit_{i}") for i in range(spec.dimensions) if f"unit_{i}" in data]
    norms = [scalar(data, f"axis_norm_{i}") for i in range(spec.dimensions)]
    if units:
        same = len(set(units)) == 1
        value = units[0] if same else " and ".join(f"{axis}: {unit}" for axis, unit in zip("αβ", units, strict=False))
        lengths = [f"{axis} is {number(norm)}" for axis, norm in zip("αβ", norms, strict=False) if norm is not None]
        measured = f" In parameter space one unit of {' and of '.join(lengths)} long." if lengths else ""
        rule, formula, source = DIRECTIONS[spec.directions]
        yield Reading("Axes", f"in {value}", rule + measured, formula, source, "note" if spec.directions == "essay" else "ok")
    cosine, p = scalar(data, "axis_cosine"), np.size(data["direction_0"]) if "direction_0" in data else 0
    if spec.dimensions == 2 and cosine is not None:
        baseline = f"; two random vectors would have about ±{number(1 / math.sqrt(p), 2)}" if p else ""
        size = abs(cosine)
        verdict: Verdict = "ok" if size < SKEW[0] else "note" if size < SKEW[1] else "warn"
        words = {
            "ok": f"The axes are close to perpendicular{baseline}.",
            "note": "The axes are not perpendicular, so shapes are a little sheared. Set orthogonal to straighten them.",
            "warn": "The axes are far from perpendicular: round valleys look long. Set orthogonal before judging shapes.",
        }[verdict]
        formula = f"cos = d₀·d₁ / (‖d₀‖ ‖d₁‖); fine below {SKEW[0]}, misleading above {SKEW[1]}"
        yield Reading("Angle of the axes", f"cos = {cosine:.3f}".replace("-", "−"), words, formula, "", verdict)


def _center(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    loss, reference, gap = (scalar(data, n) for n in ("center_loss", "center_loss_reference", "center_deviation"))
    size, error, accuracy = (scalar(data, n) for n in ("sample_size", "center_loss_standard_error", "center_accuracy"))
    if loss is not None and size is not None:
        spread = f" ± {number(error, 2)}" if error is not None else ""
        precise = f"{number(accuracy * 100, 3)} % of them are classified rightly. " if accuracy is not None else ""
        if error is not None:
            words = f"Differences below {number(2 * error, 2)} in the picture could be chance of the sample. "
        else:
            words = "This loss doesn't split into samples, so its sampling error is unknown. "
        if spec.samples is not None:
            words += "Only a part of the samples is used: the same part for every checkpoint. "
        formula = "mean loss over the sample ± standard deviation of the samples' losses / √N"
        value = f"loss {number(loss, 4)}{spread} on {size:,.0f} {spec.split} samples"
        yield Reading("At the centre", value, (precise + words).strip(), formula, "", "note" if spec.samples else "ok")
    if gap is not None and reference is not None:
        kind = str(getattr(data, "provenance", {}).get("dtype") or spec.dtype or "float32")
        allowed = TOLERANCE.get(kind, TOLERANCE["float32"])
        good = gap <= allowed
        words = (
            f"The picture's centre agrees with evaluating the network plainly in float64 ({number(reference, 6)})."
            if good
            else f"The picture's centre differs from a plain float64 evaluation ({number(reference, 6)}) by more than "
            f"{number(allowed, 1)}: compute with dtype=float64."
        )
        formula = f"|L(fast) − L(plain)| / max(1, |L|), allowed {number(allowed, 1)} in {kind}"
        yield Reading("Arithmetic", f"off by {number(gap, 2)}", words, formula, "", "ok" if good else "warn")


def _gradient(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    share, baseline, norm = (scalar(data, n) for n in ("gradient_share", "gradient_share_baseline", "gradient_norm"))
    if share is None:
        return
    what = "plane" if spec.dimensions == 2 else "line"
    random = spec.directions in RANDOM_DIRECTIONS
    verdict: Verdict = "ok" if share >= HELD else "note"
    words = (
        f"Most of the downhill direction lies in this {what}."
        if share >= HELD
        else f"{number(100 * (1 - share), 4)} % of the squared gradient points out of this {what}: descent is mostly elsewhere."
    )
    if baseline is not None:
        ratio = share / baseline if baseline > 0 else math.inf
        kind = "Random axes of this kind" if random else f"A random {what}"
        words += f" {kind} would hold {number(100 * baseline, 2)} % on average; this is {number(ratio, 2)} times that."
    if norm is not None:
        words += f" The gradient is {number(norm)} long."
    formula = "‖QQᵀg‖² / ‖g‖², Q an orthonormal basis of the axes; baseline "
    formula += "Σᵢ vᵢgᵢ² / (Σᵢ vᵢ ‖g‖²) for each axis, vᵢ the variances of its entries" if random else "(number of axes) / p"
    yield Reading("Gradient in the picture", f"{number(100 * share, 2)} %", words, formula, "", verdict)


def _curvature(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    note = text(data, "curvature_note")
    if note:
        yield Reading("Curvature", "unknown", f"It can't be computed here: {note}.", "", "", "note")
        return
    steps = [np.asarray(data[name]) for name in ("alphas", "betas") if has(data, name)]
    for i in range(spec.dimensions):
        exact, finite = scalar(data, f"curvature_{i}"), scalar(data, f"second_difference_{i}")
        if exact is None:
            continue
        words = ""
        verdict: Verdict = "ok"
        h = float(steps[i][1] - steps[i][0]) if i < len(steps) and steps[i].size > 1 else None
        if finite is not None and h is not None:
            words = f"The picture itself, over one grid step of {number(h, 2)}, bends by {number(finite)}"
            if exact * finite < 0 and max(abs(exact), abs(finite)) > 1e-6:
                words += ": the sign differs, the grid is too coarse to show what happens at the centre."
                verdict = "warn"
            elif exact and not 1 / BENT < abs(finite / exact) < BENT:
                words += f", {number(finite / exact, 2)} times as much: you see the shape at that distance, not at the point."
                verdict = "note"
            else:
                words += ": the grid resolves it."
        if has(data, "curvatures") and np.size(data["curvatures"]) > 1:
            every = np.asarray(data["curvatures"], dtype=float)
            every = every[np.isfinite(every)]
            if every.size:
                spread = number(every.std(ddof=min(1, every.size - 1)), 2)
                words += f" Over {every.size} random lines: {number(every.mean())} ± {spread}."
        formula = (
            f"dᵀHd by a Hessian-vector product, beside (f(h) − 2f(0) + f(−h)) / h²; ratio fine within {1 / BENT:.1f} to {BENT}"
        )
        yield Reading(f"Curvature along {'αβ'[i]}", f"{number(exact)} per unit²", words, formula, "", verdict)
    if has(data, "plane_curvatures"):
        values = np.asarray(data["plane_curvatures"], dtype=float)
        if np.isfinite(values).all() and values.size == 2:
            low, high = float(values.min()), float(values.max())
            words = (
                "Uphill on every side within this plane; that says little about the other directions."
                if low > 0
                else "Downhill one way and uphill another already within this plane: not a minimum."
                if high > 0
                else "Downhill on every side within this plane: not a minimum."
            )
            value = f"{number(low)} to {number(high)} per L2²"
            formula = "eigenvalues of QᵀHQ, Q an orthonormal basis of the plane"
            yield Reading("Curvature in the plane", value, words, formula, "", "ok" if low > 0 else "note")


def _spectrum(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    top, bottom = scalar(data, "hessian_top"), scalar(data, "hessian_bottom")
    if top is None or bottom is None:
        return
    what = "plane" if spec.dimensions == 2 else "line"
    inside = np.asarray(data["plane_curvatures"], dtype=float)
    low, high = float(inside.min()), float(inside.max())
    share, error, p = scalar(data, "hessian_negative"), scalar(data, "hessian_negative_error"), np.size(data["direction_0"])
    hidden = bottom < -1e-3 * max(abs(top), abs(bottom)) and low > 0
    words = f"Within this {what} it bends by {number(low)} to {number(high)}. "
    if hidden:
        words += f"A saddle that looks like a minimum here: {_negatives(share, error, p)} not seen. "
    elif bottom < 0 and low < 0:
        words += f"Downhill curvature exists and this {what} shows some of it. "
    if high < 0.1 * top:
        words += f"The sharpest direction bends {number(top / high, 2) if high > 0 else 'far more'} times as much."
    value = f"{number(bottom)} to {number(top)}"
    formula = "extreme eigenvalues of the Hessian at the centre by Lanczos, beside those of QᵀHQ"
    source = "Böttcher & Wheeler 2022, arXiv:2208.13219"
    yield Reading("Whole Hessian", value, words.strip(), formula, source, "warn" if hidden else "ok")
    trace, spread = scalar(data, "hessian_trace"), scalar(data, "hessian_trace_standard_error")
    held, baseline = scalar(data, "trace_share"), scalar(data, "trace_share_baseline")
    if trace is not None and held is not None and baseline is not None:
        words = f"The trace is {number(trace)} ± {number(spread or 0.0, 2)}. Isotropic axes hold {number(100 * baseline, 2)} %."
        formula = "tr(QᵀHQ) / tr H, the trace by Hutchinson's estimate beside exact outliers; baseline (number of axes) / p"
        yield Reading("Trace in the picture", f"{number(100 * held, 2)} %", words, formula, "", "ok")


def _negatives(share: float | None, error: float | None, p: int) -> str:
    """How many eigenvalues are negative, as far as that is known."""
    if share is None or share * p < 1:
        return "directions that bend downwards are"
    if error is None or error > share:
        return f"directions that bend downwards (a rough sketch counts {number(share * p, 2)}) are"
    return f"about {number(share * p, 2)} ± {number(error * p, 1)} directions that bend downwards are"


def _shape(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    share = scalar(data, "nonconvex_share")
    if share is None:
        return
    thing = "cells" if spec.dimensions == 2 else "points"
    words = (
        "As convex as a bowl at this resolution."
        if share < 0.02
        else f"About one in {max(1, round(1 / share))} {thing} bends downwards in some direction."
        if share < 0.5
        else "Most of the picture bends downwards in some direction: rugged at this scale."
    )
    formula = (
        "share of interior cells whose 2×2 finite-difference Hessian has min λ < −0.05 |max λ|"
        if spec.dimensions == 2
        else "share of interior points with a negative second difference"
    )
    yield Reading("Not convex", f"{number(100 * share, 2)} % of {thing}", words, formula, LI, "ok")


def _trajectory(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    explained, null = scalar(data, "explained_variance"), scalar(data, "explained_variance_null")
    if explained is not None:
        words = ""
        verdict: Verdict = "ok"
        if null is not None:
            verdict = "ok" if explained > null + WALK else "warn"
            words = f"A random walk recorded at the same steps would give {number(100 * null)} %. " + (
                "This path is straighter than that."
                if verdict == "ok"
                else "This is no more than that: the curve you see may be what any random walk looks like."
            )
        about = "the mean of the path" if spec.centered else "the last checkpoint"
        formula = f"squared displacement about {about} held by the axes / all of it; null from min(tᵢ, tⱼ); warns within {WALK}"
        source = "Antognini & Sohl-Dickstein 2018; " + LI
        yield Reading("Path explained", f"{number(100 * explained)} %", words, formula, source, verdict)
    if has(data, "trajectory_residual", "trajectory_coordinates"):
        residual = np.asarray(data["trajectory_residual"], dtype=float)
        away = np.hypot(residual, _shadow_length(data))
        share = np.divide(residual, away, out=np.zeros_like(residual), where=away > 0)
        worst = int(np.argmax(residual))
        step = int(np.asarray(data["trajectory_steps"])[worst])
        middle = float(np.median(share[away > 0])) if (away > 0).any() else 0.0
        verdict = "ok" if middle < OFF else "note" if middle < 0.9 else "warn"
        words = (
            "The path does not lie in the picture; you see its shadow. Half the checkpoints have more than "
            f"{number(100 * middle, 2)} % of their distance off it; the farthest is step {step:,}."
        )
        formula = f"‖θₜ − θ − D(DᵀD)⁻¹Dᵀ(θₜ − θ)‖; of ‖θₜ − θ‖; note from {OFF}, warning from 0.9 in the median"
        value = f"up to {number(float(residual[worst]))} off"
        yield Reading("Path beside the picture", value, words, formula, "", verdict)
    if has(data, "trajectory_height_error", "trajectory_loss"):
        errors = np.asarray(data["trajectory_height_error"], dtype=float)
        losses = np.asarray(data["trajectory_loss"], dtype=float)
        known = np.isfinite(errors)
        if known.any():
            worst = int(np.argmax(np.where(known, errors, -1)))
            relative = errors[worst] / max(abs(losses[worst]), 1e-12) if np.isfinite(losses[worst]) else math.inf
            verdict = "ok" if relative < 0.1 else "note" if relative < 1 else "warn"
            step = int(np.asarray(data["trajectory_steps"])[worst])
            words = (
                "The largest difference between the loss of a checkpoint and the loss under its shadow, "
                f"at step {step:,}, where the loss is {number(float(losses[worst]))}."
            )
            formula = "|L(θₜ) − L(shadow of θₜ)|; note above 10 %, warning above 100 % of L(θₜ)"
            yield Reading("Height of the path", f"off by up to {number(float(errors[worst]))}", words, formula, "", verdict)


def _shadow_length(data: Known) -> np.ndarray[Any, Any]:
    """‖D c‖ of each checkpoint's coordinates c, from the axes' norms and cosine."""
    points = np.asarray(data["trajectory_coordinates"], dtype=float)
    points = points.reshape(points.shape[0], -1)
    n0, n1, cosine = (scalar(data, name) for name in ("axis_norm_0", "axis_norm_1", "axis_cosine"))
    a = points[:, 0] * (n0 or 1.0)
    if points.shape[1] == 1:
        return np.abs(a)
    b = points[:, 1] * (n1 or 1.0)
    return np.sqrt(np.maximum(a**2 + b**2 + 2 * (cosine or 0.0) * a * b, 0))


def _masked(data: Known, _spec: SurfaceSpec) -> Iterator[Reading]:
    count = scalar(data, "masked_cells")
    if count is None:
        return
    total = int(np.size(data["loss"])) if "loss" in data else 0
    if count:
        words = (
            "The loss overflowed or was not a number there; those points are pink and enter no statistic. "
            "A smaller extent avoids them."
        )
        yield Reading(
            "Not finite", f"{count:,.0f} of {total:,} points", words, "", "", "warn" if count > 0.1 * total else "note"
        )
    else:
        yield Reading("Not finite", "none", "Every point of the grid has a finite loss.")


def _modes(_data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    stored = spec.batchnorm == "stored"
    words = (
        "If the network has BatchNorm, the stored statistics are used everywhere, though they belong to the centre only; "
        "batchnorm=batch draws the other surface."
        if stored
        else "BatchNorm statistics are computed anew from the sample at every point: another surface than that of the "
        "stored statistics."
    )
    yield Reading(
        "Mode",
        f"dropout off, BatchNorm {'stored' if stored else 'from the sample'}",
        words + " Weight decay is not part of the loss.",
    )
    words = (
        "ReLU networks have kinks: the curvature at the point ignores them, the picture at a distance does not. "
        "So the two disagree more the larger the step."
    )
    yield Reading("Kinks", "", words, "autograd's Hessian leaves out the jumps of the slope", "", "ok")


def _limits(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    p = int(np.size(data["direction_0"])) if "direction_0" in data else 0
    of = f" of {p:,}" if p else ""
    seen = "1 dimension" if spec.dimensions == 1 else "2 dimensions"
    words = f"You see {seen}{of}. "
    if spec.directions in RANDOM_DIRECTIONS:
        words += (
            "Random axes show the average curvature: a saddle with a few downhill directions still looks like a bowl here, and "
            "sharp directions are diluted. "
        )
        if spec.dimensions == 1 and spec.repeats >= 10:
            words += (
                "The band over several lines shows how much the choice of axes matters; do not rank models whose bands meet."
            )
        else:
            words += (
                "Another seed gives another picture: look at several lines (dimensions=1, repeats=10) before comparing models."
            )
    elif spec.directions == "pca":
        words += "These axes follow the path of training: directions of large movement, not of large gradient."
    elif spec.directions in ("difference", "through"):
        words += "A ridge on a straight line between two solutions doesn't mean that no valley connects them by another way."
    else:
        words += "What happens in all other directions is not shown."
    yield Reading(
        "What this picture does not show",
        "",
        words,
        "",
        "Böttcher & Wheeler 2022 on random projections" if spec.directions in RANDOM_DIRECTIONS else "",
        "note",
    )


DIRECTIONS: dict[str, tuple[str, str, str]] = {
    "filter": (
        "Random directions, each filter scaled to the norm of the filter it moves; biases and normalisation parameters as set. "
        "This removes the scale of whole layers, but not of single neurons.",
        "dᵢ ← dᵢ ‖wᵢ‖ / ‖dᵢ‖ for every filter i",
        LI,
    ),
    "layer": ("Random directions, each layer scaled to the norm of its weights.", "dₗ ← dₗ ‖wₗ‖ / ‖dₗ‖ for every layer l", LI),
    "model": ("Random directions as long as all weights together.", "d ← d ‖w‖ / ‖d‖", LI),
    "gaussian": (
        "Random directions without normalisation: networks of different scale can't be compared with them.",
        "d ~ N(0, 1) in every weight",
        "",
    ),
    "essay": (
        "The uncorrected rule: filters are scaled, biases and one-dimensional parameters move by unit noise. They dominate the "
        "direction, and rescaling a layer changes the picture.",
        "dᵢ ← dᵢ ‖wᵢ‖ / ‖dᵢ‖ for filters only",
        "",
    ),
    "pca": ("The directions in which the path of training extends most.", "top eigenvectors of Σₜ (θₜ − θ)(θₜ − θ)ᵀ", LI),
    "gradient": ("The first axis is the gradient, the second a random one perpendicular to it.", "d₀ = g / ‖g‖", ""),
    "difference": (
        "The first axis leads to another checkpoint, which lies at 1.",
        "d₀ = θ' − θ",
        "Goodfellow et al. 2015, arXiv:1412.6544",
    ),
    "eigenvectors": (
        "Eigenvectors of the Hessian of unit length: the directions in which the loss bends most, or bends downwards most.",
        "Hv = λv at the centre, by Lanczos; the largest entry of each vector is positive",
        "Böttcher & Wheeler 2022, arXiv:2208.13219",
    ),
    "through": (
        "The plane through three checkpoints, in true distances.",
        "orthonormal basis of θ' − θ and θ'' − θ",
        "Garipov et al. 2018, arXiv:1802.10026",
    ),
    "given": ("The vectors that were given.", "", ""),
}
