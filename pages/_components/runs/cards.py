"""Runs as cards: the loss curve, a thumbnail, and what can be done with the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component
from plotly.graph_objects import Figure

from landscape_core import presenting
from landscape_core.analyses import of_cards
from landscape_core.checkpoints.runs import metric_columns
from landscape_core.drawing.known import Known
from landscape_core.drawing.runs import loss_curves
from landscape_core.jobs.requests import WRITERS, Request
from landscape_core.specs import Analysis, InputError, Reference, RunRecord, Thumbnail

from .. import stores
from ..kept import Kept
from ..shell import jobs
from ..shell.address import MAX_SELECTED, write_query
from ..shell.theme import aria, color_of
from .pulse import Job, Pulse

PARTS = ("head", "pictures", "actions")
CARDS = 64  # whose pictures are kept: everybody who opens Home sees the same
_curves, _thumbnails = Kept[Figure](CARDS), Kept[Figure](CARDS)
STATES = {"training": "training", "diverged": "diverged", "stopped": "stopped"}


@dataclass(frozen=True)
class Card:
    """A run, or the job that is about to make one, as it stands now."""

    name: str
    record: RunRecord | None
    problem: str  # one line where run.json cannot be read
    job: Job | None  # the training or import, unless it is over
    thumbnail: Job | None  # the job of the thumbnail, unless it is over
    key: str  # of the thumbnail; empty while the run grows
    drawn: bool  # whether the thumbnail's result is there
    place: int | None  # in the selection

    @property
    def growing(self) -> bool:
        return self.record is None or self.record.state == "training"

    @property
    def usable(self) -> bool:
        """Whether there is a checkpoint to look at."""
        return self.record is not None and bool(self.record.checkpoints)

    def signatures(self, dark: bool, full: bool) -> dict[str, list[object]]:
        """What decides how each part looks: it is sent again only when this changes."""
        record = self.record
        state = None if record is None else [record.state, record.created]
        grown = None if record is None else len(record.checkpoints)
        version = None if self.thumbnail is None else self.thumbnail["version"]
        return {
            "head": [state, self.problem, jobs.shape(self.job), jobs.shape(self.thumbnail), self.place],
            "pictures": [state, grown, self.problem, version, jobs.shape(self.thumbnail), self.job is None, self.drawn, dark],
            "actions": [self.usable, self.growing, self.place is not None, full, record is None and not self.problem],
        }


def thumbnail(name: str) -> list[Request]:
    """The request for the thumbnail of a run, where an analysis draws one; one Spec for every run, whatever its data."""
    item = of_cards()
    return [Request(item.name, f"{name}@last", dict(item.thumbnail.fields))] if item and item.thumbnail else []


def find(pulse: Pulse, selection: Sequence[str]) -> list[Card]:
    """A card for every run and for every job under way that will make one, the newest first."""
    active = pulse["jobs"]
    making: dict[str, Job] = {}
    for job in sorted(active.values(), key=lambda job: job["updated"] or job["started"] or 0):
        if job["kind"] in WRITERS and job["state"] != "done":
            making[str(job["values"].get("run"))] = job
    places = {}
    for place, text in reversed(list(enumerate(selection))):
        try:
            places[Reference.parse(text).run] = place
        except InputError:
            continue
    known = stores.runs().names()
    names = [*known, *(name for name in making if name not in known)]
    return [_card(name, name in known, making.get(name), active, places.get(name)) for name in reversed(names)]


def _card(name: str, on_disk: bool, job: Job | None, active: Mapping[str, Job], place: int | None) -> Card:
    record, problem, key = None, "", ""
    if on_disk:
        try:
            record = stores.runs().read(name)
            if record.checkpoints and record.state != "training":
                key = next((request.key(stores.home()) for request in thumbnail(name)), "")
        except InputError as error:
            problem = str(error)
    if record is not None and record.state in ("done", "diverged"):
        job = None  # an attempt to make it again, which was refused
    drawn = bool(key) and stores.results().has(key)
    return Card(name, record, problem, job, None if drawn else active.get(key), key, drawn, place)


def draw(card: Card, part: str, dark: bool, full: bool) -> list[Component]:
    """One part of a card: head, pictures or actions. `full`: no further checkpoint can be selected."""
    if part == "head":
        return _head(card)
    return _pictures(card, dark) if part == "pictures" else _actions(card, full)


def _head(card: Card) -> list[Component]:
    parts: list[Component] = [_title(card)]
    if card.problem:
        parts.append(html.P(card.problem, className="card-problem"))
    if card.job is not None:
        parts.append(jobs.status(card.job, title="Training" if card.job["kind"] == "train" else "Import", at="card"))
    elif card.record is not None and card.record.message:
        parts.append(html.P(card.record.message, className="card-problem"))
    if card.thumbnail is not None and card.thumbnail["state"] != "done":
        parts.append(jobs.status(card.thumbnail, title="Surface", at="card"))
    return parts


def _pictures(card: Card, dark: bool) -> list[Component]:
    if card.record is not None and card.record.checkpoints:
        pair = [_curve(card.name, card.record, dark), _picture(card, dark)]
        return [html.Div(pair, className="card-grid"), _facts(card.record)]
    return [] if card.problem else [dmc.Skeleton(height=150, animate=card.job is not None)]


def _title(card: Card) -> html.Div:
    record = card.record
    words = "" if record is None else f"{record.task} · {record.parameters:,} parameters"
    badge = None
    if record is not None and record.state != "done" and card.job is None:
        badge = dmc.Badge(
            STATES[record.state], color="red" if record.state == "diverged" else "orange", variant="light", size="sm"
        )
    return html.Div(
        [
            html.Span(className="dot", style={"background": color_of(card.place)}) if card.place is not None else None,
            html.H2(card.name, className="card-name"),
            badge,
            html.Span(words, className="card-task"),
        ],
        className="card-title",
    )


def _curve(name: str, record: RunRecord, dark: bool) -> html.Figure:
    training = record.training or {}
    figure = _curves.get(
        (stores.home(), name, record.created, len(record.checkpoints), training.get("steps"), dark),
        lambda: loss_curves(metric_columns(record), last_step=training.get("steps"), dark=dark, compact=True),
    )
    legend: list[Component | str] = [
        html.Span("train loss", className="key key-train"),
        html.Span("test loss", className="key key-test"),
        " over steps",
    ]
    return html.Figure([html.Figcaption(legend), _graph({"curve": name}, figure, still=False)])


def _graph(place: dict[str, str], figure: Figure, *, still: bool) -> dcc.Graph:
    bare: dcc.Graph.Config = {"staticPlot": still, "displayModeBar": False, "showSendToCloud": False, "displaylogo": False}
    return dcc.Graph(place, figure=figure, config=bare, className="card-graph")


def _picture(card: Card, dark: bool) -> html.Figure:
    item = of_cards()
    if item is None or item.thumbnail is None:
        return html.Figure([])
    return html.Figure([html.Figcaption(item.thumbnail.title), _thumbnail(item, item.thumbnail, card, dark)])


def _thumbnail(item: Analysis, wanted: Thumbnail, card: Card, dark: bool) -> Component:
    data: Known | None = None
    if card.key:
        data = stores.results().get(card.key) if card.drawn else stores.jobs().partial(card.key)
    if data is not None:
        make = partial(_small, item, wanted, card, data, dark)
        figure = _thumbnails.get((card.key, dark), make) if card.drawn else make()
        graph, label = _graph({"thumbnail": card.name}, figure, still=True), f"{item.title} of {card.name}: open it"
        return dcc.Link(graph, href=_link(item, wanted, card.name), className="card-thumbnail", title=label)
    if card.growing or card.job is not None:
        return html.Div("drawn when it is trained", className="card-blank")
    if card.thumbnail is not None and card.thumbnail["state"] in ("queued", "running"):
        return html.Div(dmc.Loader(size="sm"), className="card-blank")
    draw_it = dmc.Button("Draw it", id={"home": "draw", "run": card.name}, variant="light", size="compact-sm")
    return html.Div(draw_it, className="card-blank")


def _small(item: Analysis, wanted: Thumbnail, card: Card, data: Known, dark: bool) -> Figure:
    """The thumbnail: the picture without all that stands around it."""
    figure = presenting.drawn(item, [data], [card.name], wanted.view, dark=dark)[0]
    bare = {"visible": False, "scaleanchor": None}
    figure.update_layout(title=None, margin={"l": 0, "r": 0, "t": 0, "b": 0}, xaxis=bare, yaxis=bare)
    return figure.update_traces(showscale=False, selector={"type": "heatmap"})


def _link(item: Analysis, wanted: Thumbnail, name: str) -> str:
    """The page that the thumbnail opens: its result is there already."""
    return item.path + write_query([f"{name}@last"], wanted.fields)


def _facts(record: RunRecord) -> html.Dl:
    last, training = record.checkpoints[-1], record.training
    facts = []
    for name, label in (("test_accuracy", "test accuracy"), ("train_loss", "train loss"), ("test_loss", "test loss")):
        value = last.metrics.get(name)
        if value is not None:
            facts.append((label, f"{100 * value:.1f} %" if "accuracy" in name else f"{value:.3g}"))
    facts.append(("at step", f"{last.step:,}"))
    facts.append(("checkpoints", f"{len(record.checkpoints)}"))
    if training is not None:
        batch = training["batch_size"]
        facts.append((str(training["optimizer"]), f"lr {training['lr']:g}, {f'batch {batch}' if batch else 'full batch'}"))
    else:
        facts.append(("weights", "brought in"))
    return html.Dl([html.Div([html.Dt(label), html.Dd(value)]) for label, value in facts], className="card-facts")


def _actions(card: Card, full: bool) -> list[Component]:
    chosen = card.place is not None
    label = f"{'Remove' if chosen else 'Add'} {card.name} {'from' if chosen else 'to'} the selection"
    select: Component = dmc.Button(
        "Selected" if chosen else "Select",
        id={"home": "select", "run": card.name},
        variant="light" if chosen else "default",
        size="compact-sm",
        disabled=not card.usable or (full and not chosen),
        **aria(label) | {"aria-pressed": chosen},
    )
    if full and not chosen:
        select = html.Div(select, title=f"{MAX_SELECTED} checkpoints are selected; remove one in the header first.")
    parts: list[Component] = [select]
    if card.usable and not card.growing:
        item = of_cards()
        if item is not None and item.thumbnail is not None:
            link = _link(item, item.thumbnail, card.name)
            parts.append(dcc.Link(f"Open {item.title.lower()}", href=link, className="card-link"))
    if card.record is not None or card.problem:
        parts.append(_delete(card))
    return parts


def _delete(card: Card) -> html.Div:
    question = f"Delete run {card.name} with all its checkpoints? This cannot be undone."
    delete = dmc.Button("Delete", variant="subtle", color="gray", size="compact-sm", **aria(f"Delete {card.name}"))
    popover = dmc.Popover(
        [
            dmc.PopoverTarget(delete),
            dmc.PopoverDropdown(
                [
                    dmc.Text(question, size="sm", mb="xs"),
                    dmc.Button(f"Delete {card.name}", id={"home": "delete", "run": card.name}, color="red", size="xs"),
                ]
            ),
        ],
        position="top-end",
        width=260,
        shadow="md",
        trapFocus=True,
    )
    return html.Div(popover, className="card-delete")
