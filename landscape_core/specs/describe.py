"""Analyses and their fields as JSON values: what a listing and the reference say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .analysis import Analysis
from .base import Spec, bounds_of, choices_of, is_local, unit_of
from .tasks import task_fields


def describe_fields(spec: type[Spec], names: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """The fields of a Spec as JSON values: default, lowest, highest, both in words, choices, unit, description."""
    default = spec().model_dump(mode="json")
    fields = {}
    for name in spec.model_fields if names is None else names:
        low, high = bounds_of(spec, name)
        fields[name] = {
            "default": default[name],
            "lowest": low,
            "highest": high,
            "range": _range(spec, name),
            "choices": list(choices_of(spec, name)),
            "unit": unit_of(spec, name),
            "description": spec.model_fields[name].description,
            "command_line_only": is_local(spec, name),
        }
    return fields


def _range(spec: type[Spec], name: str) -> str:
    """The bounds of a field in words: `1 to 50`, `above 0 to 1`, `from 2`; empty where it has none."""
    low, high = bounds_of(spec, name)
    marks = spec.model_fields[name].metadata
    first = "" if low is None else f"above {low:,}" if any(hasattr(mark, "gt") for mark in marks) else f"{low:,}"
    last = "" if high is None else f"to below {high:,}" if any(hasattr(mark, "lt") for mark in marks) else f"to {high:,}"
    return f"{first} {last}".strip() if last or first.startswith("above") else first and f"from {first}"


def describe(item: Analysis) -> dict[str, Any]:
    """An analysis as JSON values: title, question, fields, view options and the arrays of its Result."""
    return {
        "title": item.title,
        "question": item.question,
        "fields": describe_fields(item.spec),
        "views": {
            view.name: {
                "default": view.default_value,
                "choices": list(view.choices) if view.choices else [True, False],
                "label": view.label,
            }
            for view in item.views
        },
        "arrays": {
            variable.name: {"shape": list(variable.dimensions), "unit": variable.unit, "description": variable.words}
            for variable in item.arrays
        },
    }


def described_tasks(names: Iterable[str]) -> dict[type[Spec], dict[str, dict[str, Any]]]:
    """All arguments of these tasks as JSON values, each once, under the class that brings it in for all that inherit it."""
    described: dict[type[Spec], dict[str, dict[str, Any]]] = {}
    for name in names:
        for argument, owner in task_fields(name).items():
            first = next(c for c in reversed(owner.__mro__) if issubclass(c, Spec) and argument in c.model_fields)
            described.setdefault(first, {})[argument] = describe_fields(owner, [argument])[argument]
    return described
