"""The two ways to a new run: train one, or bring in weights."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, ClientsideFunction, Input, Output, State, callback, clientside_callback, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from landscape_core.jobs.requests import Request
from landscape_core.specs import TASKS, ImportSpec, InputError, Spec, TrainingSpec, is_local, task_fields
from landscape_core.specs.tasks import ARCHITECTURES, DATA, FileData

from . import forms, stores
from .jobs import launch, launch_output, launcher, status, watch_output, watcher
from .run_cards import thumbnail
from .uploads import ENDINGS, limit
from .words import size

TRAIN, IMPORT = "train", "import"
DEFAULT_TASK = "digits-mlp"
MAIN = ("optimizer", "lr", "batch_size", "steps", "seed")  # of training; the rest is folded away
DATA_WORDS = {
    "digits": "Digits",
    "moons": "Two moons",
    "spirals": "Spirals",
    "blobs": "Blobs",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "npz": "NPZ file",
}
NETWORK_WORDS = {"mlp": "fully connected", "lenet": "LeNet-5", "resnet": "ResNet", "vit": "vision transformer"}
LABELS = {
    "record": "Record checkpoints at",
    "init": "Initialisation",
    "norm": "Normalisation",
    "skip": "Skip connections",
    "dim": "Embedding width",
}
WORDS: dict[str, dict[Any, str]] = {
    "norm": {None: "none"},
    "activation": {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU"},
    "init": {"default": "PyTorch's", "he": "He"},
    "optimizer": {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"},
}


def buttons() -> list[Any]:
    """What opens the two forms."""
    return [
        dmc.Button("Bring in weights", id="import-open", variant="default", size="sm"),
        dmc.Button("Train a run", id="train-open", size="sm"),
    ]


def parts() -> list[Any]:
    """The two drawers, closed, with their stores."""
    about = {"store": "import-file", "words": "import-words", "endings": list(ENDINGS)}
    return [
        launcher("home-train"),
        launcher("home-import"),
        watcher("home-train"),  # a job that fails at once is over before the next look at what runs
        watcher("home-import"),
        forms.sender("train-go"),
        forms.sender("import-go"),
        dcc.Store("import-file"),
        dcc.Store("import-key"),
        dcc.Store("import-ended"),
        dcc.Store("import-about", data=about),
        _drawer("train", "Train a run", [_task_select(TRAIN), html.Div(id="train-fields"), *_train_foot()]),
        _drawer("import", "Bring in weights", _import_body()),
    ]


def _drawer(name: str, title: str, children: Sequence[Any]) -> dmc.Drawer:
    return dmc.Drawer(
        html.Div(children, className="drawer-form"),
        id=f"{name}-drawer",
        title=title,
        position="right",
        size=420,
        keepMounted=True,
        closeButtonProps={"aria-label": "Close"},
    )


def _task_select(form: str) -> dmc.Select:
    groups = []
    for data, cls in DATA.items():
        missing = issubclass(cls, FileData) and not (stores.home() / "data" / data).exists()
        items = [
            {"value": name, "label": f"{DATA_WORDS[data]}, {NETWORK_WORDS[name.rsplit('-', 1)[1]]}", "disabled": missing}
            for name in TASKS
            if name.rsplit("-", 1)[0] == data
        ]
        groups.append(
            {
                "group": DATA_WORDS[data] + (f" (put its files into data/{data} of the home directory)" if missing else ""),
                "items": items,
            }
        )
    return dmc.Select(
        id=f"{form}-task",
        label="Task",
        data=groups,
        value=DEFAULT_TASK,
        allowDeselect=False,
        searchable=True,
        size="xs",
        className="field",
    )


# -- the fields of a task ------------------------------------------------------------------------------------------


def _task_controls(task: str, form: str) -> tuple[list[Any], list[Any]]:
    """Controls of the architecture, and of the data and the loss."""
    network = ARCHITECTURES[task.rsplit("-", 1)[1]]
    first: list[Any] = []
    rest: list[Any] = []
    for name, owner in task_fields(task).items():
        if not is_local(owner, name):
            (first if owner is network else rest).append(_control(owner, name, form))
    return first, rest


def _control(spec: type[Spec], name: str, form: str, *value: Any) -> Any:
    return forms.control(spec, name, form, *value, label=LABELS.get(name), words=WORDS.get(name))


def _values(spec: type[Spec], task: str, groups: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Flat values of a form whose fields belong to `spec` or to the task; those that are default are left out."""
    owners = task_fields(task)
    values: dict[str, Any] = {"run": ""}
    for item in (item for group in groups for item in group):
        name = item["id"]["field"]
        owner = spec if name in spec.model_fields else owners.get(name)
        if owner is None or is_local(owner, name):
            continue  # a field of the task that was shown before
        value = forms.to_value(owner, name, item.get("value"))
        if name == "run" or value != owner().model_dump(mode="json")[name]:
            values[name] = value
    return {**values, "task": task}


