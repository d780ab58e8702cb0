"""The signs of the eigenvalues and the kind of point that follows from them: the one source of every count on the page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...measuring.critical import Signs, classify, relative_gradient
from ...measuring.zero_modes import ZeroModes, ZeroModeSearch
from ...specs import Array
from .growing import SpectrumGrowing

ROUNDING = 32  # units in the last place of the largest eigenvalue that products may be off by
SWEEPS = 12  # of the power iteration for what the matrix is off its transpose


def asymmetry(matrix: torch.Tensor) -> float:
    """The spectral norm of (A - A') / 2, about: what noise in the products does to an eigenvalue of A's symmetric part."""
    skew = (matrix - matrix.T) / 2
    vector = torch.ones(len(skew), dtype=skew.dtype, device=skew.device)
    size = 0.0
    for _ in range(SWEEPS):
        vector = vector / vector.norm().clamp_min(torch.finfo(skew.dtype).tiny)
        vector = skew @ vector
        size = max(size, float(vector.norm()))
    return size


def rounding(growing: SpectrumGrowing) -> float:
    """How far rounding may move an eigenvalue of these products, and of the decomposition in float64."""
    norm, eps = float(growing.arrays["norm"]), torch.finfo(growing.objective.dtype).eps
    small = torch.finfo(torch.float64).eps * growing.size
    return max(ROUNDING * eps, small, growing.asymmetry) * norm


def causes(growing: SpectrumGrowing) -> tuple[ZeroModes, ZeroModes]:
    """Zero eigenvalues whose cause is known: those at every theta, and those that the exact matrix shows at this one."""
    if growing.shift:
        none = ZeroModes(0, ("weight decay lifts every eigenvalue",))
        return none, none
    search = ZeroModeSearch(growing.objective, growing.spec.operator, growing.members)
    always = search.always()
    if growing.matrix is None:
        return always, always
    beyond = growing.spec.zero_tolerance * float(growing.arrays["norm"]) + rounding(growing)
    return always, search.here(growing.matrix, beyond)


def signs(growing: SpectrumGrowing, predicted: int) -> Signs:
    """How many eigenvalues are negative, zero, positive: zero within `zero_tolerance` |H| and what rounding adds to it.

    Of the exact matrix all are counted. Lanczos proves at least so many beyond zero, a node of the quadrature beyond it one;
    Ritz values within count as zeros. `predicted` zeros are there at every theta: a matrix that shows fewer has lost them to
    rounding, and its signs are not known.
    """
    arrays = growing.arrays
    beyond = growing.spec.zero_tolerance * float(arrays["norm"]) + rounding(growing)
    if growing.exact:
        found = Signs.of(np.asarray(arrays["nodes"])[0], beyond, known=True)
    else:
        found = Signs.of(np.concatenate([arrays["eigenvalues_top"], arrays["eigenvalues_bottom"]]), beyond, known=False)
        low, high = float(arrays["nodes"].min()), float(arrays["nodes"].max())
        found = replace(found, negative=max(found.negative, low < -beyond), positive=max(found.positive, high > beyond))
    return replace(found, zero=max(found.zero, predicted), known=found.known and found.zero >= predicted)


def kind_of_pairs(growing: SpectrumGrowing, theta: torch.Tensor, gradient: float, top: Array, bottom: Array) -> str:
    """The kind of point at theta `(p,)` from eigenvalues of both ends that Lanczos found."""
    values = np.concatenate([top, bottom])
    norm = float(np.abs(values).max())
    beyond = (growing.spec.zero_tolerance + ROUNDING * torch.finfo(growing.objective.dtype).eps) * norm
    return judged(growing, Signs.of(values, beyond, known=False), gradient, norm, theta, bottom=bool(bottom.size))[1]


def judged(
    growing: SpectrumGrowing, found: Signs, gradient: float, norm: float, theta: torch.Tensor, *, bottom: bool
) -> tuple[float, str]:
    """The gradient's relative size at theta `(p,)` beside a curvature of this norm, and the kind of point."""
    share = relative_gradient(gradient, norm, float(theta.double().norm()))
    kind = classify(share, found, tolerance=growing.spec.gradient_tolerance, whole=is_whole(growing), bottom=bottom)
    return share, kind


def is_whole(growing: SpectrumGrowing) -> bool:
    """Whether the matrix is the Hessian over all parameters."""
    return growing.spec.operator == "hessian" and len(growing.members) == len(growing.objective.space.entries)


def point(growing: SpectrumGrowing, found: Signs) -> dict[str, Any]:
    """The arrays that say what kind of point this is."""
    gradient, norm = (float(growing.arrays[name]) for name in ("gradient_norm", "norm"))
    share, kind = judged(growing, found, gradient, norm, growing.objective.theta, bottom=growing.spec.k_bottom > 0)
    return {
        "signs": np.array([found.negative, found.zero, found.positive]),
        "signs_known": found.known,
        "gradient_relative": share,
        "classification": kind,
    }
