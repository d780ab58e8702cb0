"""The server as people start it, and a real browser that notices every complaint of the console."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from landscape_core.jobs.requests import Request
from landscape_core.jobs.runner import run_all

ROOT = Path(__file__).parents[1]
PATIENCE = 60_000  # milliseconds: for a machine that does other things as well
expect.set_options(timeout=PATIENCE)


# What Chromium says of plotly's drawing where there is no graphics card.
SOFTWARE_RENDERING = ("GPU stall due to ReadPixels", "willReadFrequently")


def complains(message: ConsoleMessage) -> bool:
    """Whether a line of the console is a complaint about the page."""
    return message.type in ("error", "warning") and not any(words in message.text for words in SOFTWARE_RENDERING)


class Server:
    """`python app.py` on a free port, over a home directory of its own."""

    def __init__(self, home: Path, **environment: str):
        self.home, self.environment = home, environment
        self.log = home.with_name(home.name + ".log")
        self.start()

    def start(self, port: str = "0") -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **self.environment, "LANDSCAPE_HOME": str(self.home)}
        command = [sys.executable, "app.py", "--port", port]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "running at" in line, self.log.read_text()
        self.address = line.split()[-1]

    def complaints(self) -> list[str]:
        """Lines of the log that tell of a fault of ours."""
        found = self.log.read_text().splitlines()
        return [line for line in found if "Traceback" in line or "was not answered" in line]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(30)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server over a home (default: a new, empty one)."""
    servers = []

    def start(home: Path | None = None, **environment: str) -> Server:
        servers.append(Server(home or tmp_path / "home", **environment))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()
        assert server.complaints() == []


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two small runs; copy it before changing it."""
    home = tmp_path_factory.mktemp("trained") / "home"
    home.mkdir()
    for name, seed in (("first", 0), ("second", 1)):
        values = {"task": "digits-mlp", "run": name, "widths": [8], "steps": 60, "seed": seed}
        run_all([Request("train", None, values)], home)
    return home


@pytest.fixture
def trained_server(trained: Path, tmp_path: Path, start_server: Callable[..., Server]) -> Server:
    """A server over a copy of the trained home."""
    shutil.copytree(trained, tmp_path / "home")
    return start_server(tmp_path / "home")


@pytest.fixture(scope="session")
def server_of_trained(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server over a copy of the trained home, for tests that change nothing in it.

    A copy, since others work in the trained home, or copy it: closing a file of SQLite gives up this process's locks on it.
    """
    home = tmp_path_factory.mktemp("served") / "home"
    shutil.copytree(trained, home)
    server = Server(home)
    yield server
    server.stop()
    assert server.complaints() == []


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page at an address, and fails the test if its console ever complained."""
    complaints: list[str] = []
    contexts = []

    def open_at(address: str, **options: object) -> Page:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 720}, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: complains(message) and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert complaints == []
