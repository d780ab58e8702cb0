"""High dimensions: which three-dimensional intuitions fail here? A run's geometry beside the laws of chance."""

from __future__ import annotations

from collections.abc import Sequence

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Input, Output, callback, dcc, html
from dash.development.base_component import Component

from landscape_core.analyses.high_dimensions.claim import Claim
from landscape_core.analyses.high_dimensions.law_figures import LARGEST, LAWS, law_figure, volume_words
from landscape_core.analyses.high_dimensions.reading import claims
from landscape_core.drawing.numbers import raised
from landscape_core.drawing.style import message_figure
from landscape_core.specs import InputError

from ._components.analysis import add
from ._components.analysis.entries import PageState, entries_of, finished
from ._components.shell.theme import GRAPH_CONFIG, aria

GPT3 = 175_000_000_000  # the essay's example: parameters, and by how much one radius is larger
EXCESS = 1e-10


def _table() -> Sequence[Component]:
    return [html.Div(id="high_dimensions-claims", className="numbers claims")]


def _laws() -> Sequence[Component]:
    """The laws need no run: they are drawn at once."""
    powers = [{"value": power, "label": raised(power) if power else "1"} for power in range(0, int(LARGEST) + 1, 3)]
    kinds = [{"value": law, "label": word} for law, word in LAWS.items()]
    return [
        html.Section(
            [
                html.H2("The laws of many dimensions"),
                html.Div(
                    [
                        dmc.SegmentedControl(id="high_dimensions-law", data=kinds, value="angle", size="xs", **aria("Law")),
                        html.Div(
                            dmc.Slider(
                                id="high_dimensions-power",
                                min=0.3,
                                max=LARGEST,
                                step=0.1,
                                value=3.0,
                                marks=powers,
                                label=None,
                                updatemode="drag",
                                thumbLabel="Dimensions, as a power of ten",
                            ),
                            className="law-slider",
                        ),
                    ],
                    className="views",
                ),
                dcc.Graph(id="high_dimensions-law-picture", config=GRAPH_CONFIG, responsive=True, className="law-picture"),
            ],
            className="laws",
        ),
        html.Section(
            [
                html.H2("Volumes"),
                dmc.Text(
                    "Two valleys of one shape, one wider by a hair: by how much is its volume larger?", size="sm", c="dimmed"
                ),
                html.Div(
                    [
                        dmc.NumberInput(
                            id="high_dimensions-volume-dimensions",
                            label="Dimensions",
                            value=GPT3,
                            min=1,
                            thousandSeparator=",",
                        ),
                        dmc.TextInput(
                            id="high_dimensions-volume-excess",
                            label="Radius larger by the share",
                            value=f"{EXCESS:g}",
                            size="xs",
                        ),
                    ],
                    className="law-inputs",
                ),
                html.Div(id="high_dimensions-volume", className="numbers", role="status"),
            ],
            className="laws",
        ),
    ]


add("high_dimensions", extra=_table, below=_laws)


@callback(
    Output("high_dimensions-claims", "children"),
    Input("high_dimensions-drawn", "data"),
    Input("high_dimensions-state", "data"),
)
def _claims(_drawn: object, state: PageState | None) -> list[Component]:
    """What is said and by whom, what intuition says, what was measured, chance, and what that means, of the finished runs."""
    found = [(entry, finished(entry)) for entry in entries_of(state)]
    done = [(entry.label, entry.color, claims(result)) for entry, result in found if result is not None]
    return [_claim_table(done)] if done else []


def _claim_table(runs: Sequence[tuple[str, str, Sequence[Claim]]]) -> html.Table:
    """Each claim once, and below it a row for each run."""
    claimed = list({claim.hypothesis: claim for *_, rows in runs for claim in rows}.values())
    several = len(runs) > 1
    heads = [*(["Run"] if several else []), "Measured", "By chance", "What it means"]
    bodies = []
    for claim in claimed:
        rows = [_claim_head(claim, len(heads))]
        for label, color, own in runs:
            item = next((item for item in own if item.hypothesis == claim.hypothesis), None)
            name = [html.Th([_dot(color), label], scope="row")] if several else []
            rows.append(html.Tr([*name, *_cells(item)]))
        bodies.append(html.Tbody(rows))
    return html.Table([html.Thead(html.Tr([html.Th(word, scope="col") for word in heads])), *bodies])


def _cells(claim: Claim | None) -> list[html.Td]:
    if claim is None:
        return [html.Td("–")] * 3
    return [
        html.Td(claim.measured),
        html.Td(claim.baseline),
        html.Td([html.Strong(claim.meaning), f" {claim.words}"]),
    ]


def _claim_head(claim: Claim, columns: int) -> html.Tr:
    more = [
        html.Details(
            [
                html.Summary("Formula and source"),
                html.P(claim.formula, className="formula"),
                *([html.P(claim.source, className="source")] if claim.source else []),
            ]
        )
    ]
    return html.Tr(
        html.Th(
            [html.Strong(claim.name), html.P(claim.origin), *(more if claim.formula else [])],
            colSpan=columns,
            scope="rowgroup",
            className="claim",
        )
    )


def _dot(color: str) -> html.Span:
    return html.Span(className="dot", style={"background": color})


@callback(
    Output("high_dimensions-law-picture", "figure"),
    Input("high_dimensions-law", "value"),
    Input("high_dimensions-power", "value"),
    Input("dark", "data"),
)
def _law(law: str, power: float, dark: bool | None) -> go.Figure:
    try:
        return law_figure(law, power, dark=bool(dark))
    except InputError as error:
        return message_figure(str(error), dark=bool(dark))


@callback(
    Output("high_dimensions-volume", "children"),
    Input("high_dimensions-volume-dimensions", "value"),
    Input("high_dimensions-volume-excess", "value"),
)
def _volume(dimensions: float | str, excess: str) -> list[Component]:
    try:
        rows = volume_words(dimensions, excess)
    except InputError as error:
        return [html.Div(str(error), className="validation")]
    return [html.Table(html.Tbody([html.Tr([html.Th(what, scope="row"), html.Td(much)]) for what, much in rows]))]
