"""Thirty people at once: how long the server takes to answer while two jobs run, and whether it grows.

A visit is recorded with Chromium: opening the program, every analysis with a finished result, another view, another field,
another checkpoint, two pictures that grow. Simulated browsers then repeat its requests: six connections each, a cache as
browsers have it, thinking in between, the poll of the page going on. Every answer is looked into: a drawing without a picture
is an error. Times are from sending a request to the last byte of its answer. Exit status 1: an error, or a 95th percentile
over the limit.

    python benchmarks/load.py [--browsers 30] [--seconds 120] [--think 10] [--jobs 300] [--hours 1]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import psutil
from browsers import Browser, Tally, rehearse
from visits import Asked, Visit, recorded

sys.path.insert(0, str(Path(__file__).parents[1]))  # the program runs from its checkout
from landscape_core.jobs.requests import Request
from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.runner import run_all
from landscape_core.jobs.store import JobStore

ROOT = Path(__file__).parents[1]
LIMIT = 400.0  # milliseconds: what still feels prompt
MEGABYTE = 2**20
ARRIVE = 15.0  # seconds in which all have opened the program
HOUR_PULSES, HOUR_ACTIONS = 1800, 120  # of one person in an hour: a pulse every 2 s, something done every 30 s
READY = (
    Request("train", None, {"task": "digits-mlp", "run": "first"}),
    Request("train", None, {"task": "digits-mlp", "run": "second", "seed": 1}),
    Request("train", None, {"task": "digits-mlp", "run": "wide", "widths": [2048, 2048], "steps": 20, "record": [0]}),
    *(
        Request("surface", f"{run}@last", {"resolution": 31, "samples": 500, "flow": 0}) for run in ("first", "second")
    ),  # on the cards of Home
    Request("surface", "first@last", {}),
    Request("surface", "first@last", {"resolution": 21}),
    Request("surface", "second@last", {"resolution": 21}),
    Request("spectrum", "first@last", {}),
    Request("overlap", "first@last", {}),
    Request("high_dimensions", "first@last", {"curvature": 0}),
)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--browsers", type=int, default=30)
    options.add_argument("--seconds", type=float, default=120)
    options.add_argument("--think", type=float, default=10, help="seconds between two actions of a person, on average")
    options.add_argument("--jobs", type=int, default=0, help="small jobs in a row, then look for growth")
    options.add_argument(
        "--hours", type=float, default=0, help="the pulses and pictures of so many hours, then look for growth"
    )
    options.add_argument("--home", type=Path, help="made once with runs and results, beside it the visit; then only copied")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ready, home = given.home or Path(folder) / "ready", Path(folder) / "home"
        if not ready.exists():
            ready.mkdir()
            run_all(READY, ready)
        shutil.copytree(ready, home)
        with server(home) as (port, process):
            visit = visit_of(port, home, ready.with_suffix(".visit"))
            good = load(port, process, home, visit, given)
        if given.jobs:
            with server(home) as (port, process):
                good &= jobs_in_a_row(port, process, home, visit.launches[0], given.jobs)
        if given.hours:
            with server(home) as (port, process):
                good &= hours(port, process, home, visit, given.browsers, given.hours)
    return 0 if good else 1


def visit_of(port: int, home: Path, file: Path) -> Visit:
    """A visit, recorded anew or by an earlier call over the same home; two jobs run."""
    if not file.exists():
        visit = recorded(f"http://127.0.0.1:{port}")
        file.write_bytes(pickle.dumps(visit))
        return visit
    visit = pickle.loads(file.read_bytes())
    asyncio.run(launched(port, visit.launches))
    while working(home) < 2:
        time.sleep(0.5)
    time.sleep(10)  # there is something to see of them
    return visit


async def launched(port: int, launches: list[Asked]) -> None:
    browser = Browser(port, Tally())
    for asked in launches:
        await browser.send(asked, {})
    browser.close()


# -- thirty people -----------------------------------------------------------------------------------------------------


def load(port: int, process: psutil.Process, home: Path, visit: Visit, given: argparse.Namespace) -> bool:
    """The table of a load; whether it is as it should be."""
    asyncio.run(rehearse(port, visit.actions))
    tally = Tally()
    asked = sum(len(action.asked) for action in visit.actions)
    print(f"{given.browsers} browsers, {given.seconds:g} s, {len(visit.actions)} actions with {asked} requests, poll included")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before", end="")
    running = working(home)
    before, clock = Figures.of(process, home), Clock(process)
    asyncio.run(crowd(port, visit, tally, given))
    shares = clock.shares()
    after = Figures.of(process, home)
    print(f", {os.getloadavg()[0]:.1f} after; of one core: {shares}")
    count = sum(len(waits) for waits in tally.waits.values())
    print(f"{count} requests, {1000 * clock.server() / count:.1f} ms of processor time of the server each")
    good = table(tally)
    print(before.beside(after))
    if running != 2 or working(home) != 2:
        print(f"{running} jobs ran before and {working(home)} after: not the load that was meant")
        good = False
    return good


async def crowd(port: int, visit: Visit, tally: Tally, given: argparse.Namespace) -> None:
    until = time.monotonic() + given.seconds

    async def person(place: int) -> None:
        browser = Browser(port, tally, place)
        await asyncio.sleep(ARRIVE * place / given.browsers)
        await browser.visit(visit.actions, place, given.think, until)
        browser.close()

    await asyncio.gather(*(person(place) for place in range(given.browsers)))


def table(tally: Tally) -> bool:
    print(f"\n{'kind':28}{'count':>8}{'p50':>8}{'p95':>8}{'max':>8}  ms{'errors':>8}")
    good = True
    for kind in ("page", "asset", "pulse", "draw", "callback"):
        waits, errors = sorted(tally.waits[kind]), tally.errors[kind]
        good &= bool(waits) and not errors and share(waits, 0.95) <= LIMIT
        print(f"{kind:28}{len(waits):8}{_times(waits)}    {len(errors):8}")
    for name, waits in tally.actions.items():
        print(f"  {name:26}{len(waits):8}{_times(sorted(waits))}")
    for kind, errors in tally.errors.items():
        for text in list(dict.fromkeys(errors))[:5]:
            print(f"{kind}: {text}")
    return good


def _times(waits: list[float]) -> str:
    return "".join(f"{share(waits, part):8.0f}" for part in (0.5, 0.95, 1.0)) if waits else ""


def share(waits: list[float], part: float) -> float:
    """What so large a part of them (sorted) does not exceed."""
    return waits[min(len(waits) - 1, int(part * len(waits)))]


# -- growth ------------------------------------------------------------------------------------------------------------


def jobs_in_a_row(port: int, process: psutil.Process, home: Path, launch: Asked, count: int) -> bool:
    """Small jobs, one after the other, each asked for as the page does it."""
    print(f"\n{count} jobs in a row, load {os.getloadavg()[0]:.1f}")
    results = ResultCache(home)
    begun, missing = time.monotonic(), 0
    for place in range(1, count + 1):
        request = Request("surface", "first@last", {"resolution": 5, "flow": 0, "seed": 1000 + place})
        asyncio.run(one_job(port, launch, request))
        missing += not results.has(request.key(home))
        if place in (1, 50, count) or place % 100 == 0:
            print(f"  after {place:4}: {Figures.of(process, home)}", flush=True)
        if place == min(50, count):
            early = Figures.of(process, home)
    late = Figures.of(process, home)
    print(f"  {(time.monotonic() - begun) / count:.2f} s a job; {missing} results are missing; {early.growth(late)}")
    return missing == 0 and early.steady(late)


async def one_job(port: int, launch: Asked, request: Request) -> None:
    """Launch it and wait for its key, as Dash does."""
    browser = Browser(port, Tally())
    value = {"id": uuid.uuid4().hex, "requests": [request.to_json()]}
    assert launch.body is not None
    body = {**launch.body, "inputs": [{**launch.body["inputs"][0], "value": value}]}
    answer = orjson.loads((await browser.send(Asked("POST", launch.path, body), {})).body)
    path = f"{launch.path}?cacheKey={answer['cacheKey']}&job={answer['job']}"
    while "response" not in answer:
        await asyncio.sleep(0.1)
        answer = orjson.loads((await browser.send(Asked("POST", path, body), {})).body)
    browser.close()


def hours(port: int, process: psutil.Process, home: Path, visit: Visit, browsers: int, count: float) -> bool:
    """What so many people ask for in so many hours, as fast as it is answered."""
    pulses, actions = (int(count * browsers * number) for number in (HOUR_PULSES, HOUR_ACTIONS))
    print(f"\n{count:g} hours of {browsers} people, who do something every 30 s and poll every 2 s, without the waiting:")
    print(f"{pulses} pulses and {actions} actions, load {os.getloadavg()[0]:.1f}")
    tally = Tally()
    quiet = [action for action in visit.actions if not action.growth]
    steps = 6
    figures = []
    begun = time.monotonic()
    for step in range(steps):
        asyncio.run(hurry(port, tally, quiet, pulses // steps, actions // steps))
        figures.append(Figures.of(process, home))
        print(f"  after {step + 1}/{steps}: {figures[-1]}", flush=True)
    errors = [text for texts in tally.errors.values() for text in texts]
    drawn, growth = len(tally.waits["draw"]), figures[0].growth(figures[-1])
    print(f"  {time.monotonic() - begun:.0f} s, {drawn} pictures, {len(errors)} errors {errors[:3]}; {growth}")
    return not errors and figures[0].steady(figures[-1])


async def hurry(port: int, tally: Tally, actions: list[Any], pulses: int, done: int) -> None:
    crew = 4

    async def one(place: int) -> None:
        browser = Browser(port, tally, place)
        each = max(1, round(pulses / done))
        for turn in range(place, done, crew):
            action = actions[turn % len(actions)]
            await browser.act(action)
            for _ in range(each):
                await browser.pulse(action)
        browser.close()

    await asyncio.gather(*(one(place) for place in range(crew)))


# -- the server --------------------------------------------------------------------------------------------------------


@dataclass
class Figures:
    """What the server holds."""

    memory: float  # MB
    handles: int
    threads: int
    processes: int  # its own and those of its jobs
    files: int  # in the home directory
    stored: float  # MB in them

    @classmethod
    def of(cls, process: psutil.Process, home: Path) -> Figures:
        sizes = list(_sizes(home))
        return cls(
            process.memory_info().rss / MEGABYTE,
            process.num_fds(),
            process.num_threads(),
            1 + len(process.children(recursive=True)),
            len(sizes),
            sum(sizes) / MEGABYTE,
        )

    def __str__(self) -> str:
        return (
            f"{self.memory:.1f} MB, {self.handles} open files, {self.threads} threads, {self.processes} processes; "
            f"home {self.files} files, {self.stored:.1f} MB"
        )

    def beside(self, after: Figures) -> str:
        return f"server before: {self}\nserver after:  {after}"

    def growth(self, late: Figures) -> str:
        return (
            f"growth {late.memory - self.memory:+.1f} MB, {late.handles - self.handles:+} open files, "
            f"{late.threads - self.threads:+} threads, {late.processes - self.processes:+} processes, "
            f"home {late.files - self.files:+} files, {late.stored - self.stored:+.1f} MB"
        )

    def steady(self, late: Figures) -> bool:
        """Results stay in the home directory; everything else is given back."""
        return late.memory - self.memory < 20 and late.handles - self.handles < 10 and late.threads - self.threads < 5


def _sizes(home: Path) -> Iterator[int]:
    """Of all files, in bytes."""
    for file in home.rglob("*"):
        with suppress(FileNotFoundError):  # jobs replace theirs
            if file.is_file():
                yield file.stat().st_size


class Clock:
    """Who used the processors."""

    def __init__(self, process: psutil.Process):
        self.process, self.begun = process, time.monotonic()
        self.before = self._now()

    def _now(self) -> dict[str, float]:
        used = {"the browsers": time.process_time(), "the server": sum(self.process.cpu_times()[:2])}
        children = [child for child in self.process.children(recursive=True) if child.is_running()]
        return {**used, "its jobs": sum(sum(child.cpu_times()[:2]) for child in children)}

    def server(self) -> float:
        """Seconds of the server."""
        return self._now()["the server"] - self.before["the server"]

    def shares(self) -> str:
        taken, now = time.monotonic() - self.begun, self._now()
        return ", ".join(f"{name} {100 * (now[name] - self.before[name]) / taken:.0f} %" for name in now)


def working(home: Path) -> int:
    return sum(view.state == "running" for view in JobStore(home).active())


@contextmanager
def server(home: Path) -> Iterator[tuple[int, psutil.Process]]:
    """`app.py` over a home, two jobs at once: its port and its process."""
    environment = {**os.environ, "LANDSCAPE_HOME": str(home), "LANDSCAPE_WORKERS": "2"}
    command = [sys.executable, "app.py", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = urlsplit(process.stdout.readline().split()[-1]).port
        assert port is not None
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    sys.exit(main())
