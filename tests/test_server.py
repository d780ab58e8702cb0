"""The server against real sockets: clients that are slow, silent, too large or from elsewhere, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .serving import ROOT, Server

PATIENT = 1.0  # seconds in which a page must answer whatever others do
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("sockets") / "home", LANDSCAPE_UPLOAD_MB="8")
    yield made
    made.stop()
    assert made.complaints() == []


def place(server: Server) -> tuple[str, int]:
    parts = urlsplit(server.address)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def ask(server: Server, path: str = "/health", **options: object) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection(*place(server), timeout=30)
    try:
        connection.request(str(options.pop("method", "GET")), path, **options)  # type: ignore[arg-type]
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


@pytest.mark.fault(
    "A hundred idle connections, thirty half sent requests and ten trickling uploads at once",
    sees="Pages as before",
    lost="Nothing",
    on="Only whole requests reach a thread; idle ones are closed after 75 s",
)
def test_slow_and_silent_clients_delay_nobody(server: Server, effort: Callable[[int, int], int]) -> None:
    """100 idle connections, 30 half-sent requests and 10 uploads that trickle, all at once."""
    ask(server, "/")  # the first page is laid out once
    head = b"POST /upload?name=w.pt HTTP/1.1\r\nHost: localhost\r\nX-Landscape-Upload: 1\r\nContent-Length: 1000000\r\n\r\n"
    sockets = []
    for text in [b""] * 100 + [b"GET /health HTTP/1.1\r\nHost: local"] * 30 + [head] * 10:
        sockets.append(socket.create_connection(place(server), timeout=30))
        sockets[-1].sendall(text)
    try:
        slowest, end = 0.0, time.monotonic() + effort(5, 60)
        while time.monotonic() < end:
            for trickling in sockets[100:]:
                trickling.sendall(b"x")
            for path in ("/health", "/", "/_dash-layout"):
                slowest = max(slowest, seconds(lambda path=path: ask(server, path)))
        assert slowest < PATIENT
    finally:
        for each in sockets:
            each.close()


@pytest.mark.fault(
    "A body is too large",
    sees="413 and how large it may be",
    lost="Nothing",
    on="It is read to its end, so that the answer arrives",
)
@pytest.mark.parametrize(("path", "size"), [("/_dash-update-component", 64 * MEGABYTE), ("/upload?name=w.pt", 64 * MEGABYTE)])
def test_a_body_that_is_too_large_is_read_to_its_end_and_refused(server: Server, path: str, size: int) -> None:
    headers = {"X-Landscape-Upload": "1", "Content-Length": str(size)}
    body = (bytes(MEGABYTE) for _ in range(size // MEGABYTE))
    status, _, text = ask(server, path, method="POST", body=body, headers=headers)
    assert status == 413
    assert text.startswith(b"Request Entity Too Large: 67,108,864 bytes; at most")
    assert text.count(b"\n") == 1
    assert list((server.home / ".arriving").iterdir()) == []


def test_an_upload_of_a_wrong_kind_is_refused_after_it_was_read(server: Server) -> None:
    for path, headers, words in (
        ("/upload?name=w.exe", {"X-Landscape-Upload": "1"}, b"weights are read from"),
        ("/upload?name=w.pt", {}, b"uploads come from the page itself"),
    ):
        status, _, text = ask(server, path, method="POST", body=bytes(4 * MEGABYTE), headers=headers)
        assert 400 <= status < 500
        assert words in text


@pytest.mark.fault(
    "Uploads fill their room",
    sees="One line that says how much may wait",
    lost="Nothing",
    on="What waits is used, or removed after a day",
)
def test_uploads_that_wait_have_a_quota(server: Server) -> None:
    for index in range(4):
        body = bytes([index]) * 3 * MEGABYTE
        status, _, text = ask(server, "/upload?name=w.pt", method="POST", body=body, headers={"X-Landscape-Upload": "1"})
        assert status == (200 if index < 2 else 413)
    assert text == b"6 MB wait for their import already; bring those in first, or wait a day"


@pytest.mark.fault(
    "Another site sends a request from somebody's browser",
    sees="403: what changes something is taken only from the pages of this server",
    lost="Nothing",
    on="As before",
)
@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
@pytest.mark.parametrize("path", ["/upload?name=w.pt", "/_dash-update-component"])
def test_pages_of_others_change_nothing(server: Server, site: str, path: str) -> None:
    headers = {"Sec-Fetch-Site": site, "X-Landscape-Upload": "1", "Content-Type": "application/json"}
    assert ask(server, path, method="POST", body=b"{}", headers=headers)[0] == 403
    assert ask(server, headers={"Sec-Fetch-Site": site})[0] == 200


def test_answers_do_not_say_what_serves_them(server: Server) -> None:
    for path in ("/", "/health", "/nowhere", "/assets/gate.js"):
        assert "Server" not in ask(server, path)[1]


def test_assets_are_kept_by_browsers(server: Server) -> None:
    """For ever where their address says which version they are; the others for minutes."""
    for path, words in (("/assets/gate.js?m=1", "max-age=31536000, immutable"), ("/assets/logo.svg", "max-age=600")):
        _, headers, _ = ask(server, path)
        assert headers["Cache-Control"] == words
        status, again, _ = ask(server, path, headers={"If-None-Match": headers["Etag"]})
        assert (status, again["Cache-Control"]) == (304, words)
    assert "max-age" not in ask(server, "/assets/nothing.svg")[1].get("Cache-Control", "")


def test_a_connection_is_used_again(server: Server) -> None:
    connection = HTTPConnection(*place(server), timeout=30)
    connection.request("GET", "/health")
    connection.getresponse().read()
    before = connection.sock.getsockname()
    time.sleep(7)
    connection.request("GET", "/health")
    assert connection.getresponse().read() is not None
    assert connection.sock.getsockname() == before


@pytest.mark.parametrize("host", ["::1", "127.0.0.1", "localhost", "0.0.0.0", "::"])
def test_hosts_that_can_be_listened_on(tmp_path: Path, host: str) -> None:
    process = start(tmp_path, "--host", host)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        port = urlsplit(address).port
        for name in {"::1": ["::1"], "::": ["::1", "127.0.0.1"]}.get(host, ["127.0.0.1"]):
            connection = HTTPConnection(name, port, timeout=30)
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200
            connection.close()
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.fault(
    "Ctrl-C or SIGTERM, at any moment and several times",
    sees="Nothing: no traceback",
    lost="Nothing",
    on="Started again, what waited goes on",
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["at once", "ready", "twice"])
def test_it_ends_quietly(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    if moment == "at once":
        time.sleep(1.0)
    else:
        process.stdout.readline()
    process.send_signal(number)
    if moment == "twice":
        time.sleep(0.05)
        process.send_signal(number)
    assert process.wait(30) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LANDSCAPE_HOME": str(home / "home")}
    command = [sys.executable, "app.py", "--port", "0", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
