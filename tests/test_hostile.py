"""Whatever is sent, one line answers it, soon, and the server stays as it was. Seeds are kept: each can be sent again."""

from __future__ import annotations

import copy
import http.client
import json
import random
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import psutil
import pytest

from .serving import Server

SOON = 3.0  # seconds for any answer
GROWTH = 64 * 2**20  # bytes of memory
DEEP = "[" * 3000
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, -1e308, 2**31, 2**53, 2**63, 2**64, 10**30, -(10**30), 10**400),
    *(float("nan"), float("inf"), "", " ", "0", "null", "NaN", "1e999", "9" * 5000, "a" * 10**5, "\x00", "\ud800", "\u202e"),
    *("first@last", "first@0", "first@-1", f"first@{'9' * 400}", "@", "first@last,second@last,x@1,y@2,z@3", "../../etc/passwd"),
    *("<script>alert(1)</script>", "${jndi:ldap://x}", "{{7*7}}", "%00", "%n%s", "'; DROP TABLE Cache; --", DEEP, "{" * 3000),
    *(
        [],
        [[]],
        {},
        {"": ""},
        {"__proto__": {"x": 1}},
        [None] * 1000,
        {"id": "content", "property": "children"},
        "content.children",
    ),
    *("digits-mlp", "surface", "[1,2]", "filter", "through", "[-1e999, 1]", "exec:os.system('touch CANARY')"),
]


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("hostile") / "home"
    shutil.copytree(trained, home)
    made = Server(home, LANDSCAPE_UPLOAD_MB="4")
    yield made
    made.stop()
    assert "Traceback" not in made.log.read_text()


class Callbacks:
    """Bodies as the browser sends them, for every callback of the server but those that start a job."""

    def __init__(self, server: Server):
        with urlopen(f"{server.address}/_dash-dependencies") as answer:
            found = json.load(answer)
        self.entries = [entry for entry in found if not entry["clientside_function"] and '"part":"keys"' not in entry["output"]]
        assert len(self.entries) > 30

    def body(self, rng: random.Random) -> dict[str, Any]:
        entry = rng.choice(self.entries)
        outputs = [self._place(text, rng) for text in entry["output"].strip(".").split("...")]
        inputs = [self._filled(item, rng) for item in entry["inputs"]]
        return {
            "output": entry["output"],
            "outputs": outputs if entry["output"].startswith("..") else outputs[0],
            "inputs": inputs,
            "state": [self._filled(item, rng) for item in entry["state"]],
            "changedPropIds": [f"{item['id']}.{item['property']}" for item in inputs[:1] if isinstance(item, dict)],
        }

    def _place(self, text: str, rng: random.Random) -> Any:
        name, _, part = text.rpartition(".")
        found = {"id": self._id(name, rng), "property": part.partition("@")[0]}
        return [found] if '"ALL"' in name else found

    def _filled(self, item: dict[str, str], rng: random.Random) -> Any:
        value = self.route(rng) if item["id"] == "route" else usual(item["property"], rng)
        found = {"id": self._id(item["id"], rng), "property": item["property"], "value": value}
        return [found] if "ALL" in item["id"] else found

    def _id(self, text: str, rng: random.Random) -> Any:
        if not text.startswith("{"):
            return text
        parts = json.loads(text)
        return {key: rng.choice([0, "first", "x"]) if isinstance(value, list) else value for key, value in parts.items()}

    def route(self, rng: random.Random) -> dict[str, Any]:
        path, _, search = address(rng).partition("?")
        return {"path": path, "search": f"?{search}", "dark": rng.random() < 0.5, "visit": rng.randrange(9)}


def usual(name: str, rng: random.Random) -> Any:
    if name == "n_clicks":
        return rng.choice([None, 1])
    return rng.choice(
        [None, 1, "digits-mlp", ["first@last"], {"jobs": {}, "recent": []}, True, {"visit": "x", "view": {}, "items": []}]
    )


def address(rng: random.Random) -> str:
    path = rng.choice(
        ["/", "/surface", "/spectrum", "/overlap", "/counterfactual", "/high_dimensions", "/nowhere", "//", "/%00"]
    )
    fields = ["on", "resolution", "extent", "directions", "through", "layers", "k", "samples", "seed", "v.kind", "present", "x"]
    pairs = [(rng.choice(fields), rng.choice(ODD)) for _ in range(rng.choice([0, 1, 1, 2, 3, 150]))]
    texts = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in pairs]
    search = "&".join(f"{name}={quote(text[:4000], errors='replace')}" for name, text in texts)
    return f"{path}?on=first@last&{search}" if rng.random() < 0.7 else f"{path}?{search}"


