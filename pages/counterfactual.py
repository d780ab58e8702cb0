"""Inside or outside: train on with only a part of every update."""

from __future__ import annotations

from functools import partial
from typing import Any

from landscape_core.figures.align import align
from landscape_core.figures.counterfactual import counterfactual_figure, counterfactual_reading

from . import register
from ._components.analysis_page import AnalysisPage, ControlGroup, View
from ._components.pictures import each_drawn

VIEWS = (
    View("kind", "Picture", {"loss": "Loss", "distance": "Distance travelled"}),
    View("log", "Logarithmic loss", default=True),
)


def draw(datas: list[Any], sources: list[str], view: dict[str, Any], colors: list[str], dark: bool) -> list[Any]:
    """One picture a checkpoint, on shared axes."""
    figure = partial(counterfactual_figure, kind=view["kind"], log=view["log"])
    figures = each_drawn(datas, sources, colors, dark, figure)
    align(figures, ("yaxis",))
    return figures


PAGE = AnalysisPage(
    "counterfactual",
    icon="counterfactual",
    order=31,
    controls=[
        ControlGroup(
            "Experiment",
            ["steps", "refresh", "k"],
            labels={"steps": "Train on for", "refresh": "New space every", "k": "Eigenvectors"},
        ),
        ControlGroup(
            "Training",
            ["optimizer", "lr", "batch_size", "seed"],
            advanced=True,
            words={"optimizer": {None: "as the run", "sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}},
            labels={"lr": "Learning rate", "batch_size": "Batch", "seed": "Seed of the random space"},
        ),
        ControlGroup("Accuracy", ["records", "tolerance"], advanced=True),
        ControlGroup("Sample", ["split", "samples", "batchnorm", "dtype", "device"], advanced=True),
    ],
    views=VIEWS,
    draw=draw,
    reading=counterfactual_reading,
    downloads=("npz", "csv"),
)
register(PAGE.page)
