"""What is kept of one job, as JSON in the shared store. What writes belongs into a `take` of it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from .clock import BOOT, clock
from .processes import Worker
from .requests import Request
from .shared.protocol import Entries, Value

LEASE = 10.0  # seconds without a heartbeat after which a job counts as dead; a process seen to be gone counts at once
SETTLE = 1.0  # seconds of progress before a time left is worth showing
WINDOW = 10.0  # seconds; the rate is that of the last one to two windows
ACTIVE = ("queued", "running")
LATELY = 20  # of the jobs that ended last
RECORD_, PARTIAL_, ACTIVE_KEY, TICKET_KEY, ENDED_KEY = "record:", "partial:", "active", "ticket", "ended"  # names in the store
Record = dict[str, Any]


# What every record has; one of another format is no record.
FIELDS = {
    *("request", "title", "state", "owner", "worker", "beat", "ticket", "device", "done", "total", "message", "version"),
    *("asker", "short", "boot", "epoch", "partial", "error", "bad_input", "attempts", "started", "updated", "marks"),
    *("wall", "cancel"),
}


def read(entries: Entries, key: str) -> Record | None:
    """The record of a job, or None; also where what is kept is damaged or of another format."""
    record = parsed(entries.get(RECORD_ + key))
    return record if isinstance(record, dict) and record.keys() >= FIELDS else None


def is_waiting(record: Record) -> bool:
    """Whether the job waits without a process: whoever is first to begin it may have it."""
    return record["state"] == "queued" and record["worker"] is None


def new(old: Record | None, request: Request, worker: Worker | None, ticket: int) -> Record:
    """The record of a job that is queued: with a worker, of an attempt that begins. What was done before stays."""
    at, old = clock(), old or {}
    return {
        "request": request.to_json(),
        "title": request.title,
        "state": "queued",
        "owner": "" if worker is None else uuid.uuid4().hex,
        "worker": None if worker is None else vars(worker),
        "asker": old.get("asker", ""),
        "short": False,
        "beat": at,
        "boot": BOOT,
        "epoch": time.time() - at,
        "ticket": ticket,
        "device": "",
        "done": old.get("done", 0.0),
        "total": old.get("total", 0.0),
        "message": "",
        "version": old.get("version", 0),
        "partial": old.get("partial"),
        "error": "",
        "bad_input": False,
        "attempts": old.get("attempts", 0) + (worker is not None),
        "started": None,
        "updated": at,
        "marks": [],
        "wall": wall_time(old),
        "cancel": None,
    }


def parsed(text: Value | None) -> Any:
    """What a JSON text says; None where there is none, or where it is damaged."""
    with suppress(ValueError, RecursionError):
        return json.loads(text or "null")
    return None


def write(entries: Entries, key: str, record: Record) -> None:
    """Replace the record of a job."""
    entries.set(RECORD_ + key, json.dumps(record))


def job_keys(entries: Entries) -> list[str]:
    """The keys of all jobs that are remembered."""
    return [name.removeprefix(RECORD_) for name in entries.names(RECORD_)]


def next_ticket(entries: Entries) -> int:
    """A number that grows with every claim."""
    last = parsed(entries.get(TICKET_KEY))
    if not isinstance(last, int):  # of the first job, or lost
        last = max((record["ticket"] for _, record in read_all(entries, job_keys(entries))), default=0)
    ticket = last + 1
    entries.set(TICKET_KEY, str(ticket))
    return ticket


def read_owned(entries: Entries, key: str, owner: str) -> Record | None:
    """The record of a job if `owner` (still) owns it."""
    record = read(entries, key)
    return record if record is not None and record["owner"] == owner else None


def active_keys(entries: Entries) -> set[str]:
    """The jobs that had a process when their owners last wrote; some may have died since."""
    keys = parsed(entries.get(ACTIVE_KEY))
    if isinstance(keys, list):
        return set(keys)
    found = read_all(entries, job_keys(entries))
    return {key for key, record in found if record["state"] in ACTIVE and not is_waiting(record)}  # none yet, or lost


def set_active(entries: Entries, keys: set[str]) -> None:
    """Replace `active_keys`."""
    entries.set(ACTIVE_KEY, json.dumps(sorted(keys)))


def now(record: Record) -> float:
    """Now, on the clock of the record's times: that of the boot in which it was claimed, or of elsewhere as well as we know."""
    return clock() if record["boot"] == BOOT else time.time() - record["epoch"]