def changed(tree: Any, rng: random.Random) -> Any:
    """The tree with one node replaced, taken away, doubled or wrapped."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(tree)
    if not places:
        return rng.choice(ODD)
    node, key = rng.choice(places)
    how = rng.choice(["odd", "odd", "odd", "gone", "wrapped", "twice"])
    if how == "gone":
        del node[key]
    else:
        made = {"odd": rng.choice(ODD), "wrapped": [node[key]], "twice": [node[key], node[key]]}[how]
        node[key] = copy.deepcopy(made)  # else the next change would be one of ODD itself
    return tree


def spoiled(data: bytes, rng: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        if made:
            at = rng.randrange(len(made))
            made[at : at + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
    return bytes(made)


def hostile(callbacks: Callbacks, rng: random.Random) -> tuple[str, str, bytes, dict[str, str]]:
    """Method, path, body and headers of one request."""
    kind = rng.choices(["tree", "bytes", "address", "headers", "upload", "path"], [50, 12, 15, 5, 8, 10])[0]
    headers = {"Content-Type": "application/json"}
    if kind in ("tree", "bytes"):
        body: Any = callbacks.body(rng)
        for _ in range(rng.randint(0, 3)):
            body = changed(body, rng)
        data = json.dumps(body, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        if rng.random() < 0.03:
            data = rng.choice([DEEP.encode(), b'{"a":' * 3000, b"9" * 6000, b"", b"null", b'"' + b"x" * 10**5])
        return "POST", "/_dash-update-component", spoiled(data, rng) if kind == "bytes" else data, headers
    if kind == "address":
        return "GET", address(rng), b"", {}
    if kind == "headers":
        names = [
            "Host",
            "Cookie",
            "Accept-Encoding",
            "Range",
            "If-None-Match",
            "X-Forwarded-For",
            "Expect",
            "Content-Type",
            "Origin",
        ]
        odd = [text.replace("\x00", "")[:3000] for text in ODD if isinstance(text, str) and text.isprintable()]
        return rng.choice(["GET", "POST", "PUT", "OPTIONS", "TRACE", "X"]), "/", b"", {rng.choice(names): rng.choice(odd)}
    if kind == "upload":
        name = rng.choice(
            ["w.pt", "w.npz", "w.safetensors", "../w.pt", "w.pt\x00.exe", "x" * 300 + ".pt", "", ".pt", "ü\u202e.npz"]
        )
        return "POST", f"/upload?name={quote(name)}", rng.randbytes(rng.choice([0, 1, 100, 5000])), {"X-Landscape-Upload": "1"}
    rooms = [
        "/download/",
        "/assets/",
        "/_dash-component-suites/",
        "/_dash-component-suites/dash/",
        "/_reload-hash",
        "/",
        "/_dash-x/",
    ]
    ends = [
        "../app.py",
        "..%2f..%2fapp.py",
        "%2e%2e/%2e%2e/etc/passwd",
        "x" * 3000,
        "%ff",
        "a/b/c",
        "a.npz",
        "0" * 32 + ".npz",
        "?" * 50,
    ]
    return "GET", rng.choice(rooms) + rng.choice(ends), b"", {}


def send(server: Server, request: tuple[str, str, bytes, dict[str, str]]) -> int:
    """The status of the answer; 0 where the connection was closed without one."""
    method, path, body, headers = request
    parts = urlsplit(server.address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            connection.putheader(name, value.encode("utf-8", "surrogatepass"))
        connection.endheaders(body)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (http.client.HTTPException, ConnectionError):
        return 0
    finally:
        connection.close()


def memory(server: Server) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


@pytest.mark.fault(
    "Requests that no browser would send: addresses, bodies, headers, uploads",
    sees="One line, 400 (503 where the store cannot be used)",
    lost="Nothing",
    on="One line in the log; no code is run",
)
@pytest.mark.long
def test_hostile_requests(server: Server, effort: Callable[[int, int], int]) -> None:
    callbacks, statuses = Callbacks(server), Counter[int]()
    before = 0
    for seed in range(effort(1500, 100_000)):
        rng = random.Random(seed)
        request = hostile(callbacks, rng)
        start = time.monotonic()
        status = send(server, request)
        taken = time.monotonic() - start
        statuses[status] += 1
        assert status not in (0, 500), f"seed {seed}: {status}: {str(request)[:2000]}"
        assert taken < SOON, f"seed {seed}: {taken:.1f} s: {str(request)[:2000]}"
        if seed == 500:
            before = memory(server)
    assert memory(server) - before < GROWTH
    assert statuses[200] > 100
    assert statuses[400] > 100
    assert not list(server.home.rglob("CANARY"))
    assert send(server, ("GET", "/health", b"", {})) == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 1000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_what_is_no_request_at_all(server: Server, sent: bytes) -> None:
    parts = urlsplit(server.address)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    assert send(server, ("GET", "/health", b"", {})) == 200
