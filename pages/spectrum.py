"""The Hessian spectrum: the table of its eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence

import dash_mantine_components as dmc
import numpy as np
from dash import Input, Output, callback, html
from dash.development.base_component import Component

from landscape_core.drawing.numbers import number
from landscape_core.specs import Result

from ._components.analysis import add
from ._components.analysis.entries import PageState, entries_of, finished


def _extra() -> Sequence[Component]:
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


add("spectrum", extra=_extra)


@callback(
    Output("spectrum-eigenvalues", "children"),
    Input("spectrum-drawn", "data"),
    Input("spectrum-state", "data"),
)
def _table(_drawn: object, state: PageState | None) -> list[Component]:
    """The resolved eigenvalues with their residuals, a column for each finished checkpoint."""
    done = [(entry.label, entry.color, result) for entry in entries_of(state) if (result := finished(entry)) is not None]
    if not done:
        return [dmc.Text("The table is filled when the computation is done.", size="sm", c="dimmed")]
    rows: list[Component] = []
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
