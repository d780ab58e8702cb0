"""What an analysis page shows of a state: pictures, readings, numbers and files, or the message that says why not."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import html
from dash.development.base_component import Component

from landscape_core import presenting
from landscape_core.drawing import export
from landscape_core.drawing.known import Known
from landscape_core.specs import Analysis, InputError, Result

from .. import stores
from ..kept import Kept
from ..shell.address import MAX_SELECTED, write_query
from . import panels
from .entries import Entry, PageState, entries_of, known_of

log = logging.getLogger("landscape.pages")
_logged: set[tuple[str, str, str]] = set()
_finished = Kept[list[go.Figure]](32)  # pictures of finished results: a class looks at the same ones
LARGER = 1.45  # type in classroom mode


@dataclass
class Pictures:
    """The parts of a page that depend on results. `done` are the keys whose finished results are drawn."""

    figures: list[go.Figure] = field(default_factory=list)
    message: list[Component] = field(default_factory=list)
    reading: list[Component] = field(default_factory=list)
    numbers: Component | None = None
    provenance: list[Component] = field(default_factory=list)
    files: list[Component] = field(default_factory=list)
    code: dict[str, str] | None = None
    done: list[str] = field(default_factory=list)

    @property
    def layout(self) -> str:
        """The class of the result: how many pictures stand beside each other."""
        count = len(self.figures)
        return "result" if count <= 1 else f"result result-many result-{count}"

    @property
    def hidden(self) -> list[bool]:
        """Which of the cells are not used."""
        return [index >= len(self.figures) for index in range(MAX_SELECTED)]


def pictures(
    item: Analysis,
    state: PageState,
    view: Mapping[str, Any],
    *,
    dark: bool,
    present: bool,
    running: Collection[str] = (),
    opened: str = "9",
    camera: Mapping[str, Any] | None = None,
) -> Pictures:
    """Draw what is known. `running` are keys of active jobs; results made after the page was `opened` (UTC, ISO) are new.

    `camera` is where 3-D pictures are seen from; without it, each is seen as it was drawn.
    """
    if state["error"]:
        return Pictures(message=[_message("Nothing can be drawn yet", state["error"])])
    if not state["items"]:
        return Pictures(message=[_no_selection(item)])
    problems: list[Component] = [_message(place["text"], place["problem"]) for place in state["items"] if place["problem"]]
    entries = entries_of(state)
    datas = [known_of(entry) for entry in entries]
    if all(data is None for data in datas):
        if not entries:
            return Pictures(message=problems)
        waiting = any(entry.key in running for entry in entries)
        hint = (
            ("Computing …", "The first picture appears as soon as there is something to draw.")
            if waiting
            else ("Not computed yet", "Press Compute: the picture fills in while it is being computed.")
        )
        return Pictures(message=[*problems, _message(*hint)])
    done = [(entry, data) for entry, data in zip(entries, datas, strict=True) if isinstance(data, Result)]
    try:
        figures = _drawn(item, state, entries, datas, view, dark)
    except InputError as error:
        return Pictures(message=[*problems, _message("This cannot be drawn", str(error))])
    except Exception as error:  # of an analysis: its page says so, and nothing else is touched
        return Pictures(message=[*problems, _message("This could not be drawn", _said(item, "drawing", error))])
    try:
        readings = [(entry.label, entry.color, presenting.reading(data, panel=True)) for entry, data in done]
    except Exception as error:
        problems.append(_message("What this shows could not be said", _said(item, "reading", error)))
        readings = []
    if camera:
        figures = [go.Figure(figure).update_scenes(camera=camera) for figure in figures]
    if present:
        figures = [enlarged(figure) for figure in figures]
    return Pictures(
        figures=figures[:MAX_SELECTED],
        message=problems,
        reading=panels.reading_panel(readings),
        numbers=panels.numbers_table(item.arrays, [(entry.label, data) for entry, data in done]),
        provenance=[
            panels.provenance_line(entry.label, entry.color, data, str(data.provenance.get("created", "")) >= opened)
            for entry, data in done
        ],
        files=panels.file_links(
            [(entry.label, entry.color, entry.key) for entry, _ in done], ("npz", "csv", *item.files), view, dark
        ),
        code=_code(item, entries, view),
        done=[entry.key for entry, _ in done],
    )


def _drawn(
    item: Analysis,
    state: PageState,
    entries: Sequence[Entry],
    datas: Sequence[Known | None],
    view: Mapping[str, Any],
    dark: bool,
) -> list[go.Figure]:
    """The pictures; those of finished results are kept, and must not be changed."""
    fields = json.dumps(state["fields"], sort_keys=True)

    def draw() -> list[go.Figure]:
        made = presenting.drawn(
            item,
            datas,
            [entry.source for entry in entries],
            view,
            colors=[entry.color for entry in entries],
            titles=[entry.label for entry in entries],
            dark=dark,
        )
        for figure in made:
            figure.update_layout(uirevision=fields)
            figure.update_scenes(uirevision="camera")
        return made

    if not all(isinstance(data, Result) for data in datas):
        return draw()
    shown = tuple((entry.key, entry.source, entry.color, entry.label) for entry in entries)
    return _finished.get((item.name, shown, fields, json.dumps(view, sort_keys=True, default=str), dark), draw)


def _said(item: Analysis, what: str, error: Exception) -> str:
    """One line for the page; the traceback goes to the log, once for each fault and not at every look."""
    line = f"{type(error).__name__}: {' '.join(str(error).strip().splitlines()[:1])}"
    if (item.name, what, line) not in _logged:
        _logged.add((item.name, what, line))
        log.error("%s %s failed", what, item.name, exc_info=error)
    return f"{line}; see the log"


def enlarged(figure: go.Figure, factor: float = LARGER) -> go.Figure:
    """The figure with all its type, and the margin that holds its title, larger by a factor."""

    def grow(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [grow(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            name: {**item, "size": item["size"] * factor}
            if name.endswith("font") and isinstance(item, dict) and isinstance(item.get("size"), (int, float))
            else grow(item)
            for name, item in value.items()
        }

    content = grow(figure.to_plotly_json())
    top = content["layout"].get("margin", {}).get("t")
    if top is not None:
        content["layout"]["margin"]["t"] = top * factor
    return go.Figure(content)


def _code(item: Analysis, entries: Sequence[Entry], view: Mapping[str, Any]) -> dict[str, str]:
    """The texts that give the pictures elsewhere."""
    sources = [entry.source for entry in entries]
    source = sources[0] if len(sources) == 1 else sources
    spec = item.spec.parse(entries[0].request.values)
    changed = {option.name: view[option.name] for option in item.views if view[option.name] != option.default_value}
    arguments = (item.name, source, spec, changed, stores.home())
    return {"python": export.python_code(*arguments), "command": export.command_line(*arguments)}


def _message(title: str, text: str) -> html.Div:
    return html.Div([html.H2(title), html.P(text)], className="message", role="status")


def _no_selection(item: Analysis) -> html.Div:
    links = []
    for name in reversed(stores.runs().names()):
        try:
            record = stores.runs().read(name)
        except InputError:
            continue
        if record.checkpoints:
            target = item.path + write_query([f"{name}@last"])
            links.append(dmc.Anchor(f"{name} ({record.task})", href=target, className="start-link"))
    if not links:
        return html.Div(
            [
                html.H2("There is no run yet"),
                html.P("Train a network first: it takes seconds."),
                html.Div(dmc.Anchor("Go to Home", href="/", className="start-link"), className="start-links"),
            ],
            className="message",
        )
    return html.Div(
        [
            html.H2("Choose a checkpoint"),
            html.P("Pick a run to begin with; up to four checkpoints can be added in the header."),
            html.Div(links[:12], className="start-links"),
        ],
        className="message",
    )
