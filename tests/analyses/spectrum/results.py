"""Spectrum results made up from a formula, with every array that the analysis gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape_core.analyses.spectrum.spec import SpectrumSpec
from landscape_core.specs import Result

from ..surface.results import changed, result

PARAMETERS = 1510
NAMES = ("0.weight", "0.bias", "2.weight", "2.bias")


def values(seed: int = 0) -> np.ndarray:
    """1,510 eigenvalues, ascending: a bulk at zero, some negative ones, nine outliers."""
    rng = np.random.default_rng(seed)
    bulk = np.concatenate([np.zeros(101), -0.1 * rng.random(180) ** 3, 0.5 * rng.random(PARAMETERS - 290) ** 6])
    return np.sort(np.concatenate([bulk, [6.4, 5.8, 4.8, 3.7, 3.3, 2.9, 2.5, 2.3, 2.0]]))


def exact(seed: int = 0, *, beside: bool = False, **fields: Any) -> Result:
    """A finished exact spectrum; `fields` go into the Spec."""
    every = values(seed)
    width = 0.05
    grid = np.linspace(every[0] - 5 * width, every[-1] + 5 * width, 401)
    kernel = np.exp(-0.5 * ((grid[:, None] - every) / width) ** 2).sum(1) / (PARAMETERS * width * np.sqrt(2 * np.pi))
    arrays: dict[str, Any] = {
        "eigenvalues_top": every[::-1][:10],
        "residuals_top": np.full(10, 1e-15),
        "eigenvalues_bottom": every[:5],
        "residuals_bottom": np.full(5, 1e-15),
        "converged_top": np.ones(10, bool),
        "converged_bottom": np.ones(5, bool),
        "nodes": every[None],
        "weights": np.full((1, PARAMETERS), 1 / PARAMETERS),
        "density_grid": grid,
        "density": kernel,
        "density_error": np.zeros(401),
        "density_width": width,
        "density_mass": 0.99999,
        "parameters": PARAMETERS,
        "sample_size": 1437,
        "weight_decay": 0.0,
        "operator_kind": "hessian",
        "kind": "hessian",
        "method": "dense",
        "arithmetic": "float64",
        "norm": every[-1],
        "trace": every.sum(),
        "trace_standard_error": 0.0,
        "trace_layers": np.array([0.6, 0.05, 0.3, 0.05]) * every.sum(),
        "trace_layers_standard_error": np.zeros(4),
        "layer_names": np.array(NAMES),
        "layer_sizes": np.array([1280, 20, 200, 10]),
        "zero_threshold": 6.4e-6,
        "negative_share": 180 / PARAMETERS,
        "negative_share_error": 0.0,
        "nullity": 101.0,
        "nullity_error": 0.0,
        "zero_modes_found": 101.0,
        "nullity_predicted": 101,
        "nullity_counted": 101,
        "nullity_reasons": "21 from adding the same vector to all rows of the last layer",
        "gradient_norm": 0.345,
        "gradient_curvature": 3.9,
        "newton_decrement": 0.29,
        "signs": np.array([180, 101, PARAMETERS - 281]),
        "signs_known": True,
        "gradient_relative": 0.005,
        "classification": "not critical",
        "effective_dimension": 300.0,
        "effective_dimension_error": 0.0,
        "participation": 12.0,
        "outliers": 9,
        "outlier_gap": 4.0,
        "classes": 10,
        "sharpness": every[-1],
        "sharpness_invariant": 0.58,
        "trace_ggn": np.nan,
        "lr": 0.1,
        "stability_limit": 20.0,
        "stability_kind": "reference",
        "stability_rule": "2/lr",
        "stability_words": "Mini-batches of 64 add noise: descent becomes unstable below this, so it is only a reference.",
        "products": PARAMETERS,
        "notes": np.array([""]),
    }
    if beside:
        other = np.maximum(every, 0)
        found = {"eigenvalues_top": other[::-1][:10], "residuals_top": np.zeros(10), "eigenvalues_bottom": other[:5]}
        found |= {
            "nodes": other[None],
            "weights": arrays["weights"],
            "density": kernel,
            "density_error": np.zeros(401),
            "trace": other.sum(),
            "trace_standard_error": 0.0,
        }
        arrays |= {f"beside_{name}": value for name, value in found.items()} | {"beside_kind": "ggn"}
        fields = {"beside": "ggn", **fields}
    return _result(arrays, SpectrumSpec(**fields))


def estimate(seed: int = 0, probes: int = 6, **fields: Any) -> Result:
    """A finished spectrum by Lanczos: nodes, error bands, residuals."""
    found = exact(seed, **fields)
    rng = np.random.default_rng(seed + 1)
    every = values(seed)
    nodes = np.sort(rng.choice(every, (probes, 30)), axis=1)
    weights = rng.random((probes, 30))
    arrays = {
        "method": "lanczos",
        "nodes": nodes,
        "weights": weights / weights.sum(1, keepdims=True),
        "density_error": 0.1 * found["density"],
        "residuals_top": np.linspace(1e-6, 1e-3, 10),
        "residuals_bottom": np.linspace(1e-5, 8e-4, 5),
        "trace_standard_error": 0.7,
        "trace_layers_standard_error": np.full(4, 0.4),
        "negative_share_error": 0.004,
        "nullity_error": 80.0,
        "nullity_bounds": np.array([101.0, 260.0]),
        "negative_share_bounds": np.array([0.02, 0.6]),
        "signs": np.array([5, 101, 10]),
        "signs_known": False,
        "effective_dimension_error": 6.0,
    }
    return changed(found, **arrays)


def over_run(kind: str = "limit") -> Result:
    """The largest eigenvalues over a run."""
    steps = np.array([0, 1, 5, 20, 50, 100, 400, 1000, 2000])
    top = np.linspace(1, 22, 9)[:, None] / np.arange(1, 5)[None]
    limit = np.full(9, np.nan if kind == "none" else 20.0)
    arrays = {
        "steps": steps,
        "eigenvalues_top_steps": top,
        "residuals_top_steps": np.full((9, 4), 5e-4),
        "eigenvalue_bottom_steps": -0.3 / np.arange(1, 10),
        "gradient_norm_steps": np.linspace(1, 0.1, 9),
        "lr_steps": np.full(9, 0.1),
        "stability_limit_steps": limit,
        "stability_kind": kind,
        "stability_rule": "" if kind == "none" else "2/lr",
        "stability_words": "Adam rescales every direction by itself." if kind == "none" else "Stable below this.",
        "eigenvalues_top": top[-1],
        "residuals_top": np.full(4, 5e-4),
        "parameters": PARAMETERS,
        "sample_size": 1437,
        "operator_kind": "hessian",
        "method": "lanczos",
        "products": 300,
        "notes": np.array([""]),
    }
    return _result(arrays, SpectrumSpec(over="run", k=4))


def growing(stage: str = "density") -> dict[str, np.ndarray]:
    """What a running job has published: eigenvalues, or the density of some probes as well."""
    found = dict(estimate(probes=2).arrays)
    early = (
        "eigenvalues_top",
        "residuals_top",
        "eigenvalues_bottom",
        "residuals_bottom",
        "norm",
        "parameters",
        "operator_kind",
    )
    more = ("nodes", "weights", "density", "density_error", "density_grid", "density_width", "density_mass")
    names = [*early, "method", *(more if stage == "density" else ())]
    return {name: found[name] for name in names} | {"stage": np.asarray(stage)}


def _result(arrays: dict[str, Any], spec: SpectrumSpec) -> Result:
    return result(arrays, spec, "run@100", "spectrum", forwards=2, gradients=1, products=1510)
