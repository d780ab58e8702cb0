"""The server without a browser: settings, headers, routes, and that the web process never imports torch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VISIT = """
import json, sys
sys.path.insert(0, {root!r})
import app
home = sys.argv[1]
dash = app.create_app(home)
client = dash.server.test_client()
seen = {{}}
for path in ("/", "/health", "/_dash-layout", "/_dash-dependencies", "/assets/gate.js", "/download/x.npz"):
    answer = client.get(path)
    seen[path] = [answer.status_code, dict(answer.headers)]
seen["stranger"] = [client.get("/", headers={{"Host": "evil.example"}}).status_code, {{}}]
from pages import PAGES
from pages._components.shell import frame
from pages._components.shell.address import read_query
texts = {{}}
for path, page in PAGES.items():
    for search in ("", "?on=nobody@3", "?resolution=1000000&nonsense=1", "?on=a,b,c,d,e&v.kind=cube", "?on=../../etc@1"):
        content = frame._content(page, path, read_query(search))
        texts[path + search] = json.dumps(content.to_plotly_json(), default=lambda part: part.to_plotly_json()
            if hasattr(part, "to_plotly_json") else str(part))
print(json.dumps({{"seen": seen, "texts": texts, "torch": "torch" in sys.modules}}))
"""


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> dict:
    home = tmp_path_factory.mktemp("web") / "home"
    program = VISIT.format(root=str(ROOT))
    done = subprocess.run([sys.executable, "-c", program, str(home)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (home / "secret").stat().st_mode & 0o777 == 0o600
    return json.loads(done.stdout.splitlines()[-1])


def test_the_web_process_never_imports_torch(visit: dict) -> None:
    assert visit["torch"] is False


def test_the_pages_are_served_with_a_strict_policy(visit: dict) -> None:
    status, headers = visit["seen"]["/"]
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "unsafe-eval" not in policy
    assert "script-src 'self' 'sha256-" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert visit["seen"]["/health"][0] == 200
    assert visit["seen"]["/assets/gate.js"][0] == 200


def test_a_foreign_host_and_a_made_up_file_are_refused(visit: dict) -> None:
    assert visit["seen"]["stranger"][0] == 400
    assert visit["seen"]["/download/x.npz"][0] == 404


def test_whatever_the_address_says_a_page_comes_back(visit: dict) -> None:
    texts = visit["texts"]
    assert "could not be built" not in "".join(texts.values())
    assert "there is no run" in texts["/surface?on=nobody@3"].lower()
    assert "between 3 and 501" in texts["/surface?resolution=1000000&nonsense=1"]
    assert "unknown field 'nonsense'" in texts["/surface?resolution=1000000&nonsense=1"]
    assert "is not a checkpoint" in texts["/surface?on=../../etc@1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "between 0 and 65535"),
        (["--workers", "0"], "between 1 and 64"),
        (["--home", "/proc/nowhere"], "home directory"),
        (["--host", "no.such.host.invalid"], "no address of this machine"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(arguments: list[str], words: str) -> None:
    done = _serve(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.fault(
    "The port is in use", sees="error: port so-and-so is in use; choose another with --port", lost="Nothing", on="--port"
)
def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _serve("--port", str(port), "--home", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"error: port {port} is in use on 127.0.0.1; choose another with --port, or --port 0 for a free one"
    )
    assert done.stdout == ""


def _serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "app.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
