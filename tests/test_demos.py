"""The guided demos as data, and the command that lists and computes them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from landscape_core.__main__ import main
from landscape_core.checkpoints.runs import RunStore
from landscape_core.demos import DEMOS, Demo, demo
from landscape_core.jobs.results import ResultCache
from landscape_core.specs import InputError

ROOT = Path(__file__).parent.parent
SETTINGS = {"widths": [4], "steps": 20, "record": [5], "samples": 100}
SMALL = Demo(
    "small",
    "Two small networks",
    "How much do they differ?",
    {"one": SETTINGS, "two": {**SETTINGS, "lr": 0.01}},
    "surface",
    {"resolution": 5, "flow": 0, "samples": 50},
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(DEMOS, "small", SMALL)


def test_no_two_demos_train_a_run_of_the_same_name():
    names = [run for demo in DEMOS.values() for run in demo.runs]
    assert len(names) == len(set(names))


def test_demos_are_known_by_name():
    assert all(demo(name) is item and item.name == name for name, item in DEMOS.items())
    with pytest.raises(InputError, match="unknown demo 'skip'; did you mean 'skips'"):
        demo("skip")


def test_demos_import_neither_torch_nor_dash():
    code = (
        "import sys; from landscape_core.__main__ import main; main(['demos']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'dash', 'plotly')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_demos_are_listed(capsys):
    assert main(["demos"]) == 0
    text = capsys.readouterr().out
    assert main(["demos", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert list(about) == list(DEMOS)
    for name, item in DEMOS.items():
        assert f"{name}: {item.title}\n    {item.lesson}\n" in text
        assert set(about[name]["runs"]) == set(item.runs)
        assert about[name]["analysis"] == item.analysis


def test_a_demo_is_warmed_once(small, tmp_path, capsys):
    assert main(["demos", "--warm", "small", "--home", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "small: ready\n"
    runs, results = RunStore(tmp_path), ResultCache(tmp_path)
    keys = [request.pinned(tmp_path).key(tmp_path) for request in SMALL.results()]
    assert sorted(runs.names()) == ["one", "two"]
    found = [results.get(key) for key in keys]
    assert all(item is not None and item["loss"].shape == (5, 5) for item in found)
    assert main(["demos", "--warm", "small", "--home", str(tmp_path), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["small"]
    again = [results.get(key) for key in keys]
    assert [item.provenance for item in again] == [item.provenance for item in found]


def test_what_cannot_be_warmed_is_one_line(small, tmp_path, capsys):
    assert main(["train", "digits-mlp", "--run", "two", "--set", "steps=2", "--home", str(tmp_path)]) == 0
    capsys.readouterr()
    for names, words in ((["smal"], "did you mean 'small'"), (["small"], "run 'two' exists with other settings")):
        assert main(["demos", "--warm", *names, "--home", str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert words in err
