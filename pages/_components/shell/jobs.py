"""Jobs on a page: the one launcher, the one poll, and how a job looks in each of its states.

A page puts `launcher(name)` into its layout and writes `launch([request, ...])` into `launch_output(name)`: the requests are
then put into the queue of jobs, to be done in order; requests that do not need each other get launchers of their own.
Everything a page shows of a job it reads from the job store: the `pulse` store holds a `Pulse` and changes whenever one of the
active jobs, or of those whose keys the page puts into its `watcher(name)`, has changed. So reload, a second tab and a closed
one need no special case. A page's callback must not write to the shell's stores: on other pages its other outputs are missing.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import dash_mantine_components as dmc
from dash import (
    ALL,
    MATCH,
    ClientsideFunction,
    Input,
    NoUpdate,
    Output,
    State,
    callback,
    clientside_callback,
    ctx,
    dcc,
    html,
    no_update,
    set_props,
)
from dash.dependencies import Wildcard
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from landscape_core.drawing.numbers import number
from landscape_core.jobs.queue import enqueue
from landscape_core.jobs.requests import Request
from landscape_core.jobs.store import JobView
from landscape_core.specs import InputError

from .. import stores
from ..words import duration
from .theme import aria

RECENT = 8  # ended jobs that the list still shows
SEEN = 10.0  # seconds for which every page is told of a job that has ended, whether or not it saw it run


class Job(TypedDict):
    """What the browser knows of a job: fields of its `JobView`, and how they are shown."""

    key: str
    kind: str
    source: str | None
    title: str
    values: dict[str, Any]  # of its Spec, JSON
    state: str
    error: str
    total: float
    version: int
    started: float | None
    updated: float
    cancelling: bool
    mine: bool  # this browser asked for it
    words: str
    progress: float


class Pulse(TypedDict):
    """What the poll brings: the jobs by key, and the keys that the header's list shows, the newest first."""

    jobs: dict[str, Job]
    recent: list[str]
    waiting: int  # all that wait: `jobs` has only the first


class Answer(TypedDict):
    """What every poll answers, also when nothing has changed."""

    gate: int | None
    digest: str
    busy: bool
    recent: list[str]
    id: str


class Launch(TypedDict):
    """Requests to be done in order; `id` tells one launch from the next. An automatic one nobody clicked for."""

    id: str
    requests: list[str]
    automatic: bool


# -- launching -----------------------------------------------------------------------------------------------------


def _launcher_id(name: str | Wildcard, part: str) -> dict[str, str | Wildcard]:
    return {"launcher": name, "part": part}


def launcher(name: str) -> html.Div:
    """The stores through which a page launches requests under this name."""
    return html.Div([dcc.Store(_launcher_id(name, "requests")), dcc.Store(_launcher_id(name, "keys"))], hidden=True)


def launch_output(name: str) -> Output:
    """Where a callback writes `launch(...)`."""
    return Output(_launcher_id(name, "requests"), "data", allow_duplicate=True)


def launch(requests: Iterable[Request], *, automatic: bool = False) -> Launch:
    """What makes a launcher do these requests in order, each after the one before is done. People's clicks go before automatic
    ones.
    """
    return {"id": uuid.uuid4().hex, "requests": [request.to_json() for request in requests], "automatic": automatic}


@callback(
    Output(_launcher_id(MATCH, "keys"), "data"),
    Input(_launcher_id(MATCH, "requests"), "data"),
    background=True,
    interval=1000,
    prevent_initial_call=True,
)
def _work(data: Launch | None) -> list[str]:
    """Runs in the thread of background callbacks. Gives back the key of what waits now, never a picture."""
    if not data:
        raise PreventUpdate
    try:
        requests = [Request.from_json(text, remote=True) for text in data["requests"]]
        key = enqueue(requests, stores.home(), stores.asker(), bool(data.get("automatic")))
    except InputError as error:
        set_props("refused", {"children": str(error), "hide": False})
        return []
    return [key] if key else []


def refusal() -> dmc.Alert:
    """Where the frame shows why something could not be launched."""
    return dmc.Alert(id="refused", hide=True, withCloseButton=True, color="orange", variant="light", className="problem")


# -- watching ------------------------------------------------------------------------------------------------------


def poll_parts() -> html.Div:
    """The gate and the pulse: part of the shell, once. The clock is in assets/gate.js: what nobody asks for costs nothing."""
    return html.Div(
        [
            dcc.Store("gate"),
            dcc.Store("pulse", data={"jobs": {}, "recent": [], "waiting": 0}),
            dcc.Store("pulse-ack"),
            dcc.Store("hurried"),
            dcc.Store("watched", data=[]),
            watcher("jobs"),
            launcher("jobs"),
        ],
        hidden=True,
    )


