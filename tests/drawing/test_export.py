"""Pictures as files, and the texts that make them again: run as they are, by another shell in another folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest

from landscape_core.analyses import ANALYSES
from landscape_core.drawing import export
from landscape_core.jobs.compute import compute
from landscape_core.jobs.requests import Request
from landscape_core.jobs.runner import run_all
from landscape_core.presenting import side_by_side


def test_html_stands_alone():
    figure = go.Figure(layout={"title": {"text": "digits <1> @ 3"}, "paper_bgcolor": "#242424"})
    page = export.to_html(figure)
    assert "Plotly.newPlot" in page
    assert "<script src" not in page
    assert "background:#242424" in page


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a place of one's own") / "home"
    folder.mkdir()
    for seed in (0, 1):
        values = {"task": "digits-mlp", "run": f"run-{seed}", "widths": [4], "steps": 10, "seed": seed}
        run_all([Request("train", None, values)], folder)
    return folder


def shell(text, folder):
    """Run in a fresh shell: nothing of this process's environment that names us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LANDSCAPE", "PYTHON"))}
    done = subprocess.run(["sh", "-c", text], cwd=folder, env=kept, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done


def drawn_in(file):
    """What a page of plotly draws, as JSON values: the traces and the layout."""
    text = file.read_text()
    start = text.rindex("Plotly.newPlot(")
    decoder, found, at = json.JSONDecoder(), [], text.index("[", start)
    for _ in range(2):
        value, end = decoder.raw_decode(text, at)
        found.append(value)
        at = re.compile(r"[\[{]").search(text, end).start()
    return found


def plain(figure):
    content = json.loads(figure.to_json())
    return [content["data"], content["layout"]]


CASES = [
    ("surface", ["run-0@10"], {"resolution": 7, "flow": 0}, {"kind": "contour", "log": True}),
    ("surface", ["run-0@10", "run-1@10"], {"resolution": 7, "flow": 0}, {"kind": "heatmap", "clip": "90"}),
    ("surface", ["run-0@10", "run-1@10"], {"resolution": 7, "flow": 0}, {"difference": True, "kind": "contour"}),
    ("spectrum", ["run-0@10"], {"k": 3}, {"log": True}),
    ("overlap", ["run-1@10"], {"k": 2, "checkpoints": 3}, {"kind": "persistence"}),
]


@pytest.mark.parametrize(("kind", "sources", "fields", "view"), CASES)
def test_the_copied_command_writes_the_picture_of_the_screen_anywhere(home, tmp_path, kind, sources, fields, view):
    spec = ANALYSES[kind].spec(**fields)
    text = export.command_line(kind, sources if len(sources) > 1 else sources[0], spec, view, home)
    shell(text, tmp_path)
    wanted = side_by_side(compute(kind, sources, home=home, **fields), **view)
    written = sorted(tmp_path.iterdir())
    assert len(written) == len(wanted)
    assert [drawn_in(file) for file in written] == [plain(figure) for figure in wanted]


@pytest.mark.parametrize(("kind", "sources", "fields", "view"), CASES)
def test_the_copied_python_shows_the_picture_of_the_screen_anywhere(home, tmp_path, kind, sources, fields, view):
    spec = ANALYSES[kind].spec(**fields)
    text = export.python_code(kind, sources if len(sources) > 1 else sources[0], spec, view, home)
    assert text.startswith(f"# {sys.executable}\n")
    shown = "import plotly.graph_objects as go\ngo.Figure.show = lambda figure: print(figure.to_json())\n"
    (tmp_path / "pasted.py").write_text(shown + text)
    done = shell(f"{sys.executable} pasted.py", tmp_path)
    wanted = side_by_side(compute(kind, sources, home=home, **fields), **view)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [[figure["data"], figure["layout"]] for figure in found] == [plain(figure) for figure in wanted]


def test_texts_name_files_that_a_shell_takes():
    spec = ANALYSES["surface"].spec(directions="through", through=("a@3", "b@4"), extent=[-1, 2.5])
    text = export.command_line("surface", ["c@1", "c@2"], spec, {"log": True}, Path("/some where/home"))
    assert "'/some where/home'" in text
    assert "--view log=true" in text
    assert '\'through=["a@3","b@4"]\'' in text
