"""Simulated browsers: they repeat recorded actions over kept connections, poll, cache as browsers do, and read the answers."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from visits import CALLBACK, Action, Asked

CONNECTIONS = 6  # of a browser to one server
BUSY, IDLE = 0.5, 2.0  # seconds between two pulses, as in assets/gate.js
PAGE = ("/", "/_dash-layout", "/_dash-dependencies")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Tally:
    """Milliseconds of requests by kind and of actions by name, and what was wrong."""

    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    actions: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


class Browser:
    def __init__(self, port: int, tally: Tally, seed: int = 0):
        self.port, self.tally, self.random = port, tally, random.Random(seed)
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.places = asyncio.Semaphore(CONNECTIONS)
        self.kept: dict[str, str | None] = {}  # the ETag by path; None: good for ever
        self.ack: dict[str, Any] | None = None
        self.versions: dict[str, int] = {}
        self.ticks = 0
        self.growing = False
        self.running: set[asyncio.Task[None]] = set()

    # -- what a person does ----------------------------------------------------------------------------------------

    async def visit(self, actions: list[Action], first: int, think: float, until: float) -> None:
        """Open the first action's page, then the others in turn from `first` on, looking at each for about `think` seconds."""
        turn = itertools.cycle(actions)
        for action in itertools.chain(actions[:1], itertools.islice(turn, first, None)):
            if time.monotonic() >= until:
                break
            await self.act(action)
            await self.look(action, min(until, time.monotonic() + self.random.uniform(0.3, 1.7) * think))
        await asyncio.gather(*self.running)

    async def act(self, action: Action) -> None:
        """The requests of an action, each as soon as those have been answered that it waited for when it was recorded."""
        begun = time.monotonic()
        tasks: list[asyncio.Task[Answer | None]] = []
        for asked in action.asked:
            tasks.append(asyncio.create_task(self._in_turn(asked, [tasks[place] for place in asked.after])))
        await asyncio.gather(*tasks)
        self.tally.actions[action.name].append(1000 * (time.monotonic() - begun))

    async def _in_turn(self, asked: Asked, before: list[asyncio.Task[Answer | None]]) -> Answer | None:
        if before:
            await asyncio.wait(before)
        return await self.ask(asked)

    async def look(self, action: Action, until: float) -> None:
        """Poll as the page does, and ask for what follows from something new."""
        while (now := time.monotonic()) < until:
            await self.pulse(action)
            pause = BUSY if self.ack and self.ack["busy"] else IDLE
            await asyncio.sleep(max(0.0, min(until, now + pause) - time.monotonic()))

    async def pulse(self, action: Action) -> None:
        self.ticks += 1
        known = {"gate": self.ticks, "pulse-ack": self.ack}
        answer = await self.ask(action.pulse, known)
        if answer is None:
            return
        response = orjson.loads(answer.body)["response"]
        self.ack = response["pulse-ack"]["data"]
        if "pulse" in response:
            new = response["pulse"]["data"]
            for asked in action.followers:
                self._begin(self.ask(asked, {"pulse": new}))
            versions = {key: job["version"] for key, job in new["jobs"].items()}
            if action.growth and versions != self.versions and not self.growing:
                self._begin(self._grow(action.growth))
            self.versions = versions

    async def _grow(self, growth: list[Asked]) -> None:
        self.growing = True  # one picture at a time, as the page does it
        for asked in growth:
            await self.ask(asked)
        self.growing = False

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    # -- requests --------------------------------------------------------------------------------------------------

    async def ask(self, asked: Asked, values: dict[str, Any] | None = None) -> Answer | None:
        """The answer, timed and checked; None where there is none, or the browser has what it needs."""
        tag = self.kept.get(asked.path, "") if asked.method == "GET" else ""
        if tag is None:
            return None
        async with self.places:
            begun = time.monotonic()
            try:
                answer = await self.send(asked, values or {}, tag)
            except (OSError, EOFError, ValueError) as error:
                self.tally.errors[asked.kind].append(f"{asked.path}: {type(error).__name__}: {error}")
                return None
        self.tally.waits[asked.kind].append(1000 * (time.monotonic() - begun))
        if problem := self._problem(asked, answer, bool(tag)):
            self.tally.errors[asked.kind].append(f"{asked.path} {asked.output[:60]}: {problem}")
            return None
        if asked.method == "GET":
            self._keep(asked.path, answer)
        return answer

    def _problem(self, asked: Asked, answer: Answer, conditional: bool) -> str:
        if answer.status == 304 and conditional:
            return ""
        if answer.status == 204 and asked.kind == "callback":
            return ""
        if answer.status != 200:
            return f"status {answer.status}"
        if asked.kind == "draw" and (found := len(list(pictures(orjson.loads(answer.body))))) != asked.pictures:
            return f"{found} pictures instead of {asked.pictures}"
        if asked.kind in ("page", "asset", "draw") and len(answer.body) < asked.size / 2:
            return f"{len(answer.body)} bytes instead of {asked.size}"
        if asked.kind == "pulse" and b"digest" not in answer.body:
            return "no answer to a pulse"
        return ""

    def _keep(self, path: str, answer: Answer) -> None:
        control = answer.headers.get("cache-control", "")
        if "max-age" in control:
            self.kept[path] = None
        elif "etag" in answer.headers and "no-store" not in control:
            self.kept[path] = answer.headers["etag"]

    async def send(self, asked: Asked, values: dict[str, Any], tag: str = "") -> Answer:
        lines = [f"{asked.method} {asked.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Accept-Encoding: gzip"]
        lines += ["Sec-Fetch-Site: same-origin", *([f"If-None-Match: {tag}"] if tag else [])]
        body = b""
        if asked.body is not None:
            body = orjson.dumps(filled(asked.body, values))
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        data = "\r\n".join([*lines, "", ""]).encode() + body
        reader, writer = await self._connection()
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        status = int(head[0].split()[1])
        content = b"" if status in (204, 304) else await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            self.idle.append((reader, writer))
        if headers.get("content-encoding") == "gzip" and asked.path == CALLBACK:
            content = zlib.decompress(content, 31)
        return Answer(status, headers, content)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)

    def close(self) -> None:
        for _, writer in self.idle:
            writer.close()


