"""A small Dash app that launches jobs as our pages do. `python -m tests.jobs.dash_page HOME PORT`."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from dash import Dash, Input, Output, State, callback, dcc, html

from landscape_core.jobs.queue import enqueue
from landscape_core.jobs.store import JobStore

from . import fakes


def layout() -> Any:
    return html.Div(
        [
            dcc.Input(id="seed", type="number", value=0),
            html.Button("Run", id="run"),
            html.Button("Cancel", id="cancel"),
            dcc.Store(id="launched"),
            dcc.Interval(id="tick", interval=300),
            html.Pre(id="launches"),
            html.Pre(id="jobs"),
        ]
    )


def register(home: Path) -> None:
    """The callbacks of the page."""
    os.environ["TEST_JOBS_HOME"] = str(home)
    callback(
        Output("launched", "data"),
        Input("run", "n_clicks"),
        State("seed", "value"),
        background=True,
        interval=200,
        prevent_initial_call=True,
    )(launch)
    callback(Output("launches", "children"), Input("launched", "data"))(json.dumps)
    callback(Output("jobs", "children"), Input("tick", "n_intervals"))(jobs)
    callback(Output("cancel", "title"), Input("cancel", "n_clicks"), prevent_initial_call=True)(cancel)


def _home() -> Path:
    return Path(os.environ["TEST_JOBS_HOME"])


def launch(_: int, seed: int) -> list[str]:
    if seed == 99:
        raise ZeroDivisionError("no such seed")
    key = enqueue([fakes.request(seed)], _home())
    return [key] if key else []


def jobs(_: int) -> str:
    return "\n".join(f"seed {view.values['seed']}: {view.state}" for view in JobStore(_home()).views())


def cancel(_: int) -> str:
    store = JobStore(_home())
    for view in store.active():
        store.cancel(view.key)
    return ""


def serve(home: Path, port: int) -> None:
    from landscape_core.jobs.launch.background import QueueingManager
    from landscape_core.jobs.launch.dispatcher import Dispatcher
    from landscape_core.jobs.launch.forkserver import ForkServer

    forkserver = ForkServer()
    dispatcher = Dispatcher(home, forkserver.start, partial(fakes.do, "brisk"))
    app = Dash("jobs", background_callback_manager=QueueingManager(dispatcher.wake))
    register(home)
    app.layout = layout
    forkserver.warm()
    dispatcher.start()
    app.run(host="127.0.0.1", port=port, debug=False)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
