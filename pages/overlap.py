"""Gradient overlap: does gradient descent live in a tiny subspace?"""

from __future__ import annotations

from typing import Any

from landscape_core.figures.overlap import align_overlaps, overlap_figure
from landscape_core.figures.overlap_reading import overlap_reading

from . import register
from ._components.analysis_page import AnalysisPage, ControlGroup, View
from ._components.pictures import each_drawn

KINDS = {"share": "Share", "contributions": "By eigenvector", "persistence": "Persistence", "eigenvalues": "Eigenvalues"}
VIEWS = (View("kind", "Picture", KINDS), View("log", "Logarithmic share"))


def draw(datas: list[Any], sources: list[str], view: dict[str, Any], colors: list[str], dark: bool) -> list[Any]:
    """One picture a run, on shared axes, each with a line at the selected step."""

    def figure(data: Any, *, title: str, **options: Any) -> Any:
        step = title.rpartition("@")[2].strip()
        mark = int(step) if step.isdigit() else None
        return overlap_figure(data, kind=view["kind"], log=view["log"], mark=mark, title=title, **options)

    figures = each_drawn(datas, sources, colors, dark, figure)
    align_overlaps(figures)
    return figures


PAGE = AnalysisPage(
    "overlap",
    icon="overlap",
    order=30,
    controls=[
        ControlGroup(
            "Space and gradients",
            ["k", "minibatch_size", "minibatches", "reference"],
            labels={
                "k": "Eigenvectors",
                "minibatch_size": "Mini-batch",
                "minibatches": "Mini-batches",
                "reference": "Persistence from",
            },
            suggest={"reference": lambda: ("last", "first")},
        ),
        ControlGroup(
            "Accuracy",
            ["operator", "method", "tolerance", "multiples", "warm", "checkpoints", "seed"],
            advanced=True,
            words={
                "operator": {"hessian": "Hessian of the loss", "ggn": "Gauss-Newton"},
                "method": {"auto": "Exact where it is cheaper", "dense": "Exact matrix", "lanczos": "Lanczos"},
                "warm": {"auto": "Where it pays", "always": "Always", "never": "Never"},
            },
            labels={"operator": "Matrix", "multiples": "Every copy of equal eigenvalues", "warm": "Warm start"},
        ),
        ControlGroup("Sample", ["split", "samples", "batchnorm", "dtype", "device"], advanced=True),
    ],
    views=VIEWS,
    draw=draw,
    reading=overlap_reading,
    downloads=("npz", "csv"),
)
register(PAGE.page)
