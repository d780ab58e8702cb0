"""A small Dash app that launches jobs as our pages do. `python -m tests.jobs.dash_page HOME PORT`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from dash import Dash, Input, Output, State, callback, dcc, html

from landscape_core.jobs.runner import run_all
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
    """The callbacks; in the job's process this module is imported and nothing is registered."""
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
    home = _home()
    if seed == 99:
        os.kill(os.getpid(), 9)
    keys = run_all([fakes.request(seed)], home, start=fakes.brisk)
    (home / f"modules-{os.getpid()}").write_text(str("torch" in sys.modules))
    return keys


def jobs(_: int) -> str:
    return "\n".join(f"seed {view.values['seed']}: {view.state}" for view in JobStore(_home()).views())


def cancel(_: int) -> str:
    store = JobStore(_home())
    for view in store.active():
        store.cancel(view.key)
    return ""


def serve(home: Path, port: int) -> None:
    from landscape_core.jobs.launch.forkserver import background_manager

    manager = background_manager(home)
    app = Dash("jobs", background_callback_manager=manager)
    register(home)
    app.layout = layout
    manager.warm()
    app.run(host="127.0.0.1", port=port, debug=False)


if __name__ == "__main__":
    from tests.jobs import dash_page  # by its name: a function of __main__ would travel by value

    dash_page.serve(Path(sys.argv[1]), int(sys.argv[2]))
