"""Home: the runs there are, with loss curves and pictures; train another, bring in weights. The first start trains a demo."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TypedDict

import dash_mantine_components as dmc
from dash import (
    ALL,
    ClientsideFunction,
    Input,
    NoUpdate,
    Output,
    State,
    callback,
    clientside_callback,
    ctx,
    dcc,
    html,
    no_update,
)
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from landscape_core.jobs.requests import WRITERS, Request
from landscape_core.specs import InputError, Reference

from . import Page, register
from ._components import stores
from ._components.runs import demos, forms
from ._components.runs.cards import PARTS, Card, draw, find, thumbnail
from ._components.runs.pulse import Pulse
from ._components.shell.address import MAX_SELECTED, Query
from ._components.shell.jobs import launch, launch_output, launcher, watcher
from ._components.shell.theme import aria

DEMO = Request("train", None, {"task": "digits-mlp", "run": "demo"})
SHOWN = 12  # cards before "show all"
UNFINISHED = ("interrupted", "cancelled", "failed")
Children = list[Component]
Signatures = Mapping[str, list[object]]  # of the parts of a card
Changes = dict[str, dict[str, Children]]  # what stands anew in the parts of cards, by name


class Drawn(TypedDict):
    """What stands on the page: the signatures of every card, by name, at this visit."""

    visit: str
    cards: Mapping[str, Signatures]


def layout(query: Query) -> html.Div:
    """The page. What it shows is read when it is on the screen: runs come and grow."""
    del query  # the shell has read the selection, and there is nothing else to ask for
    return html.Div(
        [
            dcc.Store("home-visit", data=uuid.uuid4().hex),
            dcc.Store("home-drawn"),
            dcc.Store("home-changes"),
            dcc.Store("home-all", data=False),
            launcher("home-demo"),
            launcher("home-draw"),
            watcher("home", _unfinished()),
            *forms.parts(),
            html.Div(
                [
                    html.H1("Runs", className="page-title"),
                    html.P(QUESTION, className="page-question"),
                    html.Div(forms.buttons(), className="page-tools"),
                ],
                className="page-head",
            ),
            html.Div(id="home-problem", role="alert"),
            html.Div(id="home-cards", className="cards"),
            html.Div(id="home-more", className="cards-more"),
            demos.parts(),
        ],
        className="page",
        id="home-page",
    )


QUESTION = "What have I got? Where do I start?"
register(Page("/", "Home", layout, order=0, icon="home", question=QUESTION))


@callback(
    Output("home-cards", "children"),
    Output("home-more", "children"),
    Output("home-changes", "data"),
    Output("home-drawn", "data"),
    Input("home-visit", "data"),
    Input("home-all", "data"),
    Input("pulse", "data"),
    Input("selection", "data"),
    Input("dark", "data"),
    State({"card": ALL, "part": PARTS[0]}, "id"),
    State("home-drawn", "data"),
    prevent_initial_call="initial_duplicate",
)
def _cards(
    visit: str,
    everything: bool,
    pulse: Pulse,
    selection: Sequence[str] | None,
    dark: bool | None,
    places: Sequence[Mapping[str, str]],
    drawn: Drawn | None,
) -> tuple[Children | NoUpdate, Children | Component, Changes, Drawn]:
    """The cards that have changed; all of them when a run came or went."""
    chosen = list(selection or [])
    found = find(pulse, chosen)
    shown = found if everything else found[:SHOWN]
    known = drawn["cards"] if drawn and drawn["visit"] == visit else {}
    full = len(chosen) >= MAX_SELECTED
    signatures = {card.name: card.signatures(bool(dark), full) for card in shown}
    state: Drawn = {"visit": visit, "cards": signatures}
    more = _more(len(found), len(shown))
    if [place["card"] for place in places] != list(signatures) or not known:
        return [*(_place(card, bool(dark), full) for card in shown)] or [_empty()], more, {}, state
    if known == signatures:
        raise PreventUpdate
    changes: Changes = {}
    for card in shown:
        before, now = known.get(card.name, {}), signatures[card.name]
        changes[card.name] = {part: draw(card, part, bool(dark), full) for part in PARTS if before.get(part) != now[part]}
    return no_update, more, changes, state


# In the browser: of the server, Dash would not give up an older answer that fills several matches of a pattern.
clientside_callback(
    ClientsideFunction("landscape", "deal"),
    *[Output({"card": ALL, "part": part}, "children") for part in PARTS],
    Input("home-changes", "data"),
    *[State({"card": ALL, "part": part}, "id") for part in PARTS],
    prevent_initial_call=True,
)


def _place(card: Card, dark: bool, full: bool) -> html.Article:
    parts = [
        html.Div(
            draw(card, part, dark, full),
            id={"card": card.name, "part": part},
            className="card-actions" if part == "actions" else "card-part",
        )
        for part in PARTS
    ]
    return html.Article(parts, className="card", **aria(f"Run {card.name}"))


def _unfinished() -> list[str]:
    """Keys of the jobs that were to finish a run or draw its picture and did not: they can be resumed."""
    shown = find({"jobs": {}}, ())[:SHOWN]
    growing = {card.name for card in shown if card.record is None or card.record.state in ("training", "stopped")}
    keys = {card.name: "" if card.drawn else card.key for card in shown if card.name not in growing}
    for view in stores.jobs().views() if growing else ():
        name = str(view.values.get("run"))
        if view.kind in WRITERS and name in growing:
            keys.setdefault(name, view.key if view.state in UNFINISHED else "")
    return [key for key in keys.values() if key]


def _more(count: int, shown: int) -> Component | Children:
    if shown < count:
        return dmc.Button(f"Show all {count} runs", id={"home": "all"}, variant="default", size="compact-sm")
    return []  # not None: see forms._imported


def _empty() -> html.Div:
    begun = any(view.kind in WRITERS for view in stores.jobs().views())
    if not begun:
        words = [
            html.H2("A first run is about to be trained"),
            html.P("A small network learns handwritten digits: some seconds."),
        ]
        return html.Div([dmc.Loader(size="sm"), *words], className="message", role="status")
    return html.Div(
        [
            html.H2("There is no run"),
            html.P("Train a network, or bring in weights that you have: the buttons stand above."),
            dmc.Button("Train the demo run", id={"home": "demo"}, variant="light", mt="md"),
        ],
        className="message",
    )


@callback(launch_output("home-demo"), Input("home-visit", "data"), prevent_initial_call="initial_duplicate")
def _first_start(_: str) -> Mapping[str, object]:
    """Where nothing has ever been trained or brought in, the demo trains itself and is drawn."""
    if stores.runs().names() or any(view.kind in WRITERS for view in stores.jobs().views()):
        raise PreventUpdate
    return launch([DEMO, *thumbnail("demo")])


def _pressed() -> Mapping[str, str]:
    """The id of the button that was pressed. A button that merely appears changes nothing."""
    if not isinstance(ctx.triggered_id, dict) or not ctx.triggered[0]["value"]:
        raise PreventUpdate
    return ctx.triggered_id


@callback(launch_output("home-demo"), Input({"home": "demo"}, "n_clicks"), prevent_initial_call=True)
def _demo(_: int | None) -> Mapping[str, object]:
    _pressed()
    return launch([DEMO, *thumbnail("demo")])


@callback(Output("home-all", "data"), Input({"home": "all"}, "n_clicks"), prevent_initial_call=True)
def _all(_: int | None) -> bool:
    return bool(_pressed())


@callback(launch_output("home-draw"), Input({"home": "draw", "run": ALL}, "n_clicks"), prevent_initial_call=True)
def _draw_thumbnail(_: Sequence[int | None]) -> Mapping[str, object]:
    return launch(thumbnail(_pressed()["run"]))


@callback(
    Output("selection", "data", allow_duplicate=True),
    Input({"home": "select", "run": ALL}, "n_clicks"),
    State("selection", "data"),
    prevent_initial_call=True,
)
def _select(_: Sequence[int | None], selection: Sequence[str] | None) -> list[str]:
    """The run's last checkpoint joins the selection, or all of its checkpoints leave it."""
    name, chosen = _pressed()["run"], list(selection or [])
    rest = _without(chosen, name)
    if len(rest) < len(chosen):
        return rest
    if len(chosen) >= MAX_SELECTED:
        raise PreventUpdate
    return [*chosen, f"{name}@last"]


@callback(
    Output("home-problem", "children"),
    Output("home-visit", "data"),
    Output("selection", "data", allow_duplicate=True),
    Input({"home": "delete", "run": ALL}, "n_clicks"),
    State("selection", "data"),
    prevent_initial_call=True,
)
def _delete(
    _: Sequence[int | None], selection: Sequence[str] | None
) -> tuple[Component | Children, str | NoUpdate, list[str] | NoUpdate]:
    name, chosen = _pressed()["run"], list(selection or [])
    try:
        stores.runs().delete(name)
    except InputError as error:
        alert = dmc.Alert(str(error), color="red", variant="light", className="problem", withCloseButton=True)
        return alert, no_update, no_update
    rest = _without(chosen, name)
    return [], uuid.uuid4().hex, rest if rest != chosen else no_update


def _without(chosen: Sequence[str], name: str) -> list[str]:
    kept = []
    for text in chosen:
        try:
            if Reference.parse(text).run == name:
                continue
        except InputError:
            pass
        kept.append(text)
    return kept
