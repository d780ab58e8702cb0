"""The callbacks behind an AnalysisPage: form to state, state to address, jobs to pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Input, Output, State, callback, clientside_callback, ctx, html, no_update
from dash.exceptions import PreventUpdate

from landscape_core.figures import export
from landscape_core.jobs.requests import Request
from landscape_core.specs import AnalysisSpec, InputError, Result

from . import forms, panels, stores
from .jobs import launch, launch_output, status
from .selection import resolve
from .state import MAX_SELECTED, text_of, write_query
from .theme import color_of

if TYPE_CHECKING:
    from .analysis_page import AnalysisPage

log = logging.getLogger("landscape.pages")
SHARED = ("split", "samples", "batchnorm", "dtype", "device")  # what the calibration must have in common with the analysis
TYPE_IN_CLASS = 17  # points


def describe(page: AnalysisPage, spec: AnalysisSpec, selection: Sequence[str]) -> dict[str, Any]:
    """What the page is about to show: for each selected checkpoint its request, key and calibration, or the problem with it."""
    state: dict[str, Any] = {
        "fields": {name: text_of(value) for name, value in spec.changed().items()},
        "error": "",
        "items": [],
    }
    home = stores.home()
    common = {name: value for name, value in spec.changed().items() if name in SHARED}
    for item in resolve(selection):
        entry: dict[str, Any] = {"text": item.text, "label": item.label, "problem": item.problem}
        if item.record is not None and item.checkpoint is not None:
            source = f"{item.record.name}@{item.checkpoint.step}"
            request, calibration = Request(page.name, source, spec.changed()), Request("calibration", source, common)
            try:
                entry |= {"source": source, "key": request.key(home), "request": request.to_json()}
                entry |= {"calibration": calibration.key(home), "calibrate": calibration.to_json()}
            except InputError as error:
                entry["problem"] = str(error)
        state["items"].append(entry)
    return state


def register_callbacks(page: AnalysisPage) -> None:
    """Register the callbacks of a page. Called once, when it is declared."""
    _address(page)
    _state(page)
    _work(page)
    _pictures(page)


def _address(page: AnalysisPage) -> None:
    """Between the controls, the page's stores and the address: all in the browser."""
    views = {"value": ALL, "checked": ALL}
    clientside_callback(
        ClientsideFunction("landscape", "view"),
        Output(page.id("view"), "data"),
        *[Input({"view": page.name, "name": name, "prop": prop}, prop) for prop, name in views.items()],
    )
    clientside_callback(
        ClientsideFunction("landscape", "writePage"),
        Output(page.id("written"), "data"),
        Input(page.id("state"), "data"),
        Input(page.id("view"), "data"),
        State(page.id("about"), "data"),
    )
    clientside_callback(
        ClientsideFunction("landscape", "wanted"),
        Output(page.id("want"), "data"),
        Input("pulse", "data"),
        Input(page.id("state"), "data"),
        Input(page.id("view"), "data"),
        Input("dark", "data"),
        Input("present", "data"),
        State(page.id("about"), "data"),
    )
    clientside_callback(
        ClientsideFunction("landscape", "drawn"),
        Output(page.id("want"), "data", allow_duplicate=True),
        Input(page.id("drawn"), "data"),
        State(page.id("about"), "data"),
        prevent_initial_call=True,
    )
    clientside_callback(
        ClientsideFunction("landscape", "linkCameras"),
        Output(page.id("graphs"), "title"),
        Input({"graph": page.name, "index": ALL}, "figure"),
        State(page.id("graphs"), "id"),
    )
    clientside_callback(
        ClientsideFunction("landscape", "copy"),
        Output(page.id("copied"), "children"),
        Input({"copy": page.name, "what": ALL}, "n_clicks"),
        State(page.id("code"), "data"),
        prevent_initial_call=True,
    )
    clientside_callback(
        ClientsideFunction("landscape", "saveImages"),
        Output(page.id("copied"), "children", allow_duplicate=True),
        Input({"image": page.name, "format": ALL}, "n_clicks"),
        State(page.id("about"), "data"),
        State(page.id("state"), "data"),
        prevent_initial_call=True,
    )