def wall_clock(record: Record, moment: float) -> float:
    """One of the record's times as seconds since the epoch, by the wall clock as it was when the job was claimed."""
    return float(moment + record["epoch"])


def is_dead(record: Record) -> bool:
    """Whether the owner has ended, or has not been heard of for longer than the lease."""
    return not is_waiting(record) and (now(record) - record["beat"] > LEASE or Worker(**record["worker"]).gone)


def end(entries: Entries, key: str, record: Record, state: str, error: str = "") -> None:
    """Within a take: the job ends, its slot is free, and nobody owns it any more."""
    at = now(record)
    record |= {
        "wall": wall_time(record, record["beat"] if is_dead(record) else at),
        "state": state,
        "error": error,
        "owner": "",
        "marks": [],
        "beat": at,
    }
    record["version"] += 1
    if state == "done":
        record |= {"done": record["total"] or 1.0, "total": record["total"] or 1.0, "message": ""}
    write(entries, key, record)
    set_active(entries, active_keys(entries) - {key})
    ended = [item for item in _ended(entries) if item[0] != key]
    entries.set(ENDED_KEY, json.dumps([[key, time.time()], *ended][:LATELY]))


def lately(entries: Entries, seconds: float) -> list[str]:
    """The jobs that ended in the last seconds, the newest first, of at most `LATELY`: also those that nobody saw run."""
    return [key for key, at in _ended(entries) if abs(time.time() - at) <= seconds]


def _ended(entries: Entries) -> list[tuple[str, float]]:
    found = parsed(entries.get(ENDED_KEY))
    return [(str(item[0]), float(item[1])) for item in found] if isinstance(found, list) else []


def bury(entries: Entries) -> None:
    """Within a take: jobs whose process has ended are no longer active."""
    for key, record in read_all(entries, active_keys(entries)):
        if record["state"] in ACTIVE and is_dead(record):
            end(entries, key, record, "interrupted" if record["cancel"] is None else "cancelled")


def read_all(entries: Entries, keys: Iterable[str]) -> Iterator[tuple[str, Record]]:
    """The keys with their records, where there is one."""
    for key in keys:
        if (record := read(entries, key)) is not None:
            yield key, record


def wall_time(record: Record, until: float | None = None) -> float:
    """Computing time of all attempts; of one that runs `until` then, or its last heartbeat."""
    running = record.get("state") == "running"
    until = (record["beat"] if until is None else until) if running else 0.0
    return float(record.get("wall", 0.0) + (max(0.0, until - record["started"]) if running else 0.0))


def next_marks(marks: list[list[float]], at: float, done: float) -> list[list[float]]:
    """Two earlier points (time, done), at least a window apart once there are two: the rate is measured from the first."""
    if not marks or at - marks[-1][0] >= WINDOW:
        return [*marks[-1:], [at, done]]
    return marks


def seconds_left(record: Record) -> float | None:
    """From the recent rate of this attempt: what an earlier attempt did took no time now, and the first steps are slow."""
    if not record["marks"]:
        return None
    since, first = record["marks"][0]
    elapsed, gained = record["updated"] - since, record["done"] - first
    if elapsed < SETTLE or gained <= 0:
        return None
    left = (record["total"] - record["done"]) * elapsed / gained
    return float(max(0.0, left - (now(record) - record["updated"])))
