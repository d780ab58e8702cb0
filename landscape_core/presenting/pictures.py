"""Pictures of the Results of any analysis, alone and beside each other; what they say, and their rows."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from ..analyses import ANALYSES, analysis
from ..drawing.align import align
from ..drawing.known import Known
from ..drawing.statement import Reading
from ..drawing.style import SERIES, message_figure
from ..drawing.tables import Table, rows_of
from ..specs import Analysis, InputError, Result, suggestion


def of_result(result: Result) -> Analysis:
    """The analysis that made a Result. Raises InputError where there is none of its name."""
    return analysis(str(getattr(result, "spec", {}).get("analysis")))


def figure(result: Result, **options: Any) -> go.Figure:
    """The picture of a Result, as its page draws it.

    Args:
        result: what `compute` gave.
        options: view options of its analysis (`kind="contour"`), and `color` (#rrggbb), `dark`, `title`, `compact` or whatever
            else its figure takes.

    Raises:
        InputError: the analysis has no picture, or no such option or value.
    """
    item = of_result(result)
    draw = item.part("figure", "figure")
    if draw is None:
        raise InputError(f"a result of '{item.name}' has no figure")
    takes = [name for name, about in inspect.signature(draw).parameters.items() if about.kind is about.KEYWORD_ONLY]
    for name in options:
        if name not in takes:
            raise InputError(f"a picture of '{item.name}' has no option '{name}'{suggestion(name, takes)}")
    views = {view.name for view in item.views}
    checked = item.checked_view({name: value for name, value in options.items() if name in views})
    source = str(result.spec.get("source") or "")
    about = {"source": source, "title": label(source) or None, "color": SERIES[False][0]}
    made: go.Figure = draw(result, **{**about, **options, **checked})
    return made


def label(source: str) -> str:
    """A checkpoint as a title names it: `digits @ 2000`."""
    return source.replace("@", " @ ")


def side_by_side(results: Sequence[Result], **view: Any) -> list[go.Figure]:
    """The pictures of several Results of one analysis, as its page draws them beside each other: on the same scale, or one of
    all of them where the view asks for that. Raises InputError as `figure` does.
    """
    kinds = {of_result(result).name for result in results}
    if len(kinds) != 1:
        raise InputError(f"pictures beside each other are of one analysis (got {', '.join(sorted(kinds)) or 'none'})")
    sources = [str(result.spec.get("source") or "") for result in results]
    return drawn(analysis(kinds.pop()), results, sources, view)


def drawn(
    item: Analysis,
    datas: Sequence[Known | None],
    sources: Sequence[str],
    view: Mapping[str, Any],
    *,
    colors: Sequence[str] = (),
    titles: Sequence[str] = (),
    dark: bool = False,
) -> list[go.Figure]:
    """A picture of each of `datas` (Results, partial arrays, or None where there is nothing yet), or one of them all.

    `view` holds view options; those it leaves out are default. `colors` are by default those of a selection's places. In the
    place of a picture that cannot be made stands a sentence.
    """
    view = item.view({}) | item.checked_view(view)
    titles = titles or [label(source) for source in sources]
    colors = colors or [SERIES[False][i % len(SERIES[False])] for i in range(len(datas))]
    combined, shared, draw = (item.part("figure", name) for name in ("combined", "shared", "figure"))
    if draw is None:
        raise InputError(f"a result of '{item.name}' has no figure")
    try:
        whole = None if combined is None else combined(datas, titles, view, dark)
    except InputError as error:
        whole = message_figure(str(error), dark=dark, title=" and ".join(titles))
    if whole is not None:
        return [whole]
    common = {} if shared is None else shared(datas, view)
    made = []
    for data, source, title, color in zip(datas, sources, titles, colors, strict=True):
        about: dict[str, Any] = {"dark": dark, "color": color}
        if data is None:
            made.append(message_figure("Not computed yet.", title=title, **about))
            continue
        try:
            options = {"source": source, "title": title or None, "compact": len(datas) > 1}
            made.append(draw(data, **options, **about, **view, **common))
        except InputError as error:
            made.append(message_figure(str(error), title=title, **about))
    align(made, item.aligned)
    return made


def reading(result: Result, *, panel: bool = False) -> list[Reading]:
    """What a Result says: a list of `Reading(name, value, words, formula, source, verdict)`, empty where it says nothing.

    With `panel` only what the page's panel says, where a table of the page says the rest.
    """
    stated = {name: value for name, value in result.spec.items() if name not in ("analysis", "source")}
    item = ANALYSES.get(str(result.spec.get("analysis")))
    names = ("panel", "reading") if panel else ("reading",)
    read = None if item is None else next((found for name in names if (found := item.part("reading", name))), None)
    if item is None or read is None:
        return []
    try:
        spec = item.spec.parse(stated)
    except InputError:
        return []  # of another version of the program
    return list(read(result, spec))


def rows(result: Result) -> Table:
    """Header and rows of a Result: what its analysis says, else a row for each place along its arrays."""
    item = of_result(result)
    made = item.part("figure", "rows")
    table: Table = rows_of(result, item.arrays) if made is None else made(result)
    return table
