"""What a picture says about this checkpoint, and what it doesn't show: the certificate in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ...drawing.known import Known, has, scalar, text
from ...drawing.numbers import number, percent
from ...drawing.sources import BOETTCHER, GARIPOV, GOODFELLOW, LI
from ...drawing.statement import Reading, Verdict
from .quantity import unit_words
from .reading_bends import curvature, eigenvalues, shape
from .reading_center import center
from .reading_path import trajectory
from .spec import RANDOM_DIRECTIONS, SurfaceSpec

SKEW = (0.1, 0.5)  # |cos| of the axes: above the first angles look bent, above the second shapes are misleading
HELD = 0.5  # share of the gradient from which on a slice shows most of where descent goes
FOUND = 1e-2  # relative residual of an eigenvector that is worth a word
BAND = 10  # lines from which on their band says how much the choice of axes matters


def reading(data: Known, spec: SurfaceSpec) -> list[Reading]:
    """The certificate of a finished slice. Rows whose numbers the result doesn't hold are left out."""
    rows: list[Reading] = []
    parts = (_axes, center, _gradient, curvature, eigenvalues, shape, trajectory, _masked, _modes, _notes, _limits)
    for part in parts:
        rows += part(data, spec)
    return rows


def _axes(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    units = [unit_words(data, i) for i in range(spec.dimensions) if f"unit_{i}" in data]
    norms = [scalar(data, f"axis_norm_{i}") for i in range(spec.dimensions)]
    if units:
        same = len(set(units)) == 1
        value = units[0] if same else " and ".join(f"{axis}: {unit}" for axis, unit in zip("αβ", units, strict=False))
        lengths = [f"{axis} is {number(norm)}" for axis, norm in zip("αβ", norms, strict=False) if norm is not None]
        measured = f" In parameter space one unit of {' and of '.join(lengths)} long." if lengths else ""
        rule, formula, source = _rule(data, spec)
        yield Reading("Axes", f"in {value}", rule + measured, formula, source, "note" if spec.directions == "essay" else "ok")
    yield from _angle(data, spec)
    if has(data, "axis_residuals"):
        worst = float(np.max(data["axis_residuals"]))
        if math.isfinite(worst):
            words = (
                "Both axes are eigenvectors to within this share of their own eigenvalue."
                if spec.dimensions == 2
                else "The axis is an eigenvector to within this share of its own eigenvalue."
            )
            if worst > FOUND:
                words = (
                    "An axis is an eigenvector only roughly: its eigenvalue is small beside the others, or has neighbours "
                    "that the search did not tell apart. Another seed may turn it."
                )
            residual = number(worst, 1) if worst > 1e-9 else "below 1e−9"
            formula = f"‖Hv − λv‖ / |λ|, the larger of the axes; note above {FOUND}"
            yield Reading("Eigenvectors", f"residual {residual}", words, formula, "", "note" if worst > FOUND else "ok")


def _angle(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    cosine, null = scalar(data, "axis_cosine"), scalar(data, "axis_cosine_null")
    if spec.dimensions != 2 or cosine is None:
        return
    size = abs(cosine)
    verdict: Verdict = "ok" if size < SKEW[0] else "note" if size < SKEW[1] else "warn"
    if size < 1e-6:
        words = "The axes are perpendicular."
    elif verdict == "ok":
        words = "The axes are close to perpendicular."
    elif verdict == "note":
        words = "The axes are not perpendicular, so shapes are a little sheared. Set orthogonal to straighten them."
    else:
        words = "The axes are far from perpendicular: round valleys look long. Set orthogonal before judging shapes."
    if null is not None and not spec.orthogonal:
        common = spec.ignore == "copy" and spec.directions != "essay"
        words += f" Two random axes of this kind have ±{number(null, 2)} (root mean square)"
        words += ": both hold the same copied parameters." if common and null > SKEW[0] else "."
    formula = f"cos = d₀·d₁ / (‖d₀‖ ‖d₁‖); fine below {SKEW[0]}, misleading above {SKEW[1]}"
    if null is not None and not spec.orthogonal:
        formula += "; of random axes √(‖f‖⁴ + Σ vᵢ²) / (‖f‖² + Σ vᵢ), f what is copied, vᵢ the variances of the rest"
    yield Reading("Angle of the axes", f"cos = {number(round(cosine, 3))}", words, formula, "", verdict)


def _gradient(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    share, baseline, norm = (scalar(data, n) for n in ("gradient_share", "gradient_share_baseline", "gradient_norm"))
    rounding = scalar(data, "gradient_rounding")
    if norm is not None and rounding is not None and norm <= rounding:
        words = "The gradient is no more than the last places of the weights make of it: where it points says nothing."
        formula = "four times the change of g when every weight moves by a unit in its last place"
        yield Reading("Gradient in the picture", "none above rounding", words, formula, "", "note")
        return
    if share is None:
        return
    what = "plane" if spec.dimensions == 2 else "line"
    random = spec.directions in RANDOM_DIRECTIONS
    verdict: Verdict = "ok" if share >= HELD else "note"
    if spec.directions == "gradient":
        words = "The first axis is the gradient, so all of it lies here."
    elif share >= HELD:
        words = f"Most of the squared gradient lies in this {what}."
    else:
        words = f"All but {percent(share, 2)} of the squared gradient points out of this {what}: descent is mostly elsewhere."
    if baseline is not None and baseline > 0 and spec.directions != "gradient" and baseline < 1:
        kind = "Random axes of this kind" if random else f"A random {what}"
        words += f" {kind} would hold {percent(baseline, 2)} on average; this is {number(share / baseline, 2)} times that."
    if norm is not None:
        words += f" The gradient is {number(norm)} long."
    formula = "‖QQᵀg‖² / ‖g‖², Q an orthonormal basis of the axes; baseline "
    if not random:
        formula += "(number of axes) / p"
    elif spec.ignore == "copy" and spec.directions != "essay":
        formula += "from the variances vᵢ of the axes' entries and what both copy, f, which counts once"
    else:
        formula += "Σᵢ vᵢgᵢ² / (Σᵢ vᵢ ‖g‖²) for each axis, vᵢ the variances of its entries"
    yield Reading("Gradient in the picture", percent(share, 2), words, formula, "", verdict)


def _masked(data: Known, _spec: SurfaceSpec) -> Iterator[Reading]:
    count = scalar(data, "masked_cells")
    if count is None:
        return
    total = int(np.size(data["loss"])) if "loss" in data else 0
    if not count:
        yield Reading("Not finite", "none", "Every point of the grid has a finite loss.")
        return
    words = "The loss overflowed or was not a number there; those points are pink and enter no statistic."
    if scalar(data, "center_loss") is not None:
        words += " A smaller extent may avoid them."
    verdict: Verdict = "warn" if count > 0.1 * total else "note"
    yield Reading("Not finite", f"{count:,.0f} of {total:,} points", words, "", "", verdict)


def _modes(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    known = "has_batchnorm" in data
    normalised = bool(data["has_batchnorm"]) if known else True
    where = "everywhere" if known else "everywhere if the network has BatchNorm"
    value, words = "evaluation mode", ""
    statistics = text(data, "batchnorm_statistics", spec.batchnorm)
    if normalised and statistics == "stored":
        value += ", BatchNorm stored"
        words = (
            f"The stored statistics of BatchNorm are used {where}, though they belong to the centre only; "
            "batchnorm=batch draws the other surface. "
        )
    elif normalised:
        value += ", BatchNorm from the sample"
        words = (
            "BatchNorm statistics are computed anew from the sample at every point: another surface than that of the "
            "stored statistics. "
        )
    yield Reading("Mode", value, words + "A weight decay of the optimiser is not part of the loss that is drawn.")
    kinks = text(data, "kinks") if "kinks" in data else None
    if kinks == "":
        return
    subject = f"This network or its loss has kinks ({kinks})" if kinks else "A network with kinks (ReLU, max pooling)"
    words = (
        f"{subject}: the curvature at the point ignores them, the picture at a distance does not."
        if kinks
        else f"{subject} has two curvatures: that at the point ignores them, that of the picture at a distance does not."
    )
    yield Reading("Kinks", kinks or "", words, "autograd's Hessian leaves out the jumps of the slope", "", "ok")


def _notes(data: Known, _spec: SurfaceSpec) -> Iterator[Reading]:
    for note in np.atleast_1d(np.asarray(data.get("notes", []))).tolist():
        if note:
            name = "Left out" if " is left out: " in note else "Note"
            yield Reading(name, "", note[0].upper() + note[1:].rstrip(".") + ".", "", "", "note")


def _limits(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    p = int(np.size(data["direction_0"])) if "direction_0" in data else 0
    seen = "1 dimension" if spec.dimensions == 1 else "2 dimensions"
    if p and p <= spec.dimensions:
        words = f"You see {'the only dimension' if p == 1 else f'all {p} dimensions'} that the weights have, within the extent."
        yield Reading("What this picture does not show", "", words, "", "", "ok")
        return
    words = f"You see {seen}{f' of {p:,}' if p else ''}. "
    random = spec.directions in RANDOM_DIRECTIONS
    if random:
        words += (
            "Random axes show the average curvature: a few directions that bend downwards, or sharply, "
            "can be there without being seen. "
        )
        if spec.dimensions == 1 and spec.repeats >= BAND:
            words += (
                "The band over several lines shows how much the choice of axes matters; do not rank models whose bands meet."
            )
        else:
            words += (
                f"Another seed gives another picture: look at several lines (dimensions=1, repeats={BAND}) before comparing "
                "models."
            )
    elif spec.directions == "pca":
        words += "These axes follow the path of training: directions of large movement, which need not be those of steep slope."
    elif spec.directions in ("difference", "through"):
        words += "A ridge on a straight line between two solutions doesn't mean that no valley connects them by another way."
    else:
        words += "What happens in all other directions is not shown."
    source = "Böttcher & Wheeler 2022 on random projections" if random else ""
    yield Reading("What this picture does not show", "", words, "", source, "note")


def _rule(data: Known, spec: SurfaceSpec) -> tuple[str, str, str]:
    """(words, formula, source) of how the axes were chosen."""
    words, formula, source = DIRECTIONS[spec.directions]
    plane = spec.dimensions == 2
    if spec.directions in ("filter", "layer", "model", "gaussian"):
        words += IGNORED[spec.ignore]
    if spec.directions == "pca":
        about = "their mean" if spec.centered else "the last checkpoint"
        words += f" About {about}."
        formula = f"top eigenvectors of Σₜ (θₜ − c)(θₜ − c)ᵀ, c {'the mean' if spec.centered else 'the last checkpoint'}"
    elif spec.directions == "gradient" and plane:
        words += " The second is a random one perpendicular to it."
    elif spec.directions == "difference" and plane:
        second = str(np.asarray(data["unit_1"])) if "unit_1" in data else ""
        words += " The second to another one." if second.startswith("way to") else " The second is random and as long."
    elif spec.directions == "eigenvectors":
        words += {
            "both": " Of the largest and the smallest eigenvalue." if plane else " Of the largest eigenvalue.",
            "top": " Of the two largest eigenvalues." if plane else " Of the largest eigenvalue.",
            "bottom": " Of the two smallest eigenvalues." if plane else " Of the smallest eigenvalue.",
        }[spec.ends]
    if spec.orthogonal and plane:
        words += " The second is made perpendicular to the first."
    return words, formula, source


IGNORED = {
    "biases-and-norms": " Biases and normalisation parameters stay as they are.",
    "copy": " Biases and normalisation parameters move along themselves: the axis holds a copy of them.",
    "none": "",
}

DIRECTIONS: dict[str, tuple[str, str, str]] = {
    "filter": (
        "Random directions, each filter scaled to the norm of the filter it moves. That takes out the scale of whole layers, "
        "but not of single neurons.",
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
        "The uncorrected rule: filters are scaled, but parameters of one dimension, such as biases, move by noise of "
        "deviation 1 whatever their own size, so that rescaling a layer changes the picture.",
        "dᵢ ← dᵢ ‖wᵢ‖ / ‖dᵢ‖ for filters only",
        "",
    ),
    "pca": ("The directions in which the path of training extends most.", "", LI),
    "gradient": ("The first axis is the gradient.", "d₀ = g / ‖g‖", ""),
    "difference": ("The first axis leads to another checkpoint, which lies at 1.", "d₀ = θ' − θ", GOODFELLOW),
    "eigenvectors": (
        "Eigenvectors of the Hessian of unit length.",
        "Hv = λv at the centre, by Lanczos; the largest entry of each vector is positive",
        BOETTCHER,
    ),
    "through": ("The plane through three checkpoints, in true distances.", "orthonormal basis of θ' − θ and θ'' − θ", GARIPOV),
    "given": ("The vectors that were given.", "", ""),
}