async def rehearse(port: int, actions: list[Action]) -> None:
    """Ask everything once, alone: what kind each request is, and what its answer holds."""
    browser = Browser(port, Tally())
    for asked in {
        id(asked): asked for action in actions for asked in [*action.asked, action.pulse, *action.followers, *action.growth]
    }.values():
        answer = await browser.send(asked, {})
        if answer.status not in (200, 204):
            raise SystemExit(f"{asked.path} {asked.output}: status {answer.status}: {answer.body[:200]!r}")
        asked.size = len(answer.body)
        if asked.method == "GET":
            asked.kind = "page" if asked.path in PAGE else "asset"
        elif asked.is_pulse:
            asked.kind = "pulse"
        else:
            asked.pictures = len(list(pictures(orjson.loads(answer.body)))) if answer.body else 0
            asked.kind = "draw" if asked.pictures else "callback"
    browser.close()


def filled(body: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The body of a callback with other contents of some stores."""

    def fill(items: list[Any]) -> list[Any]:
        return [
            {**item, "value": values[item["id"]]} if isinstance(item, dict) and str(item.get("id")) in values else item
            for item in items
        ]

    return {**body, "inputs": fill(body["inputs"]), "state": fill(body.get("state", []))} if values else body


def pictures(tree: Any) -> Iterator[dict[str, Any]]:
    """The figures in an answer that have something to draw."""
    if isinstance(tree, list):
        for item in tree:
            yield from pictures(item)
    elif isinstance(tree, dict):
        data = tree.get("data")
        if isinstance(data, list) and isinstance(tree.get("layout"), dict):
            if any(isinstance(trace, dict) and any(trace.get(name) for name in ("x", "y", "z")) for trace in data):
                yield tree
            return
        for item in tree.values():
            if isinstance(item, (dict, list)):
                yield from pictures(item)
