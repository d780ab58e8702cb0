"""The loss surface: what does the loss look like around and between these weights?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Input, Output, State, callback, ctx, dcc, html
from dash.exceptions import PreventUpdate

from landscape_core.figures.difference import difference_figure
from landscape_core.figures.pick import centered_extent, point_of, point_words, values_at
from landscape_core.figures.reading import surface_reading
from landscape_core.figures.style import message_figure
from landscape_core.figures.surface import surface_figure, value_range
from landscape_core.specs import InputError

from . import register
from ._components import stores
from ._components.analysis_page import AnalysisPage, ControlGroup, View
from ._components.forms import field_id
from ._components.pictures import each_drawn
from ._components.state import text_of
from ._components.stepper import register_stepper, stepper
from ._components.theme import color_of
from ._components.words import humanise

KINDS = {"3d": "3-D", "contour": "Contour", "heatmap": "Heat map", "line": "Line"}
QUANTITIES = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "error": "Error",
    "loss_test": "Loss (test)",
    "accuracy_test": "Accuracy (test)",
    "error_test": "Error (test)",
    "convexity_plane": "Convexity in plane",
    "convexity": "Convexity overall",
}
CLIPS = {"100": "Full range", "99": "Lowest 99 %", "95": "Lowest 95 %", "90": "Lowest 90 %", "75": "Lowest 75 %"}
VIEWS = (
    View("kind", "Picture", KINDS),
    View("quantity", "Quantity", QUANTITIES),
    View("clip", "Range of values", CLIPS),
    View("log", "Log"),
    View("path", "Path", default=True),
    View("flow", "Arrows"),
    View("walk", "Random walk"),
    View("difference", "Difference"),
)


def draw(datas: list[Any], sources: list[str], view: dict[str, Any], colors: list[str], dark: bool) -> list[Any]:
    """One picture a checkpoint on a shared scale, or the difference of two."""
    if view["difference"] and len(datas) == 2:
        return [_difference(datas, sources, view, dark)]
    figure = partial(
        surface_figure,
        kind=view["kind"],
        quantity=view["quantity"],
        log=view["log"],
        value_range=value_range(datas, view["quantity"], view["log"], int(view["clip"]) / 100),
        show_path=view["path"],
        show_flow=view["flow"],
        show_walk=view["walk"],
    )
    return each_drawn(datas, sources, colors, dark, figure)


def _difference(datas: list[Any], sources: list[str], view: dict[str, Any], dark: bool) -> Any:
    if any(data is None for data in datas):
        return message_figure("The difference needs both surfaces: press Compute.", dark=dark, title=" and ".join(sources))
    try:
        return difference_figure(
            datas[0], datas[1], names=sources, kind=view["kind"], quantity=view["quantity"], log=view["log"], dark=dark
        )
    except InputError as error:
        return message_figure(str(error), dark=dark, title=" and ".join(sources))


def _extra() -> Sequence[Any]:
    return [stepper("surface"), html.Div(id="surface-point", role="status"), dcc.Store("surface-picked")]


def _runs() -> list[str]:
    return stores.runs().names()


PAGE = AnalysisPage(
    "surface",
    icon="surface",
    order=10,
    controls=[
        ControlGroup(
            "Plane",
            ["dimensions", "directions", "resolution", "extent"],
            words={
                "dimensions": {1: "1: a line", 2: "2: a plane"},
                "directions": {
                    "filter": "Random, filter-normalised",
                    "layer": "Random, layer-normalised",
                    "model": "Random, as long as the weights",
                    "gaussian": "Random, not normalised",
                    "essay": "Random, uncorrected rule",
                    "pca": "Principal axes of the path",
                    "gradient": "Gradient",
                    "difference": "To another checkpoint",
                    "through": "Through three checkpoints",
                    "eigenvectors": "Hessian eigenvectors",
                },
            },
        ),
        ControlGroup(
            "Path and other checkpoints",
            ["through", "trajectory", "centered"],
            advanced=True,
            labels={"through": "Through", "trajectory": "Path of", "centered": "About the mean of the path"},
            suggest={"through": lambda: [f"{name}@last" for name in _runs()], "trajectory": _runs},
        ),
        ControlGroup(
            "Axes",
            ["seed", "ends", "repeats", "orthogonal", "ignore"],
            advanced=True,
            labels={"repeats": "Lines", "ends": "Eigenvectors"},
            words={"ends": {"both": "Largest and smallest", "top": "Largest", "bottom": "Smallest"}},
        ),
        ControlGroup(
            "Whole Hessian",
            ["spectrum", "convexity"],
            advanced=True,
            labels={"spectrum": "Compare with its spectrum", "convexity": "Convexity map, points along each axis"},
        ),
        ControlGroup(
            "Sample",
            ["split", "samples", "test", "batchnorm", "dtype", "device"],
            advanced=True,
            labels={"test": "Test samples as well"},
        ),
        ControlGroup("Arrows", ["flow"], advanced=True, labels={"flow": "Arrows along each axis"}),
    ],
    views=VIEWS,
    draw=draw,
    reading=surface_reading,
    downloads=("npz", "csv", "vtk"),
    extra=_extra,
)
register(PAGE.page)
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
def _point(clicks: list[Any], state: Mapping[str, Any] | None, view: Mapping[str, Any] | None) -> Any:
    """What is known at the point that was clicked, in every picture, and the way to have it in the middle."""
    if not isinstance(ctx.triggered_id, dict):
        return [], None  # another question: the old point is not on its picture
    place = ctx.triggered_id["index"]
    click = clicks[place] if place < len(clicks) else None
    entries = [entry for entry in state["items"] if "key" in entry] if state else []
    if not state or not click or not click.get("points") or place >= len(entries):
        raise PreventUpdate
    datas = [
        (state["items"].index(entry), entry["label"], stores.results().get(entry["key"]) or stores.jobs().partial(entry["key"]))
        for entry in entries
    ]
    data = datas[place][2]
    if data is None:
        raise PreventUpdate
    cuts = (view or {}).get("kind") == "line"
    point = point_of(data, click["points"][0], cuts and "betas" in data)
    rows = [_row(label, color_of(index), values_at(other, point)) for index, label, other in datas if other is not None]
    button = dmc.Button(
        "Centre here",
        id="surface-center",
        size="compact-xs",
        variant="light",
        **{"aria-label": "Shift the extent so that this point is in the middle"},
    )
    head = dmc.Group([dmc.Text(f"At {point_words(point)}", fw=600, size="sm"), button], gap="sm")
    return dmc.Paper([head, *rows], withBorder=True, radius="lg", px="md", py="xs", mt="sm"), centered_extent(data, point)


def _row(label: str, color: str, values: Mapping[str, str]) -> Any:
    words = " · ".join(f"{humanise(name).lower()} {value}" for name, value in values.items())
    dot = html.Span(className="dot", style={"background": color})
    return dmc.Text([dot, html.Strong(label), f"  {words}"], size="sm")


@callback(
    Output(field_id("surface", "extent", "value"), "value"),
    Input("surface-center", "n_clicks"),
    State("surface-picked", "data"),
    prevent_initial_call=True,
)
def _center(clicks: int | None, extent: Any) -> str:
    if not clicks or not extent:
        raise PreventUpdate
    return text_of(extent)
