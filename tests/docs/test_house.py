"""docs/house.md: its floors are those that are checked, its places exist, and the analysis that it adds is a real one."""

import csv
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from landscape_core.__main__ import main

from .pages import HOUSE, ROOT, blocks, files

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
FLOORS, *RULES = CONTRACTS


def test_the_floors_are_those_that_are_checked() -> None:
    said = blocks(HOUSE, "")[0].splitlines()
    assert said == ["app.py", *(layer.replace(" : ", ", ") for layer in FLOORS["layers"])]
    rules = HOUSE.split("more rules are checked there:\n\n")[1].split("\n\n")[0]
    assert len(re.findall(r"(?m)^- ", rules)) == len(RULES)


def test_every_room_is_named() -> None:
    for folder in (ROOT / "landscape_core").iterdir():
        if (folder / "__init__.py").exists() and folder.name != "analyses":
            assert f"| `{folder.name}/` |" in HOUSE


def test_every_place_that_is_named_exists() -> None:
    places = re.findall(r"`((?:[\w.]+/)+(?:[\w.]+)?|\w+\.(?:py|toml))`", HOUSE)
    inside = ("shaking/", "tests/analyses/NAME/", "pages/NAME.py", "analyses/NAME/")
    roots = [ROOT, ROOT / "landscape_core", ROOT / "landscape_core" / "objective"]
    roots += [ROOT / "landscape_core" / "analyses" / "counterfactual", ROOT / "pages" / "_components" / "analysis"]
    named = [place for place in places if not place.startswith(inside)]
    assert len(named) > 20
    for place in named:
        assert any((root / place).exists() for root in roots), place


# -- the analysis that the page adds ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the analysis as the page has it, a home with a small run, and what the commands of the page leave."""
    folder = tmp_path_factory.mktemp("place")
    for name, text in files(HOUSE).items():
        file = folder / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    settings = ("widths=[4]", "steps=20", "record=[0]", "samples=100")
    arguments = ["train", "digits-mlp", "--run", "small", "--home", str(folder / "home")]
    assert main([*arguments, *(part for text in settings for part in ("--set", text))]) == 0
    return folder


def environment(place: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "LANDSCAPE_HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}


def python(place: Path, code: str) -> str:
    """What code prints where the analysis is known."""
    known = environment(place) | {"LANDSCAPE_ANALYSES": str(place / "mine")}
    done = subprocess.run([sys.executable, "-c", code], cwd=place, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_holds_the_whole_folder() -> None:
    assert sorted(files(HOUSE)) == [f"shaking/{name}.py" for name in ("__init__", "compute", "figure", "reading", "spec")]
    assert len(files(HOUSE)) == len(blocks(HOUSE, "python"))


def test_its_commands_compute_draw_and_write(place: Path) -> None:
    script = blocks(HOUSE, "sh")[0]
    done = subprocess.run(["sh", "-e", "-c", script], cwd=place, env=environment(place), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Shaking of small@20\n")
    assert "Rise: " in done.stdout
    assert b"plotly" in (place / "shaking.html").read_bytes()
    with (place / "shaking-small@20.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["radii", "loss_1", "loss_2", "loss_3", "loss_4", "loss_mean"]
    assert [float(row["radii"]) for row in rows] == pytest.approx(np.linspace(0, 0.2, 10).tolist())
    draws = np.array([[float(row[f"loss_{i}"]) for i in range(1, 5)] for row in rows])
    assert np.ptp(draws[0]) == 0
    assert (np.ptp(draws[1:], axis=1) > 0).all()
    assert [float(row["loss_mean"]) for row in rows] == pytest.approx(draws.mean(axis=1).tolist())


def test_stopped_and_resumed_it_gives_the_same_numbers_and_each_of_its_parts_can_be_drawn(place: Path) -> None:
    code = """
import dataclasses
from pathlib import Path
import numpy as np
from landscape_core.analyses import analysis
from landscape_core.checkpoints.runs import RunStore
from landscape_core.jobs.execute import analyse, run_context
from landscape_core.measuring import growing
from landscape_core.presenting import drawn, figure, reading

growing.REPORT_SECONDS = 0  # every step is reported
item, home = analysis("shaking"), Path("home")
spec = item.spec(radii=5, draws=3)
context = run_context("small@20", spec, RunStore(home), home)

def finished(context, parts=None):
    run = analyse("shaking", spec, context)
    while True:
        try:
            step = next(run)
        except StopIteration as end:
            return end.value
        if parts is not None:
            parts.append({name: np.array(value) for name, value in step.partial.items()})

parts = []
whole = finished(context, parts)
assert [int(np.isfinite(part["loss"]).all(axis=1).sum()) for part in parts] == [1, 2, 3, 4, 5]
later = []
again = finished(dataclasses.replace(context, partial=parts[2]), later)
assert all(np.array_equal(whole[name], again[name]) for name in whole)
assert again.provenance["counts"]["forwards"] < whole.provenance["counts"]["forwards"]
assert set(whole) == {array.name for array in item.arrays}
for view in ({}, {"kind": "draws"}, {"log": True}):
    pictures = drawn(item, [whole, parts[0], None], ["small@20", "small@20", "small@0"], view)
    assert [len(picture.data) > 0 for picture in pictures] == [True, True, False]
assert figure(whole, kind="draws").layout.title.text
assert [line.verdict for line in reading(whole)] == ["ok", "note"]
"""
    python(place, code)


def test_its_page_and_its_reference_follow(place: Path) -> None:
    code = """
import landscape_core, app, sys
app.create_app("home")
import pages
from pages._components.shell.address import read_query
assert "torch" not in sys.modules
landscape_core.compute("shaking", "small", draws=4)
page = pages.PAGES["/shaking"]
print(page.layout(read_query("?on=small@last&draws=4&v.kind=draws")))
from landscape_core.reference import reference
print(reference())
"""
    said = python(place, code)
    for words in ("Largest distance", "Every draw", "What this picture does not show", "### shaking", "`loss_mean`"):
        assert words in said