def watcher(name: str, keys: Iterable[str] = ()) -> dcc.Store:
    """The store for the keys of the jobs that a page wants in the pulse although nobody works on them.

    A callback that writes them must not depend on the pulse: Dash holds back what stands in a circle while a job runs.
    """
    return dcc.Store({"watch": name}, data=list(keys))


def watch_output(name: str) -> Output:
    """Where a callback writes the list of those keys."""
    return Output({"watch": name}, "data")


clientside_callback(
    ClientsideFunction("landscape", "watched"),
    Output("watched", "data"),
    Input({"watch": ALL}, "data"),
    State("watched", "data"),
)
clientside_callback(
    ClientsideFunction("landscape", "tock"), Output("pulse-ack", "modified_timestamp"), Input("pulse-ack", "data")
)

clientside_callback(
    ClientsideFunction("landscape", "hurry"), Output("hurried", "data"), Input(_launcher_id(ALL, "requests"), "data")
)

clientside_callback(
    ClientsideFunction("landscape", "follow"),
    Output({"job": "words", "key": ALL, "at": ALL}, "children"),
    Output({"job": "bar", "key": ALL, "at": ALL}, "value"),
    Input("pulse", "data"),
    State({"job": "words", "key": ALL, "at": ALL}, "id"),
    State({"job": "bar", "key": ALL, "at": ALL}, "id"),
)


@callback(
    Output("pulse", "data"),
    Output("pulse-ack", "data"),
    Input("gate", "data"),
    Input("watched", "data"),
    State("pulse-ack", "data"),
    prevent_initial_call=True,
)
def _pulse(gate: int | None, watched: Sequence[str] | None, ack: Answer | None) -> tuple[Pulse | NoUpdate, Answer]:
    """The jobs that matter to this tab, sent only when something has changed."""
    content = snapshot(watched or (), ack["recent"] if ack else ())
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    busy = any(job["state"] in ("queued", "running") for job in content["jobs"].values())
    answer = Answer(gate=gate, digest=digest, busy=busy, recent=content["recent"], id=uuid.uuid4().hex)
    return (no_update if ack and ack["digest"] == digest else content), answer


def snapshot(watched: Sequence[str], recent: Sequence[str] = ()) -> Pulse:
    """`jobs`: views by key of the active jobs, the watched and the recent ones; `recent`: what the list shows, newest first."""
    store = stores.jobs()
    active, asker = store.active(), stores.asker()
    views = {view.key: view for view in active}
    order = list(dict.fromkeys([*views, *store.lately(SEEN), *recent]))
    for key in [*watched, *order]:
        if key not in views and (view := store.view(key)) is not None:
            views[key] = view
    jobs = {key: _shown(view, asker) for key, view in views.items()}
    waiting = max(len({item.key for item in store.turns()}), sum(view.state == "queued" for view in active))
    return {"jobs": jobs, "recent": [key for key in order if key in jobs][: max(RECENT, len(active))], "waiting": waiting}


def _shown(view: JobView, asker: str) -> Job:
    # What changes with every look without anything having happened would send the whole snapshot each time.
    return Job(
        key=view.key,
        kind=view.kind,
        source=view.source,
        title=view.title,
        values=view.values,
        state=view.state,
        error=view.error,
        total=view.total,
        version=view.version,
        started=view.started,
        updated=0.0 if view.state == "running" else view.updated,
        cancelling=view.cancelling,
        mine=bool(asker) and view.asker == asker,
        words=words(view),
        progress=progress(view),
    )


# -- showing -------------------------------------------------------------------------------------------------------


def status(job: Mapping[str, Any] | None, *, title: str = "", color: str | None = None, at: str = "page") -> html.Div:
    """One job in words, with a bar while it runs and the button that is the next step. `None` is drawn as nothing.

    Words and bar follow the pulse by themselves: draw it again only when its `shape` has changed, else a button would vanish
    under the finger. `at` tells apart places that show the same job.
    """
    if job is None:
        return html.Div(className="job", hidden=True)
    bar: list[Component] = []
    if _has_bar(job):
        bar = [
            dmc.Progress(
                id=_part("bar", job, at),
                value=job["progress"],
                size="sm",
                color=color or "indigo",
                animated=job["state"] == "running",
                className="job-bar",
                attributes={"section": aria(f"Progress of {job['title']}")},
            )
        ]
    head = [
        *([html.Span(className="dot", style={"background": color})] if color else []),
        html.Span(title or job["title"], className="job-title"),
        html.Span(job["words"], id=_part("words", job, at), className="job-words"),
        _button(job, at),
    ]
    return html.Div([html.Div(head, className="job-line"), *bar], className=f"job job-{job['state']}", role="status")


