"""A form made from a Spec: one control a field, with its bounds, unit and description. Nothing is said twice."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict, TypeGuard, Union, get_args, get_origin

import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, Output, clientside_callback, dcc, html
from dash.development.base_component import Component
from pydantic import BaseModel

from landscape_core.specs import InputError, bounds_of, choices_of, is_local, parse_text, unit_of

from .shell.address import text_of
from .words import humanise

NOTHING = "null"  # the choice that stands for a field's null


class Content(TypedDict):
    """What a control holds, as Dash lists the inputs of a callback: the value is left out where none was ever set."""

    id: dict[str, str]
    value: NotRequired[object]


class _Common(TypedDict):
    label: str | html.Span
    className: str


def visible_fields(spec: type[BaseModel]) -> list[str]:
    """The fields that a browser may set."""
    return [name for name in spec.model_fields if not is_local(spec, name)]


def control(
    spec: type[BaseModel],
    name: str,
    form: str,
    value: object = ...,
    *,
    label: str | None = None,
    suggestions: Sequence[str] = (),
    words: Mapping[Any, str] | None = None,
) -> Component:
    """The control of one field, with id `field_id(form, name, ...)`. `value` is a JSON value; the default if left out.

    A choice is a Select, a yes/no a Switch, a whole number a NumberInput, a list of texts a TagsInput, all else a text of JSON:
    also other numbers, of which a NumberInput takes no `1e-3`.
    `words` names choices for people; `suggestions` are offered for texts. Every stroke is reported: with a delay, what was
    typed right before a button is pressed would be lost, since Mantine's inputs do not report when they are left.
    """
    info = spec.model_fields[name]
    value = _json(info.default) if value is ... else value
    unit, kind = unit_of(spec, name), kind_of(spec, name)
    title = label or humanise(name)
    whole = kind == "number" and not _member(spec, name, float)
    caption = _caption(f"{title} ({unit})" if unit and not whole else title, info.description or "")
    common: _Common = {"label": caption, "className": "field"}
    if kind == "switch":
        return dmc.Switch(id=field_id(form, name, "checked"), checked=bool(value), **common)
    place = field_id(form, name, "value")
    placeholder = "automatic" if kind == "text" or _optional(spec, name) else None
    if kind == "choice":
        options = [{"value": text_of(c), "label": (words or {}).get(c, humanise(str(c)))} for c in choices_of(spec, name)]
        if _optional(spec, name):
            options.insert(0, {"value": NOTHING, "label": (words or {}).get(None, "automatic")})
        return dmc.Select(id=place, data=options, value=text_of(value), allowDeselect=False, **common)
    if whole:
        low, high = bounds_of(spec, name)
        return dmc.NumberInput(
            id=place,
            value="" if value is None else value,
            min=low,
            max=high,
            allowDecimal=False,
            clampBehavior="none",  # a value out of bounds is named, not silently changed
            placeholder="all" if name == "samples" else placeholder,
            **({"suffix": f" {unit}"} if unit else {}),
            **common,
        )
    if kind == "tags":
        hint = "all" if _optional(spec, name) else "RUN@STEP"
        return dmc.TagsInput(
            id=place,
            value=value if isinstance(value, list) else [],
            data=list(suggestions),
            placeholder=hint,
            clearable=True,
            **common,
        )
    if suggestions:
        return dmc.Autocomplete(id=place, value=_text(value), data=list(suggestions), placeholder="none", size="xs", **common)
    return dmc.TextInput(id=place, value=_text(value), placeholder=placeholder, **common)


def sender(button: str) -> dcc.Store:
    """The store that changes when the button that sends a form was pressed and all that was typed before has been reported."""
    return dcc.Store(f"{button}-pressed")


def register_sender(button: str) -> Input:
    """Have the store of `sender` follow the button; what to listen to instead of its `n_clicks`."""
    clientside_callback(
        ClientsideFunction("landscape", "press"),
        Output(f"{button}-pressed", "data"),
        Input(button, "n_clicks"),
        prevent_initial_call=True,
    )
    return Input(f"{button}-pressed", "data")


def field_id(form: str, name: str, prop: str) -> dict[str, str]:
    """The id of a control: `prop` is the property that holds its value, `value` or `checked`."""
    return {"form": form, "field": name, "prop": prop}


def kind_of(spec: type[BaseModel], name: str) -> str:
    """Which control a field gets: choice, switch, number, tags or text."""
    members = _members(spec, name)
    if choices_of(spec, name):
        return "choice"
    if members == {bool}:
        return "switch"
    if members <= {int, float}:
        return "number"
    if len(members) == 1 and get_origin(only := next(iter(members))) is tuple and get_args(only)[:1] == (str,):
        return "tags"
    return "text"


def to_value(spec: type[BaseModel], name: str, raw: object) -> object:
    """The JSON value that a control's content stands for; an emptied one is null, or the default where null is not allowed."""
    kind = kind_of(spec, name)
    empty = None if _optional(spec, name) else _json(spec.model_fields[name].default)
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return empty
    if kind == "choice":
        return parse_text(raw) if isinstance(raw, str) else raw
    if kind == "text" and isinstance(raw, str):
        text = raw.strip()
        parsed = parse_text(text)
        if parsed == text and "," in text and str not in _members(spec, name):
            parsed = parse_text(f"[{text}]")  # 41, 31 is what people write
        if isinstance(parsed, int | float) and all(get_origin(member) is tuple for member in _members(spec, name)):
            parsed = [parsed]  # a list of one
        if parsed != text and str in _members(spec, name) and not isinstance(parsed, str):
            return text  # a run may be called 42
        return text if isinstance(parsed, str) and parsed.startswith("[") else parsed
    return _number(raw) if kind == "number" and isinstance(raw, str) else raw


