"""A page for one analysis, mostly declared: which fields in which groups, which views, and how to draw and read a Result.

    PAGE = AnalysisPage(
        "surface",
        icon="surface",
        controls=[ControlGroup("Where", ["dimensions", "directions"]), ControlGroup("More", ["seed"], advanced=True)],
        views=[View("kind", "Picture", {"3d": "3-D", "contour": "Contour"}), View("log", "Log scale", default=True)],
        draw=draw,
        reading=reading,
        downloads=("npz", "csv", "vtk"),
    )
    register(PAGE.page)

`draw(datas, sources, view, colors, dark)` gives one figure for each selected checkpoint; a data is a finished Result, the
partial arrays of a job, or None. `reading(data, spec)` gives what the numbers say. The rest (form, address, jobs, cost, table,
provenance, downloads) is here. Ids begin with the page's name; the graphs are `{"graph": name, "index": i}`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from landscape_core.specs import AnalysisSpec, analysis, suggestion

from .. import Page
from . import forms
from .jobs import launcher, watcher
from .pictures import Pictures, pictures, state_of
from .state import MAX_SELECTED, Query
from .theme import GRAPH_CONFIG, aria

Draw = Callable[[list[Any], list[str], dict[str, Any], list[str], bool], list[Any]]
Reading = Callable[[Any, Any], Sequence[Any]]


@dataclass(frozen=True)
class ControlGroup:
    """Fields of the Spec under one heading; an advanced group is closed at first.

    By field: `words` names its choices, `labels` the field itself, `suggest` gives texts to offer, read when the page opens.
    """

    title: str
    fields: Sequence[str]
    advanced: bool = False
    words: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    suggest: Mapping[str, Callable[[], Sequence[str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """A choice about the picture that computes nothing: `v.NAME` in the address. Without `choices` it is a yes/no."""

    name: str
    label: str
    choices: Mapping[str, str] | None = None
    default: Any = False

    def read(self, text: str | None) -> Any:
        """The value that the address asks for; the default where it asks for nothing that exists."""
        if self.choices is None:
            return self.default if text is None else text not in ("0", "false", "")
        return text if text in self.choices else self.default_value

    @property
    def default_value(self) -> Any:
        if self.choices is None:
            return bool(self.default)
        return self.default if self.default in self.choices else next(iter(self.choices))


@dataclass(frozen=True)
class AnalysisPage:
    """The declaration of a page. Creating it registers its callbacks, once."""

    name: str
    controls: Sequence[ControlGroup]
    draw: Draw
    views: Sequence[View] = ()
    reading: Reading | None = None
    downloads: Sequence[str] = ("npz", "csv")
    icon: str = "page"
    order: int = 50
    extra: Callable[[], Sequence[Any]] = tuple  # components of the page's own, below the pictures
    below: Callable[[], Sequence[Any]] = tuple  # and others that are there without a picture

    def __post_init__(self) -> None:
        from .analysis_callbacks import register_callbacks

        register_callbacks(self)
        DECLARED[self.name] = self

    @property
    def spec(self) -> type[AnalysisSpec]:
        """The Spec class of the analysis."""
        return analysis(self.name).spec

    @property
    def path(self) -> str:
        """The page's address."""
        return f"/{self.name.replace('_', '-')}"

    @property
    def page(self) -> Page:
        """What `pages.register` takes."""
        item = analysis(self.name)
        return Page(self.path, item.title, self.layout, self.order, self.icon, item.question)

    def id(self, part: str) -> str:
        """The id of a part of this page."""
        return f"{self.name}-{part}"

    def view_of(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """All view options, from the texts of the address."""
        return {view.name: view.read(texts.get(view.name)) for view in self.views}

    def groups(self) -> list[ControlGroup]:
        """The declared groups, and one more with the fields that none of them names."""
        named = {name for group in self.controls for name in group.fields}
        rest = [name for name in forms.visible_fields(self.spec) if name not in named]
        return [*self.controls, *([ControlGroup("Samples and arithmetic", rest, advanced=True)] if rest else [])]

    # -- layout ----------------------------------------------------------------------------------------------------

    def layout(self, query: Query) -> html.Div:
        """The page as the address asks for it."""
        views = {view.name for view in self.views}
        misplaced = views & query.fields.keys() - self.spec.model_fields.keys()
        fields = {name: text for name, text in query.fields.items() if name not in misplaced}
        values, problems = forms.from_texts(self.spec, fields)
        problems += [f"'{name}' is a view option: write 'v.{name}' in the address" for name in sorted(misplaced)]
        problems += [f"there is no view option 'v.{name}'{suggestion(name, views)}" for name in query.view if name not in views]
        item = analysis(self.name)
        state = state_of(self, values, query.selection)
        view = self.view_of(query.view)
        found = pictures(self, state, view, dark=query.dark, present=query.present)
        return html.Div(
            [
                *self._stores(state, found, query),
                html.Div(
                    [html.H1(item.title, className="page-title"), html.P(item.question, className="page-question")],
                    className="page-head",
                ),
                html.Div([_problem(text) for text in problems], id=self.id("problems")),
                html.Div(
                    [
                        html.Aside(self._form(values, state["error"]), className="controls", **aria("What to compute")),
                        html.Div(self._main(view, found), className="stage"),
                    ],
                    className="analysis",
                ),
            ],
            className="page",
            id=self.id("page"),
        )

    def _stores(self, state: dict[str, Any], found: Pictures, query: Query) -> list[Any]:
        about = {
            "visit": uuid.uuid4().hex,
            "name": self.name,
            "path": self.path,
            "defaults": {view.name: view.default_value for view in self.views},
            "dark": query.dark,
            "present": query.present,
            "done": found.done,
            "opened": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        return [
            dcc.Store(self.id("about"), data=about),
            dcc.Store(self.id("state"), data=state),
            dcc.Store(self.id("view")),
            dcc.Store(self.id("want")),
            dcc.Store(self.id("rows")),
            dcc.Store(self.id("drawn")),
            dcc.Store(self.id("code"), data=found.code),
            dcc.Store(self.id("written")),
            dcc.Store(self.id("settled")),
            forms.sender(self.id("run")),
            *[launcher(f"{self.name}-{index}") for index in range(MAX_SELECTED)],
            launcher(f"{self.name}-calibration"),
            watcher(self.name),
        ]

    def _form(self, values: Mapping[str, Any], error: str) -> list[Any]:
        groups = self.groups()
        plain = [html.Fieldset(self._fields(group, values), className="group") for group in groups if not group.advanced]
        folded = [
            dmc.AccordionItem(
                [dmc.AccordionControl(group.title), dmc.AccordionPanel(html.Div(self._fields(group, values)[1:]))],
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
                    html.Div(error, id=self.id("validation"), className="validation", role="alert"),
                    html.Div(id=self.id("cost"), className="cost", **LIVE),
                    dmc.Button("Compute", id=self.id("run"), fullWidth=True, disabled=True),
                ],
                className="controls-foot",
            ),
        ]

    def _fields(self, group: ControlGroup, values: Mapping[str, Any]) -> list[Any]:
        return [
            html.Legend(group.title),
            *[
                forms.control(
                    self.spec,
                    name,
                    self.name,
                    values.get(name, ...),
                    label=group.labels.get(name),
                    words=group.words.get(name),
                    suggestions=group.suggest[name]() if name in group.suggest else (),
                )
                for name in group.fields
            ],
        ]

    def _main(self, view: Mapping[str, Any], found: Pictures) -> list[Any]:
        graphs = [
            html.Div(
                dcc.Graph(
                    id={"graph": self.name, "index": index},
                    config=GRAPH_CONFIG,
                    responsive=True,
                    **({"figure": found.figures[index]} if index < len(found.figures) else {}),
                ),
                id={"cell": self.name, "index": index},
                className="cell",
                hidden=hidden,
            )
            for index, hidden in enumerate(found.hidden)
        ]
        return [
            html.Div(
                [self._view_control(option, view[option.name]) for option in self.views],
                className="views",
                role="group",
                **aria("How to show it"),
            ),
            html.Div(id=self.id("status"), className="statuses"),
            html.Div(found.message, id=self.id("empty"), className="empty"),
            html.Div(
                [
                    html.Div(
                        [html.Div(graphs, className="graphs", id=self.id("graphs")), *self.extra(), self._actions(found)],
                        className="pictures",
                    ),
                    html.Aside(found.reading, id=self.id("reading"), className="reading", **aria("Reading")),
                ],
                className=found.layout,
                id=self.id("result"),
                hidden=not found.figures,
            ),
            *self.below(),
        ]

    def _view_control(self, view: View, value: Any) -> Any:
        place = {"view": self.name, "name": view.name}
        if view.choices is None:
            return dmc.Switch(id={**place, "prop": "checked"}, label=view.label, checked=bool(value), size="xs")
        data = [{"value": key, "label": word} for key, word in view.choices.items()]
        place["prop"] = "value"
        label = aria(view.label)
        if len(data) <= 4:
            return dmc.SegmentedControl(id=place, data=data, value=value, size="xs", **label)
        return dmc.Select(id=place, data=data, value=value, size="xs", allowDeselect=False, className="view-select", **label)

    def _actions(self, found: Pictures) -> html.Div:
        copies = [("link", "Copy link"), ("python", "Copy Python"), ("command", "Copy command")]
        images = [("png", "PNG"), ("svg", "SVG")]
        return html.Div(
            [
                html.Div(
                    [
                        *[_small(word, {"copy": self.name, "what": what}, word) for what, word in copies],
                        html.Span(id=self.id("copied"), className="copied", role="status"),
                    ],
                    className="actions",
                ),
                html.Div(
                    [
                        html.Span("Download", className="actions-word"),
                        *[
                            _small(word, {"image": self.name, "format": kind}, f"Download the picture as {word}")
                            for kind, word in images
                        ],
                        html.Span(found.files, id=self.id("files"), className="files"),
                    ],
                    className="actions",
                ),
                html.Div(found.provenance, id=self.id("provenance"), className="provenance"),
                dmc.Accordion(
                    dmc.AccordionItem(
                        [
                            dmc.AccordionControl("Table of numbers"),
                            dmc.AccordionPanel(html.Div(found.numbers, id=self.id("numbers"), className="numbers")),
                        ],
                        value="numbers",
                    ),
                    className="folds",
                    chevronPosition="left",
                ),
            ]
        )


LIVE: Any = {"aria-live": "polite"}
DECLARED: dict[str, AnalysisPage] = {}


def _small(word: str, place: Any, label: str) -> dmc.Button:
    return dmc.Button(word, id=place, variant="default", size="compact-xs", **aria(label))


def _problem(text: str) -> dmc.Alert:
    return dmc.Alert(text, color="orange", variant="light", className="problem")