def _state(page: AnalysisPage) -> None:
    @callback(
        Output(page.id("state"), "data"),
        Output(page.id("validation"), "children"),
        Input(forms.field_id(page.name, ALL, "value"), "value"),  # type: ignore[arg-type]
        Input(forms.field_id(page.name, ALL, "checked"), "checked"),  # type: ignore[arg-type]
        Input("selection", "data"),
    )
    def form_to_state(_values: Any, _checked: Any, selection: Sequence[str] | None) -> Any:
        controls = [item for group in ctx.inputs_list[:2] for item in group]
        if not controls:
            raise PreventUpdate
        try:
            spec = page.spec.parse(forms.read_form(page.spec, controls), remote=True)
        except InputError as error:
            return {"fields": {}, "error": str(error), "items": []}, str(error)
        return describe(page, spec, selection or []), ""

    @callback(
        launch_output(f"{page.name}-calibration"),
        Input(page.id("state"), "data"),
        prevent_initial_call=True,
    )
    def calibrate(state: Mapping[str, Any] | None) -> Any:
        """Measure once what one evaluation costs, so that the price stands there before anything is begun."""
        missing = []
        for entry in _good(state):
            view = stores.jobs().view(entry["calibration"])
            if not stores.results().has(entry["calibration"]) and not stores.results().has(entry["key"]):
                if view is None or view.state == "interrupted":
                    missing.append(Request.from_json(entry["calibrate"]))
        return launch(missing) if missing else no_update


def _work(page: AnalysisPage) -> None:
    @callback(
        Output(page.id("status"), "children"),
        Output(page.id("cost"), "children"),
        Output(page.id("run"), "disabled"),
        Output(page.id("run"), "children"),
        Input("pulse", "data"),
        Input(page.id("state"), "data"),
    )
    def watch(pulse: Mapping[str, Any], state: Mapping[str, Any] | None) -> Any:
        jobs, entries = pulse["jobs"], _good(state)
        if not entries:
            return [], [], True, "Compute"
        rows, left, active, begun = [], [], False, False
        for index, entry in enumerate(state["items"] if state else []):
            if "key" not in entry or stores.results().has(entry["key"]):
                continue
            left.append(entry)
            job = jobs.get(entry["key"])
            if job is not None and job["state"] != "done":
                rows.append(status(job, title=entry["label"], color=color_of(index), unit=page.unit))
                active |= job["state"] in ("running", "queued")
                begun |= job["state"] in ("cancelled", "interrupted")
        if not left:
            return rows, "", True, "Computed"
        if active and len(rows) == len(left):
            return rows, "", True, "Computing …"
        spec = page.spec.parse(Request.from_json(left[0]["request"]).values)
        records = [stores.runs().resolve(entry["source"])[0] for entry in left]
        found = [stores.results().get(entry["calibration"]) for entry in left]
        failed = any(jobs.get(entry["calibration"], {}).get("state") in ("failed", "cancelled") for entry in left)
        return rows, panels.cost_line(spec, records, found, not failed), False, "Resume" if begun else "Compute"

    @callback(
        *[launch_output(f"{page.name}-{index}") for index in range(MAX_SELECTED)],
        Input(page.id("run"), "n_clicks"),
        State(page.id("state"), "data"),
        prevent_initial_call=True,
    )
    def run(clicks: int | None, state: Mapping[str, Any] | None) -> Any:
        if not clicks or not state:
            raise PreventUpdate
        launches: list[Any] = [no_update] * MAX_SELECTED
        for index, entry in enumerate(state["items"]):
            if "key" in entry and not stores.results().has(entry["key"]):
                launches[index] = launch([Request.from_json(entry["request"])])
        return launches


