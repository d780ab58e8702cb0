"""Jobs that wait without a process, by who asked for them, and whose turn comes next. What writes belongs into a `take`.

Turns: what a person clicked goes before what pages ask for by themselves; within each, those who asked take turns (round
robin, whoever has waited longest for a turn first), and each of them is served in order. So nobody's hundred jobs hold up the
one of somebody else, and no estimate of their length is needed, which is often wrong or not there.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from ..specs import InputError
from .records import parsed
from .shared.protocol import Entries

LIMIT, EACH = 20_000, 10_000  # jobs that may wait: of all, and of one who asks
REMEMBERED = 1000  # who was served last, of so many
WAITING_, TURNS_KEY = "waiting:", "turns"  # names in the store


@dataclass(frozen=True)
class Waiting:
    """One launch: the job `key`, and the requests (JSON) that follow when it is done."""

    ticket: int  # when it was asked for
    key: str
    asker: str  # who asked: a browser, or empty
    automatic: bool = False  # a page asked by itself
    short: bool = False  # expected to take seconds
    device: str = "auto"
    rest: tuple[str, ...] = ()


@dataclass(frozen=True)
class Turns:
    """All that wait, in the order of their turns, and the place of each job in it."""

    version: str
    order: tuple[Waiting, ...] = ()
    place: dict[str, int] = field(default_factory=dict)


def add(entries: Entries, item: Waiting) -> None:
    """Let it wait, in order of its ticket. Nothing happens if the same waits already. Raises InputError if too many do."""
    own = _of(entries, item.asker)
    if any(_same(item, other) for other in own):
        return
    count = _count(entries)
    if count >= LIMIT:
        count = _counted(entries)  # lists may have been lost
    if len(own) >= EACH or count >= LIMIT:
        whose = f"{len(own):,} of yours" if len(own) >= EACH else f"{count:,} in all"
        raise InputError(f"too many jobs are waiting ({whose}): cancel some, or ask again when some are done")
    _set(entries, item.asker, sorted([*own, item], key=lambda other: other.ticket))
    _turned(entries, count=count + 1)


def remove(entries: Entries, asker: str, which: Callable[[Waiting], bool]) -> list[Waiting]:
    """Those of one who asked that `which` names wait no more; returns them."""
    own = _of(entries, asker)
    gone = [item for item in own if which(item)]
    if gone:
        count = _count(entries)
        _set(entries, asker, [item for item in own if not which(item)])
        _turned(entries, count=count - len(gone))
    return gone


def served(entries: Entries, asker: str, ticket: int) -> None:
    """It was the turn of this one, at a moment told by the newest ticket."""
    known = _served(entries)
    known.pop(asker, None)
    _turned(entries, served=dict(list(known.items())[-REMEMBERED + 1 :]) | {asker: ticket})


def turns(entries: Entries, known: Turns | None = None) -> Turns:
    """The order of turns; `known` itself where nothing has changed since."""
    version = str(_parsed(entries, TURNS_KEY, dict).get("version", ""))
    if known is not None and known.version == version:
        return known
    last, found = _served(entries), []
    for asker in _askers(entries):
        rounds = [0, 0]
        for item in _of(entries, asker):
            found.append(((item.automatic, rounds[item.automatic], last.get(asker, 0), item.ticket), item))
            rounds[item.automatic] += 1
    found.sort(key=lambda pair: pair[0])
    place: dict[str, int] = {}
    for _, item in found:
        place.setdefault(item.key, len(place))
    return Turns(version, tuple(item for _, item in found), place)


def _same(item: Waiting, other: Waiting) -> bool:
    return (item.key, item.automatic, item.rest) == (other.key, other.automatic, other.rest)


def _askers(entries: Entries) -> list[str]:
    return [name.removeprefix(WAITING_) for name in entries.names(WAITING_)]


def _of(entries: Entries, asker: str) -> list[Waiting]:
    found = []
    for values in _parsed(entries, WAITING_ + asker, list):
        with suppress(TypeError, KeyError):  # of another format
            found.append(Waiting(**{**values, "asker": asker, "rest": tuple(values["rest"])}))
    return found


def _set(entries: Entries, asker: str, items: list[Waiting]) -> None:
    if items:
        entries.set(WAITING_ + asker, json.dumps([{k: v for k, v in asdict(item).items() if k != "asker"} for item in items]))
    else:
        entries.delete(WAITING_ + asker)


def _served(entries: Entries) -> dict[str, int]:
    found = _parsed(entries, TURNS_KEY, dict).get("served")
    return found if isinstance(found, dict) else {}


def _count(entries: Entries) -> int:
    found = _parsed(entries, TURNS_KEY, dict).get("count")
    return found if isinstance(found, int) else _counted(entries)


def _counted(entries: Entries) -> int:
    return sum(len(_of(entries, asker)) for asker in _askers(entries))


def _turned(entries: Entries, **changed: Any) -> None:
    known = {"served": _served(entries), "count": _count(entries)} | changed
    entries.set(TURNS_KEY, json.dumps(known | {"version": uuid.uuid4().hex}))


def _parsed(entries: Entries, name: str, kind: type) -> Any:
    value = parsed(entries.get(name))
    return value if isinstance(value, kind) else kind()
