"""The job store: the single source of truth about every job, shared by all processes under one home directory.

A job is a record under its key. Who works on it owns it by a lease that a heartbeat renews; every write of the owner is
fenced, so one that lost its lease changes nothing. Records and partial arrays are replaced whole.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..specs import Array, InputError, Progress, pack, unpack
from . import records, waiting
from .processes import Worker
from .records import ACTIVE, Record
from .requests import Request
from .shared import open_shared
from .shared.protocol import Entries, Shared
from .waiting import Turns, Waiting

log = logging.getLogger("landscape.jobs")
BEAT = 2.0  # seconds between two heartbeats
GRACE = 3.0  # seconds that a cancelled job has to stop by itself
KEEP = 500  # ended jobs that are remembered
KEEP_PARTIALS = 50  # ended jobs whose partial arrays are kept
SHOWN = 20  # jobs that wait, by their turns, that are listed


@dataclass(frozen=True)
class JobView:
    """A job as a watcher sees it. Times are seconds since the epoch, spans are seconds; `version` grows with each picture."""

    key: str
    kind: str
    source: str | None
    title: str
    values: dict[str, Any]
    state: str  # queued, running, interrupted, failed, cancelled, done
    done: float
    total: float
    message: str
    version: int
    error: str  # one line where the job failed
    bad_input: bool  # it failed because of what was asked for (an InputError)
    attempts: int
    started: float | None  # of the last attempt's computing; None while it has not begun
    updated: float  # when it last advanced: a job that beats but has not advanced for long may hang
    seconds_left: float | None  # from the rate of this attempt; None if unknown
    wall: float  # computing time of all attempts
    ahead: int  # jobs that run or wait before this one while it is queued
    asker: str  # the browser that asked for it; empty for a program
    cancelling: bool  # told to stop, has not yet

    @property
    def active(self) -> bool:
        """Whether somebody works on it, or will when its turn comes."""
        return self.state in ACTIVE


class JobStore:
    """The jobs under `home`, or in `shared`. Any number of instances, threads and processes may use it at once."""

    def __init__(self, home: Path | str, shared: Shared | None = None):
        self.shared = open_shared(home, "jobs") if shared is None else shared
        self._turns: Turns | None = None

    # -- the owner's side ------------------------------------------------------------------------------------------

    def claim(self, key: str, request: Request) -> str | None:
        """Become the owner of the job, which is then queued; None while somebody else works on it. Clears a cancel."""
        with self.shared.take() as held:
            old = records.read(held, key)
            waits = old is not None and records.is_waiting(old)
            if old is not None and old["state"] in ACTIVE and not waits and not records.is_dead(old):
                return None
            ticket = old["ticket"] if old is not None and waits else records.next_ticket(held)
            record = records.new(old, request, Worker.this(), ticket)
            if old is not None and waits:
                record["short"] = old["short"]
            records.write(held, key, record)
            records.set_active(held, {*records.active_keys(held), key})
        return str(record["owner"])

    def acquire(self, key: str, owner: str, device: str) -> bool:
        """Take a slot of `device` and run, if it is this job's turn: first come, first served, as `room` says."""
        workers()
        record = records.read(self.shared, key)
        if record is None or (record["device"] == device and not self._fits(self.shared, record)):
            return False  # seen without taking the lock: waiting jobs ask often
        with self.shared.take() as held:
            record = records.read_owned(held, key, owner)
            if record is None:
                return False
            record["device"] = device
            records.bury(held)
            if self._fits(held, record):
                now = records.now(record)
                record |= {"state": "running", "started": now, "updated": now, "beat": now}
            records.write(held, key, record)
        return bool(record["state"] == "running")

    def beat(self, key: str, owner: str) -> bool:
        """Renew the lease. False if it was lost."""
        with self.shared.take() as held:
            record = records.read_owned(held, key, owner)
            if record is not None:
                records.write(held, key, record | {"beat": records.now(record)})
        return record is not None

    def advance(self, key: str, owner: str, progress: Progress) -> bool:
        """Write down how far the job is, with its partial arrays if it has any. False if the lease was lost."""
        name = None
        if progress.partial:
            name = f"{records.PARTIAL_}{key}:{uuid.uuid4().hex}"
            # The slow part, before the store is taken; unseen until a record names it.
            self.shared.set(name, pack(progress.partial))
        with self.shared.take() as held:
            record, stale = records.read_owned(held, key, owner), name
            if record is not None:
                now = records.now(record)
                if name is not None:
                    stale, record["partial"] = record["partial"], name
                    record["version"] += 1
                record |= {"done": progress.done, "total": progress.total, "message": progress.message}
                record |= {"updated": now, "beat": now, "marks": records.next_marks(record["marks"], now, progress.done)}
                records.write(held, key, record)
        if stale is not None:
            self.shared.delete(stale)
        return record is not None

    def finish(self, key: str, owner: str, state: str, error: str = "", bad_input: bool = False) -> bool:
        """End the job as done, failed, cancelled or interrupted; partial arrays stay unless done. False: the lease was lost."""
        with self.shared.take() as held:
            record = records.read_owned(held, key, owner)
            if record is not None:
                record["bad_input"] = bad_input
                records.end(held, key, record, state, error)
        if record is not None and state == "done":
            self.forget_partial(key)
        self.prune()
        return record is not None

    # -- those that wait without a process ----------------------------------------------------------------------------

    def put(self, item: Waiting, request: Request) -> None:
        """Let a job wait for its turn, which all see from then on; with `item.ticket` 0 as the newest.

        Where somebody works on the job already, it is done again only if they die. Raises InputError if too many wait.
        """
        with self.shared.take() as held:
            record = records.read(held, item.key)
            if not item.ticket:
                item = replace(item, ticket=records.next_ticket(held))
            waiting.add(held, item)
            if record is None or record["state"] not in ACTIVE or records.is_dead(record):
                records.set_active(held, records.active_keys(held) - {item.key})
                record = records.new(record, request, None, item.ticket)
                record |= {"asker": item.asker, "short": item.short}
                records.write(held, item.key, record)

    def turns(self) -> tuple[Waiting, ...]:
        """All that wait, in the order of their turns (see `waiting`)."""
        return self._order().order

    def take_turn(self, item: Waiting) -> bool:
        """Take one out of those that wait, to be begun. False if it waits no more: another server was first."""
        with self.shared.take() as held:
            if not waiting.remove(held, item.asker, lambda other: other == item):
                return False
            waiting.served(held, item.asker, records.next_ticket(held))
            record = records.read(held, item.key)
            if record is not None and records.is_waiting(record):
                records.set_active(held, {*records.active_keys(held), item.key})  # seen, though it has no process yet
        return True

    def drop_turn(self, item: Waiting) -> None:
        """What waits for the job waits no more."""
        with self.shared.take() as held:
            waiting.remove(held, item.asker, lambda other: other == item)

    def give_up(self, key: str, state: str, error: str = "") -> None:
        """A job that waits, and whose process came to nothing, ends as `state` (interrupted, failed)."""
        with self.shared.take() as held:
            record = records.read(held, key)
            if record is not None and records.is_waiting(record):
                record["bad_input"] = state == "failed"
                records.end(held, key, record, state, error)

    def waits(self, key: str) -> bool:
        """Whether the job waits and has no process."""
        record = records.read(self.shared, key)
        return record is not None and records.is_waiting(record)

    def unlisted(self) -> set[str]:
        """Jobs that wait and stand in no list of turns: they are just being begun, or the list was lost."""
        found = records.read_all(self.shared, set(records.job_keys(self.shared)) - self._order().place.keys())
        return {key for key, record in found if records.is_waiting(record) and key not in self._order().place}

    def device(self, key: str) -> str:
        """The device on which the job runs or ran; empty if it did not."""
        record = records.read(self.shared, key)
        return "" if record is None else str(record["device"])

    def room(self, device: str, short: bool, ticket: int, starting: Sequence[bool] = ()) -> bool:
        """Whether a job may begin on `device` now ("auto": on any): `LANDSCAPE_WORKERS` at once. `starting`: whether those are
        short that are being started and do not run yet.

        A short one may begin beside them where only long ones are at work: it is done before they notice.
        """
        wanted = {"owner": "", "device": device, "short": short, "ticket": ticket}
        before = _before(wanted, self._others(self.shared), unknown=True)
        return _fits(short, [*(bool(other["short"]) for other in before), *starting])

    # -- the watcher's side ----------------------------------------------------------------------------------------

    def cancel(self, key: str) -> None:
        """Tell the job to stop. It stops at its next progress; its process is ended `GRACE` seconds later."""
        with self.shared.take() as held:
            record = records.read(held, key)
            if record is not None and record["state"] in ACTIVE and record["cancel"] is None:
                record["cancel"] = records.now(record)
                records.write(held, key, record)
                if records.is_waiting(record):
                    waiting.remove(held, record["asker"], lambda item: item.key == key)
                if records.is_waiting(record) or records.is_dead(record):
                    records.end(held, key, record, "cancelled")

    def cancelled(self, key: str) -> bool:
        """Whether the job was told to stop."""
        record = records.read(self.shared, key)
        return record is not None and (record["cancel"] is not None or record["state"] == "cancelled")

    def view(self, key: str) -> JobView | None:
        """The job now, or None if it was never asked for. Ends the process of a cancelled job that does not stop."""
        record = records.read(self.shared, key)
        return None if record is None else self._seen([(key, record)])[0]

    def views(self) -> list[JobView]:
        """All jobs, the newest first; of those that wait only the first."""
        waits = self._order().place
        shown = set(islice(waits, SHOWN))
        return self._sorted(key for key in records.job_keys(self.shared) if key not in waits or key in shown)

    def active(self) -> list[JobView]:
        """The jobs that run or wait, the newest first; of those that wait only the first: cheap enough for every poll."""
        shown = islice(self._order().place, SHOWN)
        return [view for view in self._sorted({*records.active_keys(self.shared), *shown}) if view.active]

    def lately(self, seconds: float) -> list[str]:
        """The jobs that ended in the last seconds, the newest first: a short one may come and go between two polls."""
        return records.lately(self.shared, seconds)

    def partial(self, key: str) -> dict[str, Array] | None:
        """The partial arrays, or None. Damaged ones are dropped with a log line: the job then starts from nothing."""
        record = None
        for _ in range(10):  # a new picture may replace the old one between the two reads
            before, record = record, records.read(self.shared, key)
            if record is None or record["partial"] is None:
                return None
            try:
                data = self.shared.get(record["partial"])
                if isinstance(data, bytes):
                    return unpack(data, f"the partial result of {record['title']}")
                if before is None or before["partial"] != record["partial"]:
                    continue
                problem = f"the partial result of {record['title']} is missing or damaged"
            except (InputError, ValueError) as error:
                problem = str(error)
            log.warning("%s; it is computed from the start", problem)
            self.forget_partial(key)
            return None
        return None

    def forget_partial(self, key: str) -> None:
        """Drop the partial arrays: the next attempt starts from nothing."""
        with self.shared.take() as held:
            record = records.read(held, key)
            if record is None or record["partial"] is None:
                return
            name, record["partial"] = record["partial"], None
            record["version"] += 1
            records.write(held, key, record)
        self.shared.delete(name)

    def prune(self) -> None:
        """Forget all but the newest `KEEP` ended jobs and the partial arrays of all but the newest `KEEP_PARTIALS`."""
        partials, waits = list(self.shared.names(records.PARTIAL_)), self._order().place
        ended = [
            item
            for item in records.read_all(self.shared, (key for key in records.job_keys(self.shared) if key not in waits))
            if item[1]["state"] not in ACTIVE or records.is_dead(item[1])
        ]
        ended.sort(key=lambda item: -item[1]["ticket"])
        for key, record in ended[KEEP:]:
            with self.shared.take() as held:
                if records.read(held, key) == record:
                    held.delete(records.RECORD_ + key)
                    records.set_active(held, records.active_keys(held) - {key})
        for key, _ in [item for item in ended if item[1]["partial"]][KEEP_PARTIALS:]:
            self.forget_partial(key)
        for name in partials:
            # Partial arrays that no record names: their writer died between the two writes, or the record was forgotten.
            found = records.read(self.shared, name.split(":")[1])
            if found is None or (found["partial"] != name and found["state"] not in ACTIVE):
                self.shared.delete(name)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _view(self, key: str, record: Record, others: Sequence[Record]) -> JobView:
        request = Request.from_json(record["request"])
        state = record["state"]
        if state in ACTIVE and records.is_dead(record):
            state = "cancelled" if record["cancel"] is not None else "interrupted"
        return JobView(
            key=key,
            kind=request.kind,
            source=request.source,
            title=record["title"],
            values=request.values,
            state=state,
            done=record["done"],
            total=record["total"],
            message=record["message"],
            version=record["version"],
            error=record["error"],
            bad_input=record["bad_input"],
            attempts=record["attempts"],
            started=None if record["started"] is None else records.wall_clock(record, record["started"]),
            updated=records.wall_clock(record, record["updated"]),
            seconds_left=records.seconds_left(record) if state == "running" else None,
            wall=records.wall_time(record, records.now(record) if state == "running" else record["beat"]),
            ahead=self._ahead(key, record, others) if state == "queued" else 0,
            asker=record["asker"],
            cancelling=state in ACTIVE and record["cancel"] is not None,
        )

    def _sorted(self, keys: Iterable[str]) -> list[JobView]:
        return self._seen(sorted(records.read_all(self.shared, keys), key=lambda item: -item[1]["ticket"]))

    def _seen(self, found: Iterable[tuple[str, Record]]) -> list[JobView]:
        """The views of these records; what all of them ask of the store is asked once."""
        found = [
            (key, self._enforce(key, record) if record["state"] in ACTIVE and record["cancel"] is not None else record)
            for key, record in found
        ]
        others = self._others(self.shared) if any(record["state"] == "queued" for _, record in found) else []
        return [self._view(key, record, others) for key, record in found]

    def _others(self, entries: Entries) -> list[Record]:
        """Living jobs with a process."""
        found = [record for _, record in records.read_all(entries, records.active_keys(entries))]
        return [record for record in found if not records.is_waiting(record) and not records.is_dead(record)]

    def _fits(self, entries: Entries, record: Record) -> bool:
        return _fits(bool(record["short"]), [bool(other["short"]) for other in _before(record, self._others(entries))])

    def _ahead(self, key: str, record: Record, others: Sequence[Record]) -> int:
        if records.is_waiting(record):
            return len(others) + self._order().place.get(key, 0)
        return len(_before(record, others))

    def _order(self) -> Turns:
        self._turns = waiting.turns(self.shared, self._turns)
        return self._turns

    def _enforce(self, key: str, record: Record) -> Record:
        """After the grace period: the record becomes cancelled first, so that nobody waits, then the process is ended."""
        if records.now(record) - record["cancel"] < GRACE and not records.is_dead(record):
            return record
        with self.shared.take() as held:
            current = records.read(held, key)
            if current is None or current["owner"] != record["owner"] or current["state"] not in ACTIVE:
                return current or record
            records.end(held, key, current, "cancelled")
        Worker(**current["worker"]).stop()
        return current


def _before(record: Mapping[str, Any], others: Iterable[Record], unknown: bool = False) -> list[Record]:
    """Those of its device that run, or wait with a process and an earlier ticket; a short one waits for no long one.

    With `unknown`, also those of which it is not known whether they are of its device.
    """
    return [
        other
        for other in others
        if other["owner"] != record["owner"]
        and (record["device"] == other["device"] or (unknown and (record["device"] == "auto" or not other["device"])))
        and (other["state"] == "running" or (other["ticket"] < record["ticket"] and other["short"] >= record["short"]))
    ]


def _fits(short: bool, others: Sequence[bool]) -> bool:
    return len(others) < workers() or (short and not any(others) and len(others) == workers())


def workers() -> int:
    """How many jobs may run at once on one device: $LANDSCAPE_WORKERS, default 1. Raises InputError."""
    text = os.environ.get("LANDSCAPE_WORKERS", "1")
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise InputError(f"LANDSCAPE_WORKERS must be a whole number between 1 and 1024 (got '{text}')")
    return int(text)
