"""The selected checkpoints: 1 to 4 coloured chips in the header, shared by every page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dash_mantine_components as dmc
from dash import ALL, Input, NoUpdate, Output, State, callback, ctx, html, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from landscape_core.drawing.numbers import number
from landscape_core.specs import CheckpointRecord, InputError, Reference, RunRecord

from .. import stores
from .address import MAX_SELECTED
from .theme import aria, color_of


@dataclass(frozen=True)
class Selected:
    """One place of the selection. `problem` is one line where the text names nothing; then there is no record."""

    index: int
    text: str  # as in the address: RUN@STEP or RUN@last
    record: RunRecord | None = None
    checkpoint: CheckpointRecord | None = None
    problem: str = ""

    @property
    def color(self) -> str:
        return color_of(self.index)

    @property
    def label(self) -> str:
        """What the chip says: `digits @ 2000`."""
        if self.record is None or self.checkpoint is None:
            return self.text if len(self.text) <= 24 else self.text[:23] + "…"
        return f"{self.record.name} @ {self.checkpoint.step}"


def resolve(selection: Sequence[str]) -> list[Selected]:
    """Look the texts up among the runs; never raises."""
    found = []
    for index, text in enumerate(selection[:MAX_SELECTED]):
        try:
            record, checkpoint = stores.runs().resolve(text)
            found.append(Selected(index, text, record, checkpoint))
        except InputError as error:
            found.append(Selected(index, text, problem=str(error)))
    return found


def header_parts() -> dmc.Group:
    """The chips and the button that adds one."""
    return dmc.Group(
        [
            html.Div(id="chips", className="chips", role="list", **aria("Selected checkpoints")),
            dmc.Popover(
                [
                    # A target keeps no id of its own: the popover needs it.
                    dmc.PopoverTarget(
                        dmc.Button(
                            "+ Checkpoint",
                            variant="subtle",
                            size="compact-sm",
                            className="add-open",
                            **aria("Add a checkpoint to the selection"),
                        )
                    ),
                    dmc.PopoverDropdown(html.Div(id="add-list", className="picker")),
                ],
                id="add-popover",
                position="bottom-start",
                shadow="md",
                withinPortal=True,
                keepMounted=True,
            ),
        ],
        gap=6,
        wrap="nowrap",
        className="selection",
    )


def _chip(item: Selected) -> dmc.Popover:
    face = dmc.UnstyledButton(
        [html.Span(className="dot", style={"background": item.color}), html.Span(item.label, className="chip-label")],
        className="chip" if not item.problem else "chip chip-wrong",
        **aria(f"{item.label}: change the step or remove"),
    )
    return dmc.Popover(
        [dmc.PopoverTarget(face), dmc.PopoverDropdown(_step_picker(item))],
        position="bottom-start",
        shadow="md",
        withinPortal=True,
        keepMounted=False,
        trapFocus=True,
    )


def _step_picker(item: Selected) -> html.Div:
    remove = dmc.Button(
        "Remove",
        id={"chip": "remove", "index": item.index},
        variant="default",
        size="xs",
        **aria(f"Remove {item.label} from the selection"),
    )
    if item.record is None or item.checkpoint is None:
        return html.Div([dmc.Text(item.problem, size="sm"), remove], className="picker")
    steps = [c.step for c in item.record.checkpoints]
    at = steps.index(item.checkpoint.step)
    loss = item.checkpoint.metrics.get("train_loss")
    accuracy = item.checkpoint.metrics.get("test_accuracy")
    facts = [f"{item.record.task}, {item.record.parameters:,} parameters"]
    facts += [f"train loss {number(loss, 4)}"] if loss is not None else []
    facts += [f"test accuracy {number(100 * accuracy)} %"] if accuracy is not None else []

    def neighbour(to: str, word: str, target: int) -> dmc.Button:
        inside = 0 <= target < len(steps)
        return dmc.Button(
            word,
            id={"chip": "go", "index": item.index, "step": steps[target] if inside else -1, "to": to},
            variant="default",
            size="xs",
            disabled=not inside,
        )

    return html.Div(
        [
            dmc.Select(
                id={"chip": "step", "index": item.index},
                label="Step of training",
                data=[{"value": str(step), "label": f"{step:,}"} for step in steps],
                value=str(item.checkpoint.step),
                searchable=True,
                openOnFocus=False,
                allowDeselect=False,
                comboboxProps={"withinPortal": False},
                maxDropdownHeight=220,
            ),
            dmc.Group([neighbour("earlier", "← earlier", at - 1), neighbour("later", "later →", at + 1)], grow=True, gap=6),
            dmc.Text(" · ".join(facts), size="xs", c="dimmed"),
            remove,
        ],
        className="picker",
    )


@callback(Output("chips", "children"), Input("selection", "data"))
def _chips(selection: Sequence[str] | None) -> list[html.Div]:
    return [html.Div(_chip(item), role="listitem") for item in resolve(selection or [])]


@callback(Output("add-list", "children"), Input("add-popover", "opened"), State("selection", "data"), prevent_initial_call=True)
def _offers(opened: bool | None, selection: Sequence[str] | None) -> Component | list[Component]:
    """What can be added, read afresh whenever the list opens: runs grow."""
    if not opened:
        raise PreventUpdate
    if len(selection or []) >= MAX_SELECTED:
        return dmc.Text(f"{MAX_SELECTED} checkpoints are shown at most. Remove one first.", size="sm")
    records = []
    for name in reversed(stores.runs().names()):
        try:
            records.append(stores.runs().read(name))
        except InputError:
            continue
    rows = [
        dmc.UnstyledButton(
            [
                html.Span(record.name, className="offer-name"),
                html.Span(f"{record.task} · {len(record.checkpoints)} checkpoints", className="offer-facts"),
            ],
            id={"add": record.name},
            className="offer",
        )
        for record in records
        if record.checkpoints
    ]
    return rows or [dmc.Text("There is no run yet. Train one on the Home page.", size="sm")]


@callback(
    Output("selection", "data", allow_duplicate=True),
    Output("add-popover", "opened"),
    Input({"add": ALL}, "n_clicks"),
    State("selection", "data"),
    prevent_initial_call=True,
)
def _add(clicks: Sequence[int | None], selection: list[str] | None) -> tuple[list[str] | NoUpdate, bool]:
    if not any(clicks) or not isinstance(ctx.triggered_id, dict):
        raise PreventUpdate
    chosen = selection or []
    name = ctx.triggered_id["add"]
    record = stores.runs().read(name)
    taken = {item.checkpoint.step for item in resolve(chosen) if item.record and item.checkpoint and item.record.name == name}
    free = [item.step for item in record.checkpoints if item.step not in taken]
    if not free or len(chosen) >= MAX_SELECTED:
        return no_update, False
    text = f"{name}@last" if free[-1] == record.checkpoints[-1].step else f"{name}@{free[-1]}"
    return [*chosen, text], False


@callback(
    Output("selection", "data", allow_duplicate=True),
    Input({"chip": "step", "index": ALL}, "value"),
    Input({"chip": "go", "index": ALL, "step": ALL, "to": ALL}, "n_clicks"),
    Input({"chip": "remove", "index": ALL}, "n_clicks"),
    State("selection", "data"),
    prevent_initial_call=True,
)
def _edit(_steps: object, _go: object, _remove: object, selection: list[str] | None) -> list[str]:
    """Another step, or one checkpoint less. A chip that merely appears changes nothing."""
    trigger, chosen = ctx.triggered_id, list(selection or [])
    if not isinstance(trigger, dict) or not ctx.triggered[0]["value"] or trigger["index"] >= len(chosen):
        raise PreventUpdate
    index = trigger["index"]
    if trigger["chip"] == "remove":
        del chosen[index]
        return chosen
    step = int(trigger["step"] if trigger["chip"] == "go" else ctx.triggered[0]["value"])
    item = resolve(chosen)[index]
    if item.record is None or (item.checkpoint and item.checkpoint.step == step):
        raise PreventUpdate
    text = str(Reference(item.record.name, step))
    if text in chosen:
        raise PreventUpdate
    chosen[index] = text
    return chosen
