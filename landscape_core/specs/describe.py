"""Analyses and their fields as JSON values: what a listing and the reference say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .analysis import Analysis
from .base import Spec, bounds_of, choices_of, is_local, unit_of


def describe_fields(spec: type[Spec], names: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """The fields of a Spec as JSON values: default, lowest, highest, choices, unit, description."""
    default = spec().model_dump(mode="json")
    fields = {}
    for name in spec.model_fields if names is None else names:
        low, high = bounds_of(spec, name)
        fields[name] = {
            "default": default[name],
            "lowest": low,
            "highest": high,
            "choices": list(choices_of(spec, name)),
            "unit": unit_of(spec, name),
            "description": spec.model_fields[name].description,
            "command_line_only": is_local(spec, name),
        }
    return fields


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
