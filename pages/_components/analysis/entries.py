"""What an analysis page is about to show, as the browser keeps it: the Spec's fields, and for each selected checkpoint its
request, key and calibration, or the problem with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict

from landscape_core.drawing.known import Known
from landscape_core.jobs.price import calibration_of
from landscape_core.jobs.requests import Request
from landscape_core.specs import Analysis, AnalysisSpec, InputError, Result

from .. import stores
from ..shell.address import text_of
from ..shell.selection import resolve
from ..shell.theme import color_of


class Item(TypedDict):
    """One place of the selection; `problem`, one line, says why it cannot be computed, and then the keys are missing."""

    text: str
    label: str
    problem: str
    source: NotRequired[str]  # RUN@STEP
    key: NotRequired[str]
    request: NotRequired[str]
    calibration: NotRequired[str]  # its key
    calibrate: NotRequired[str]  # its request


class PageState(TypedDict):
    """`fields` are those of the Spec that are not default, as texts of an address; `error`, one line, why there is none."""

    fields: dict[str, str]
    error: str
    items: list[Item]


class Entry(NamedTuple):
    """A checkpoint that can be computed."""

    place: int  # in the selection: decides its colour
    label: str
    source: str
    key: str
    request: Request
    calibration: str
    calibrate: Request

    @property
    def color(self) -> str:
        return color_of(self.place)


def state_of(item: Analysis, values: Mapping[str, Any], selection: Sequence[str]) -> PageState:
    """The state for the values of the form; with `error` where they are no Spec."""
    try:
        spec = item.spec.parse(values, remote=True)
    except InputError as error:
        return {"fields": {}, "error": str(error), "items": []}
    return {
        "fields": {name: text_of(value) for name, value in spec.changed().items()},
        "error": "",
        "items": _items(item, spec, selection),
    }


def _items(analysis: Analysis, spec: AnalysisSpec, selection: Sequence[str]) -> list[Item]:
    changed, found = spec.changed(), []
    for place in resolve(selection):
        item: Item = {"text": place.text, "label": place.label, "problem": place.problem}
        if place.record is not None and place.checkpoint is not None:
            request = Request(analysis.name, f"{place.record.name}@{place.checkpoint.step}", changed)
            calibration = calibration_of(place.record, changed)
            try:
                keys = request.key(stores.home()), calibration.key(stores.home())
            except InputError as error:
                item["problem"] = str(error)
            else:
                item["source"], item["key"], item["calibration"] = str(request.source), *keys
                item["request"], item["calibrate"] = request.to_json(), calibration.to_json()
        found.append(item)
    return found


def entries_of(state: PageState | None) -> list[Entry]:
    """The places of the selection that can be computed."""
    return list(_entries(state["items"])) if state else []


def _entries(items: Sequence[Item]) -> Iterator[Entry]:
    for index, item in enumerate(items):
        if "key" in item:
            requests = Request.from_json(item["request"]), Request.from_json(item["calibrate"])
            yield Entry(index, item["label"], item["source"], item["key"], requests[0], item["calibration"], requests[1])


def known_of(entry: Entry) -> Known | None:
    """The finished result, else what a job has so far, else None."""
    return finished(entry) or stores.jobs().partial(entry.key)


def finished(entry: Entry) -> Result | None:
    """The result, if it is finished."""
    return stores.results().get(entry.key)


def part_id(name: str, part: str) -> str:
    """The id of a part of the page of an analysis."""
    return f"{name}-{part}"
