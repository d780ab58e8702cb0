"""The two ways to a new run: train one, or bring in weights."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NotRequired, TypedDict

import dash_mantine_components as dmc
from dash import (
    ALL,
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
)
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from landscape_core.jobs.requests import Request
from landscape_core.specs import TASKS, ImportSpec, InputError, Spec, TrainingSpec, is_local, task_fields
from landscape_core.specs.imports import WEIGHT_ENDINGS
from landscape_core.specs.tasks import task_entry

from .. import stores
from ..forms import control, field_id, register_sender, sender, to_value
from ..shell.jobs import launch, launch_output, launcher, status, watch_output, watcher
from ..words import size
from .cards import thumbnail
from .pulse import Pulse
from .uploads import limit

TRAIN, IMPORT = "train", "import"
DEFAULT_TASK = "digits-mlp"
MAIN = ("optimizer", "lr", "batch_size", "steps", "seed")  # of training; the rest is folded away
LABELS = {
    "record": "Record checkpoints at",
    "init": "Initialisation",
    "norm": "Normalisation",
    "skip": "Skip connections",
    "dim": "Embedding width",
}
WORDS: dict[str, dict[str | None, str]] = {
    "norm": {None: "none"},
    "activation": {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU"},
    "init": {"default": "PyTorch's", "he": "He"},
    "optimizer": {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"},
}


class Content(TypedDict):
    """What stands in one control of a form."""

    id: Mapping[str, str]
    value: NotRequired[object]


class Arrived(TypedDict):
    """A file that was uploaded, or what went wrong."""

    name: str
    size: int
    upload: str
    error: NotRequired[str]


class Asked(TypedDict):
    """The import that this form has sent: the key of its job, and which sending it was."""

    key: str
    id: str


Groups = Iterable[Sequence[Content]]
Launched = Mapping[str, object]


def buttons() -> list[Component]:
    """What opens the two forms."""
    return [
        dmc.Button("Bring in weights", id="import-open", variant="default", size="sm"),
        dmc.Button("Train a run", id="train-open", size="sm"),
    ]


def parts() -> list[Component]:
    """The two drawers, closed, with their stores."""
    about = {"store": "import-file", "words": "import-words", "endings": list(WEIGHT_ENDINGS)}
    return [
        launcher("home-train"),
        launcher("home-import"),
        watcher("home-train"),  # a job that fails at once is over before the next look at what runs
        watcher("home-import"),
        sender("train-go"),
        sender("import-go"),
        dcc.Store("import-file"),
        dcc.Store("import-key"),
        dcc.Store("import-ended"),
        dcc.Store("import-about", data=about),
        _drawer(TRAIN, "Train a run", [], "Train, then draw it"),
        _drawer(IMPORT, "Bring in weights", _choose_file(), "Bring in", html.Div(id="import-status")),
    ]


def _drawer(form: str, title: str, head: Sequence[Component], word: str, *foot: Component) -> dmc.Drawer:
    """`head`, the task and its fields, then what is wrong, `foot` and the button that sends the form."""
    parts = [
        *head,
        _task_select(form),
        html.Div(id=f"{form}-fields"),
        html.Div(
            [
                html.Div(id=f"{form}-validation", className="validation", role="alert"),
                *foot,
                dmc.Button(word, id=f"{form}-go", fullWidth=True, disabled=True),
            ],
            className="drawer-foot",
        ),
    ]
    return dmc.Drawer(
        html.Div(parts, className="drawer-form"),
        id=f"{form}-drawer",
        title=title,
        position="right",
        size=420,
        keepMounted=True,
        closeButtonProps={"aria-label": "Close"},
    )


def _task_select(form: str) -> dmc.Select:
    groups = []
    for (title, folder), entries in groupby(TASKS.values(), lambda entry: (entry.group, entry.folder)):
        missing = folder is not None and not (stores.home() / "data" / folder).exists()
        hint = f" (put its files into data/{folder} of the home directory)" if missing else ""
        items = [{"value": entry.name, "label": entry.title, "disabled": missing} for entry in entries]
        groups.append({"group": title + hint, "items": items})
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


# -- the fields of a form ------------------------------------------------------------------------------------------


def _fields(
    form: str,
    task: str,
    head: Sequence[Component],
    main: Sequence[Component] = (),
    folded: Sequence[Component] = (),
    *,
    fold: str,
) -> list[Component]:
    """`head`, the network of the task, `main`, and under `fold` its data and loss with `folded`."""
    entry = task_entry(task)
    own = {name: owner for name, owner in entry.fields.items() if not is_local(owner, name)}
    network = [_control(owner, name, form) for name, owner in own.items() if owner is entry.architecture]
    rest = [_control(owner, name, form) for name, owner in own.items() if owner is not entry.architecture]
    more = [dmc.AccordionControl(fold), dmc.AccordionPanel(html.Div([*rest, *folded], className="pairs"))]
    return [
        *head,
        *([_group("Network", network)] if network else []),
        *main,
        dmc.Accordion(dmc.AccordionItem(more, value="more"), chevronPosition="left", className="folds"),
    ]


def _group(title: str, controls: Sequence[Component]) -> html.Fieldset:
    return html.Fieldset([html.Legend(title), *controls], className="group pairs")


def _control(spec: type[Spec], name: str, form: str) -> Component:
    made: Component = control(spec, name, form, label=LABELS.get(name), words=WORDS.get(name))
    return made


def _contents(of: type[Input] | type[State], form: str) -> list[Input | State]:
    """All that stands in a form, for a callback to listen to or to read: two groups in `ctx`."""
    return [of({"form": form, "field": ALL, "prop": prop}, prop) for prop in ("value", "checked")]


def _values(spec: type[Spec], task: str, groups: Groups) -> dict[str, object]:
    """Flat values of a form whose fields belong to `spec` or to the task; those that are default are left out."""
    owners = task_fields(task)
    values: dict[str, object] = {"run": ""}
    for item in (item for group in groups for item in group):
        name = item["id"]["field"]
        owner = spec if name in spec.model_fields else owners.get(name)
        if owner is None or is_local(owner, name):
            continue  # a field of the task that was shown before
        value = to_value(owner, name, item.get("value"))
        if name == "run" or value != owner().model_dump(mode="json")[name]:
            values[name] = value
    return {**values, "task": task}


def _fault(ask: Callable[[], Request]) -> tuple[str, bool]:
    """What is wrong with what a form asks for, and whether its button rests."""
    try:
        ask()
    except InputError as error:
        return str(error), True
    return "", False


def free_name(stem: str) -> str:
    """`stem`, or with the first number after it that no run has."""
    runs, number = stores.runs(), 2
    name = stem
    while runs.exists(name):
        name, number = f"{stem}-{number}", number + 1
    return name


# -- training ------------------------------------------------------------------------------------------------------


@callback(
    Output("train-drawer", "opened"),
    Output("train-fields", "children"),
    Input("train-open", "n_clicks"),
    Input("train-task", "value"),
    prevent_initial_call=True,
)
def _open_training(clicks: int | None, task: str) -> tuple[bool, list[Component]]:
    """The form opens with a name that is free; another task brings its own fields."""
    if not clicks or task not in TASKS:
        raise PreventUpdate
    folded = [name for name in TrainingSpec.model_fields if name not in ("task", "run", *MAIN)]
    return True, _fields(
        TRAIN,
        task,
        [control(TrainingSpec, "run", TRAIN, free_name(task), label="Name of the run")],
        [_group("Training", [_control(TrainingSpec, name, TRAIN) for name in MAIN])],
        [_control(TrainingSpec, name, TRAIN) for name in folded],
        fold="Data, loss and more",
    )


@callback(
    Output("train-validation", "children"),
    Output("train-go", "disabled"),
    *_contents(Input, TRAIN),
    State("train-task", "value"),
    prevent_initial_call=True,
)
def _check_training(_shown: object, _checked: object, task: str) -> tuple[str, bool]:
    return _fault(lambda: _training(task, ctx.inputs_list[:2]))


@callback(
    launch_output("home-train"),
    watch_output("home-train"),
    Output("train-drawer", "opened", allow_duplicate=True),
    Output("train-validation", "children", allow_duplicate=True),
    register_sender("train-go"),
    *_contents(State, TRAIN),
    State("train-task", "value"),
    prevent_initial_call=True,
)
def _train(
    clicks: int | None, _shown: object, _checked: object, task: str
) -> tuple[Launched | NoUpdate, list[str] | NoUpdate, bool | NoUpdate, str]:
    if not clicks:
        raise PreventUpdate
    try:
        request = _training(task, ctx.states_list[:2])
    except InputError as error:
        return no_update, no_update, no_update, str(error)
    return launch([request, *thumbnail(str(request.values["run"]))]), [request.key(stores.home())], False, ""


def _training(task: str, groups: Groups) -> Request:
    """The request that the form stands for. Raises InputError."""
    request = Request("train", None, _values(TrainingSpec, task, groups))
    request.spec(remote=True)
    name = str(request.values["run"])
    if stores.runs().exists(name):
        raise InputError(f"field 'run': there is a run '{name}' already; choose another name")
    return request


# -- bringing in weights -------------------------------------------------------------------------------------------


def _choose_file() -> list[Component]:
    return [
        html.P(
            f"A PyTorch state dict or a safetensors file ({', '.join(WEIGHT_ENDINGS)}), at most {size(limit())}. "
            "No code in it is ever run; its keys are compared with those of the task's network.",
            className="hint",
        ),
        dmc.Button("Choose a file", id="import-choose", variant="light", size="sm"),
        html.Div(id="import-words", className="hint", role="status"),
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
def _open_import(clicks: int | None, task: str, file: Arrived | None) -> tuple[bool, list[Component]]:
    if not clicks or task not in TASKS:
        raise PreventUpdate
    head = [
        control(ImportSpec, "run", IMPORT, _name_of(file, task), label="Name of the run"),
        control(ImportSpec, "step", IMPORT, label="Step of training"),
    ]
    return True, _fields(IMPORT, task, head, fold="Data and loss")


def _name_of(file: Arrived | None, task: str) -> str:
    stem = "" if file is None else Path(file.get("name", "")).stem
    clean = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in stem).lstrip(
        "._-"
    )[:48]
    return free_name(clean or f"{task}-brought")


@callback(
    Output("import-words", "children"),
    Output(field_id(IMPORT, "run", "value"), "value"),
    Input("import-file", "data"),
    State("import-task", "value"),
    prevent_initial_call=True,
)
def _arrived(file: Arrived | None, task: str) -> tuple[Component | str, str | NoUpdate]:
    if not file:
        raise PreventUpdate
    if "error" in file:
        return html.Span(file["error"], className="validation"), no_update
    return f"{file['name']}, {size(file['size'])}, has arrived.", _name_of(file, task)


@callback(
    Output("import-validation", "children"),
    Output("import-go", "disabled"),
    *_contents(Input, IMPORT),
    Input("import-file", "data"),
    State("import-task", "value"),
    prevent_initial_call=True,
)
def _check_import(_shown: object, _checked: object, file: Arrived | None, task: str) -> tuple[str, bool]:
    if not file or "error" in file:
        return "", True
    return _fault(lambda: _importing(task, ctx.inputs_list[:2], file))


@callback(
    launch_output("home-import"),
    watch_output("home-import"),
    Output("import-key", "data"),
    Output("import-validation", "children", allow_duplicate=True),
    register_sender("import-go"),
    *_contents(State, IMPORT),
    State("import-file", "data"),
    State("import-task", "value"),
    prevent_initial_call=True,
)
def _import(
    clicks: int | None, _shown: object, _checked: object, file: Arrived | None, task: str
) -> tuple[Launched | NoUpdate, list[str] | NoUpdate, Asked | NoUpdate, str]:
    if not clicks or not file or "error" in file:
        raise PreventUpdate
    try:
        request = _importing(task, ctx.states_list[:2], file)
    except InputError as error:
        return no_update, no_update, no_update, str(error)
    key = request.key(stores.home())
    return launch([request, *thumbnail(str(request.values["run"]))]), [key], {"key": key, "id": uuid.uuid4().hex}, ""


def _importing(task: str, groups: Groups, file: Arrived) -> Request:
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
def _imported(
    pulse: Pulse, asked: Asked | None, ended: str | None
) -> tuple[Component | list[Component], bool | NoUpdate, str | NoUpdate]:
    """How the import goes, beside the form that it came from: what is wrong can be mended and sent again."""
    # Dash forgets where components were only when something stands in their place: [] clears, None does not.
    if not asked or asked["id"] == ended:
        return [], no_update, no_update
    job = pulse["jobs"].get(asked["key"])
    if job is not None and job["state"] == "done":
        return [], False, asked["id"]
    return status(job, title="Import", at="drawer"), no_update, no_update
