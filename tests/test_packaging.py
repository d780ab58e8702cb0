"""The container's recipe, the locked requirements and the Makefile, exercised as far as they go without a Docker engine."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import distributions, requires
from pathlib import Path
from socket import socket

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
STEPS = [
    (step.split(None, 1)[0], step.split(None, 1)[1])
    for step in re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text())).splitlines()
    if step.strip()
]
LOCKS = ("requirements.lock", "requirements-dev.lock")


def pins(name: str) -> dict[str, str]:
    """The version of every package that a file of requirements, or a lock, names itself."""
    found = re.findall(r"(?m)^([\w.-]+)==(\S+)", (ROOT / name).read_text())
    return {canonicalize_name(package): version for package, version in found}


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
    assert {"app.py", "server.py", "assets", "landscape_core", "pages", "requirements.txt", "requirements.lock"} <= set(sources)
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
    (base,) = steps("FROM")
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
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
    torch = f"torch=={pins('requirements.txt')['torch']}"
    for index, options in (("", ""), ("X", "--index-url X ")):
        done = subprocess.run(
            ["sh", "-c", shell], cwd=ROOT, env={**os.environ, "TORCH_INDEX": index}, capture_output=True, text=True
        )
        assert done.returncode == 0
        assert done.stdout.splitlines() == [
            "pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock",
            f"pip install --no-cache-dir {options}{torch}",
        ]


def test_the_requirements_are_pins_and_name_what_the_program_imports() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    named = pins("requirements.txt")
    assert len(lines) == len(named)
    assert {"torch", "numpy", "pydantic", "dash", "plotly", "diskcache", "waitress", "safetensors", "rich", "psutil"} <= set(
        named
    )


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_a_version_and_its_hashes_and_no_index(name: str) -> None:
    text = re.sub(r"(?m)^ *#.*\n", "", (ROOT / name).read_text()).strip() + "\n"
    assert re.fullmatch(r"([a-z0-9-]+==\S+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n)+", text)


def test_the_locks_hold_what_the_requirements_name_but_torch() -> None:
    program, tools = (pins(name) for name in LOCKS)
    assert program.items() >= {(name, pin) for name, pin in pins("requirements.txt").items() if name != "torch"}
    assert tools.items() >= pins("requirements-dev.txt").items()
    assert not set(program) & set(tools)
    assert not {name for name in (*program, *tools) if re.match("torch$|cuda|nvidia|triton|pip$", name)}


def test_what_is_installed_is_what_the_locks_say() -> None:
    installed = {canonicalize_name(found.name): found.version.split("+")[0] for found in distributions()}
    locked = {name: pin for lock in LOCKS for name, pin in pins(lock).items()}
    beside_torch, ahead = set(), {"torch"}
    while ahead:
        beside_torch |= ahead
        needed = {canonicalize_name(Requirement(text).name) for name in ahead for text in requires(name) or ()}
        ahead = (needed & set(installed)) - set(locked) - beside_torch
    expected = {**locked, "torch": pins("requirements.txt")["torch"]}
    differing = {
        name: version
        for name, version in installed.items()
        if name not in beside_torch - {"torch"} | {"pip"} and expected.get(name) != version
    }
    assert not differing, "make the environment afresh: rm -r .venv"
    check = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=60)
    assert check.returncode == 0, check.stdout


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
    for name in ("Makefile", ".ci/audit", "requirements.txt", *LOCKS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\necho "$@" >> calls\n'
        'case "$*" in "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python;; *pip_audit*) cat > audited;; esac\n'
        'case "$*" in *pip*) test ! -e broken;; esac\n'
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


@pytest.mark.parametrize("name", ["requirements.txt", "requirements.lock"])
def test_changed_requirements_are_installed(clone: Path, name: str) -> None:
    assert make(".venv", "PYTHON=./python", folder=clone).returncode == 0
    (clone / "calls").write_text("")
    later = time.time() + 10
    os.utime(clone / name, (later, later))
    assert make(".venv", "PYTHON=./python", folder=clone).returncode == 0
    assert "pip install" in (clone / "calls").read_text()


@pytest.mark.parametrize(("index", "options"), [("", ""), ("X", "--index-url X ")])
def test_only_torch_is_installed_without_a_hash(clone: Path, index: str, options: str) -> None:
    assert make(".venv/.dev", "PYTHON=./python", f"TORCH_INDEX={index}", folder=clone).returncode == 0
    install = "-m pip install --disable-pip-version-check"
    assert [line for line in (clone / "calls").read_text().splitlines() if "pip" in line] == [
        f"{install} --no-deps --require-hashes -r requirements.lock",
        f"{install} {options}torch=={pins('requirements.txt')['torch']}",
        f"{install} --no-deps --require-hashes -r requirements-dev.lock",
    ]


def test_the_audit_judges_where_it_is_answered_and_says_where_it_is_not(clone: Path) -> None:
    assert make(".venv/.dev", "PYTHON=./python", folder=clone).returncode == 0
    assert make("audit", folder=clone).returncode == 0
    audited = (clone / "audited").read_text()
    assert all(f"{name}=={pin}" in audited for lock in ("requirements.txt", *LOCKS) for name, pin in pins(lock).items())
    (clone / "broken").touch()
    assert make("audit", folder=clone).returncode != 0
    (clone / ".venv/bin/python").unlink()
    (clone / ".venv/bin/python").symlink_to(sys.executable)
    done = make("audit", "AUDIT_SOURCE=http://127.0.0.1:1", folder=clone)
    assert done.returncode == 0
    assert done.stdout == "audit skipped: http://127.0.0.1:1 does not answer\n"


def test_the_checks_call_the_same_commands_as_people() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert script.endswith("\nmake test\nmake audit\n")
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"]).returncode == 0
