"""High dimensions: which three-dimensional intuitions fail here? A run's geometry beside the laws of chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import dash_mantine_components as dmc
from dash import Input, Output, callback, dcc, html

from landscape_core.figures.align import align
from landscape_core.figures.high_dimensions import high_dimensions_figure
from landscape_core.figures.high_dimensions_claims import Claim, claims, frame_reading
from landscape_core.figures.law_figures import LARGEST, LAWS, law_figure, volume_words
from landscape_core.figures.quantity import raised
from landscape_core.figures.style import message_figure
from landscape_core.specs import InputError, Result

from . import register
from ._components import stores
from ._components.analysis_page import AnalysisPage, ControlGroup, View
from ._components.pictures import each_drawn, entries_of
from ._components.theme import GRAPH_CONFIG, aria, color_of

KINDS = {
    "angles": "Angles",
    "lengths": "Shells, lengths",
    "distances": "Distances",
    "planes": "Planes",
    "layers": "Layers",
    "flat": "Flat directions",
    "index": "Index and loss",
}
VIEWS = (View("kind", "Picture", KINDS),)
GPT3 = 175_000_000_000  # the essay's example: parameters, and by how much one radius is larger
EXCESS = 1e-10


def draw(datas: list[Any], sources: list[str], view: dict[str, Any], colors: list[str], dark: bool) -> list[Any]:
    """One picture a checkpoint's run, on shared axes."""
    figures = each_drawn(datas, sources, colors, dark, partial(high_dimensions_figure, kind=view["kind"]))
    align(figures)
    return figures


def _table() -> Sequence[Any]:
    return [html.Div(id="high_dimensions-claims", className="numbers claims")]


def _laws() -> Sequence[Any]:
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


PAGE = AnalysisPage(
    "high_dimensions",
    icon="high_dimensions",
    order=40,
    controls=[
        ControlGroup(
            "Path",
            ["checkpoints", "curvature"],
            labels={"checkpoints": "Checkpoints", "curvature": "Eigenvalues counted at"},
        ),
        ControlGroup(
            "Eigenvalues",
            ["method", "k", "flat_tolerance", "zero_tolerance", "probes", "lanczos_steps"],
            advanced=True,
            words={"method": {"auto": "Exact where it can be", "dense": "Exact matrix", "lanczos": "Estimate"}},
            labels={"k": "Largest", "probes": "Random vectors", "lanczos_steps": "Products for each"},
        ),
        ControlGroup("Sample", ["split", "samples", "seed", "batchnorm", "dtype", "device"], advanced=True),
    ],
    views=VIEWS,
    draw=draw,
    reading=frame_reading,  # the claims stand in the table below the picture
    downloads=("npz", "csv"),
    extra=_table,
    below=_laws,
)
register(PAGE.page)


@callback(
    Output("high_dimensions-claims", "children"),
    Input("high_dimensions-drawn", "data"),
    Input("high_dimensions-state", "data"),
)
def _claims(_drawn: Any, state: Mapping[str, Any] | None) -> Any:
    """What is said and by whom, what intuition says, what was measured, chance, and what that means, of the finished runs."""
    found = [(entry["label"], color_of(i), stores.results().get(entry["key"])) for i, entry in entries_of(state)]
    done = [(label, color, claims(result)) for label, color, result in found if isinstance(result, Result)]
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
def _law(law: str, power: float, dark: bool | None) -> Any:
    try:
        return law_figure(law, power, dark=bool(dark))
    except InputError as error:
        return message_figure(str(error), dark=bool(dark))


@callback(
    Output("high_dimensions-volume", "children"),
    Input("high_dimensions-volume-dimensions", "value"),
    Input("high_dimensions-volume-excess", "value"),
)
def _volume(dimensions: Any, excess: str) -> Any:
    try:
        rows = volume_words(dimensions, excess)
    except InputError as error:
        return [html.Div(str(error), className="validation")]
    return [html.Table(html.Tbody([html.Tr([html.Th(what, scope="row"), html.Td(much)]) for what, much in rows]))]
