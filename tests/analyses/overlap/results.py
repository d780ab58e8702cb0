"""Results of overlaps and of training on inside and outside, made up from formulas, with every array of the analyses."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape_core.analyses.counterfactual.spec import CounterfactualSpec
from landscape_core.analyses.overlap.spec import OverlapSpec
from landscape_core.specs import Result

from ..surface.results import PARAMETERS, result

STEPS = np.array([0, 1, 5, 20, 50, 100, 400, 1000, 2000])


def overlap(level: float = 0.8, kind: str = "reference", **fields: Any) -> Result:
    """A finished overlap whose share rises to `level`."""
    t, k = STEPS.size, 10
    share = np.linspace(0.1, 1, t) * level
    parts = np.full((t, k), 0.1) * share[:, None]
    near = 1 - np.abs(np.arange(t)[:, None] - np.arange(t)) / t
    values = np.linspace(1, 6, t)[:, None] / np.arange(1, k + 1)
    arrays = {
        "steps": STEPS,
        "loss": np.geomspace(2.3, 0.02, t),
        "gradient_norm": np.geomspace(1, 0.01, t),
        "gradient_floor": np.full(t, 1e-6),
        "gradient_share": share,
        "gradient_share_k_minus_1": 0.9 * share,
        "gradient_share_minibatch": np.linspace(0.3, 0.7, t),
        "gradient_share_minibatch_spread": np.full(t, 0.1),
        "gradient_norm_minibatch": np.geomspace(1, 0.1, t),
        "displacement_share": np.append(np.full(t - 1, 0.03), np.nan),
        "contributions": parts,
        "eigenvalues": values,
        "residuals": np.full((t, k), 4e-4),
        "eigenvalue_next": 0.6 * values[:, -1],
        "persistence": near,
        "persistence_reference": near[-1],
        "products_steps": np.full(t, 20.0),
        "warm": np.append(0.0, np.ones(t - 1)),
        "lr_steps": np.full(t, 0.1),
        "stability_limit_steps": np.full(t, np.nan if kind == "none" else 20.0),
        "stability_kind": kind,
        "stability_rule": "" if kind == "none" else "2/lr",
        "stability_words": "Adam has none." if kind == "none" else "Stable below this.",
        "k": k,
        "baseline": k / PARAMETERS,
        "baseline_deviation": 0.003,
        "baseline_bounds": np.array([0.0014, 0.0165]),
        "persistence_chance": 0.0085,
        "classes": 10,
        "reference_step": 2000,
        "parameters": PARAMETERS,
        "softmax": True,
        "reduction": "mean",
        "sample_size": 1437,
        "minibatch_size": 64,
        "weight_decay": 0.0,
        "trained_decay": 0.0,
        "products": 180.0,
        "notes": np.array([""]),
    }
    return result(arrays, OverlapSpec(**fields), "run@2000", "overlap")


def growing(finished: int = 3) -> dict[str, Any]:
    """What a running job has published after so many checkpoints."""
    found = {name: np.array(value) for name, value in overlap().arrays.items()}
    del found["products"]
    for name, values in found.items():
        if values.dtype.kind == "f" and values.ndim and len(values) == STEPS.size and not name.endswith("_steps"):
            values[finished:] = np.nan
    return found


def counterfactual(inside: float = 0.01, outside: float = 0.95, **fields: Any) -> Result:
    """A finished experiment whose branches reach these shares of the free fall."""
    steps = np.arange(200, 601, 8)
    free = np.linspace(0.17, 0.07, steps.size)
    drops = {"free": 1.0, "inside": inside, "outside": outside, "random": 0.04}
    arrays: dict[str, Any] = {"steps": steps}
    for name, drop in drops.items():
        arrays[f"loss_{name}"] = 0.17 - drop * (0.17 - free)
        arrays[f"distance_{name}"] = np.linspace(0, 2 * drop, steps.size)
        arrays[f"drop_{name}"] = drop
    arrays |= {
        "start": 200,
        "k": 10,
        "baseline": 10 / PARAMETERS,
        "parameters": PARAMETERS,
        "theta_norm": 12.0,
        "sample_size": 1437,
    }
    arrays |= {"optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "batch_size": 64, "own_settings": True}
    arrays |= {"drop_chance": 0.06, "trained_decay": 0.0, "notes": np.array([""])}
    return result(arrays | {"products": 579}, CounterfactualSpec(**fields), "run@200", "counterfactual")