def _number(text: str) -> int | float | str:
    """The number that is written there, also as `.05` or `1e-3`; other texts as they are, to be named in an error."""
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text.strip()


def read_form(spec: type[BaseModel], inputs: Iterable[Content]) -> dict[str, object]:
    """The values of a form from the entries of `ctx.inputs_list` (dicts with `id` and, if set, `value`)."""
    values = {}
    for item in inputs:
        name = item["id"]["field"]
        if name in spec.model_fields and not is_local(spec, name):
            values[name] = to_value(spec, name, item.get("value"))
    return values


def from_texts(spec: type[BaseModel], texts: Mapping[str, str]) -> tuple[dict[str, object], list[str]]:
    """The values to fill a form with, from a query string, and what could not be taken, one line each.

    A value of the right kind is taken even if it is out of bounds: the form shows it, and the line under it says what is wrong.
    """
    values, problems = {}, []
    for name, text in texts.items():
        try:
            if name not in spec.model_fields or is_local(spec, name):
                spec.parse({name: parse_text(text)}, remote=True)  # type: ignore[attr-defined]
            values[name] = _fit(spec, name, parse_text(text))
        except InputError as error:
            problems.append(str(error))
    return values, problems


def _fit(spec: type[BaseModel], name: str, value: object) -> object:
    kind = kind_of(spec, name)
    wanted = {
        "choice": value in choices_of(spec, name) or (value is None and _optional(spec, name)),
        "switch": isinstance(value, bool),
        "number": (isinstance(value, (int, float)) and not isinstance(value, bool))
        or (value is None and _optional(spec, name)),
        "tags": isinstance(value, list) and all(isinstance(item, str) for item in value),
        "text": True,
    }[kind]
    if wanted:
        return value
    allowed = {
        "choice": "one of " + ", ".join(str(choice) for choice in choices_of(spec, name)),
        "switch": "true or false",
        "number": "a number",
        "tags": 'a list of texts, ["RUN@STEP"]',
    }[kind]
    shown = text_of(value)
    raise InputError(f"field '{name}': must be {allowed} (got {shown if len(shown) < 60 else shown[:57] + '...'})")


def _members(spec: type[BaseModel], name: str) -> set[object]:
    annotation = spec.model_fields[name].annotation
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return {option for option in options if option is not type(None)}


def _member(spec: type[BaseModel], name: str, kind: type) -> bool:
    return kind in _members(spec, name)


def _optional(spec: type[BaseModel], name: str) -> bool:
    annotation = spec.model_fields[name].annotation
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)


def _json(value: object) -> object:
    return json.loads(json.dumps(value, default=str))


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else ", ".join(map(text_of, value)) if _flat(value) else text_of(value)


def _flat(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value)


def _caption(label: str, description: str) -> str | html.Span:
    # Not a Mantine tooltip: Dash looks through the whole layout for each of them at every event, a third of a core when idle.
    return html.Span(label, title=description) if description else label
