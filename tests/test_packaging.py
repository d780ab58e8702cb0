"""The container's recipe, the pinned requirements and the Makefile, exercised as far as they go without a Docker engine."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from socket import socket

import pytest

ROOT = Path(__file__).parent.parent
STEPS = [
    (step.split(None, 1)[0], step.split(None, 1)[1])
    for step in re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text())).splitlines()
    if step.strip()
]
PINS = re.findall(r"(?m)^([\w.-]+)==(\S+)$", (ROOT / "requirements.txt").read_text())


def steps(name: str) -> list[str]:
    return [text.strip() for keyword, text in STEPS if keyword == name]


def container_environment() -> dict[str, str]:
    """What ARG and ENV give the container's process."""
    values = {name: default.strip('"') for name, default in (text.split("=", 1) for text in steps("ARG"))}
    environment = {}
    for text in steps("ENV"):
        for name, value in (part.split("=", 1) for part in shlex.split(text)):
            environment[name] = re.sub(r"\$(\w+)", lambda match: values[match[1]], value)
    return environment


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps `path` out of the build: its last matching line decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = [path, *map(str, Path(path).parents), *(Path(path).parts if "**/" in line else ())]
        if any(fnmatch(part, pattern) for part in parts):
            verdict = not line.startswith("!")
    return verdict


def test_everything_that_is_copied_exists_and_reaches_the_build() -> None:
    sources = [source for text in steps("COPY") for source in text.split()[:-1]]
    assert {"app.py", "server.py", "assets", "landscape_core", "pages", "requirements.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert not ignored(source)


def test_nothing_but_the_program_reaches_the_build() -> None:
    for path in (
        ".git/config",
        ".venv/bin/python",
        ".landscape/runs/x",
        "tests/test_cli.py",
        "landscape_core/__pycache__/x.pyc",
    ):
        assert ignored(path)


def test_every_module_that_the_program_imports_is_copied() -> None:
    imported = set()
    for file in [
        ROOT / "app.py",
        ROOT / "server.py",
        *(ROOT / "pages").rglob("*.py"),
        *(ROOT / "landscape_core").rglob("*.py"),
    ]:
        imported |= set(re.findall(r"(?m)^\s*(?:from|import) (\w+)", file.read_text()))
    assert not imported & {"tests", "benchmarks"}


def test_the_container_is_not_root_and_keeps_its_data_in_a_volume() -> None:
    assert steps("FROM") == ["python:3.11-slim"]
    keywords = [keyword for keyword, _ in STEPS]
    assert keywords.index("USER") < keywords.index("CMD")
    assert steps("USER") not in ([], ["root"], ["0"])
    assert steps("VOLUME") == [container_environment()["LANDSCAPE_HOME"]]
    assert "0.0.0.0" not in steps("CMD")[0]
    assert container_environment()["LANDSCAPE_HOST"] == "0.0.0.0"


def test_cpu_is_the_default_and_cuda_a_build_argument() -> None:
    assert "DEVICE=cpu" in steps("ARG")
    assert container_environment()["LANDSCAPE_DEVICE"] == "cpu"
    install = next(text for text in steps("RUN") if "pip install" in text)
    shell = install.replace("pip install", "echo pip install")
    for index, expected in (
        ("", "pip install --no-cache-dir torch=="),
        ("X", "pip install --no-cache-dir --index-url X torch=="),
    ):
        done = subprocess.run(
            ["sh", "-c", shell], cwd=ROOT, env={**os.environ, "TORCH_INDEX": index}, capture_output=True, text=True
        )
        assert done.returncode == 0
        assert done.stdout.startswith(expected)


def test_the_pins_are_whole_and_are_what_is_installed() -> None:
    from importlib.metadata import version

    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(PINS)
    for name, pin in PINS:
        assert version(name).split("+")[0] == pin
    third_party = {"torch", "numpy", "pydantic", "dash", "plotly", "diskcache", "waitress", "safetensors", "rich", "psutil"}
    assert third_party <= {name for name, _ in PINS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The container's command in the container's environment, but for the port and the place of the volume."""
    home = tmp_path_factory.mktemp("volume")
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {**os.environ, **container_environment(), "LANDSCAPE_PORT": port, "LANDSCAPE_HOME": str(home)}
    environment["LANDSCAPE_HOST"] = "127.0.0.1"
    command = json.loads(steps("CMD")[0])
    process = subprocess.Popen([sys.executable, *command[1:]], cwd=ROOT, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield environment
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def healthcheck(environment: dict[str, str]) -> int:
    command = json.loads(steps("HEALTHCHECK")[0].split("CMD", 1)[1])
    return subprocess.run([sys.executable, *command[1:]], env=environment, capture_output=True, timeout=30).returncode


def test_the_healthcheck_tells_a_server_from_none(server: dict[str, str]) -> None:
    assert healthcheck(server) == 0
    assert healthcheck({**server, "LANDSCAPE_PORT": "1"}) != 0


def test_the_server_answers_only_to_its_own_names(server: dict[str, str]) -> None:
    address = f"http://127.0.0.1:{server['LANDSCAPE_PORT']}/"
    assert urllib.request.urlopen(address, timeout=10).status == 200
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "elsewhere.example"}), timeout=10)


def make(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout in which installing takes no time: `python` only notes what it was asked to do."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\necho "$@" >> calls\n'
        'case "$*" in "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python;; *pip*) test ! -e broken;; esac\n'
    )
    python.chmod(0o755)
    return tmp_path


def test_a_second_start_installs_nothing(clone: Path) -> None:
    assert make("run", "PYTHON=./python", "ARGS=--port 1", folder=clone).returncode == 0
    calls = (clone / "calls").read_text()
    assert "pip install" in calls
    assert calls.endswith("app.py --port 1\n")
    (clone / "calls").write_text("")
    assert make("run", "PYTHON=./python", folder=clone).returncode == 0
    assert (clone / "calls").read_text() == "app.py\n"


def test_a_broken_install_is_never_taken_for_a_finished_one(clone: Path) -> None:
    (clone / "broken").touch()
    assert make(".venv", "PYTHON=./python", folder=clone).returncode != 0
    (clone / ".venv" / "half").touch()
    (clone / "broken").unlink()
    assert make(".venv", "PYTHON=./python", folder=clone).returncode == 0
    assert not (clone / ".venv" / "half").exists()


def test_changed_requirements_are_installed(clone: Path) -> None:
    assert make(".venv", "PYTHON=./python", folder=clone).returncode == 0
    (clone / "calls").write_text("")
    later = time.time() + 10
    os.utime(clone / "requirements.txt", (later, later))
    assert make(".venv", "PYTHON=./python", folder=clone).returncode == 0
    assert "pip install" in (clone / "calls").read_text()


def test_the_checks_call_the_same_command_as_people() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert script.rstrip().endswith("make test")
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"]).returncode == 0
