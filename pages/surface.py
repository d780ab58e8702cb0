"""The loss surface: stepping along the path, and reading the point that was clicked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Input, Output, State, callback, ctx, dcc, html
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from landscape_core.analyses.surface.pick import centered_extent, point_of, point_words, values_at

from ._components.analysis import add
from ._components.analysis.entries import PageState, entries_of, known_of
from ._components.forms import field_id
from ._components.shell.address import text_of
from ._components.stepper import register_stepper, stepper
from ._components.words import humanise


def _extra() -> Sequence[Component]:
    return [stepper("surface"), html.Div(id="surface-point", role="status"), dcc.Store("surface-picked")]


add("surface", extra=_extra)
register_stepper("surface")


@callback(
    Output({"view": "surface", "name": "difference", "prop": "checked"}, "style"),
    Input("selection", "data"),
)
def _offer_difference(selection: Sequence[str] | None) -> dict[str, str]:
    """A difference is of two."""
    return {} if len(selection or ()) == 2 else {"display": "none"}


@callback(
    Output({"view": "surface", "name": "walk", "prop": "checked"}, "style"),
    Input(field_id("surface", "directions", "value"), "value"),
)
def _offer_walk(directions: str | None) -> dict[str, str]:
    """A random walk is drawn on principal axes."""
    return {} if directions == "pca" else {"display": "none"}


@callback(
    Output("surface-point", "children"),
    Output("surface-picked", "data"),
    Input({"graph": "surface", "index": ALL}, "clickData"),
    Input("surface-state", "data"),
    State("surface-view", "data"),
    prevent_initial_call=True,
)
def _point(clicks: Sequence[Mapping[str, Any] | None], state: PageState | None, view: Mapping[str, Any] | None) -> Any:
    """What is known at the point that was clicked, in every picture, and the way to have it in the middle."""
    if not isinstance(ctx.triggered_id, dict):
        return [], None  # another question: the old point is not on its picture
    place = ctx.triggered_id["index"]
    click = clicks[place] if place < len(clicks) else None
    entries = entries_of(state)
    if not click or not click.get("points") or place >= len(entries):
        raise PreventUpdate
    datas = [(entry, known_of(entry)) for entry in entries]
    data = datas[place][1]
    if data is None:
        raise PreventUpdate
    cuts = (view or {}).get("kind") == "line"
    point = point_of(data, click["points"][0], cuts and "betas" in data)
    rows = [_row(entry.label, entry.color, values_at(other, point)) for entry, other in datas if other is not None]
    button = dmc.Button(
        "Centre here",
        id="surface-center",
        size="compact-xs",
        variant="light",
        **{"aria-label": "Shift the extent so that this point is in the middle"},
    )
    head = dmc.Group([dmc.Text(f"At {point_words(point)}", fw=600, size="sm"), button], gap="sm")
    return dmc.Paper([head, *rows], withBorder=True, radius="lg", px="md", py="xs", mt="sm"), centered_extent(data, point)


def _row(label: str, color: str, values: Mapping[str, str]) -> Component:
    words = " · ".join(f"{humanise(name).lower()} {value}" for name, value in values.items())
    dot = html.Span(className="dot", style={"background": color})
    return dmc.Text([dot, html.Strong(label), f"  {words}"], size="sm")


@callback(
    Output(field_id("surface", "extent", "value"), "value"),
    Input("surface-center", "n_clicks"),
    State("surface-picked", "data"),
    prevent_initial_call=True,
)
def _center(clicks: int | None, extent: Sequence[object] | None) -> str:
    if not clicks or not extent:
        raise PreventUpdate
    return text_of(extent)
