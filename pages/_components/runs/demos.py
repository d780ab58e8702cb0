"""Guided demos in one click: what a lesson needs is trained and computed, and the page that shows it opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Input, Output, State, callback, clientside_callback, ctx, dcc, html
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from landscape_core.demos import DEMOS, Demo
from landscape_core.jobs.records import ACTIVE

from .. import stores
from ..shell.address import write_query
from ..shell.jobs import launch, launch_output, launcher, watch_output, watcher
from ..shell.theme import aria
from .pulse import Job, Pulse

ENDED = ("failed", "cancelled", "interrupted")
Standing = Literal["ready", "training", "ended", "new"]


class Shown(TypedDict):
    """What the cards show: how each demo stands and what went wrong, at this visit of the page."""

    visit: str
    found: Mapping[str, Sequence[str]]


def address(demo: Demo) -> str:
    """Where the lesson is seen."""
    return f"/{demo.analysis.replace('_', '-')}{write_query(demo.sources, demo.fields, demo.view)}"


def parts() -> html.Section:
    """The demos under their heading; each ends in the button or link that is its next step."""
    cards = [
        html.Article(
            [html.H3(demo.title), html.P(demo.lesson), html.Div(id={"demo": demo.name, "part": "next"})],
            className="card demo",
            **aria(f"Experiment: {demo.title}"),
        )
        for demo in DEMOS.values()
    ]
    return html.Section(
        [
            launcher("demos"),
            watcher("demos"),
            dcc.Store("demos-pressed"),
            dcc.Store("demos-shown"),
            dcc.Store("demos-go"),
            html.H2("Experiments in one click", className="demos-title"),
            html.Div(cards, className="demos"),
        ],
        id="demos",
    )


def standing(demo: Demo, jobs: Mapping[str, Job], pressed: bool) -> tuple[Standing, str]:
    """How far the runs of the demo are, and what went wrong."""
    trainings = demo.trainings()
    if all(request.stands(stores.home()) for request in trainings):
        return "ready", ""
    views = [jobs[key] for request in trainings if (key := request.key(stores.home())) in jobs]
    if any(view["state"] in ACTIVE for view in views):
        return "training", ""
    ended = [view for view in views if view["state"] in ENDED]
    if ended:
        return "ended", ended[0]["error"]
    return ("training" if pressed else "new"), ""


@callback(
    *[Output({"demo": name, "part": "next"}, "children") for name in DEMOS],
    Output("demos-shown", "data"),
    Output("demos-go", "data"),
    Input("home-visit", "data"),
    Input("pulse", "data"),
    Input("demos-pressed", "data"),
    State("demos-shown", "data"),
)
def _next(
    visit: str, pulse: Pulse, pressed: str | None, shown: Shown | None
) -> tuple[Sequence[Component] | Shown | str | None, ...]:
    """What can be done with each demo; the one that was pressed opens when its runs are there."""
    found = {name: standing(demo, pulse["jobs"], name == pressed) for name, demo in DEMOS.items()}
    ready = address(DEMOS[pressed]) if pressed is not None and found[pressed][0] == "ready" else None
    now: Shown = {"visit": visit, "found": {name: list(state) for name, state in found.items()}}
    if shown == now and ready is None:
        raise PreventUpdate
    return *(_foot(demo, *found[name]) for name, demo in DEMOS.items()), now, ready


def _foot(demo: Demo, state: Standing, error: str) -> list[Component]:
    if state == "ready":
        return [dcc.Link("Open", href=address(demo), className="card-link", title=demo.title)]
    if state == "training":
        return [dmc.Group([dmc.Loader(size="xs"), dmc.Text("Training …", size="sm")], gap="xs")]
    word = "Go on" if state == "ended" and not error else "Train and open"
    button = dmc.Button(word, id={"demo": demo.name, "part": "start"}, size="compact-sm", variant="light")
    return [*([html.P(error, className="card-problem")] if error else []), button]


@callback(
    launch_output("demos"),
    watch_output("demos"),
    Output("demos-pressed", "data"),
    Input({"demo": ALL, "part": "start"}, "n_clicks"),
    prevent_initial_call=True,
)
def _start(_: Sequence[int | None]) -> tuple[Mapping[str, object], list[str], str]:
    if not isinstance(ctx.triggered_id, dict) or not ctx.triggered[0]["value"]:
        raise PreventUpdate  # a button that merely appears
    demo = DEMOS[ctx.triggered_id["demo"]]
    missing = [request for request in demo.trainings() if not request.stands(stores.home())]
    return launch([*missing, *demo.results()]), [request.key(stores.home()) for request in missing], demo.name


clientside_callback(
    ClientsideFunction("landscape", "go"),
    Output("demos-go", "modified_timestamp"),
    Input("demos-go", "data"),
    prevent_initial_call=True,
)
