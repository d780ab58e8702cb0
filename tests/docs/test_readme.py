"""The README: its Python runs, its commands are understood, its settings and places exist."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch

import app
from landscape_core.__main__ import _settings, main, parser
from landscape_core.analyses import analysis
from landscape_core.demos import demo
from landscape_core.presenting import files
from landscape_core.specs import task_spec, training_spec

from .pages import HOUSE, README, ROOT, blocks

COMMANDS = [
    line.removeprefix("python -m landscape_core ")
    for block in blocks(README, "")
    for line in block.splitlines()
    if line.startswith("python -m landscape_core ")
]


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[go.Figure]]:
    """The figures that are shown, where the run that the README speaks of is there."""
    monkeypatch.setenv("LANDSCAPE_HOME", str(tmp_path))
    figures: list[go.Figure] = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: figures.append(figure))
    settings = ("widths=[4]", "steps=5", "record=[0]", "samples=50")
    assert main(["train", "digits-mlp", "--run", "lenet", *(part for text in settings for part in ("--set", text))]) == 0
    return figures


def test_its_python_runs_as_it_stands(shown: list[go.Figure], capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    names = {"model": model, "x": torch.randn(20, 3), "y": torch.randint(0, 2, (20,))}
    capsys.readouterr()
    for code in blocks(README, "python"):
        exec(code, names)
    assert [figure.data[0].type for figure in shown] == ["surface", "contour", "contour"]
    assert "gradient" in capsys.readouterr().out
    assert names["result"]["loss"].shape == (31, 31)
    assert names["block"].shape == (20, 20)
    assert len(names["pairs"].top) == 10
    assert names["spectrum"].grid.shape == names["spectrum"].density.shape


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command: str) -> None:
    given = parser().parse_args(shlex.split(command))
    if given.command == "compute":
        item = analysis(given.analysis)
        item.spec.parse(_settings(given.set))
        item.checked_view(_settings(given.view, "--view"))
        assert given.out is None or Path(given.out).suffix in files.ENDINGS
    elif given.command == "train":
        training_spec(given.task, given.run, **_settings(given.set))
    elif given.command == "import":
        task_spec(given.task, **_settings(given.set))
    elif given.command == "demos":
        for name in given.warm or ():
            demo(name)


def test_it_shows_the_commands_that_people_need() -> None:
    shown = {command.split()[0] for command in COMMANDS}
    assert shown >= {"tasks", "train", "compute", "import", "demos", "analyses"}


def test_its_settings_are_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = re.findall(r"(?m)^\| (?:`(--\w+)`)? ?\| `(LANDSCAPE_\w+)` \| (?:`([^`]*)`)? ?\|", README)
    named = {variable for _, variable, _ in rows}
    for variable in list(os.environ):
        if variable.startswith("LANDSCAPE_"):
            monkeypatch.delenv(variable)
    defaults = vars(app.settings([]))
    said = {flag.removeprefix("--"): default for flag, _, default in rows if flag}
    assert said.keys() == defaults.keys()
    for name, default in said.items():
        assert defaults[name] in (None, []) or str(defaults[name]) == default
    sources = [ROOT / "app.py", *(ROOT / "pages").rglob("*.py"), *(ROOT / "landscape_core").rglob("*.py")]
    known = {name for file in sources for name in re.findall(r"LANDSCAPE_[A-Z_]+", file.read_text())}
    assert named == known - {"LANDSCAPE_STRICT"}  # which is for tests


def test_every_room_and_every_place_is_there() -> None:
    table = README.split("## Where things are")[1].split("\n\n")[1]
    places = re.findall(r"`([\w/]+(?:/|\.py))`", table)
    assert all((ROOT / place).exists() for place in places)
    for folder in (ROOT / "landscape_core").iterdir():
        if (folder / "__init__.py").exists() and folder.name != "figures":  # a door that goes away
            assert f"landscape_core/{folder.name}/" in places


@pytest.mark.parametrize(("page", "folder"), [(README, ROOT), (HOUSE, ROOT / "docs")], ids=["README.md", "house.md"])
def test_links_lead_somewhere(page: str, folder: Path) -> None:
    headings = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"(?m)^#+ (.+)$", page)}
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links
    for link in links:
        assert link.removeprefix("#") in headings if link.startswith("#") else (folder / link).exists(), link
