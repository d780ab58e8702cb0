"""The callbacks behind the page of an analysis: form to state, state to address, jobs to pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dash import ALL, ClientsideFunction, Input, Output, State, callback, clientside_callback, ctx, no_update
from dash.exceptions import PreventUpdate

from landscape_core.jobs.price import seconds
from landscape_core.jobs.requests import Request
from landscape_core.specs import Analysis, InputError

from .. import forms, stores
from ..shell.address import MAX_SELECTED
from ..shell.jobs import launch, launch_output, shape, status, watch_output
from ..words import duration
from . import panels
from .entries import Entry, PageState, entries_of, part_id, state_of
from .pictures import pictures

LONG = 3600.0  # seconds from which on the button itself says how long it will take
Answer = Any  # what a callback gives Dash: a value for each output, or no_update


def register_callbacks(page: Analysis) -> None:
    """Register the callbacks of the page of an analysis. Called once."""
    _address(page)
    _state(page)
    _work(page)
    _pictures(page)


def _address(page: Analysis) -> None:
    """Between the controls, the page's stores and the address: all in the browser."""
    views = {"value": ALL, "checked": ALL}
    clientside_callback(
        ClientsideFunction("landscape", "view"),
        Output(part_id(page.name, "view"), "data"),
        *[Input({"view": page.name, "name": name, "prop": prop}, prop) for prop, name in views.items()],
    )
    clientside_callback(
        ClientsideFunction("landscape", "keys"), watch_output(page.name), Input(part_id(page.name, "state"), "data")
    )
    clientside_callback(
        ClientsideFunction("landscape", "writePage"),
        Output(part_id(page.name, "written"), "data"),
        Input(part_id(page.name, "state"), "data"),
        Input(part_id(page.name, "view"), "data"),
        State(part_id(page.name, "about"), "data"),
    )
    clientside_callback(
        ClientsideFunction("landscape", "wanted"),
        Output(part_id(page.name, "want"), "data"),
        Input("pulse", "data"),
        Input(part_id(page.name, "state"), "data"),
        Input(part_id(page.name, "view"), "data"),
        Input("dark", "data"),
        Input("present", "data"),
        State(part_id(page.name, "about"), "data"),
    )
    clientside_callback(
        ClientsideFunction("landscape", "drawn"),
        Output(part_id(page.name, "drawn"), "modified_timestamp"),
        Input(part_id(page.name, "drawn"), "data"),
        State(part_id(page.name, "about"), "data"),
        prevent_initial_call=True,
    )
    clientside_callback(
        ClientsideFunction("landscape", "linkCameras"),
        Output(part_id(page.name, "graphs"), "title"),
        Input({"graph": page.name, "index": ALL}, "figure"),
        State(part_id(page.name, "graphs"), "id"),
    )
    clientside_callback(
        ClientsideFunction("landscape", "copy"),
        Output(part_id(page.name, "copied"), "children"),
        Input({"copy": page.name, "what": ALL}, "n_clicks"),
        State(part_id(page.name, "code"), "data"),
        prevent_initial_call=True,
    )
    clientside_callback(
        ClientsideFunction("landscape", "saveImages"),
        Output(part_id(page.name, "copied"), "children", allow_duplicate=True),
        Input({"image": page.name, "format": ALL}, "n_clicks"),
        State(part_id(page.name, "about"), "data"),
        State(part_id(page.name, "state"), "data"),
        prevent_initial_call=True,
    )


def _controls(page: Analysis, kind: type[Input] | type[State]) -> list[Input | State]:
    """The contents of all controls of the form, as what triggers a callback or as what it reads."""
    return [kind(forms.field_id(page.name, ALL, prop), prop) for prop in ("value", "checked")]  # type: ignore[arg-type]


def _form_state(page: Analysis, selection: Sequence[str] | None) -> PageState:
    """The state that the form stands for, in a callback whose first states are `_controls`."""
    controls = [item for group in ctx.states_list[:2] for item in group]
    if not controls:
        raise PreventUpdate
    return state_of(page, forms.read_form(page.spec, controls), selection or [])


def _state(page: Analysis) -> None:
    clientside_callback(
        ClientsideFunction("landscape", "settle"),
        Output(part_id(page.name, "settled"), "modified_timestamp"),
        *_controls(page, Input),
        State(part_id(page.name, "about"), "data"),
        prevent_initial_call=True,  # the layout has made the first state
    )

    @callback(
        Output(part_id(page.name, "state"), "data"),
        Output(part_id(page.name, "validation"), "children"),
        Input(part_id(page.name, "settled"), "data"),
        Input("selection", "data"),
        *_controls(page, State),
        State(part_id(page.name, "state"), "data"),
        prevent_initial_call=True,
    )
    def form_to_state(
        _settled: object, selection: Sequence[str] | None, _values: object, _checked: object, before: PageState | None
    ) -> Answer:
        state = _form_state(page, selection)
        return no_update if state == before else state, state["error"]

    @callback(
        launch_output(f"{page.name}-calibration"),
        Input(part_id(page.name, "state"), "data"),
        prevent_initial_call="initial_duplicate",
    )
    def calibrate(state: PageState | None) -> Answer:
        """Measure once what one evaluation costs, so that the price stands there before anything is begun."""
        missing: dict[str, Request] = {}
        for entry in entries_of(state):
            if stores.results().has(entry.calibration) or stores.results().has(entry.key):
                continue
            view = stores.jobs().view(entry.calibration)
            if view is None or view.state in ("done", "interrupted"):
                missing[entry.calibration] = entry.calibrate
        return launch(missing.values(), automatic=True) if missing else no_update


