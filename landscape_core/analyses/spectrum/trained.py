"""The spectrum of the loss that was trained, where weight decay is a part of it: L + wd/2 |theta|^2 has the Hessian H + wd."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...measuring.critical import Signs
from ...measuring.stability import trained_decay
from .growing import SpectrumGrowing
from .kind import is_whole, judged, rounding

TRAINED = "_trained"  # ends the names of what is of that loss


def decay_beside(growing: SpectrumGrowing) -> float:
    """The weight decay of the loss that was trained, where these are eigenvalues of the plain one; else 0."""
    asked = growing.spec.operator in ("hessian", "ggn") and not growing.shift
    return trained_decay(growing.context.training) if asked else 0.0


def of_trained_loss(growing: SpectrumGrowing) -> dict[str, Any]:
    """Eigenvalues, gradient and kind of point with the decay in the loss; empty where it is not, or already is."""
    wd, arrays, spec = decay_beside(growing), growing.arrays, growing.spec
    if not wd:
        return {}
    found = {f"eigenvalues_{end}{TRAINED}": arrays[f"eigenvalues_{end}"] + wd for end in ("top", "bottom")}
    theta = growing.objective.theta
    gradient = float((growing.gradient() + wd * theta[growing.coordinates]).double().norm())
    found[f"gradient_norm{TRAINED}"] = np.asarray(gradient)
    if is_whole(growing):
        ends = np.concatenate([arrays["eigenvalues_top"], arrays["eigenvalues_bottom"]])
        values = (np.asarray(arrays["nodes"])[0] if growing.exact else ends) + wd
        norm = float(np.abs(values).max())
        signs = Signs.of(values, spec.zero_tolerance * norm + rounding(growing), known=growing.exact)
        kind = judged(growing, signs, gradient, norm, theta, bottom=spec.k_bottom > 0)[1]
        found[f"classification{TRAINED}"] = np.asarray(kind)
    return found
