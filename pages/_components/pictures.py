"""What an analysis page shows of a state: pictures, readings, numbers and files, or the message that says why not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import html

from landscape_core.figures import export
from landscape_core.figures.style import message_figure
from landscape_core.jobs.requests import Request
from landscape_core.specs import AnalysisSpec, InputError, Result

from . import panels, stores
from .selection import resolve
from .state import MAX_SELECTED, text_of, write_query
from .theme import color_of

if TYPE_CHECKING:
    from .analysis_page import AnalysisPage

log = logging.getLogger("landscape.pages")
SHARED = ("split", "samples", "batchnorm", "dtype", "device")  # what the calibration must have in common with the analysis
LARGER = 1.45  # type in classroom mode


def describe(page: AnalysisPage, spec: AnalysisSpec, selection: Sequence[str]) -> dict[str, Any]:
    """What the page is about to show: for each selected checkpoint its request, key and calibration, or the problem with it."""
    changed = spec.changed()
    state: dict[str, Any] = {"fields": {name: text_of(value) for name, value in changed.items()}, "error": "", "items": []}
    common = {name: value for name, value in changed.items() if name in SHARED}
    for item in resolve(selection):
        entry: dict[str, Any] = {"text": item.text, "label": item.label, "problem": item.problem}
        if item.record is not None and item.checkpoint is not None:
            source = f"{item.record.name}@{item.checkpoint.step}"
            request = Request(page.name, source, changed)
            # All checkpoints of a run cost the same: one measurement, of the first, which stays while the run grows.
            calibration = Request("calibration", f"{item.record.name}@{item.record.checkpoints[0].step}", common)
            try:
                entry |= {"source": source, "key": request.resolve(stores.home(), spec).key, "request": request.to_json()}
                entry |= {"calibration": calibration.key(stores.home()), "calibrate": calibration.to_json()}
            except InputError as error:
                entry["problem"] = str(error)
        state["items"].append(entry)
    return state


def each_drawn(
    datas: Sequence[Any], sources: Sequence[str], colors: Sequence[str], dark: bool, figure: Callable[..., go.Figure]
) -> list[go.Figure]:
    """`figure(data, color=, dark=, title=, compact=)` of each checkpoint; in its place a sentence where there is no picture."""
    figures = []
    for data, title, color in zip(datas, sources, colors, strict=True):
        if data is None:
            figures.append(message_figure("Not computed yet.", dark=dark, title=title, color=color))
            continue
        try:
            figures.append(figure(data, color=color, dark=dark, title=title, compact=len(datas) > 1))
        except InputError as error:
            figures.append(message_figure(str(error), dark=dark, title=title, color=color))
    return figures


def state_of(page: AnalysisPage, values: Mapping[str, Any], selection: Sequence[str]) -> dict[str, Any]:
    """`describe` for the values of the form; with `error`, one line, where they are no Spec."""
    try:
        return describe(page, page.spec.parse(values, remote=True), selection)
    except InputError as error:
        return {"fields": {}, "error": str(error), "items": []}


def entries_of(state: Mapping[str, Any] | None) -> list[tuple[int, dict[str, Any]]]:
    """The places of the selection that can be computed, with their index."""
    return [(index, entry) for index, entry in enumerate((state or {}).get("items", [])) if "calibration" in entry]


@dataclass
class Pictures:
    """The parts of a page that depend on results. `done` are the keys whose finished results are drawn."""

    figures: list[Any] = field(default_factory=list)
    message: list[Any] = field(default_factory=list)
    reading: list[Any] = field(default_factory=list)
    numbers: Any = None
    provenance: list[Any] = field(default_factory=list)
    files: list[Any] = field(default_factory=list)
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
    page: AnalysisPage,
    state: Mapping[str, Any],
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
        return Pictures(message=[_no_selection(page)])
    problems = [_message(entry["text"], entry["problem"]) for entry in state["items"] if entry["problem"]]
    entries = entries_of(state)
    datas = [_data(entry["key"]) for _, entry in entries]
    if all(data is None for data in datas):
        if not entries:
            return Pictures(message=problems)
        waiting = any(entry["key"] in running for _, entry in entries)
        hint = (
            ("Computing …", "The first picture appears in a moment.")
            if waiting
            else ("Not computed yet", "Press Compute: the picture fills in while it is being computed.")
        )
        return Pictures(message=[*problems, _message(*hint)])
    colors = [color_of(index) for index, _ in entries]
    try:
        figures = page.draw(datas, [entry["label"] for _, entry in entries], dict(view), colors, dark)[:MAX_SELECTED]
    except InputError as error:
        return Pictures(message=[*problems, _message("This cannot be drawn", str(error))])
    except Exception as error:
        log.exception("drawing %s failed", page.name)
        line = " ".join(str(error).strip().splitlines()[:1])
        return Pictures(
            message=[*problems, _message("This could not be drawn", f"{type(error).__name__}: {line}; see the log")]
        )
    for figure in figures:
        figure.update_layout(uirevision=json.dumps(state["fields"], sort_keys=True))
        figure.update_scenes(uirevision="camera", **({"camera": camera} if camera else {}))
    if present:
        figures = [enlarged(figure) for figure in figures]
    spec = page.spec.parse(Request.from_json(entries[0][1]["request"]).values)
    done = [(index, entry, data) for (index, entry), data in zip(entries, datas, strict=True) if isinstance(data, Result)]
    labelled = [(entry["label"], color_of(index), data) for index, entry, data in done]
    return Pictures(
        figures=figures,
        message=problems,
        reading=panels.reading_panel([(*item[:2], page.reading(item[2], spec)) for item in labelled] if page.reading else []),
        numbers=panels.numbers_table([(label, data) for label, _, data in labelled]),
        provenance=[
            panels.provenance_line(label, color, data, str(data.provenance.get("created", "")) >= opened)
            for label, color, data in labelled
        ],
        files=panels.file_links([(e["label"], color_of(i), e["key"]) for i, e, _ in done], page.downloads, view, dark),
        code=_code(page, [entry["source"] for _, entry in entries], spec),
        done=[entry["key"] for _, entry, _ in done],
    )


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


def _data(key: str) -> Any:
    """The finished result, else what a job has so far, else None."""
    result = stores.results().get(key)
    return result if result is not None else stores.jobs().partial(key)


def _code(page: AnalysisPage, sources: list[str], spec: AnalysisSpec) -> dict[str, str]:
    source: Any = sources[0] if len(sources) == 1 else sources
    return {
        "python": export.python_code(page.name, source, spec),
        "command": export.command_line(page.name, source, spec),
    }


def _message(title: str, text: str) -> html.Div:
    return html.Div([html.H2(title), html.P(text)], className="message", role="status")


def _no_selection(page: AnalysisPage) -> html.Div:
    links = []
    for name in reversed(stores.runs().names()):
        try:
            record = stores.runs().read(name)
        except InputError:
            continue
        if record.checkpoints:
            target = page.path + write_query([f"{name}@last"])
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
