"""The callbacks behind an AnalysisPage: form to state, state to address, jobs to pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dash import ALL, ClientsideFunction, Input, Output, State, callback, clientside_callback, ctx, no_update
from dash.exceptions import PreventUpdate

from landscape_core.jobs.requests import Request
from landscape_core.specs import InputError

from . import forms, panels, stores
from .jobs import launch, launch_output, shape, status, watch_output
from .pictures import entries_of, pictures, state_of
from .state import MAX_SELECTED
from .theme import color_of

if TYPE_CHECKING:
    from .analysis_page import AnalysisPage


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
    clientside_callback(ClientsideFunction("landscape", "keys"), watch_output(page.name), Input(page.id("state"), "data"))
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
        Output(page.id("drawn"), "modified_timestamp"),
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


def _controls(page: AnalysisPage, kind: type[Input] | type[State]) -> list[Any]:
    """The contents of all controls of the form, as what triggers a callback or as what it reads."""
    return [kind(forms.field_id(page.name, ALL, prop), prop) for prop in ("value", "checked")]  # type: ignore[arg-type]


def _form_state(page: AnalysisPage, selection: Sequence[str] | None) -> dict[str, Any]:
    """The state that the form stands for, in a callback whose first states are `_controls`."""
    controls = [item for group in ctx.states_list[:2] for item in group]
    if not controls:
        raise PreventUpdate
    return state_of(page, forms.read_form(page.spec, controls), selection or [])


def _state(page: AnalysisPage) -> None:
    clientside_callback(
        ClientsideFunction("landscape", "settle"),
        Output(page.id("settled"), "modified_timestamp"),
        *_controls(page, Input),
        State(page.id("about"), "data"),
        prevent_initial_call=True,  # the layout has made the first state
    )

    @callback(
        Output(page.id("state"), "data"),
        Output(page.id("validation"), "children"),
        Input(page.id("settled"), "data"),
        Input("selection", "data"),
        *_controls(page, State),
        State(page.id("state"), "data"),
        prevent_initial_call=True,
    )
    def form_to_state(_settled: Any, selection: Sequence[str] | None, _values: Any, _checked: Any, before: Any) -> Any:
        state = _form_state(page, selection)
        return no_update if state == before else state, state["error"]

    @callback(
        launch_output(f"{page.name}-calibration"),
        Input(page.id("state"), "data"),
        prevent_initial_call="initial_duplicate",
    )
    def calibrate(state: Mapping[str, Any] | None) -> Any:
        """Measure once what one evaluation costs, so that the price stands there before anything is begun."""
        missing: dict[str, Request] = {}
        for _, entry in entries_of(state):
            if stores.results().has(entry["calibration"]) or stores.results().has(entry["key"]):
                continue
            view = stores.jobs().view(entry["calibration"])
            if view is None or view.state in ("done", "interrupted"):
                missing[entry["calibration"]] = Request.from_json(entry["calibrate"])
        return launch(missing.values()) if missing else no_update


def _work(page: AnalysisPage) -> None:
    @callback(
        Output(page.id("status"), "children"),
        Output(page.id("rows"), "data"),
        Output(page.id("cost"), "children"),
        Output(page.id("run"), "disabled"),
        Output(page.id("run"), "children"),
        Input("pulse", "data"),
        Input(page.id("state"), "data"),
        State(page.id("rows"), "data"),
    )
    def watch(pulse: Mapping[str, Any], state: Mapping[str, Any] | None, before: Any) -> Any:
        jobs = pulse["jobs"]
        left = [(index, entry) for index, entry in entries_of(state) if not stores.results().has(entry["key"])]
        shown = [
            (index, entry, jobs[entry["key"]])
            for index, entry in left
            if entry["key"] in jobs and jobs[entry["key"]]["state"] != "done"
        ]
        shapes = [[index, entry["label"], shape(job)] for index, entry, job in shown]
        rows: Any = no_update
        if shapes != before:
            rows = [status(job, title=entry["label"], color=color_of(index)) for index, entry, job in shown]
        states = [job["state"] for _, _, job in shown]
        if not left:
            return rows, shapes, "", True, "Computed" if entries_of(state) else "Compute"
        if len(shown) == len(left) and all(word in ("running", "queued") for word in states):
            return rows, shapes, "", True, "Computing …"
        resume = any(word in ("cancelled", "interrupted") for word in states)
        return rows, shapes, _cost(page, [entry for _, entry in left], jobs), False, "Resume" if resume else "Compute"

    @callback(
        *[launch_output(f"{page.name}-{index}") for index in range(MAX_SELECTED)],
        forms.register_sender(page.id("run")),
        *_controls(page, State),
        State("selection", "data"),
        prevent_initial_call=True,
    )
    def run(clicks: int | None, _values: Any, _checked: Any, selection: Sequence[str] | None) -> Any:
        if not clicks:
            raise PreventUpdate
        launches: list[Any] = [no_update] * MAX_SELECTED
        # What the form shows now, and not the state: it follows only when the typing pauses.
        for index, entry in entries_of(_form_state(page, selection)):
            if not stores.results().has(entry["key"]):
                launches[index] = launch([Request.from_json(entry["request"])])
        return launches


def _cost(page: AnalysisPage, entries: Sequence[Mapping[str, Any]], jobs: Mapping[str, Any]) -> Any:
    try:
        spec = page.spec.parse(Request.from_json(entries[0]["request"]).values)
        records = [stores.runs().resolve(entry["source"])[0] for entry in entries]
    except InputError as error:
        return str(error)  # a run was deleted while the page was open
    found = [stores.results().get(entry["calibration"]) for entry in entries]
    lost = any(jobs.get(entry["calibration"], {}).get("state") in ("failed", "cancelled") for entry in entries)
    return panels.cost_line(spec, records, found, not lost)


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
        prevent_initial_call=True,
    )
    def draw(want: Mapping[str, Any] | None, state: Mapping[str, Any] | None) -> Any:
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
            figures,
            found.hidden,
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
