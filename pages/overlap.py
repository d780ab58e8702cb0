"""Gradient overlap: a click on a step leads to that step on another page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Input, Output, State, callback, ctx, html
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from landscape_core.analyses import ANALYSES
from landscape_core.drawing.steps import step_at

from ._components.analysis import add
from ._components.analysis.entries import PageState, entries_of, known_of
from ._components.shell.address import write_query


def _extra() -> Sequence[Component]:
    hint = "Click a point of a curve to look at that step on another page."
    return [html.Div(hint, id="overlap-step", className="provenance", **{"aria-live": "polite"})]  # type: ignore[arg-type]


add("overlap", extra=_extra)


@callback(
    Output("overlap-step", "children"),
    Input({"graph": "overlap", "index": ALL}, "clickData"),
    State("overlap-state", "data"),
    prevent_initial_call=True,
)
def _step(clicks: Sequence[Mapping[str, Any] | None], state: PageState | None) -> list[Component]:
    """Links to the step that was clicked: the selection with that checkpoint in the place of the picture's own."""
    if not isinstance(ctx.triggered_id, dict):
        raise PreventUpdate
    place, entries = ctx.triggered_id["index"], entries_of(state)
    click = clicks[place] if place < min(len(clicks), len(entries)) else None
    data = known_of(entries[place]) if click and click.get("points") else None
    if click is None or data is None:
        raise PreventUpdate
    sources = [entry.source for entry in entries]
    run, step = sources[place].rpartition("@")[0], step_at(data, float(click["points"][0]["x"]))
    sources[place] = f"{run}@{step}"
    query = write_query(sources)
    # The pages of single checkpoints; here the step is only marked.
    others = [item for item in ANALYSES.values() if item.listed and not item.problem and not item.spec().whole_run()]
    links = [*((item.title, item.path) for item in others), ("mark it here", ANALYSES["overlap"].path)]
    return [
        html.Span(f"Step {step:,} of {run}: "),
        *[dmc.Anchor(word, href=path + query, className="file", size="sm") for word, path in links],
    ]
