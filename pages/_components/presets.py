"""Experiments in one click: what a lesson needs is trained and computed, and the page that shows it opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Input, Output, State, callback, clientside_callback, ctx, dcc, html
from dash.exceptions import PreventUpdate

from landscape_core.jobs.requests import Request

from . import stores
from .jobs import launch, launch_output, launcher, watch_output, watcher
from .state import write_query
from .theme import aria

UNDER_WAY = ("queued", "running")
ENDED = ("failed", "cancelled", "interrupted")


@dataclass(frozen=True)
class Preset:
    """One experiment: the runs by name with what is not default in their training, and the analysis that shows the lesson."""

    name: str
    title: str
    lesson: str
    runs: Mapping[str, Mapping[str, Any]]
    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    view: Mapping[str, Any] = field(default_factory=dict)
    task: str = "digits-mlp"

    def trainings(self) -> list[Request]:
        """What has to be trained."""
        return [Request("train", None, {"task": self.task, "run": run, **values}) for run, values in self.runs.items()]

    def requests(self) -> list[Request]:
        """All that is to be done, the runs first."""
        return [*self.trainings(), *[Request(self.kind, f"{run}@last", dict(self.fields)) for run in self.runs]]

    @property
    def address(self) -> str:
        """Where the lesson is seen."""
        query = write_query([f"{run}@last" for run in self.runs], self.fields, self.view)
        return f"/{self.kind.replace('_', '-')}{query}"


DEEP = {"widths": [32], "depth": 20}
SKIP = {**DEEP, "init": "he", "optimizer": "adam", "lr": 0.003, "batch_size": 128, "steps": 600}
PRESETS = (
    Preset(
        "optimisers",
        "SGD, gradient descent, Adam",
        "One network from one start, trained three ways: how much of the gradient lies in the top of the Hessian?",
        {
            "lesson-sgd": {"widths": [20], "steps": 1000},
            "lesson-gd": {"widths": [20], "steps": 1000, "batch_size": 0},
            "lesson-adam": {"widths": [20], "steps": 1000, "optimizer": "adam", "lr": 0.003},
        },
        "overlap",
    ),
    Preset(
        "batches",
        "Small and large batches",
        "Is the minimum of small batches flatter? Ten random lines through each: look whether the bands are apart.",
        {
            "lesson-batch-16": {"widths": [64], "steps": 1000, "batch_size": 16},
            "lesson-batch-all": {"widths": [64], "steps": 1000, "batch_size": 0},
        },
        "surface",
        {"dimensions": 1, "repeats": 10, "resolution": 31},
    ),
    Preset(
        "skips",
        "With and without skip connections",
        "Twenty layers, and the same with skips: how rugged is the loss around what training found?",
        {"lesson-plain": SKIP, "lesson-skip": {**SKIP, "skip": True}},
        "surface",
        {"resolution": 31, "flow": 0},
        {"log": True},
    ),
    Preset(
        "depth",
        "Vanishing gradients in twenty layers",
        "PyTorch's initialisation and He's: how much of the gradient reaches the first layer, beside the law of random layers.",
        {"lesson-deep": {**DEEP, "steps": 200}, "lesson-deep-he": {**DEEP, "steps": 200, "init": "he"}},
        "high_dimensions",
        {"curvature": 0},
        {"kind": "layers"},
    ),
)


def parts() -> html.Section:
    """The experiments under their heading; each ends in the button or link that is its next step."""
    cards = [
        html.Article(
            [html.H3(preset.title), html.P(preset.lesson), html.Div(id={"preset": preset.name, "part": "next"})],
            className="card preset",
            **aria(f"Experiment: {preset.title}"),
        )
        for preset in PRESETS
    ]
    return html.Section(
        [
            launcher("home-preset"),
            watcher("home-preset"),
            dcc.Store("preset-pressed"),
            dcc.Store("preset-shown"),
            dcc.Store("preset-go"),
            html.H2("Experiments in one click", className="presets-title"),
            html.Div(cards, className="presets"),
        ],
        id="presets",
    )


def standing(preset: Preset, jobs: Mapping[str, Any], pressed: bool) -> tuple[str, str]:
    """("ready" | "training" | "ended" | "new", what went wrong)."""
    trainings = preset.trainings()
    if all(request.stands(stores.home()) for request in trainings):
        return "ready", ""
    views = [jobs[key] for request in trainings if (key := request.key(stores.home())) in jobs]
    if any(view["state"] in UNDER_WAY for view in views):
        return "training", ""
    ended = [view for view in views if view["state"] in ENDED]
    if ended:
        return "ended", str(ended[0]["error"])
    return ("training" if pressed else "new"), ""


@callback(
    Output({"preset": ALL, "part": "next"}, "children"),
    Output("preset-shown", "data"),
    Output("preset-go", "data"),
    Input("home-visit", "data"),
    Input("pulse", "data"),
    Input("preset-pressed", "data"),
    State("preset-shown", "data"),
)
def _next(visit: str, pulse: Mapping[str, Any], pressed: str | None, shown: Mapping[str, Any] | None) -> Any:
    """What can be done with each experiment; the one that was pressed opens when its runs are there."""
    found = {preset.name: standing(preset, pulse["jobs"], preset.name == pressed) for preset in PRESETS}
    ready = [preset.address for preset in PRESETS if preset.name == pressed and found[preset.name][0] == "ready"]
    now = {"visit": visit, "found": {name: list(state) for name, state in found.items()}}
    if shown == now and not ready:
        raise PreventUpdate
    return [_foot(preset, *found[preset.name]) for preset in PRESETS], now, ready[0] if ready else None


def _foot(preset: Preset, state: str, error: str) -> list[Any]:
    if state == "ready":
        return [dcc.Link("Open", href=preset.address, className="card-link", title=preset.title)]
    if state == "training":
        return [dmc.Group([dmc.Loader(size="xs"), dmc.Text("Training …", size="sm")], gap="xs")]
    word = "Go on" if state == "ended" and not error else "Train and open"
    button = dmc.Button(word, id={"preset": preset.name, "part": "start"}, size="compact-sm", variant="light")
    return [*([html.P(error, className="card-problem")] if error else []), button]


@callback(
    launch_output("home-preset"),
    watch_output("home-preset"),
    Output("preset-pressed", "data"),
    Input({"preset": ALL, "part": "start"}, "n_clicks"),
    prevent_initial_call=True,
)
def _start(_: Sequence[Any]) -> Any:
    if not isinstance(ctx.triggered_id, dict) or not ctx.triggered[0]["value"]:
        raise PreventUpdate  # a button that merely appears
    preset = next(preset for preset in PRESETS if preset.name == ctx.triggered_id["preset"])
    missing = [request for request in preset.trainings() if not request.stands(stores.home())]
    rest = preset.requests()[len(preset.runs) :]
    return launch([*missing, *rest]), [request.key(stores.home()) for request in missing], preset.name


clientside_callback(
    ClientsideFunction("landscape", "go"),
    Output("preset-go", "modified_timestamp"),
    Input("preset-go", "data"),
    prevent_initial_call=True,
)