def free_name(stem: str) -> str:
    """`stem`, or with the first number after it that no run has."""
    runs, number = stores.runs(), 2
    name = stem
    while runs.exists(name):
        name, number = f"{stem}-{number}", number + 1
    return name


# -- training ------------------------------------------------------------------------------------------------------


def _train_foot() -> list[Any]:
    return [
        html.Div(
            [
                html.Div(id="train-validation", className="validation", role="alert"),
                dmc.Button("Train, then draw its surface", id="train-go", fullWidth=True, disabled=True),
            ],
            className="drawer-foot",
        )
    ]


@callback(
    Output("train-drawer", "opened"),
    Output("train-fields", "children"),
    Input("train-open", "n_clicks"),
    Input("train-task", "value"),
    prevent_initial_call=True,
)
def _open_training(clicks: int | None, task: str) -> Any:
    """The form opens with a name that is free; another task brings its own fields."""
    if not clicks or task not in TASKS:
        raise PreventUpdate
    network, data = _task_controls(task, TRAIN)
    folded = [name for name in TrainingSpec.model_fields if name not in ("task", "run", *MAIN)]
    return True, [
        forms.control(TrainingSpec, "run", TRAIN, free_name(task), label="Name of the run"),
        *([html.Fieldset([html.Legend("Network"), *network], className="group pairs")] if network else []),
        html.Fieldset(
            [html.Legend("Training"), *[_control(TrainingSpec, name, TRAIN) for name in MAIN]], className="group pairs"
        ),
        dmc.Accordion(
            dmc.AccordionItem(
                [
                    dmc.AccordionControl("Data, loss and more"),
                    dmc.AccordionPanel(
                        html.Div([*data, *[_control(TrainingSpec, name, TRAIN) for name in folded]], className="pairs")
                    ),
                ],
                value="more",
            ),
            chevronPosition="left",
            className="folds",
        ),
    ]


@callback(
    Output("train-validation", "children"),
    Output("train-go", "disabled"),
    Input(forms.field_id(TRAIN, ALL, "value"), "value"),  # type: ignore[arg-type]
    Input(forms.field_id(TRAIN, ALL, "checked"), "checked"),  # type: ignore[arg-type]
    State("train-task", "value"),
    prevent_initial_call=True,
)
def _check_training(_shown: Any, _checked: Any, task: str) -> Any:
    try:
        _training(task, ctx.inputs_list[:2])
    except InputError as error:
        return str(error), True
    return "", False


@callback(
    launch_output("home-train"),
    watch_output("home-train"),
    Output("train-drawer", "opened", allow_duplicate=True),
    Output("train-validation", "children", allow_duplicate=True),
    forms.register_sender("train-go"),
    State(forms.field_id(TRAIN, ALL, "value"), "value"),  # type: ignore[arg-type]
    State(forms.field_id(TRAIN, ALL, "checked"), "checked"),  # type: ignore[arg-type]
    State("train-task", "value"),
    prevent_initial_call=True,
)
def _train(clicks: int | None, _shown: Any, _checked: Any, task: str) -> Any:
    if not clicks:
        raise PreventUpdate
    try:
        request = _training(task, ctx.states_list[:2])
    except InputError as error:
        return no_update, no_update, no_update, str(error)
    return launch([request, thumbnail(str(request.values["run"]))]), [request.key(stores.home())], False, ""


def _training(task: str, groups: Iterable[Sequence[Mapping[str, Any]]]) -> Request:
    """The request that the form stands for. Raises InputError."""
    request = Request("train", None, _values(TrainingSpec, task, groups))
    request.spec(remote=True)
    name = str(request.values["run"])
    if stores.runs().exists(name):
        raise InputError(f"field 'run': there is a run '{name}' already; choose another name")
    return request


# -- bringing in weights -------------------------------------------------------------------------------------------


def _import_body() -> list[Any]:
    return [
        html.P(
            f"A PyTorch state dict or a safetensors file ({', '.join(ENDINGS)}), at most {size(limit())}. "
            "No code in it is ever run; its keys are compared with those of the task's network.",
            className="hint",
        ),
        dmc.Button("Choose a file", id="import-choose", variant="light", size="sm"),
        html.Div(id="import-words", className="hint", role="status"),
        _task_select(IMPORT),
        html.Div(id="import-fields"),
        html.Div(
            [
                html.Div(id="import-validation", className="validation", role="alert"),
                html.Div(id="import-status"),
                dmc.Button("Bring in", id="import-go", fullWidth=True, disabled=True),
            ],
            className="drawer-foot",
        ),
    ]


