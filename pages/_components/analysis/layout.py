"""How the page of an analysis is laid out: form, views, pictures with their readings, what can be copied and downloaded."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from landscape_core.specs import Analysis, Group, View, suggestion

from .. import forms, stores
from ..shell.address import MAX_SELECTED, Query
from ..shell.jobs import launcher, watcher
from ..shell.theme import GRAPH_CONFIG, aria
from .entries import PageState, part_id, state_of
from .pictures import Pictures, pictures

Parts = Callable[[], Sequence[Component]]


def layout(item: Analysis, extra: Parts, below: Parts, query: Query) -> html.Div:
    """The page as the address asks for it."""
    views = {view.name for view in item.views}
    misplaced = views & query.fields.keys() - item.spec.model_fields.keys()
    fields = {name: text for name, text in query.fields.items() if name not in misplaced}
    values, problems = forms.from_texts(item.spec, fields)
    problems += [f"'{name}' is a view option: write 'v.{name}' in the address" for name in sorted(misplaced)]
    problems += [f"there is no view option 'v.{name}'{suggestion(name, views)}" for name in query.view if name not in views]
    state = state_of(item, values, query.selection)
    view = item.view(query.view)
    found = pictures(item, state, view, dark=query.dark, present=query.present)
    return html.Div(
        [
            *_stores(item, state, found, query),
            html.Div(
                [html.H1(item.title, className="page-title"), html.P(item.question, className="page-question")],
                className="page-head",
            ),
            html.Div([_problem(text) for text in problems], id=part_id(item.name, "problems")),
            html.Div(
                [
                    html.Aside(_form(item, values, state["error"]), className="controls", **aria("What to compute")),
                    html.Div(_main(item, extra, below, view, found), className="stage"),
                ],
                className="analysis",
            ),
        ],
        className="page",
        id=part_id(item.name, "page"),
    )


def _stores(item: Analysis, state: PageState, found: Pictures, query: Query) -> list[Component]:
    about = {
        "visit": uuid.uuid4().hex,
        "name": item.name,
        "path": item.path,
        "defaults": {view.name: view.default_value for view in item.views},
        "dark": query.dark,
        "present": query.present,
        "done": found.done,
        "opened": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return [
        dcc.Store(part_id(item.name, "about"), data=about),
        dcc.Store(part_id(item.name, "state"), data=dict(state)),
        dcc.Store(part_id(item.name, "view")),
        dcc.Store(part_id(item.name, "want")),
        dcc.Store(part_id(item.name, "rows")),
        dcc.Store(part_id(item.name, "drawn")),
        dcc.Store(part_id(item.name, "code"), data=found.code),
        dcc.Store(part_id(item.name, "written")),
        dcc.Store(part_id(item.name, "settled")),
        forms.sender(part_id(item.name, "run")),
        *[launcher(f"{item.name}-{index}") for index in range(MAX_SELECTED)],
        launcher(f"{item.name}-calibration"),
        watcher(item.name),
    ]


def _form(item: Analysis, values: Mapping[str, Any], error: str) -> list[Component]:
    groups = item.groups()
    plain = [html.Fieldset(_fields(item, group, values), className="group") for group in groups if not group.advanced]
    folded = [
        dmc.AccordionItem(
            [dmc.AccordionControl(group.title), dmc.AccordionPanel(html.Div(_fields(item, group, values)[1:]))],
            value=group.title,
        )
        for group in groups
        if group.advanced
    ]
    open_now = [group.title for group in groups if group.advanced and any(name in values for name in group.fields)]
    return [
        html.Div(
            [
                *plain,
                dmc.Accordion(
                    folded, multiple=True, value=open_now, variant="default", chevronPosition="left", className="folds"
                ),
            ],
            className="controls-scroll",
        ),
        html.Div(
            [
                html.Div(error, id=part_id(item.name, "validation"), className="validation", role="alert"),
                html.Div(id=part_id(item.name, "cost"), className="cost", **LIVE),
                dmc.Button("Compute", id=part_id(item.name, "run"), fullWidth=True, disabled=True),
            ],
            className="controls-foot",
        ),
    ]


def _fields(item: Analysis, group: Group, values: Mapping[str, Any]) -> list[Component]:
    return [
        html.Legend(group.title),
        *[
            forms.control(
                item.spec,
                name,
                item.name,
                values.get(name, ...),
                label=group.labels.get(name),
                words=group.words.get(name),
                suggestions=_suggestions(group.suggest.get(name, ())),
            )
            for name in group.fields
        ],
    ]


def _main(item: Analysis, extra: Parts, below: Parts, view: Mapping[str, Any], found: Pictures) -> list[Component]:
    graphs = [
        html.Div(
            dcc.Graph(
                id={"graph": item.name, "index": index},
                config=GRAPH_CONFIG,
                responsive=True,
                **({"figure": found.figures[index]} if index < len(found.figures) else {}),
            ),
            id={"cell": item.name, "index": index},
            className="cell",
            hidden=hidden,
        )
        for index, hidden in enumerate(found.hidden)
    ]
    return [
        html.Div(
            [_view_control(item, option, view[option.name]) for option in item.views],
            className="views",
            role="group",
            **aria("How to show it"),
        ),
        html.Div(id=part_id(item.name, "status"), className="statuses"),
        html.Div(found.message, id=part_id(item.name, "empty"), className="empty"),
        html.Div(
            [
                html.Div(
                    [html.Div(graphs, className="graphs", id=part_id(item.name, "graphs")), *extra(), _actions(item, found)],
                    className="pictures",
                ),
                html.Aside(found.reading, id=part_id(item.name, "reading"), className="reading", **aria("Reading")),
            ],
            className=found.layout,
            id=part_id(item.name, "result"),
            hidden=not found.figures,
        ),
        *below(),
    ]


def _view_control(item: Analysis, view: View, value: str | bool) -> Component:
    place = {"view": item.name, "name": view.name}
    if view.choices is None:
        return dmc.Switch(id={**place, "prop": "checked"}, label=view.label, checked=bool(value), size="xs")
    data = [{"value": key, "label": word} for key, word in view.choices.items()]
    place["prop"] = "value"
    label = aria(view.label)
    if len(data) <= 4:
        return dmc.SegmentedControl(id=place, data=data, value=value, size="xs", **label)
    return dmc.Select(id=place, data=data, value=value, size="xs", allowDeselect=False, className="view-select", **label)


def _actions(item: Analysis, found: Pictures) -> html.Div:
    copies = [("link", "Copy link"), ("python", "Copy Python"), ("command", "Copy command")]
    images = [("png", "PNG"), ("svg", "SVG")]
    return html.Div(
        [
            html.Div(
                [
                    *[_small(word, {"copy": item.name, "what": what}, word) for what, word in copies],
                    html.Span(id=part_id(item.name, "copied"), className="copied", role="status"),
                ],
                className="actions",
            ),
            html.Div(
                [
                    html.Span("Download", className="actions-word"),
                    *[
                        _small(word, {"image": item.name, "format": kind}, f"Download the picture as {word}")
                        for kind, word in images
                    ],
                    html.Span(found.files, id=part_id(item.name, "files"), className="files"),
                ],
                className="actions",
            ),
            html.Div(found.provenance, id=part_id(item.name, "provenance"), className="provenance"),
            dmc.Accordion(
                dmc.AccordionItem(
                    [
                        dmc.AccordionControl("Table of numbers"),
                        dmc.AccordionPanel(html.Div(found.numbers, id=part_id(item.name, "numbers"), className="numbers")),
                    ],
                    value="numbers",
                ),
                className="folds",
                chevronPosition="left",
            ),
        ]
    )


def _suggestions(offered: Sequence[str]) -> Sequence[str]:
    """The texts to offer: those declared, or the runs or last checkpoints that there are."""
    if offered not in ("runs", "checkpoints"):
        return offered
    names = stores.runs().names()
    return names if offered == "runs" else [f"{name}@last" for name in names]


def broken_layout(item: Analysis, _query: Query) -> html.Div:
    """The page of an analysis whose folder cannot be used."""
    words = f"This analysis cannot be used: {item.problem}"
    return html.Div([html.H1(item.title, className="page-title"), _problem(words)], className="page")


LIVE: Any = {"aria-live": "polite"}


def _small(word: str, place: Any, label: str) -> dmc.Button:
    return dmc.Button(word, id=place, variant="default", size="compact-xs", **aria(label))


def _problem(text: str) -> dmc.Alert:
    return dmc.Alert(text, color="orange", variant="light", className="problem")
