"""Disks that fill or become read-only, for real: small file systems in memory, which only root may mount."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request as Sent
from urllib.request import urlopen

import numpy as np
import pytest

from landscape_core.jobs.requests import Request
from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.shared import folder
from landscape_core.jobs.store import JobStore, JobView
from landscape_core.specs import Result

from .serving import ROOT, Server

LARGE = {"resolution": 301, "dtype": "float64"}  # some time, and more than what is computed until the disk is full
PATIENCE = 120  # seconds
PAGES = ("/", "/health", "/surface?on=first@last", "/_dash-layout", "/assets/gate.js")


def mounted(*words: object) -> bool:
    return subprocess.run(["mount", *map(str, words)], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mounted("-t", "tmpfs", "-o", "size=24m", "tmpfs", place):
        pytest.skip("file systems cannot be mounted here")
    yield place
    for known in [known for known in folder._open if known[1].is_relative_to(place)]:
        folder._open.pop(known)[1].close()
    while subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False).returncode == 0:
        pass


@pytest.fixture
def home(disk: Path) -> Path:
    """A home on it with a run and a result that is finished."""
    place = disk / "home"
    place.mkdir(mode=0o700)
    finished = command(place, "train", "digits-mlp", "--run", "first", "--set", "widths=[8]", "--set", "steps=20")
    assert finished.returncode == 0, finished.stderr
    ResultCache(place).put("0" * 32, Result({"loss": np.ones(3)}, {}, {}))
    return place


def fill(disk: Path) -> None:
    handle = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with suppress(OSError):
        while True:
            os.write(handle, bytes(4096))
    os.close(handle)


def process(home: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LANDSCAPE_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(started: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        out, complaint = started.communicate(timeout=PATIENCE)
    finally:
        started.kill()
    return subprocess.CompletedProcess("", started.returncode, out, complaint)


def command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return ended(process(home, "-m", "landscape_core", *words))


def surface(**values: Any) -> list[str]:
    settings = [word for name, value in values.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    return ["compute", "surface", "first@last", "--json", *settings]


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def large(home: Path) -> JobView | None:
    return next((view for view in JobStore(home).views() if view.values.get("resolution") == LARGE["resolution"]), None)


def advanced(home: Path) -> bool:
    view = large(home)
    return view is not None and view.version > 1


def full(home: Path) -> str:
    return f"the disk is full: free some space for {home}, then run it again; what is finished is kept"


@pytest.mark.fault(
    "The disk fills in the middle of a command",
    sees="error: the disk is full: free some space for it, then run it again; what is finished is kept",
    lost="What was not yet written down",
    on="The same command goes on from there",
)
def test_a_disk_that_fills_fails_a_command_in_one_line_and_it_goes_on_where_it_was(disk: Path, home: Path) -> None:
    started = process(home, "-m", "landscape_core", *surface(**LARGE))
    until(lambda: advanced(home))
    fill(disk)
    failed = ended(started)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == f"error: {full(home)}"
    assert "Traceback" not in failed.stderr
    again = command(home, *surface(**LARGE))
    assert (again.returncode, again.stderr) == (1, f"error: {full(home)}\n")
    (disk / "filler").unlink()
    view = large(home)
    assert view is not None
    assert view.state == "failed"
    assert view.done > 0
    finished = command(home, *surface(**LARGE))
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["provenance"]["counts"]["forwards"] < LARGE["resolution"] ** 2
    assert ResultCache(home).get("0" * 32) is not None


@pytest.mark.parametrize(
    "words", [surface(), ["train", "digits-mlp", "--run", "second"], ["export", "first@last", "--out", "{}/w.safetensors"]]
)
def test_commands_on_a_full_disk_are_one_line(disk: Path, home: Path, words: list[str]) -> None:
    fill(disk)
    failed = command(home, *(word.format(disk) for word in words))
    assert failed.returncode in (1, 2)
    assert failed.stderr.startswith("error: the disk is full: free some space for ")
    assert failed.stderr.count("\n") == 1
    (disk / "filler").unlink()
    assert ResultCache(home).get("0" * 32) is not None
    assert list(home.glob("*.damaged-*")) == []


def launch(server: Server, values: dict[str, Any]) -> None:
    """Press Run: what the browser sends."""
    with urlopen(f"{server.address}/_dash-dependencies") as answer:
        output = next(item["output"] for item in json.load(answer) if '"part":"keys"' in item["output"])
    name = {"launcher": "jobs", "part": "requests"}
    request = Request("surface", "first@last", values).to_json()
    body = {
        "output": output,
        "outputs": {"id": {**name, "part": "keys"}, "property": "data"},
        "inputs": [{"id": name, "property": "data", "value": {"id": "1", "requests": [request]}}],
        "changedPropIds": [json.dumps(name, separators=(",", ":")) + ".data"],
    }
    sent = Sent(f"{server.address}/_dash-update-component", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(sent, timeout=PATIENCE) as answer:
        assert answer.status == 200


def upload(server: Server) -> tuple[int, str]:
    sent = Sent(f"{server.address}/upload?name=w.pt", b"x" * 1000, {"X-Landscape-Upload": "1"})
    with pytest.raises(HTTPError) as refused:
        urlopen(sent, timeout=PATIENCE)
    return refused.value.code, refused.value.read().decode()


def pages_answer(server: Server) -> None:
    for path in PAGES:
        with urlopen(server.address + path, timeout=PATIENCE) as answer:
            assert answer.status == 200


@pytest.mark.fault(
    "The disk fills while a job runs",
    sees="failed: the disk is full, with the directory; pages answer as before",
    lost="What was not yet written down",
    on="Run again after space is made: it goes on from there",
)
def test_a_disk_that_fills_under_a_server(disk: Path, home: Path, start_server: Callable[..., Server]) -> None:
    server = start_server(home)
    launch(server, LARGE)
    until(lambda: advanced(home))
    fill(disk)
    until(lambda: (view := large(home)) and not view.active)
    view = large(home)
    assert view is not None
    assert (view.state, view.error) == ("failed", full(home))
    pages_answer(server)
    assert upload(server) == (507, "Insufficient Storage: 1,000 bytes; the disk has 0 left\n")
    (disk / "filler").unlink()
    launch(server, LARGE)
    until(
        lambda: (
            (now := large(home)) and now.attempts > view.attempts and now.state in ("running", "done") and now.done >= view.done
        )
    )
    until(lambda: (now := large(home)) and now.state == "done")
    assert ResultCache(home).get("0" * 32) is not None


@pytest.mark.fault(
    "The disk fills while an upload arrives",
    sees="507: the directory takes no more: No space left on device",
    lost="Nothing",
    on="Sent again after space is made",
)
def test_a_disk_that_fills_while_a_body_arrives(disk: Path, home: Path, start_server: Callable[..., Server]) -> None:
    server = start_server(home)
    host, port = server.address.removeprefix("http://").split(":")
    size = 2_000_000
    head = f"POST /upload?name=w.pt HTTP/1.1\r\nHost: {host}:{port}\r\nX-Landscape-Upload: 1\r\nContent-Length: {size}\r\n\r\n"
    for clear in (False, True):
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
            client.sendall(head.encode() + bytes(size // 2))
            time.sleep(0.5)
            fill(disk)
            if clear:
                (disk / "filler").unlink()
            client.sendall(bytes(size - size // 2))
            answer = client.recv(10_000)
        if clear:
            assert answer.startswith(b"HTTP/1.1 200"), answer
        else:
            assert answer.startswith(b"HTTP/1.1 507"), answer
            assert answer.endswith(b"takes no more: No space left on device\n"), answer
            pages_answer(server)
            (disk / "filler").unlink()


@pytest.mark.fault(
    "The home becomes read-only while the server runs",
    sees="failed: the disk is read-only, with the directory; pages that only read answer",
    lost="What was not yet written down",
    on="Made writable, Run again",
)
def test_a_disk_that_becomes_read_only_under_a_server(home: Path, start_server: Callable[..., Server]) -> None:
    server = start_server(home)
    launch(server, LARGE)
    until(lambda: advanced(home))
    assert mounted("--bind", home, home)
    assert mounted("-o", "remount,bind,ro", home)  # for what is opened from now on
    until(lambda: (view := large(home)) and not view.active)
    view = large(home)
    assert view is not None
    assert view.error == f"the disk is read-only: make {home} writable, then run it again; what is finished is kept"
    pages_answer(server)
    assert upload(server) == (507, f"Insufficient Storage: {home}/.arriving takes no files: Read-only file system\n")
    subprocess.run(["umount", str(home)], check=True)
    launch(server, LARGE)
    until(lambda: (now := large(home)) and now.state == "done")


@pytest.mark.fault(
    "The server is started on a full disk",
    sees="error: the disk is full, with the directory",
    lost="Nothing",
    on="Started again after space is made",
)
def test_the_program_does_not_start_on_a_full_disk(disk: Path, home: Path) -> None:
    fill(disk)
    for place in (home, disk / "new"):
        failed = ended(process(place, "app.py", "--port", "0"))
        assert (failed.returncode, failed.stdout) == (2, "")
        assert failed.stderr.startswith("error: the disk is full: free some space for ")
        assert failed.stderr.count("\n") == 1


@pytest.mark.fault(
    "The server is started on a read-only disk",
    sees="error: the home directory is not writable; set LANDSCAPE_HOME",
    lost="Nothing",
    on="The server does not start",
)
def test_the_program_does_not_start_on_a_read_only_disk(disk: Path, home: Path) -> None:
    for known in [known for known in folder._open if known[1].is_relative_to(disk)]:
        folder._open.pop(known)[1].close()
    assert mounted("-o", "remount,ro", disk)
    for place in (home, disk / "new"):
        for words in (["app.py", "--port", "0"], ["-m", "landscape_core", *surface()]):
            failed = ended(process(place, *words))
            assert (failed.returncode, failed.stdout) == (2, "")
            assert failed.stderr.startswith("error: ")
            assert failed.stderr.endswith("; set LANDSCAPE_HOME\n")
            assert failed.stderr.count("\n") == 1
