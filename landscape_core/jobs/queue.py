"""From requests to jobs that wait: what a page's launch does. Nothing is computed and no process started here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .price import SHORT, known_seconds
from .requests import Request, Resolved
from .results import ResultCache
from .store import JobStore
from .waiting import Waiting


def enqueue(requests: Sequence[Request], home: Path, asker: str = "", automatic: bool = False, ticket: int = 0) -> str | None:
    """Let requests wait to be done in order, each when the one before is done; those that are done already are passed over.

    Returns the key of the first that waits; None if all are done. A request's key is found only when its turn comes: it may be
    of a run that an earlier one trains. With a ticket, they stand where that stood. Raises InputError if the first of them
    names what is not there, or if too many jobs wait.
    """
    for i, request in enumerate(requests):
        wanted = request.resolve(home)
        if is_done(wanted, home):
            continue
        item = Waiting(
            ticket=ticket,
            key=wanted.key,
            asker=asker,
            automatic=automatic,
            short=_short(wanted, home),
            device=str(getattr(wanted.spec, "device", "cpu")),
            rest=tuple(later.to_json() for later in requests[i + 1 :]),
        )
        JobStore(home).put(item, wanted.request)
        return wanted.key
    return None


def is_done(wanted: Resolved, home: Path) -> bool:
    """Whether the result is there, and what the job leaves on disk besides."""
    return wanted.stands(home) and ResultCache(home).has(wanted.key)


def _short(wanted: Resolved, home: Path) -> bool:
    if wanted.request.kind == "calibration":
        return True
    expected = known_seconds(wanted, home)
    return expected is not None and expected <= SHORT
