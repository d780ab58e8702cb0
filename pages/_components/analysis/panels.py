"""What stands around a picture: what it will cost, what it says, its numbers and where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dash_mantine_components as dmc
import numpy as np
from dash import html
from dash.development.base_component import Component

from landscape_core.drawing.numbers import number
from landscape_core.drawing.statement import Reading
from landscape_core.jobs.price import memory, seconds
from landscape_core.specs import COUNTED, AnalysisSpec, Result, RunRecord, Variable

from ..shell.address import write_query
from ..shell.theme import aria
from ..words import duration, humanise, size

VERDICTS = {"ok": "fine", "note": "note", "warn": "take care"}
DIGITS = 4  # of a measured value in the table


def cost_line(
    spec: AnalysisSpec, records: Sequence[RunRecord], calibrations: Sequence[Result | None], measuring: bool
) -> list[Component]:
    """What computing costs for these checkpoints, before it is begun."""
    largest = max((record.parameters for record in records), default=0)
    work = {kind: round(count) for kind, count in spec.work(largest).items() if count}
    sizes = sorted({min(record.sizes.get(spec.split, 0), spec.samples or 2**62) for record in records})
    samples = number(sizes[0]) if len(sizes) == 1 else f"{number(sizes[0])} to {number(sizes[-1])}"
    passes = work.pop("forwards", 0)
    rest = ", ".join(_counted(kind, count) for kind, count in work.items())
    each = f" for each of {len(records)} checkpoints" if len(records) > 1 else ""
    if passes:
        counts = f"{number(passes)} points × {samples} samples{each}" + (f", {rest}" if rest else "")
    else:
        counts = f"{rest} over {samples} samples{each}"
    known = [found for found in calibrations if found is not None]
    estimates = [seconds(spec, found) for found in known]
    if len(known) < len(records):
        price = "measuring how long that takes …" if measuring else "time unknown: not measured yet"
    elif any(value is None for value in estimates):
        price = "time unknown: this network has no second derivatives"
    else:
        held = max(memory(spec, found) for found in known)
        price = f"about {duration(sum(value for value in estimates if value is not None))}, at least {size(held)} of memory"
    return [html.Div(price, className="cost-price"), html.Div(counts, className="cost-counts")]


def _counted(kind: str, count: int) -> str:
    one, many = COUNTED.get(kind, (kind, kind))
    return f"{number(count)} {one if count == 1 else many}"


def reading_panel(readings: Sequence[tuple[str, str, Sequence[Reading]]]) -> list[Component]:
    """The readings of each checkpoint: (label, colour, readings)."""
    if not readings:
        return []
    columns = []
    for label, color, items in readings:
        head = html.H3([html.Span(className="dot", style={"background": color}), label]) if len(readings) > 1 else None
        columns.append(html.Div([head, *[_reading(item) for item in items]], className="reading-column"))
    return [html.H2("What this shows", className="reading-title"), html.Div(columns, className="reading-columns")]


def _reading(item: Reading) -> html.Div:
    more: list[Component] = []
    if item.formula or item.source:
        more = [
            html.Details(
                [
                    html.Summary("Formula and source"),
                    *([html.P(item.formula, className="formula")] if item.formula else []),
                    *([html.P(item.source, className="source")] if item.source else []),
                ]
            )
        ]
    verdict = item.verdict
    mark = html.Span(
        VERDICTS[verdict] if verdict == "warn" else "", className=f"verdict verdict-{verdict}", title=VERDICTS[verdict]
    )
    return html.Div(
        [
            html.Div([html.Span(item.name, className="reading-name"), mark], className="reading-head"),
            html.Div(item.value, className="reading-value") if item.value else None,
            html.P(item.words, className="reading-words"),
            *more,
        ],
        className=f"reading-item reading-{verdict}",
    )


def numbers_table(declared: Sequence[Variable], results: Sequence[tuple[str, Result]]) -> Component:
    """The scalars of finished results, a column for each checkpoint, and the shapes of the arrays, as they are declared."""
    if not results:
        return dmc.Text("The table is filled when the computation is done.", size="sm", c="dimmed")
    about = {item.name: item for item in declared}
    there = {name for _, result in results for name in result}
    names = [name for name in about if name in there] + sorted(there - about.keys())
    scalars = {name for _, result in results for name in result if result.arrays[name].ndim == 0}
    rows = [_row(about.get(name), name, [_cell(result, name) for _, result in results]) for name in names if name in scalars]
    shapes = [
        _row(about.get(name), name, [_shape(result, name) for _, result in results]) for name in names if name not in scalars
    ]
    head = html.Tr([html.Th("Number"), *[html.Th(label, scope="col") for label, _ in results]])
    middle = html.Tr(html.Th("Arrays in the NPZ file: shape, smallest to largest", colSpan=1 + len(results)), className="split")
    return html.Table([html.Thead(head), html.Tbody([*rows, middle, *shapes])])


def _row(declared: Variable | None, name: str, cells: Sequence[str]) -> html.Tr:
    """A row headed by the name with its unit; what it is stands there for who points at it."""
    unit = f" ({declared.unit})" if declared is not None and declared.unit else ""
    words = declared.words if declared is not None else None
    return html.Tr([html.Th(humanise(name) + unit, scope="row", title=words), *map(html.Td, cells)])


def _cell(result: Result, name: str) -> str:
    value = result.get(name)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value, DIGITS) if isinstance(value, (int, float)) else str(value)


def _shape(result: Result, name: str) -> str:
    if name not in result.arrays:
        return "–"
    array = result.arrays[name]
    shape = " × ".join(str(n) for n in array.shape)
    if not array.size or array.dtype.kind not in "fiu":
        return shape
    finite = array[np.isfinite(array)]
    lost = array.size - finite.size
    span = f": {number(finite.min().item(), DIGITS)} to {number(finite.max().item(), DIGITS)}" if finite.size else ""
    return f"{shape}{span}" + (f", {lost} not finite" if lost else "")


def provenance_line(label: str, color: str, result: Result, fresh: bool) -> html.Div:
    """Where a result came from, in one line."""
    made = result.provenance
    counts = made.get("counts") or {}
    parts = [
        f"computed in {duration(float(made['wall_seconds']))}" if "wall_seconds" in made else "",
        f"on {made['device']}, {made.get('dtype', '')}" if made.get("device") else "",
        ", ".join(_counted(kind, count) for kind, count in counts.items() if count),
        "just now" if fresh else f"from the cache, of {_day(str(made.get('created', '')))}",
        f"weights {str(made['fingerprint'])[:10]}" if made.get("fingerprint") else "",
    ]
    return html.Div(
        [html.Span(className="dot", style={"background": color}), html.Strong(label), *_dotted(parts)],
        className="provenance-row",
    )


def _day(created: str) -> str:
    """2026-11-22T23:31:42Z -> 2026-11-22 23:31 UTC."""
    return f"{created[:10]} {created[11:16]} UTC" if len(created) >= 16 else "an earlier day"


def _dotted(parts: Sequence[str]) -> list[Component]:
    return [html.Span(part) for part in parts if part]


def file_links(
    items: Sequence[tuple[str, str, str]], kinds: Sequence[str], view: Mapping[str, object], dark: bool
) -> list[Component]:
    """Links to the files of finished results: (label, colour, key)."""
    groups: list[Component] = []
    for label, color, key in items:
        links = []
        for kind in ("html", *kinds):
            query = write_query(view={**view, "dark": dark}) if kind == "html" else ""
            links.append(
                html.A(
                    kind.upper(),
                    href=f"/download/{key}.{kind}{query}",
                    download="",
                    className="file",
                    **aria(f"Download {label} as {kind.upper()}"),
                )
            )
        dot = [html.Span(className="dot", style={"background": color}, title=label)] if len(items) > 1 else []
        groups.append(html.Span([*dot, *links], className="file-group"))
    return groups