def _work(page: Analysis) -> None:
    @callback(
        Output(part_id(page.name, "status"), "children"),
        Output(part_id(page.name, "rows"), "data"),
        Output(part_id(page.name, "cost"), "children"),
        Output(part_id(page.name, "run"), "disabled"),
        Output(part_id(page.name, "run"), "children"),
        Input("pulse", "data"),
        Input(part_id(page.name, "state"), "data"),
        State(part_id(page.name, "rows"), "data"),
    )
    def watch(pulse: Mapping[str, Any], state: PageState | None, before: object) -> Answer:
        jobs, entries = pulse["jobs"], entries_of(state)
        left = [entry for entry in entries if not stores.results().has(entry.key)]
        shown = [(entry, jobs[entry.key]) for entry in left if entry.key in jobs and jobs[entry.key]["state"] != "done"]
        shapes = [[entry.place, entry.label, shape(job)] for entry, job in shown]
        rows: Answer = no_update
        if shapes != before:
            rows = [status(job, title=entry.label, color=entry.color) for entry, job in shown]
        states = [job["state"] for _, job in shown]
        if not left:
            return rows, shapes, "", True, "Computed" if entries else "Compute"
        if len(shown) == len(left) and all(word in ("running", "queued") for word in states):
            return rows, shapes, "", True, "Computing …"
        resume = any(word in ("cancelled", "interrupted") for word in states)
        cost, expected = _cost(page, left, jobs)
        word = "Resume" if resume else "Compute"
        return rows, shapes, cost, False, f"{word} (about {duration(expected)})" if expected > LONG else word

    @callback(
        *[launch_output(f"{page.name}-{index}") for index in range(MAX_SELECTED)],
        Output(part_id(page.name, "state"), "data", allow_duplicate=True),
        forms.register_sender(part_id(page.name, "run")),
        *_controls(page, State),
        State("selection", "data"),
        State(part_id(page.name, "state"), "data"),
        prevent_initial_call=True,
    )
    def run(
        clicks: int | None, _values: object, _checked: object, selection: Sequence[str] | None, before: PageState | None
    ) -> Answer:
        if not clicks:
            raise PreventUpdate
        launches: list[Answer] = [no_update] * MAX_SELECTED
        # What the form shows now, and not the state: it follows only when the typing pauses, and runs are deleted.
        state = _form_state(page, selection)
        for entry in entries_of(state):
            if not stores.results().has(entry.key):
                launches[entry.place] = launch([entry.request])
        return *launches, no_update if state == before else state


def _cost(page: Analysis, entries: Sequence[Entry], jobs: Mapping[str, Any]) -> tuple[Answer, float]:
    """What computing costs, in words, and the expected seconds, as far as they are known."""
    try:
        spec = page.spec.parse(entries[0].request.values)
        records = [stores.runs().resolve(entry.source)[0] for entry in entries]
    except InputError as error:
        return str(error), 0.0  # a run was deleted while the page was open
    found = [stores.results().get(entry.calibration) for entry in entries]
    lost = any(jobs.get(entry.calibration, {}).get("state") in ("failed", "cancelled") for entry in entries)
    expected = sum(seconds(spec, item) or 0.0 for item in found if item is not None)
    return panels.cost_line(spec, records, found, not lost), expected


def _pictures(page: Analysis) -> None:
    @callback(
        *[Output({"graph": page.name, "index": index}, "figure") for index in range(MAX_SELECTED)],
        *[Output({"cell": page.name, "index": index}, "hidden") for index in range(MAX_SELECTED)],
        Output(part_id(page.name, "result"), "hidden"),
        Output(part_id(page.name, "result"), "className"),
        Output(part_id(page.name, "empty"), "children"),
        Output(part_id(page.name, "reading"), "children"),
        Output(part_id(page.name, "numbers"), "children"),
        Output(part_id(page.name, "provenance"), "children"),
        Output(part_id(page.name, "files"), "children"),
        Output(part_id(page.name, "code"), "data"),
        Output(part_id(page.name, "drawn"), "data"),
        Input(part_id(page.name, "want"), "data"),
        State(part_id(page.name, "state"), "data"),
        prevent_initial_call=True,
    )
    def draw(want: Mapping[str, Any] | None, state: PageState | None) -> Answer:
        if not want or state is None:
            raise PreventUpdate
        view = {option.name: want["view"].get(option.name, option.default_value) for option in page.views}
        found = pictures(
            page,
            state,
            view,
            dark=bool(want["dark"]),
            present=bool(want["present"]),
            running=want["running"],
            opened=want["opened"],
            camera=want["camera"],
        )
        figures = [*found.figures, *[no_update] * (MAX_SELECTED - len(found.figures))]
        return (
            *figures,
            *found.hidden,
            not found.figures,
            found.layout,
            found.message,
            found.reading,
            found.numbers,
            found.provenance,
            found.files,
            found.code,
            {"id": want["id"]},
        )
