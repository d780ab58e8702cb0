"""The reference of analyses, tasks, training and command line, as Markdown made from what they declare.

`python -m landscape_core.reference > docs/reference.md` renews the page. Analyses in $LANDSCAPE_ANALYSES are in it too, so
leave that out for the page that is kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .__main__ import parser
from .analyses import ANALYSES
from .specs import TASKS, Analysis, AnalysisSpec, Spec, TrainingSpec, task_fields
from .specs.describe import describe_fields, described_tasks

COMMAND = "python -m landscape_core.reference > docs/reference.md"
HEAD = f"""# Reference

Made from the declarations in the code by `{COMMAND}`, so change those and not this page.
[house.md](house.md) says how the program is built and how to add an analysis.

A field is set by `--set FIELD=JSON` on the command line, as a keyword in Python, in the form and by its own name in the address
of a page. A view option computes nothing: `--view NAME=VALUE`, a keyword of `landscape_core.figure`, `v.NAME` in an address."""


def reference() -> str:
    """The whole page."""
    listed = [item for item in ANALYSES.values() if item.listed and not item.problem]
    common = describe_fields(AnalysisSpec)
    parts: list[Iterable[str]] = [
        [HEAD, "", "## Analyses", "", "Every analysis has these fields:", "", *_fields(common)],
        *(_analysis(item, common) for item in listed),
        _tasks(),
        _training(),
        _commands(),
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table and an empty line; nothing where there are no rows."""
    lines = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    if lines:
        yield from (f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *lines))
        yield ""


def _fields(fields: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    rows = []
    for name, about in fields.items():
        words = str(about["description"]) + (" Not from a browser." if about["command_line_only"] else "")
        rows.append([f"`{name}`", f"`{json.dumps(about['default'])}`", _values(about), about["unit"], words])
    yield from _table(["field", "default", "values", "unit", ""], rows)


def _values(about: Mapping[str, Any]) -> str:
    if about["choices"]:
        return ", ".join(f"`{choice}`" for choice in about["choices"])
    return str(about["range"])


def _analysis(item: Analysis, common: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### {item.name}", "", f"**{item.title}.** {item.question} Its page is `{item.path}`.", "")
    if item.spec.__doc__:
        yield from (_said(item.spec), "")
    own = {name: about for name, about in describe_fields(item.spec).items() if about != common.get(name)}
    yield from _fields(own)
    views = []
    for view in item.views:
        choices = ", ".join(f"`{value}`" for value in view.choices) if view.choices else "`true`, `false`"
        views.append([f"`{view.name}`", f"`{_plain(view.default_value)}`", choices, view.label])
    yield from _table(["view option", "default", "values", ""], views)
    arrays = [
        [f"`{array.name}`", f"({', '.join(array.dimensions)})" if array.shape else "", array.unit, array.words]
        for array in item.arrays
    ]
    yield from _table(["array or number", "shape", "unit", ""], arrays)
    if item.measures:
        names = ", ".join(f"`{measure.name}` ({measure.title})" for measure in item.measures)
        yield from (f"For a table of checkpoints: {names}.", "")
    if item.files:
        yield from (f"Also written as {', '.join(f'.{ending}' for ending in item.files)}.", "")


def _said(spec: type[Spec]) -> str:
    """What a Spec says of itself, on one line."""
    return " ".join((spec.__doc__ or "").split())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _tasks() -> Iterator[str]:
    yield from ("## Tasks", "", "A task is named by its data and its network; `--set` gives its arguments.", "")
    yield from _table(
        ["task", "", "arguments"],
        [[f"`{name}`", entry.title, ", ".join(f"`{field}`" for field in task_fields(name))] for name, entry in TASKS.items()],
    )
    described = described_tasks(TASKS)
    parts = dict.fromkeys(part for entry in TASKS.values() for part in (entry.data, entry.architecture))
    yield from (*(f"- {_said(part)}" for part in parts if part not in described), "")
    for owner, fields in described.items():
        yield from (_said(owner), "", *_fields(fields))


def _training() -> Iterator[str]:
    names = [name for name in TrainingSpec.model_fields if name not in ("run", "task")]
    yield from ("## Training", "", _said(TrainingSpec), "", *_fields(describe_fields(TrainingSpec, names)))


def _commands() -> Iterator[str]:
    top = parser()
    common = [action for action in top._actions if action.option_strings and action.dest != "help"]
    yield from ("## Command line", "", "Every command takes these as well:", "", *_arguments(common))
    known = {action.dest for action in common} | {"help"}
    for name, command in subcommands(top).items():
        own = [action for action in command._actions if action.dest not in known]
        usage = " ".join(["python -m landscape_core", name, *map(_usage, own)])
        words = str(command.description)
        yield from (f"### `{name}`", "", f"{words[:1].upper()}{words[1:]}.", "", f"    {usage}", "", *_arguments(own))


def subcommands(top: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The commands of a parser by name."""
    found: Mapping[str, argparse.ArgumentParser] = next(
        action.choices for action in top._actions if isinstance(action, argparse._SubParsersAction)
    )
    return found


def _usage(action: argparse.Action) -> str:
    """An argument as a line of usage has it."""
    text = _written(action)
    if isinstance(action, argparse._AppendAction):
        text += " ..."
    return text if action.required else f"[{text}]"


def _written(action: argparse.Action) -> str:
    """An argument as it is written once."""
    word = str(action.metavar or action.dest.upper())
    many: dict[int | str | None, str] = {"+": f"{word} [{word} ...]", "*": f"[{word} ...]", "?": f"[{word}]", 0: ""}
    return " ".join([*action.option_strings[-1:], many.get(action.nargs, word)]).strip()


def _arguments(actions: Iterable[argparse.Action]) -> Iterator[str]:
    yield from _table(["argument", ""], [[f"`{_written(action)}`", action.help or ""] for action in actions])


if __name__ == "__main__":
    print(reference(), end="")
