"""Surface results made up from a formula, with every array that the analysis gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape_core.analyses.surface.spec import SurfaceSpec
from landscape_core.specs import AnalysisSpec, Result

PARAMETERS = 1510


def bowl(a: np.ndarray, b: np.ndarray, wobble: float = 0.15) -> np.ndarray:
    return 0.25 + 2.2 * a**2 + 0.9 * (b - 0.2 * a) ** 2 + wobble * np.sin(5 * a) * np.cos(4 * b) ** 2 + wobble * (a + b > 1)


def plane(
    n: int = 41, m: int = 41, *, reach: float = 1.0, masked: bool = False, seed: int = 0, path: bool = True, **fields: Any
) -> Result:
    """A finished plane. `masked` puts NaN and infinity into one corner; `fields` go into the Spec."""
    rng = np.random.default_rng(seed)
    alphas, betas = np.linspace(-reach, reach, n), np.linspace(-reach, reach, m)
    grid = np.meshgrid(alphas, betas, indexing="ij")
    loss = bowl(*grid, wobble=0.15 + 0.1 * seed)
    if masked:
        loss[-4:, -5:] = np.nan
        loss[-2, -6] = np.inf
    accuracy = np.where(np.isfinite(loss), np.clip(np.exp(-0.6 * np.nan_to_num(loss, posinf=9.0)), 0, 1), 0.1)
    arrows = np.linspace(-reach, reach, 11)[1:-1]
    fa, fb = np.meshgrid(arrows, arrows, indexing="ij")
    arrays: dict[str, Any] = {
        "alphas": alphas,
        "betas": betas,
        "loss": loss,
        "accuracy": accuracy,
        "error": 1 - accuracy,
        "loss_test": loss * 1.1 + 0.05,
        "accuracy_test": accuracy * 0.97,
        "error_test": 1 - accuracy * 0.97,
        "direction_0": rng.standard_normal(PARAMETERS),
        "direction_1": rng.standard_normal(PARAMETERS),
        "unit_0": "filter norms",
        "unit_1": "filter norms",
        "axis_norm_0": 9.61,
        "axis_norm_1": 9.58,
        "axis_cosine": 0.021,
        "gradient_norm": 0.034,
        "gradient_share": 0.0016,
        "gradient_share_baseline": 0.0002,
        "curvature_0": 4.31,
        "curvature_1": 1.76,
        "second_difference_0": 4.52,
        "second_difference_1": 1.81,
        "plane_curvatures": np.array([0.018, 0.047]),
        "curvature_note": "",
        "explained_variance": np.nan,
        "explained_variance_null": np.nan,
        "center_loss": float(bowl(np.zeros(()), np.zeros(()), 0.15 + 0.1 * seed)),
        "center_loss_reference": float(bowl(np.zeros(()), np.zeros(()), 0.15 + 0.1 * seed)),
        "center_deviation": 3.1e-8,
        "center_accuracy": 0.985,
        "center_loss_standard_error": 0.0061,
        "sample_size": 1437,
        "sample_size_test": 360,
        "nonconvex_share": 0.114,
        "masked_cells": int((~np.isfinite(loss)).sum()),
        "flow": np.stack([-(4.4 * fa), -(1.8 * (fb - 0.2 * fa))], -1),
        "flow_alphas": arrows,
        "flow_betas": arrows,
    }
    if path:
        t = np.linspace(0, 1, 24)
        coordinates = np.column_stack([(1 - t) ** 2 * 0.85, -0.7 * (1 - t) * np.cos(2 * t)]) * reach
        below = bowl(coordinates[:, 0], coordinates[:, 1])
        arrays |= {
            "trajectory_steps": (t * 2000).astype(int),
            "trajectory_coordinates": coordinates,
            "trajectory_residual": 6 * (1 - t),
            "trajectory_loss": below + 0.5 * (1 - t),
            "trajectory_plane_loss": below,
            "trajectory_height_error": 0.5 * (1 - t),
            "explained_variance": 0.955,
            "explained_variance_null": 0.9,
        }
    spec = SurfaceSpec(resolution=(n, m), **fields)
    return result(arrays, spec)


def lines(count: int = 10, n: int = 51, *, masked: bool = False, **fields: Any) -> Result:
    """A finished bundle of lines `(S, n)`."""
    rng = np.random.default_rng(1)
    alphas = np.linspace(-1, 1, n)
    loss = 0.08 + (2 + rng.random((count, 1))) * alphas**2 + 0.6 * rng.random((count, 1)) * alphas**3
    if masked:
        loss[:, -3:] = np.inf
    accuracy = np.exp(-np.clip(loss, 0, 9))
    arrays = {
        "alphas": alphas,
        "loss": loss,
        "accuracy": accuracy,
        "error": 1 - accuracy,
        "direction_0": rng.standard_normal(PARAMETERS),
        "unit_0": "filter norms",
        "axis_norm_0": 9.61,
        "axis_cosine": np.nan,
        "gradient_norm": 0.034,
        "gradient_share": 0.0007,
        "gradient_share_baseline": 0.0001,
        "curvature_0": 4.31,
        "curvatures": 4.3 + rng.random(count),
        "second_difference_0": 4.5,
        "plane_curvatures": np.array([0.047]),
        "curvature_note": "",
        "explained_variance": np.nan,
        "explained_variance_null": np.nan,
        "center_loss": 0.08,
        "center_loss_reference": 0.08,
        "center_deviation": 1e-8,
        "center_accuracy": 0.98,
        "center_loss_standard_error": 0.006,
        "sample_size": 1437,
        "sample_size_test": 0,
        "nonconvex_share": 0.02,
        "masked_cells": int((~np.isfinite(loss)).sum()),
    }
    return result(arrays, SurfaceSpec(dimensions=1, repeats=count, resolution=n, **fields))


def through(**fields: Any) -> Result:
    """A plane through three checkpoints, with its anchors."""
    found = plane(path=False, directions="through", through=("run@100", "run@2000"), **fields)
    extra = {"anchors": np.array([[0, 0], [0.6, 0], [0.2, 0.7]]), "anchor_labels": np.array(["run@0", "run@100", "run@2000"])}
    units = {"unit_0": np.asarray("L2 distance"), "unit_1": np.asarray("L2 distance")}
    return Result({**found.arrays, **extra, **units}, found.spec, found.provenance)


def partial(stride: int = 8, n: int = 41) -> dict[str, np.ndarray]:
    """What a running job has published after the level of `stride`."""
    whole = plane(n, n, path=False)
    evaluated = np.zeros((n, n), bool)
    evaluated[::stride, ::stride] = True
    arrays = {name: np.where(evaluated, whole[name], np.nan) for name in ("loss", "accuracy", "error")}
    estimate = np.where(evaluated, whole["loss"], whole["loss"] + 0.02)
    about = {"evaluated": evaluated, "estimate": estimate, "estimate_error": np.array(0.004), "level": np.array(stride)}
    return {"alphas": whole["alphas"], "betas": whole["betas"], **arrays, **about}


def result(
    arrays: dict[str, Any], spec: AnalysisSpec, source: str = "run@2000", analysis: str = "surface", **counts: int
) -> Result:
    """Arrays as a Result of this Spec, computed with so many forwards, gradients and products."""
    provenance = {
        "analysis_version": 1,
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,
        "wall_seconds": 1.4,
        "counts": counts or {"forwards": 1700, "gradients": 82, "products": 2},
        "versions": {"python": "3.11.0", "torch": "2.13.0", "numpy": "2.0.0"},
        "created": "2025-01-01T00:00:00Z",
    }
    stated = {"analysis": analysis, "source": source, **spec.model_dump(mode="json")}
    return Result({name: np.asarray(value) for name, value in arrays.items()}, stated, provenance)


def changed(given: Result, **arrays: Any) -> Result:
    """The same result with other arrays."""
    return Result({**given.arrays, **{k: np.asarray(v) for k, v in arrays.items()}}, given.spec, given.provenance)
