"""The frame around every page: header with the selection, navigation, theme, running jobs, and the way from address to page."""

from __future__ import annotations

import logging
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
    dcc,
    html,
    no_update,
)
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from landscape_core.drawing.numbers import number
from landscape_core.specs import InputError

from ... import PAGES, Page, ordered
from . import jobs, selection
from .address import Query, read_query
from .theme import MANTINE, aria, icon

log = logging.getLogger("landscape.pages")
PRODUCT = "Landscape"
SILENCE = "The server does not answer. This page goes on by itself when it is back; what is finished is kept."
LOGO = "/assets/logo.svg"


class Route(TypedDict):
    """Where the browser is."""

    path: str
    search: str
    dark: bool
    visit: int


def layout() -> dmc.MantineProvider:
    """The frame, with the place where the page comes in."""
    return dmc.MantineProvider(
        [
            dcc.Store("route"),
            dcc.Store("selection"),
            dcc.Store("selection-written"),
            dcc.Store("dark"),
            dcc.Store("present", data=False),
            dcc.Store("present-shown"),
            dcc.Store("title"),
            dcc.Store("jobs-shape"),
            jobs.poll_parts(),
            html.A("Skip to the content", href="#content", className="skip"),
            dmc.AppShell(
                [
                    dmc.AppShellHeader(_header()),
                    dmc.AppShellNavbar(_navigation(), className="rail"),
                    dmc.AppShellMain(
                        [
                            html.Div(SILENCE, className="silence", role="status"),
                            jobs.refusal(),
                            html.Div(id="content", tabIndex=-1),
                        ]
                    ),
                ],
                header={"height": 56},
                navbar={"width": 92, "breakpoint": 0},
                padding=0,
                id="frame",
            ),
        ],
        theme=MANTINE,
        defaultColorScheme="auto",
    )


def _header() -> html.Div:
    return html.Div(
        [
            html.A([html.Img(src=LOGO, alt="", width=26, height=26), html.Span(PRODUCT)], href="/", className="brand"),
            selection.header_parts(),
            html.Div(
                [
                    dmc.Popover(
                        [
                            dmc.PopoverTarget(
                                dmc.Button(
                                    html.Span(id="jobs-count"),
                                    className="jobs-open",
                                    variant="subtle",
                                    size="compact-sm",
                                    leftSection=html.Span(className="jobs-dot", id="jobs-dot"),
                                    **aria("Jobs: show what is being computed"),
                                )
                            ),
                            dmc.PopoverDropdown(
                                [html.H2("Jobs", className="popover-title"), html.Div(id="jobs-list", className="jobs-list")]
                            ),
                        ],
                        position="bottom-end",
                        width=420,
                        shadow="md",
                        keepMounted=True,
                    ),
                    dmc.ActionIcon(
                        icon("classroom"),
                        id="present-toggle",
                        variant="subtle",
                        color="gray",
                        size="lg",
                        **aria("Classroom mode on or off"),
                    ),
                    dmc.ColorSchemeToggle(
                        id="theme-toggle",
                        lightIcon=icon("sun"),
                        darkIcon=icon("moon"),
                        variant="subtle",
                        color="gray",
                        size="lg",
                        **aria("Light or dark"),
                    ),
                ],
                className="header-right",
            ),
        ],
        className="header",
    )


def _navigation() -> html.Nav:
    return html.Nav(
        [
            dcc.Link(
                [
                    icon(page.icon),
                    html.Span(page.title, className="rail-word"),
                ],
                id={"nav": page.path},
                href=page.path,
                className="rail-link",
                title=page.question or page.title,
            )
            for page in ordered()
        ],
        **aria("Pages"),
    )


clientside_callback(ClientsideFunction("landscape", "start"), Output("route", "data"), Input("route", "id"))
clientside_callback(ClientsideFunction("landscape", "dark"), Output("dark", "data"), Input("dark", "id"))
clientside_callback(
    ClientsideFunction("landscape", "writeSelection"), Output("selection-written", "data"), Input("selection", "data")
)
clientside_callback(
    ClientsideFunction("landscape", "arrive"),
    Output({"nav": ALL}, "href"),
    Output({"nav": ALL}, "className"),
    Input("route", "data"),
    State({"nav": ALL}, "id"),
)
clientside_callback(
    ClientsideFunction("landscape", "navigation"),
    Output({"nav": ALL}, "href", allow_duplicate=True),
    Input("selection", "data"),
    Input("present", "data"),
    State({"nav": ALL}, "id"),
    prevent_initial_call=True,
)
clientside_callback(
    ClientsideFunction("landscape", "togglePresent"),
    Output("present", "data", allow_duplicate=True),
    Input("present-toggle", "n_clicks"),
    State("present", "data"),
    prevent_initial_call=True,
)
clientside_callback(ClientsideFunction("landscape", "showPresent"), Output("present-shown", "data"), Input("present", "data"))
clientside_callback(ClientsideFunction("landscape", "showTitle"), Output("title", "modified_timestamp"), Input("title", "data"))


@callback(
    Output("content", "children"),
    Output("selection", "data"),
    Output("present", "data"),
    Output("title", "data"),
    Input("route", "data"),
    prevent_initial_call=True,
)
def _route(route: Route | None) -> tuple[list[Component], list[str], bool, str]:
    """From an address to its page. Whatever the address says, a page comes back."""
    if not route:
        raise PreventUpdate
    path = "/" + route["path"].strip("/")
    query = read_query(route["search"], bool(route["dark"]))
    page = PAGES.get(path)
    title = f"{page.title} · {PRODUCT}" if page else PRODUCT
    content = _content(page, path, query)
    problems = [dmc.Alert(text, color="orange", variant="light", className="problem") for text in query.problems]
    return [*problems, content], list(query.selection), query.present, title


def _content(page: Page | None, path: str, query: Query) -> Component:
    if page is None:
        return _notice("There is no such page", f"Nothing lives at {path}. The pages stand on the left.")
    try:
        return page.layout(query)
    except InputError as error:
        return _notice("This page cannot be shown as asked", str(error))
    except Exception as error:
        log.exception("the layout of %s failed", path)
        return _notice("This page could not be built", f"{type(error).__name__}; the log says more.")


def _notice(title: str, text: str) -> html.Div:
    return html.Div([html.H1(title, className="page-title"), html.P(text), dcc.Link("Home", href="/")], className="page notice")


@callback(
    Output("jobs-count", "children"),
    Output("jobs-dot", "className"),
    Output("jobs-list", "children"),
    Output("jobs-shape", "data"),
    Input("pulse", "data"),
    State("jobs-shape", "data"),
)
def _indicator(
    pulse: jobs.Pulse, before: list[list[str | bool | int] | None] | None
) -> tuple[str, str, list[Component] | NoUpdate, list[list[str | bool | int] | None]]:
    """How much runs and waits, and the list behind it."""
    running = sum(job["state"] == "running" for job in pulse["jobs"].values())
    waiting = pulse["waiting"]
    parts = [f"{running} running"] if running else []
    parts += [f"{number(waiting)} waiting"] if waiting else []
    words = ", ".join(parts) or "Idle"
    shape: list[list[str | bool | int] | None] = [
        *(jobs.shape(pulse["jobs"][key]) for key in pulse["recent"] if key in pulse["jobs"]),
        [waiting],
    ]
    rows = no_update if shape == before else jobs.job_list(pulse)
    return words, "jobs-dot jobs-on" if running else "jobs-dot", rows, shape
