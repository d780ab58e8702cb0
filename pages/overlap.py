"""Gradient overlap: does gradient descent live in a tiny subspace?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Input, Output, State, callback, ctx, html
from dash.exceptions import PreventUpdate

from landscape_core.figures.overlap import align_overlaps, overlap_figure
from landscape_core.figures.overlap_reading import overlap_reading
from landscape_core.figures.steps import step_at

from . import register
from ._components import stores
from ._components.analysis_page import AnalysisPage, ControlGroup, View
from ._components.pictures import each_drawn, entries_of
from ._components.state import write_query

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


def _extra() -> Sequence[Any]:
    hint = "Click a point of a curve to look at that step on another page."
    return [html.Div(hint, id="overlap-step", className="provenance", **{"aria-live": "polite"})]  # type: ignore[arg-type]


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
    extra=_extra,
)
register(PAGE.page)
ELSEWHERE = {"/surface": "Surface", "/spectrum": "Spectrum", "/counterfactual": "Inside or outside", "/overlap": "mark it here"}


@callback(
    Output("overlap-step", "children"),
    Input({"graph": "overlap", "index": ALL}, "clickData"),
    State("overlap-state", "data"),
    prevent_initial_call=True,
)
def _step(clicks: Sequence[Any], state: Mapping[str, Any] | None) -> Any:
    """Links to the step that was clicked: the selection with that checkpoint in the place of the picture's own."""
    if not isinstance(ctx.triggered_id, dict):
        raise PreventUpdate
    place, entries = ctx.triggered_id["index"], [entry for _, entry in entries_of(state)]
    click = clicks[place] if place < min(len(clicks), len(entries)) else None
    if not click or not click.get("points"):
        raise PreventUpdate
    key = entries[place]["key"]
    data = stores.results().get(key) or stores.jobs().partial(key)
    if data is None:
        raise PreventUpdate
    sources = [entry["source"] for entry in entries]
    run, step = sources[place].rpartition("@")[0], step_at(data, float(click["points"][0]["x"]))
    sources[place] = f"{run}@{step}"
    query = write_query(sources)
    links = [dmc.Anchor(word, href=path + query, className="file", size="sm") for path, word in ELSEWHERE.items()]
    return [html.Span(f"Step {step:,} of {run}: "), *links]
