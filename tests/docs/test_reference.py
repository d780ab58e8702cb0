"""docs/reference.md says what the declarations say, all of it and nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from landscape_core.__main__ import parser
from landscape_core.analyses import ANALYSES
from landscape_core.reference import COMMAND, subcommands
from landscape_core.specs import TASKS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference.md").read_text()
LISTED = [item for item in ANALYSES.values() if item.listed]


def section(title: str) -> str:
    """The text under a heading, as it is read: a bar in a table is written with a backslash before it."""
    return re.split(r"\n###? ", PAGE.replace("\\|", "|").split(f"\n### {title}\n")[1])[0]


def test_it_is_what_the_generator_prints() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LANDSCAPE_")}
    made = subprocess.run(
        [sys.executable, "-m", "landscape_core.reference"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == PAGE, f"docs/reference.md is out of date; renew it with: {COMMAND}"


def test_making_it_needs_no_torch() -> None:
    code = "import sys; from landscape_core.reference import reference; reference(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("item", LISTED, ids=[item.name for item in LISTED])
def test_an_analysis_is_there_with_all_that_it_declares(item) -> None:
    assert not item.problem
    part, common = section(item.name), PAGE.replace("\\|", "|").split("\n### ")[0]
    assert item.title in part
    assert item.question in part
    assert item.path in part
    for name, about in item.spec.model_fields.items():
        rows = [line for text in (part, common) for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        assert any(about.description in row for row in rows)
    for view in item.views:
        assert f"| `{view.name}` | `" in part
        assert all(f"`{choice}`" in part for choice in view.choices or ())
    for array in item.arrays:
        shape = f"({', '.join(array.dimensions)})" if array.shape else ""
        assert f"| `{array.name}` | {shape} | {array.unit} |" in part
        assert array.words in part
    for measure in item.measures:
        assert f"`{measure.name}` ({measure.title})" in part


def test_every_task_and_every_command_is_there() -> None:
    for name in TASKS:
        assert f"| `{name}` |" in PAGE
    for name, command in subcommands(parser()).items():
        part = section(f"`{name}`")
        for action in command._actions:
            for option in action.option_strings[-1:]:
                assert option in part or action.dest in ("help", "home", "json")
