"""Who begins jobs: a process for each when its turn has come and a slot is free. What waits costs an entry in the store."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import psutil

from ...specs import InputError
from ..clock import born
from ..queue import enqueue
from ..requests import Request
from ..shared.protocol import Busy
from ..store import JobStore
from ..waiting import Waiting
from .forkserver import lives

log = logging.getLogger("landscape.jobs")
LOOK, IDLE = 0.25, 1.0  # seconds between two looks at the store: while somebody waits for a slot of others, and else
SWEEP = 60.0  # seconds between two searches for jobs that nothing will begin
CHANGED = "a run that it needs has changed since; ask for it again"

Start = Callable[..., Any]  # start(function, *arguments) -> a process


def work(key: str, home: Path) -> None:
    """In a process of its own: do the job that waits under this key."""
    from ..runner import run_or_join

    store = JobStore(home)
    view = store.view(key)
    if view is None:
        return
    try:
        wanted = Request(view.kind, view.source, dict(view.values)).resolve(home)
        if wanted.key != key:
            raise InputError(f"{view.title}: {CHANGED}")
    except InputError as error:
        store.give_up(key, "failed", str(error))
        return
    run_or_join(wanted, home)


@dataclass
class _Child:
    item: Waiting
    process: Any
    born: float

    @property
    def ended(self) -> bool:
        # By pid: where the fork server was killed, its processes go on and cannot be waited for.
        return not lives(self.process.pid, self.born)


class Dispatcher(threading.Thread):
    """Begins what waits in the store of `home`, in the order of its turns. `start` starts a process for `work(key, home)`.

    Any number of them may serve one home: each job is begun by one. After a restart, what waited goes on; what ran does not.
    """

    def __init__(self, home: Path, start: Start, work: Callable[[str, Path], None] = work):
        super().__init__(name="dispatcher", daemon=True)
        self.home, self.store = home, JobStore(home)
        self._start_process, self._work = start, work
        self._children: list[_Child] = []
        self._devices: dict[str, str] = {}  # what "auto" turned out to be
        self._over = False
        self._bell, self._ring = connection.Pipe(duplex=False)
        self._swept, self._lost = -SWEEP, set[str]()

    def wake(self) -> None:
        """Something was put into the store: look at once."""
        self._ring.send(None)

    def stop(self) -> None:
        """Begin nothing more. What runs goes on."""
        self._over = True
        self.wake()

    def run(self) -> None:
        while not self._over:
            try:
                pause = self.step()
            except (Busy, OSError, sqlite3.Error) as error:
                log.warning("no job can be begun now: %s", error)
                pause = IDLE
            except Exception:  # whatever it is: if nobody begins jobs, all wait for ever
                log.exception("no job can be begun now")
                pause = IDLE
            connection.wait([self._bell, *(child.process.sentinel for child in self._children)], pause)
            while self._bell.poll():
                self._bell.recv()
            if any(not child.ended and not child.process.is_alive() for child in self._children):
                time.sleep(LOOK)  # they cannot be waited for

    def step(self) -> float:
        """Go on with what has ended, and begin what has its turn. Returns seconds until there may be something to do again."""
        for child in [child for child in self._children if child.ended]:
            self._children.remove(child)
            self._go_on(child)
        if time.monotonic() - self._swept >= SWEEP:
            self._sweep()
        for child in self._children:
            self._learn(child.item)
        begun, full = {child.item.key for child in self._children}, set[tuple[str, bool]]()
        for item in self.store.turns():
            place = self._device(item), item.short
            if place in full or item.key in begun:
                continue
            what = self._standing(item)
            if what == "drop":
                self.store.drop_turn(item)
            elif what == "next":
                if self.store.take_turn(item):
                    self._follow(item)
            elif what == "begin":
                if not self._room(item):
                    full |= {place, (place[0], False)}  # where there is no room for a short one, there is none at all
                elif self.store.take_turn(item):
                    begun.add(item.key)
                    self._begin(item)
        return LOOK if full and not self._children else IDLE

    def _sweep(self) -> None:
        """Jobs that wait although nothing will begin them (the list in which they stood was lost) are interrupted."""
        self._swept = time.monotonic()
        found = self.store.unlisted() - {child.item.key for child in self._children}
        for key in found & self._lost:  # another server may be starting what is seen for the first time
            self.store.give_up(key, "interrupted")
        self._lost = found

    def _standing(self, item: Waiting) -> str:
        view = self.store.view(item.key)
        if view is None or view.state in ("cancelled", "failed"):
            return "drop"
        if view.state == "done":
            return "next"
        if view.active and not self.store.waits(item.key):
            return "behind"  # somebody is at it: when they are done, or dead, there is more to say
        return "begin"

    def _room(self, item: Waiting) -> bool:
        device = self._device(item)
        starting = [
            child.item.short
            for child in self._children
            if self._device(child.item) == device and self.store.waits(child.item.key)
        ]
        return self.store.room(device, item.short, item.ticket, starting)

    def _device(self, item: Waiting) -> str:
        return self._devices.get(item.device, item.device)

    def _learn(self, item: Waiting) -> None:
        """What device its process took, which asked PyTorch."""
        if device := self.store.device(item.key):
            self._devices[item.device] = device

    def _begin(self, item: Waiting) -> None:
        try:
            process = self._start_process(self._work, item.key, self.home)
        except OSError as error:
            self.store.give_up(item.key, "failed", f"no process could be started for it: {error.strerror or error}")
            return
        try:
            start = born(psutil.Process(process.pid))
        except psutil.NoSuchProcess:
            start = 0.0  # has ended already
        self._children.append(_Child(item, process, start))

    def _go_on(self, child: _Child) -> None:
        child.process.join(0)
        item = child.item
        self.store.give_up(item.key, "interrupted")  # if it ended before it had begun
        self._learn(item)
        view = self.store.view(item.key)
        if view is not None and view.state == "done":
            self._follow(item)

    def _follow(self, item: Waiting) -> None:
        """The requests that waited for this job to be done stand where it stood."""
        try:
            enqueue([Request.from_json(text) for text in item.rest], self.home, item.asker, item.automatic, item.ticket)
        except InputError as error:
            log.warning("what was to follow is not done: %s", error)