def _pictures(page: AnalysisPage) -> None:
    @callback(
        Output({"graph": page.name, "index": ALL}, "figure"),
        Output({"cell": page.name, "index": ALL}, "hidden"),
        Output(page.id("result"), "hidden"),
        Output(page.id("result"), "className"),
        Output(page.id("empty"), "children"),
        Output(page.id("reading"), "children"),
        Output(page.id("numbers"), "children"),
        Output(page.id("provenance"), "children"),
        Output(page.id("files"), "children"),
        Output(page.id("code"), "data"),
        Output(page.id("drawn"), "data"),
        Input(page.id("want"), "data"),
        State(page.id("state"), "data"),
        State(page.id("drawn"), "data"),
        prevent_initial_call=True,
    )
    def draw(want: Mapping[str, Any] | None, state: Mapping[str, Any] | None, before: Mapping[str, Any] | None) -> Any:
        if not want or state is None:
            raise PreventUpdate
        running = {*(before or {}).get("running", []), *want["running"]}
        drawn = {"visit": want["visit"], "id": want["id"], "running": sorted(running)}
        hide, none = [True] * MAX_SELECTED, [no_update] * MAX_SELECTED

        def nothing(message: Any) -> Any:
            return none, hide, True, "result", message, [], [], [], [], None, drawn

        if state["error"]:
            return nothing(_message("Nothing to draw yet", state["error"]))
        if not state["items"]:
            return nothing(_no_selection(page))
        problems = [_message(entry["text"], entry["problem"]) for entry in state["items"] if entry["problem"]]
        entries = [(index, entry) for index, entry in enumerate(state["items"]) if "key" in entry]
        datas = [_data(entry["key"]) for _, entry in entries]
        if all(data is None for data in datas):
            hint = _message("Not computed yet", "Press Compute: the picture fills in while it is being computed.")
            waiting = any(entry["key"] in want["running"] for _, entry in entries)
            return nothing(
                [
                    *problems,
                    *(
                        []
                        if problems and not entries
                        else [_message("Computing …", "The first picture appears in a moment.") if waiting else hint]
                    ),
                ]
            )
        colors = [color_of(index) for index, _ in entries]
        view = {option.name: want["view"].get(option.name, option.default_value) for option in page.views}
        try:
            figures = page.draw(datas, [entry["label"] for _, entry in entries], view, colors, bool(want["dark"]))
        except InputError as error:
            return nothing([*problems, _message("This cannot be drawn", str(error))])
        except Exception as error:
            log.exception("drawing %s failed", page.name)
            line = str(error).strip().splitlines()[:1]
            return nothing(
                [*problems, _message("This could not be drawn", f"{type(error).__name__}: {' '.join(line)}; see the log.")]
            )
        pictures, shown = list(none), list(hide)
        for place, figure in enumerate(figures[:MAX_SELECTED]):
            figure.update_layout(uirevision=json.dumps(state["fields"], sort_keys=True))
            figure.update_scenes(uirevision="camera")
            if want["present"]:
                figure.update_layout(font_size=TYPE_IN_CLASS)
            pictures[place], shown[place] = figure, False
        done = [(index, entry, data) for (index, entry), data in zip(entries, datas, strict=True) if isinstance(data, Result)]
        spec = page.spec.parse(Request.from_json(entries[0][1]["request"]).values)
        readings = []
        if page.reading is not None:
            readings = [(entry["label"], color_of(index), page.reading(data, spec)) for index, entry, data in done]
        layout = "result" if len(figures) == 1 else f"result result-many result-{len(figures)}"
        return (
            pictures,
            shown,
            False,
            layout,
            problems,
            panels.reading_panel(readings),
            panels.numbers_table([(entry["label"], data) for _, entry, data in done]),
            [panels.provenance_line(entry["label"], color_of(i), data, entry["key"] in running) for i, entry, data in done],
            panels.file_links(
                [(e["label"], color_of(i), e["key"]) for i, e, _ in done], page.downloads, view, bool(want["dark"])
            ),
            _code(page, [entry["source"] for _, entry in entries], spec),
            drawn,
        )


def _good(state: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [entry for entry in (state or {}).get("items", []) if "key" in entry and "calibration" in entry]


def _data(key: str) -> Any:
    """The finished result, else what a job has so far, else None."""
    return stores.results().get(key) or stores.jobs().partial(key)


def _code(page: AnalysisPage, sources: list[str], spec: AnalysisSpec) -> dict[str, str]:
    source: Any = sources[0] if len(sources) == 1 else sources
    return {
        "python": export.python_code(page.name, source, spec),
        "command": export.command_line(page.name, source, spec),
    }


def _message(title: str, text: str) -> html.Div:
    return html.Div([html.H2(title), html.P(text)], className="message", role="status")


def _no_selection(page: AnalysisPage) -> html.Div:
    names = [name for name in reversed(stores.runs().names())]
    links = []
    for name in names:
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
                dmc.Anchor("Go to Home", href="/", className="start-link"),
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
