"""Guided demos as data: which runs a lesson needs, which analysis shows it, and what to look for. No Dash, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .jobs.requests import Request
from .specs import InputError, suggestion


@dataclass(frozen=True)
class Demo:
    """One lesson: the runs by name with what is not default in their training, and the analysis of each that shows it.

    `fields` are those of the analysis's Spec that are not default, `view` the choices about its picture.
    """

    name: str
    title: str
    lesson: str
    runs: Mapping[str, Mapping[str, Any]]
    analysis: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    view: Mapping[str, Any] = field(default_factory=dict)
    task: str = "digits-mlp"

    def trainings(self) -> list[Request]:
        """What has to be trained."""
        return [Request("train", None, {"task": self.task, "run": run, **values}) for run, values in self.runs.items()]

    def results(self) -> list[Request]:
        """What has to be computed of the runs."""
        return [Request(self.analysis, source, dict(self.fields)) for source in self.sources]

    @property
    def sources(self) -> list[str]:
        """The checkpoints that the lesson looks at."""
        return [f"{run}@last" for run in self.runs]


DEEP = {"widths": [32], "depth": 20}
SKIP = {**DEEP, "init": "he", "optimizer": "adam", "lr": 0.003, "batch_size": 128, "steps": 600}
DEMOS: dict[str, Demo] = {
    demo.name: demo
    for demo in (
        Demo(
            "optimisers",
            "SGD, gradient descent, Adam",
            "One network from one start, trained three ways: how much of the gradient lies in the top of the Hessian?",
            {
                "lesson-sgd": {"widths": [20], "steps": 1000},
                "lesson-gd": {"widths": [20], "steps": 1000, "batch_size": 0},
                "lesson-adam": {"widths": [20], "steps": 1000, "optimizer": "adam", "lr": 0.003},
            },
            "overlap",
        ),
        Demo(
            "batches",
            "Small and large batches",
            "Is the minimum of small batches flatter? Ten random lines through each: look whether the bands are apart.",
            {
                "lesson-batch-16": {"widths": [64], "steps": 1000, "batch_size": 16},
                "lesson-batch-all": {"widths": [64], "steps": 1000, "batch_size": 0},
            },
            "surface",
            {"dimensions": 1, "repeats": 10, "resolution": 31},
        ),
        Demo(
            "skips",
            "With and without skip connections",
            "Twenty layers, and the same with skips: how rugged is the loss around what training found?",
            {"lesson-plain": SKIP, "lesson-skip": {**SKIP, "skip": True}},
            "surface",
            {"resolution": 31, "extent": 0.5, "flow": 0},
            {"log": True},
        ),
        Demo(
            "depth",
            "Vanishing gradients in twenty layers",
            "PyTorch's initialisation and He's: how much of the gradient reaches the first layer, "
            "beside the law of random layers.",
            {"lesson-deep": {**DEEP, "steps": 200}, "lesson-deep-he": {**DEEP, "steps": 200, "init": "he"}},
            "high_dimensions",
            {"curvature": 0},
            {"kind": "layers"},
        ),
    )
}


def demo(name: str) -> Demo:
    """The demo of this name. Raises InputError, suggesting the nearest one."""
    if name not in DEMOS:
        raise InputError(f"unknown demo '{name}'{suggestion(name, DEMOS)}")
    return DEMOS[name]