clientside_callback(
    ClientsideFunction("landscape", "upload"),
    Output("import-choose", "title"),
    Input("import-choose", "n_clicks"),
    State("import-about", "data"),
    prevent_initial_call=True,
)


@callback(
    Output("import-drawer", "opened"),
    Output("import-fields", "children"),
    Input("import-open", "n_clicks"),
    Input("import-task", "value"),
    State("import-file", "data"),
    prevent_initial_call=True,
)
def _open_import(clicks: int | None, task: str, file: Mapping[str, Any] | None) -> Any:
    if not clicks or task not in TASKS:
        raise PreventUpdate
    network, data = _task_controls(task, IMPORT)
    return True, [
        forms.control(ImportSpec, "run", IMPORT, _name_of(file, task), label="Name of the run"),
        forms.control(ImportSpec, "step", IMPORT, label="Step of training"),
        *([html.Fieldset([html.Legend("Network"), *network], className="group pairs")] if network else []),
        dmc.Accordion(
            dmc.AccordionItem(
                [dmc.AccordionControl("Data and loss"), dmc.AccordionPanel(html.Div(data, className="pairs"))], value="more"
            ),
            chevronPosition="left",
            className="folds",
        ),
    ]


def _name_of(file: Mapping[str, Any] | None, task: str) -> str:
    stem = Path(str((file or {}).get("name", ""))).stem
    clean = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in stem).lstrip(
        "._-"
    )[:48]
    return free_name(clean or f"{task}-brought")


@callback(
    Output("import-words", "children"),
    Output(forms.field_id(IMPORT, "run", "value"), "value"),
    Input("import-file", "data"),
    State("import-task", "value"),
    prevent_initial_call=True,
)
def _arrived(file: Mapping[str, Any] | None, task: str) -> Any:
    if not file:
        raise PreventUpdate
    if "error" in file:
        return html.Span(file["error"], className="validation"), no_update
    return f"{file['name']}, {size(file['size'])}, has arrived.", _name_of(file, task)


@callback(
    Output("import-validation", "children"),
    Output("import-go", "disabled"),
    Input(forms.field_id(IMPORT, ALL, "value"), "value"),  # type: ignore[arg-type]
    Input(forms.field_id(IMPORT, ALL, "checked"), "checked"),  # type: ignore[arg-type]
    Input("import-file", "data"),
    State("import-task", "value"),
    prevent_initial_call=True,
)
def _check_import(_shown: Any, _checked: Any, file: Mapping[str, Any] | None, task: str) -> Any:
    if not file or "error" in file:
        return "", True
    try:
        _importing(task, ctx.inputs_list[:2], file)
    except InputError as error:
        return str(error), True
    return "", False


@callback(
    launch_output("home-import"),
    watch_output("home-import"),
    Output("import-key", "data"),
    Output("import-validation", "children", allow_duplicate=True),
    forms.register_sender("import-go"),
    State(forms.field_id(IMPORT, ALL, "value"), "value"),  # type: ignore[arg-type]
    State(forms.field_id(IMPORT, ALL, "checked"), "checked"),  # type: ignore[arg-type]
    State("import-file", "data"),
    State("import-task", "value"),
    prevent_initial_call=True,
)
def _import(clicks: int | None, _shown: Any, _checked: Any, file: Mapping[str, Any] | None, task: str) -> Any:
    if not clicks or not file or "error" in file:
        raise PreventUpdate
    try:
        request = _importing(task, ctx.states_list[:2], file)
    except InputError as error:
        return no_update, no_update, no_update, str(error)
    key = request.key(stores.home())
    return launch([request, thumbnail(str(request.values["run"]))]), [key], {"key": key, "id": uuid.uuid4().hex}, ""


def _importing(task: str, groups: Iterable[Sequence[Mapping[str, Any]]], file: Mapping[str, Any]) -> Request:
    """The request that the form stands for. Raises InputError."""
    request = Request("import", None, {**_values(ImportSpec, task, groups), "upload": file["upload"]})
    request.spec(remote=True)
    return request


@callback(
    Output("import-status", "children"),
    Output("import-drawer", "opened", allow_duplicate=True),
    Output("import-ended", "data"),
    Input("pulse", "data"),
    Input("import-key", "data"),
    State("import-ended", "data"),
    prevent_initial_call=True,
)
def _imported(pulse: Mapping[str, Any], asked: Mapping[str, str] | None, ended: str | None) -> Any:
    """How the import goes, beside the form that it came from: what is wrong can be mended and sent again."""
    # Dash forgets where components were only when something stands in their place: [] clears, None does not.
    if not asked or asked["id"] == ended:
        return [], no_update, no_update
    job = pulse["jobs"].get(asked["key"])
    if job is not None and job["state"] == "done":
        return [], False, asked["id"]
    return status(job, title="Import", at="drawer"), no_update, no_update
