"""The command line, as people and scripts use it: what it prints, what it writes, and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from landscape_core.__main__ import main
from landscape_core.analyses import ANALYSES
from landscape_core.checkpoints.runs import RunStore
from landscape_core.specs import TASKS

ROOT = Path(__file__).parent.parent
SMALL = ("--set", "resolution=5", "--set", "flow=0", "--set", "samples=50")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one small trained run, `small`."""
    folder = tmp_path_factory.mktemp("home")
    settings = ("widths=[4]", "steps=20", "record=[5,10]", "samples=100")
    arguments = ["train", "digits-mlp", "--run", "small", "--home", str(folder)]
    assert main([*arguments, *(part for text in settings for part in ("--set", text))]) == 0
    return folder


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: its exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*arguments, "--home", str(home)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def shell(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "landscape_core", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, **options
    )


def test_listing_the_analyses_needs_no_torch() -> None:
    code = (
        "import sys; from landscape_core.__main__ import main;"
        "main(['analyses']); main(['analyses', '--json']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'dash', 'plotly')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_every_listed_analysis_is_shown_with_every_field(run: Callable[..., tuple[int, str, str]]) -> None:
    _, text, _ = run("analyses")
    about = json.loads(run("analyses", "--json")[1])
    assert set(about) == {item.name for item in ANALYSES.values() if item.listed}
    for name, item in about.items():
        assert set(item["fields"]) == set(ANALYSES[name].spec.model_fields)
        for field, facts in item["fields"].items():
            assert f"    {field}  (default {json.dumps(facts['default'])}" in text
            assert facts["description"] in text
    assert about["surface"]["fields"]["flow"]["highest"] == 51


def test_tasks_are_listed_with_parameter_counts_and_arguments(run: Callable[..., tuple[int, str, str]]) -> None:
    about = json.loads(run("tasks", "--json")[1])
    assert list(about) == list(TASKS)
    assert about["digits-mlp"]["parameters"] == 64 * 64 + 64 + 64 * 10 + 10
    assert about["npz-mlp"]["parameters"] is None
    assert about["digits-mlp"]["arguments"]["widths"]["default"] == [64]
    _, text, _ = run("tasks")
    assert "digits-mlp: 4,810 parameters" in text


def test_training_records_a_run_and_says_how_it_went(home: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    record = RunStore(home).read("small")
    assert [item.step for item in record.checkpoints] == [0, 5, 10, 20]
    settings = ("widths=[4]", "steps=20", "record=[5,10]", "samples=100")
    sets = [part for text in settings for part in ("--set", text)]
    code, text, _ = run("train", "digits-mlp", "--run", "small", *sets)  # the same again costs nothing
    assert code == 0
    assert "run small: digits-mlp, 310 parameters, done at step 20" in text
    assert json.loads(run("train", "digits-mlp", "--run", "small", *sets, "--json")[1])["parameters"] == 310
    assert RunStore(home).read("small") == record


def test_compute_prints_a_summary_and_the_second_time_comes_from_the_cache(run: Callable[..., tuple[int, str, str]]) -> None:
    code, text, err = run("compute", "surface", "small@last", *SMALL)
    assert (code, err) == (0, "")
    assert text.startswith("Loss surface of small@20\n")
    assert "computed in" in text
    assert "from the cache" in run("compute", "surface", "small", *SMALL)[1]


def test_the_json_holds_every_array_and_where_it_came_from(run: Callable[..., tuple[int, str, str]]) -> None:
    _, text, _ = run("compute", "surface", "small@last", *SMALL, "--json")
    result = json.loads(text)
    assert np.shape(result["loss"]) == (5, 5)
    assert result["spec"]["analysis"] == "surface"
    assert result["spec"]["resolution"] == 5
    assert result["provenance"]["counts"]["forwards"] > 0
    assert len(result["direction_0"]) == 310
    assert result["explained_variance"] is None  # not a number is null, which every JSON reader takes
    two = json.loads(run("compute", "surface", "small@0", "small@20", *SMALL, "--json")[1])
    assert [item["spec"]["source"] for item in two] == ["small@0", "small@20"]


@pytest.mark.parametrize("ending", ["npz", "json", "csv", "vtk", "html"])
def test_results_are_written_in_every_format(ending: str, tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    file = tmp_path / f"surface.{ending}"
    code, text, _ = run("compute", "surface", "small@last", *SMALL, "--out", str(file))
    assert (code, f"written to {file}" in text) == (0, True)
    data = file.read_bytes()
    if ending == "npz":
        with np.load(file, allow_pickle=False) as arrays:
            assert arrays["loss"].shape == (5, 5)
            assert json.loads(str(arrays["spec"]))["source"] == "small@20"
    elif ending == "json":
        assert np.shape(json.loads(data)["loss"]) == (5, 5)
    elif ending == "vtk":
        assert data.startswith(b"# vtk DataFile")
    elif ending == "csv":
        assert b"alpha" in data.splitlines()[0]
    else:
        assert b"plotly" in data


def test_several_checkpoints_are_written_to_a_file_each(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, _ = run("compute", "surface", "small@0", "small@20", *SMALL, "--out", str(tmp_path / "s.npz"))
    assert code == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s-small@0.npz", "s-small@20.npz"]


def test_weights_go_out_and_come_back_the_same(home: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    file = tmp_path / "w.safetensors"
    assert run("export", "small@last", "--out", str(file))[0] == 0
    arguments = ("--task", "digits-mlp", "--set", "widths=[4]", "--set", "samples=100")
    assert run("import", str(file), *arguments, "--run", "brought", "--step", "7")[0] == 0
    old, new = (RunStore(home).read(name).checkpoints[-1] for name in ("small", "brought"))
    assert (new.step, new.fingerprint) == (7, old.fingerprint)
    task = ("--task", "digits-mlp", "--task-set", "widths=[4]", "--task-set", "samples=100")
    of_file, of_run = (
        json.loads(run("compute", "surface", *source, *SMALL, "--json")[1])["loss"]
        for source in ((str(file), *task), ("small",))
    )
    assert of_file == of_run


BAD = [
    ((), "COMMAND"),
    (("unknown",), "invalid choice"),
    (("compute", "surface"), "CHECKPOINT"),
    (("compute", "surfaces", "small"), "did you mean 'surface'"),
    (("compute", "surface", "nothing@last"), "no run 'nothing'"),
    (("compute", "surface", "small@7"), "no checkpoint at step 7"),
    (("compute", "surface", "small@x"), "RUN@STEP"),
    (("compute", "surface", "small", "--set", "resolution=1000000"), "resolution must be between 3 and 501"),
    (("compute", "surface", "small", "--set", "resolutoin=5"), "did you mean 'resolution'"),
    (("compute", "surface", "small", "--set", "resolution"), "name=value"),
    (("compute", "surface", "small", "--set", "seed=1", "--set", "seed=2"), "given twice"),
    (("compute", "surface", "small", "--set", 'directions="through"'), "through"),
    (("compute", "surface", "small", "--set", "device=cuda:99"), "cuda:99"),
    (("compute", "surface", "small", "--out", "x.docx"), "unknown ending"),
    (("compute", "surface", "small", "--out", "/no/such/place/x.npz"), "no directory"),
    (("compute", "surface", "weights.pt"), "--task"),
    (("compute", "surface", "small", "--task", "digits-mlp"), "--task"),
    (("compute", "surface", "missing.pt", "--task", "digits-mlp"), "missing.pt"),
    (("compute", "surface", "small", "--unknown"), "--unknown"),
    (("train", "digit-mlp", "--run", "x"), "did you mean 'digits-mlp'"),
    (("train", "digits-mlp"), "--run"),
    (("train", "digits-mlp", "--run", "../x"), "run"),
    (("train", "digits-mlp", "--run", "x", "--set", "lr=-1"), "field 'lr'"),
    (("train", "digits-mlp", "--run", "small", "--set", "lr=0.5"), "small"),
    (("train", "mnist-mlp", "--run", "x"), "mnist"),
    (("import", "missing.safetensors", "--task", "digits-mlp", "--run", "x"), "missing.safetensors"),
    (("export", "small@last", "--out", "w.pt"), ".safetensors"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], words: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def test_bad_input_looks_the_same_from_a_shell() -> None:
    done = shell("compute", "surfaces", "x")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" not in done.stderr


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/executed",)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    code, out, err = run("import", str(tmp_path / "evil.pt"), "--task", "digits-mlp", "--run", "evil")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "system" in err
    assert not (tmp_path / "executed").exists()


def test_weights_of_another_network_and_broken_numbers_are_named(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    import torch

    weights = {"0.weight": torch.zeros(5, 64), "0.bias": torch.zeros(5)}
    torch.save(weights, tmp_path / "other.pt")
    code, _, err = run("import", str(tmp_path / "other.pt"), "--task", "digits-mlp", "--run", "other")
    assert (code, err.count("\n")) == (2, 1)
    assert "missing" in err
    assert "instead of" in err


def test_ctrl_c_keeps_what_is_computed_and_the_same_command_resumes(home: Path) -> None:
    command = [sys.executable, "-m", "landscape_core", "compute", "surface", "small@last", "--home", str(home)]
    command += ["--set", "resolution=401", "--set", "flow=0"]
    job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    from landscape_core.jobs.store import JobStore

    store, deadline = JobStore(home), time.monotonic() + 60
    while time.monotonic() < deadline and not any(view.state == "running" and view.done > 0 for view in store.active()):
        assert job.poll() is None
        time.sleep(0.05)
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 130
    assert err.count("\n") == 1
    assert "resumes" in err
    view = store.views()[0]
    assert view.state == "cancelled"
    partial = store.partial(view.key)
    assert partial is not None
    assert partial["evaluated"].any()
