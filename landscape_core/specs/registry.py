"""Every analysis under one name, which is its page, its command and part of its cache key."""

from __future__ import annotations

from dataclasses import dataclass

from .analyses import AnalysisSpec, CalibrationSpec, HighDimensionsSpec, SpectrumSpec, SurfaceSpec
from .base import InputError, suggestion
from .overlap import CounterfactualSpec, OverlapSpec


@dataclass(frozen=True)
class Analysis:
    """One analysis: `runner` is `module:function`, imported only where it runs, so that this file stays free of torch."""

    name: str
    title: str
    question: str
    spec: type[AnalysisSpec]
    runner: str
    version: int = 1  # raise it when the same Spec gives other numbers: old results are then computed afresh
    listed: bool = True  # shown to people; an analysis that only serves others is not


ANALYSES: dict[str, Analysis] = {
    item.name: item
    for item in (
        Analysis(
            "surface",
            "Loss surface",
            "What does the loss look like around and between these weights?",
            SurfaceSpec,
            "landscape_core.analyses.surface:run",
            version=2,
        ),
        Analysis(
            "spectrum",
            "Hessian spectrum",
            "How curved is it, and is this a minimum or a saddle?",
            SpectrumSpec,
            "landscape_core.analyses.spectrum:run",
            version=2,
        ),
        Analysis(
            "overlap",
            "Gradient overlap",
            "Does gradient descent live in a tiny subspace?",
            OverlapSpec,
            "landscape_core.analyses.overlap:run",
            version=3,
        ),
        Analysis(
            "counterfactual",
            "Inside or outside",
            "Does training need the top of the Hessian, where the gradient lies, or the rest?",
            CounterfactualSpec,
            "landscape_core.analyses.counterfactual:run",
            version=3,
        ),
        Analysis(
            "high_dimensions",
            "High dimensions",
            "Which three-dimensional intuitions fail here?",
            HighDimensionsSpec,
            "landscape_core.analyses.high_dimensions:run",
            version=3,
        ),
        Analysis(
            "calibration",
            "Calibration",
            "How long does one evaluation take here?",
            CalibrationSpec,
            "landscape_core.analyses.calibration:run",
            version=3,
            listed=False,
        ),
    )
}


def analysis(name: str) -> Analysis:
    """The analysis of this name. Raises InputError that lists the known ones."""
    if name not in ANALYSES:
        known = [item.name for item in ANALYSES.values() if item.listed]
        raise InputError(f"unknown analysis '{name}'{suggestion(name, known)}")
    return ANALYSES[name]
