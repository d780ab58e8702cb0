"""Stepping and playing through training along the path in a picture, all in the browser."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Input, Output, State, clientside_callback, dcc, html

PERIOD = 300  # milliseconds between two checkpoints while it plays


def stepper(name: str) -> html.Div:
    """The bar under the pictures of a page; hidden while none of them holds a path."""
    return html.Div(
        [
            dmc.Button("Play", id=f"{name}-step-play", size="compact-xs", variant="light"),
            dmc.Slider(
                id=f"{name}-step",
                min=0,
                max=1,
                value=0,
                label=None,
                thumbLabel="Checkpoint of the path",
                updatemode="drag",
                size="sm",
                flex=1,
            ),
            html.Span(id=f"{name}-step-words", className="stepper-step", role="status"),
            dcc.Link("Go there", href="", id=f"{name}-step-go"),
            html.Div(id=f"{name}-step-about", className="stepper-about"),
            dcc.Interval(id=f"{name}-step-clock", interval=PERIOD, disabled=True),
        ],
        id=f"{name}-stepper",
        className="stepper",
        hidden=True,
    )


def register_stepper(name: str) -> None:
    """Register what moves the bar of a page, and the mark in its pictures. Called once."""
    figures = Input({"graph": name, "index": ALL}, "figure")
    clientside_callback(
        ClientsideFunction("landscape", "stepRange"),
        Output(f"{name}-stepper", "hidden"),
        Output(f"{name}-step", "max"),
        figures,
    )
    clientside_callback(
        ClientsideFunction("landscape", "stepTo"),
        Output(f"{name}-step-words", "children"),
        Output(f"{name}-step-go", "href"),
        Input(f"{name}-step", "value"),
        figures,
        State(f"{name}-graphs", "id"),
        State("selection", "data"),
    )
    clientside_callback(
        ClientsideFunction("landscape", "stepPlay"),
        Output(f"{name}-step", "value"),
        Output(f"{name}-step-clock", "disabled"),
        Output(f"{name}-step-play", "children"),
        Input(f"{name}-step-play", "n_clicks"),
        Input(f"{name}-step-clock", "n_intervals"),
        State(f"{name}-step", "value"),
        State(f"{name}-step", "max"),
        State(f"{name}-step-clock", "disabled"),
        prevent_initial_call=True,
    )
