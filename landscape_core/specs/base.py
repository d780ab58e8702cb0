"""The base of every Spec: a small, frozen, validated, serialisable request."""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

WORD, LINE = 200, 1000  # characters of a word, and of a line, that a message repeats


def printable(text: str) -> str:
    """The text as one line that can be shown: what does not print is spelled (`\\n`, `\\u202e`), what is endless is cut."""
    spelled = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text[: 10 * LINE])
    spelled = re.sub(rf"\S{{{WORD},}}", lambda found: f"{found[0][: WORD // 2]}…{found[0][-WORD // 4 :]}", spelled)
    return spelled if len(spelled) <= LINE else f"{spelled[:LINE]}…"


class InputError(ValueError):
    """What a person asked for cannot be done; the message is one line naming the field or file and the fix."""

    def __init__(self, line: str):
        super().__init__(printable(line))


def field(default: Any, description: str, *, unit: str = "", local: bool = False, **bounds: Any) -> Any:
    """A Spec field: `description` is one sentence, `unit` its unit, `local` keeps it out of what a browser may set."""
    return Field(default, description=description, json_schema_extra={"unit": unit, "local": local}, **bounds)


class Spec(BaseModel):
    """One request. Immutable; unknown fields are refused; every field has a default, bounds and a description.

    The canonical JSON holds every field, so two equal requests have one text and hence one cache key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def canonical(self) -> str:
        """The one JSON text of this Spec: all fields, sorted, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def changed(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as JSON values: the shortest text that gives this Spec back."""
        default = type(self)().model_dump(mode="json")
        return {name: value for name, value in self.model_dump(mode="json").items() if value != default[name]}

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, remote: bool = False) -> Self:
        """Validate `values`; with `remote` (from a browser) refuse local-only fields. Raises InputError, one line."""
        for name in values:
            if name not in cls.model_fields:
                raise InputError(f"unknown field '{name}'{suggestion(name, cls.model_fields)}")
            if remote and is_local(cls, name):
                raise InputError(f"field '{name}' names a file and can only be set on the command line or in Python")
        try:
            return cls(**values)
        except ValidationError as error:
            raise InputError(_one_line(error)) from None


def parse_text(text: str) -> Any:
    """A value written as JSON (`0.1`, `[1,2]`, `null`, `true`); what is not JSON is the string itself."""
    try:
        return json.loads(text, parse_int=_whole)
    except (ValueError, RecursionError):
        return text


def _whole(digits: str) -> int | float:
    """A whole number; one of more than 64 bits, which nothing here can mean, as the float next to it."""
    value = int(digits) if len(digits) < 20 else 2**64
    return value if abs(value) < 2**63 else float(digits)


def is_local(spec: type[BaseModel], name: str) -> bool:
    """Whether the field names something on the operator's machine and so is never taken from a browser."""
    extra = spec.model_fields[name].json_schema_extra
    return bool(isinstance(extra, dict) and extra.get("local"))


def unit_of(spec: type[BaseModel], name: str) -> str:
    """The unit of a field, empty where it has none."""
    extra = spec.model_fields[name].json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def choices_of(spec: type[BaseModel], name: str) -> tuple[Any, ...]:
    """The values of a field that is a choice (a Literal, possibly optional); empty for any other field."""
    annotation = spec.model_fields[name].annotation
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    for option in options:
        if get_origin(option) is Literal:
            return get_args(option)
    return ()


def bounds_of(spec: type[BaseModel], name: str) -> tuple[Any, Any]:
    """The (lowest, highest) value of a bounded field; None where there is no bound."""
    low = high = None
    for mark in spec.model_fields[name].metadata:
        low = getattr(mark, "ge", getattr(mark, "gt", None)) if low is None else low
        high = getattr(mark, "le", getattr(mark, "lt", None)) if high is None else high
    return low, high


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(names)}"


def choices_in_words(choices: Iterable[Any]) -> str:
    """`a, b or c`."""
    *first, last = [str(choice) for choice in choices]
    return f"{', '.join(first)} or {last}" if first else last


def _one_line(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        # A union reports one error per member; the path's first part is the field, the rest only its inside.
        name = str(item["loc"][0]) if item["loc"] else ""
        message = item["msg"].removeprefix("Value error, ").replace("Input should", "must")
        given = "" if item["type"] == "value_error" else f" (got {_short(item['input'])})"
        lines.append(f"field '{name}': {message}{given}" if name else f"{message}")
    return "; ".join(dict.fromkeys(lines))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
