"""Folders of analyses that cannot be used: each says why, in one line, and takes nothing else down."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAD = "from landscape_core.specs import Analysis, AnalysisSpec, Group, View\n"
BROKEN = {
    "raises": ("1 / 0", "ZeroDivisionError: division by zero"),
    "exits": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "nothing": ("", "has no attribute 'ANALYSIS'"),
    "another": ("ANALYSIS = 3", "ANALYSIS is no Analysis but a int"),
    "renamed": ("ANALYSIS = Analysis('named', 'T', 'Q?', AnalysisSpec)", "the folder is called renamed, its analysis named"),
    "misspelt": (
        "ANALYSIS = Analysis('misspelt', 'T', 'Q?', AnalysisSpec, form=(Group('G', ('sede',)),))",
        "its form names 'sede', which is no field of its Spec; did you mean 'seed'?",
    ),
    "choiceless": (
        "ANALYSIS = Analysis('choiceless', 'T', 'Q?', AnalysisSpec, views=(View('kind', 'Picture', {}),))",
        "its view option 'kind' has no choices",
    ),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the listing says where all of them are found."""
    folder = tmp_path_factory.mktemp("analyses")
    for name, (text, _) in BROKEN.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(HEAD + text + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "landscape_core", "analyses"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LANDSCAPE_ANALYSES": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_cannot_be_used_says_why(said: str, name: str) -> None:
    (line,) = (line for line in said.splitlines() if line.startswith(f"{name}: "))
    assert BROKEN[name][1] in line


def test_a_computation_that_exits_leaves_the_server_of_jobs_alone(tmp_path: Path) -> None:
    folder = tmp_path / "exits"
    folder.mkdir()
    (folder / "__init__.py").write_text(HEAD + "ANALYSIS = Analysis('exits', 'T', 'Q?', AnalysisSpec)\n")
    (folder / "compute.py").write_text("raise SystemExit(3)\n")
    done = subprocess.run(
        [sys.executable, "-c", "import landscape_core.jobs.launch.preload"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LANDSCAPE_ANALYSES": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_others_are_there(said: str) -> None:
    assert "\nspectrum: " in said
