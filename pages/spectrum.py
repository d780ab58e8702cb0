"""The Hessian spectrum: how curved is it, and is this a minimum or a saddle?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import dash_mantine_components as dmc
import numpy as np
from dash import Input, Output, callback, html

from landscape_core.figures.align import align
from landscape_core.figures.quantity import number
from landscape_core.figures.spectrum import spectrum_figure
from landscape_core.figures.spectrum_reading import spectrum_reading
from landscape_core.specs import Result

from . import register
from ._components import stores
from ._components.analysis_page import AnalysisPage, ControlGroup, View
from ._components.pictures import each_drawn, entries_of
from ._components.theme import color_of

KINDS = {"density": "Density", "eigenvalues": "Eigenvalues", "layers": "Layers"}
VIEWS = (View("kind", "Picture", KINDS), View("log", "Logarithmic axis"))
OPERATORS = {
    None: "none",
    "hessian": "Hessian of the loss",
    "ggn": "Gauss-Newton",
    "fisher": "Fisher, model's labels",
    "empirical_fisher": "Fisher, data's labels",
}


def draw(datas: list[Any], sources: list[str], view: dict[str, Any], colors: list[str], dark: bool) -> list[Any]:
    """One picture a checkpoint, on shared axes."""
    zeros = [float(np.asarray(data["zero_threshold"])) for data in datas if data is not None and "zero_threshold" in data]
    figure = partial(spectrum_figure, kind=view["kind"], log=view["log"], zero=max(zeros) if zeros else None)
    figures = each_drawn(datas, sources, colors, dark, figure)
    align(figures)
    return figures


def _extra() -> Sequence[Any]:
    return [
        dmc.Accordion(
            dmc.AccordionItem(
                [
                    dmc.AccordionControl("Table of eigenvalues"),
                    dmc.AccordionPanel(html.Div(id="spectrum-eigenvalues", className="numbers")),
                ],
                value="eigenvalues",
            ),
            className="folds",
            chevronPosition="left",
        )
    ]


PAGE = AnalysisPage(
    "spectrum",
    icon="spectrum",
    order=20,
    controls=[
        ControlGroup(
            "Curvature",
            ["over", "operator", "beside", "k", "k_bottom"],
            words={
                "over": {"checkpoint": "This checkpoint", "run": "All of its training"},
                "operator": OPERATORS,
                "beside": OPERATORS,
            },
            labels={"over": "Of", "operator": "Matrix", "beside": "Beside it", "k": "Largest", "k_bottom": "Smallest"},
        ),
        ControlGroup(
            "Accuracy",
            ["method", "tolerance", "multiples", "probes", "lanczos_steps", "trace_tolerance", "seed"],
            advanced=True,
            words={"method": {"auto": "Exact where it can be", "dense": "Exact matrix", "lanczos": "Lanczos and estimates"}},
            labels={
                "multiples": "Every copy of equal eigenvalues",
                "probes": "Random vectors",
                "lanczos_steps": "Products for each",
            },
        ),
        ControlGroup("What counts as zero", ["zero_tolerance", "gradient_tolerance", "damping"], advanced=True),
        ControlGroup("Layers and symmetry", ["layers", "rescale", "labels", "weight_decay"], advanced=True),
        ControlGroup("Over training", ["checkpoints"], advanced=True),
        ControlGroup("Sample", ["split", "samples", "batchnorm", "dtype", "device"], advanced=True),
        ControlGroup("Result", ["vectors"], advanced=True, labels={"vectors": "Keep the eigenvectors"}),
    ],
    views=VIEWS,
    draw=draw,
    reading=spectrum_reading,
    downloads=("npz", "csv"),
    extra=_extra,
)
register(PAGE.page)


@callback(
    Output("spectrum-eigenvalues", "children"),
    Input("spectrum-drawn", "data"),
    Input("spectrum-state", "data"),
)
def _table(_drawn: Any, state: Mapping[str, Any] | None) -> Any:
    """The resolved eigenvalues with their residuals, a column for each finished checkpoint."""
    found = [(entry["label"], color_of(i), stores.results().get(entry["key"])) for i, entry in entries_of(state)]
    done = [(label, color, result) for label, color, result in found if isinstance(result, Result)]
    if not done:
        return [dmc.Text("The table is filled when the computation is done.", size="sm", c="dimmed")]
    rows: list[Any] = []
    for end, letter in (("top", "λ"), ("bottom", "λ₋")):
        sizes = [np.size(result.get(f"eigenvalues_{end}", [])) for *_, result in done]
        for i in range(max(sizes)):
            rows.append(html.Tr([html.Th(f"{letter} {i + 1}", scope="row"), *[_cell(result, end, i) for *_, result in done]]))
    head = [
        html.Th([html.Span(className="dot", style={"background": color}), f"{label}: value, residual"], scope="col")
        for label, color, _ in done
    ]
    return [html.Table([html.Thead(html.Tr([html.Th("Eigenvalue"), *head])), html.Tbody(rows)])]


def _cell(result: Result, end: str, i: int) -> html.Td:
    values = np.asarray(result.get(f"eigenvalues_{end}", []), float)
    residuals = np.asarray(result.get(f"residuals_{end}", []), float)
    if i >= values.size:
        return html.Td("–")
    error = f", {number(float(residuals[i]), 2)}" if i < residuals.size else ""
    flags = np.asarray(result.get(f"converged_{end}", np.ones(values.size, bool)))
    return html.Td(f"{number(float(values[i]), 6)}{error}" + ("" if flags[i] else "  (above the tolerance)"))