def shape(job: Mapping[str, Any] | None) -> list[str | bool | int] | None:
    """What decides how `status` is built; words and bar inside it follow by themselves."""
    return None if job is None else [job["key"], job["state"], job["cancelling"], _has_bar(job)]


def _part(part: str, job: Mapping[str, Any], at: str) -> dict[str, str]:
    return {"job": part, "key": job["key"], "at": at}


def _has_bar(job: Mapping[str, Any]) -> bool:
    return job["state"] == "running" or (job["state"] in ("queued", "interrupted", "cancelled") and bool(job["total"]))


def progress(job: JobView) -> float:
    """How much is done, in per cent; never quite nothing, so that the bar can be seen."""
    return max(1.0, round(100 * job.done / job.total, 1)) if job.total else 1.0


def words(job: JobView) -> str:
    """How the job is, in words, which stay the same while nothing happens."""
    count = job.message or (f"{number(round(job.done))} of {number(round(job.total))}" if job.total else "")
    if job.cancelling:
        return "stopping …"
    if job.state == "queued":
        return f"waiting; {job.ahead} before it" if job.ahead else "waiting for a free place"
    if job.state == "running":
        left = job.seconds_left
        parts = [count or "starting …", f"{duration(max(float(f'{left:.2g}'), 1.0))} left" if left is not None else ""]
        return " · ".join(part for part in parts if part)
    if job.state == "interrupted":
        return f"interrupted at {count}; what is done is kept" if count else "interrupted before it began"
    if job.state == "cancelled":
        return f"cancelled at {count}; what is done is kept" if count else "cancelled"
    if job.state == "failed":
        return f"failed: {job.error}"
    return f"done in {duration(job.wall)}"


def _button(job: Mapping[str, Any], at: str) -> Component | None:
    title = job["title"]
    if job["state"] in ("queued", "running"):
        look = {"variant": "default", "size": "compact-xs", "disabled": job["cancelling"]}
        if job["mine"]:
            return dmc.Button("Cancel", id=_part("cancel", job, at), **look, **aria(f"Cancel {title}"))
        return dmc.Popover(
            [
                dmc.PopoverTarget(dmc.Button("Cancel", **look, **aria(f"Cancel {title}: asks first"))),
                dmc.PopoverDropdown(
                    [
                        dmc.Text("Somebody else asked for this. Cancel it for everybody?", size="sm", mb="xs"),
                        dmc.Button("Cancel it for everybody", id=_part("cancel", job, at), color="red", size="xs"),
                    ]
                ),
            ],
            position="bottom-end",
            width=240,
            shadow="md",
            trapFocus=True,
            withinPortal=False,  # else the list of jobs would close under it
        )
    if job["state"] in ("interrupted", "cancelled", "failed"):
        word = "Run again" if job["state"] == "failed" else "Resume"
        return dmc.Button(word, id=_part("resume", job, at), variant="light", size="compact-xs", **aria(f"{word}: {title}"))
    return None


def job_list(pulse: Pulse) -> list[Component]:
    """The jobs for the header's list, newest first."""
    rows = [pulse["jobs"][key] for key in pulse["recent"] if key in pulse["jobs"]]
    more = pulse["waiting"] - sum(job["state"] == "queued" for job in rows)
    rest = [dmc.Text(f"{number(more)} more wait.", size="sm", c="dimmed")] if more > 0 else []
    listed = [status(job, at="list") for job in rows]
    return [*listed, *rest] or [dmc.Text("Nothing is being computed.", size="sm", c="dimmed")]


@callback(watch_output("jobs"), Input({"job": "cancel", "key": ALL, "at": ALL}, "n_clicks"), prevent_initial_call=True)
def _cancel(clicks: Sequence[int | None]) -> list[str]:
    if not any(clicks) or not isinstance(ctx.triggered_id, dict):
        raise PreventUpdate
    key = ctx.triggered_id["key"]
    stores.jobs().cancel(key)
    return [key]  # its end will be in the pulse


@callback(launch_output("jobs"), Input({"job": "resume", "key": ALL, "at": ALL}, "n_clicks"), prevent_initial_call=True)
def _resume(clicks: Sequence[int | None]) -> Launch:
    if not any(clicks) or not isinstance(ctx.triggered_id, dict):
        raise PreventUpdate
    view = stores.jobs().view(ctx.triggered_id["key"])
    if view is None:
        raise PreventUpdate
    return launch([Request(view.kind, view.source, dict(view.values))])
