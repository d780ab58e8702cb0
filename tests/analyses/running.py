"""Running an analysis to its end, or stopping it on the way; and its Result as a table."""

import csv
import dataclasses
import io
from typing import Any

from landscape_core.jobs.execute import analyse
from landscape_core.measuring.context import Context
from landscape_core.presenting.files import content
from landscape_core.specs import Analysis, AnalysisSpec, Array, Result

# By the name of a field, whatever analysis has it. In float64, so that the order of sums does not show.
SMALL = {"dtype": "float64", "resolution": 7, "steps": 24, "records": 6, "refresh": 8}


def small(item: Analysis) -> dict[str, Any]:
    """Fields with which an analysis of a tiny network takes a moment."""
    return {name: value for name, value in SMALL.items() if name in item.spec.model_fields}


def analysed(
    kind: str, spec: AnalysisSpec, given: Context, partial: dict[str, Array] | None, stop_after: int | None
) -> Result | dict[str, Any]:
    """The Result; with `stop_after`, the partial arrays after so many reports of them. `partial`: an earlier attempt's."""
    run = analyse(kind, spec, given if partial is None else dataclasses.replace(given, partial=partial))
    count = 0
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            return end.value
        count += progress.partial is not None
        if count == stop_after:
            run.close()
            return dict(progress.partial)


def table(result: Result) -> list[dict[str, str]]:
    """The rows of the Result's CSV file."""
    return list(csv.DictReader(io.StringIO(content(result, ".csv").decode())))
