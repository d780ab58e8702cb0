"""Published and measured figures through the command line alone, within gates that rounding elsewhere does not leave."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from landscape_core.linalg import random_walk_share

MARGIN_RUN = [
    "--set",
    "init=he",
    "--set",
    "optimizer=adam",
    "--set",
    "lr=0.003",
    "--set",
    "batch_size=128",
    "--set",
    "steps=600",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def command(home, *arguments):
    """What `python -m landscape_core ... --json` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "landscape_core", *arguments, "--home", str(home), "--json"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=["20", "64,64"], ids=["64-20-10", "64-64-64-10"])
def run(home, request):
    """2,000 steps of SGD at 0.1 on digits: the name of the run and its record."""
    name = f"sgd-{request.param.replace(',', '-')}"
    return name, command(home, "train", "digits-mlp", "--run", name, "--set", f"widths=[{request.param}]")


def test_the_weights_grow_as_measured(run):
    """PyTorch's initialisation has |theta|^2 = sum over layers of (inputs + 1) outputs / (3 inputs) on average."""
    name, record = run
    first, last = (record["checkpoints"][i]["metrics"]["theta_norm"] for i in (0, -1))
    sizes = [64, *map(int, name.removeprefix("sgd-").split("-")), 10]
    expected = sum((a + 1) * b / (3 * a) for a, b in itertools.pairwise(sizes)) ** 0.5
    assert first == pytest.approx(expected, rel=0.05)
    if len(sizes) == 4:
        assert first == pytest.approx(6.8, abs=0.3)
        assert last == pytest.approx(10.9, abs=1.0)


def test_two_centred_axes_hold_the_path_and_the_null_is_stated(home, run):
    name, record = run
    fields = ["--set", "directions=pca", "--set", "centered=true", "--set", "resolution=9", "--set", "flow=0"]
    result = command(home, "compute", "surface", f"{name}@last", *fields)
    assert result["explained_variance"] >= 0.95
    steps = np.array([row["step"] for row in record["checkpoints"]])
    assert result["trajectory_steps"] == steps.tolist()
    assert result["explained_variance_null"] == pytest.approx(random_walk_share(steps, 2, centered=True), rel=1e-9)
    assert result["trajectory_residual"][-1] <= 1e-3


def test_a_random_plane_holds_little_of_the_gradient_and_says_so(home, run):
    result = command(home, "compute", "surface", f"{run[0]}@last", "--set", "resolution=9", "--set", "flow=0")
    assert result["gradient_share"] < 0.05
    assert 0 < result["gradient_share_baseline"] < 0.01
    assert result["center_deviation"] <= 1e-5


@pytest.mark.parametrize(("skip", "low", "high"), [("false", 0.15, 1.0), ("true", 0.0, 0.03)])
def test_skip_connections_make_the_surface_convex(home, skip, low, high):
    """Depth 20, width 32, 15x15 cells, three direction seeds: Li et al. 2018 on a network that trains in seconds."""
    run = f"deep-{skip}"
    shape = ["--set", "depth=20", "--set", "widths=[32]", "--set", f"skip={skip}", "--set", "record=[0,600]"]
    command(home, "train", "digits-mlp", "--run", run, *shape, *MARGIN_RUN)
    for seed in range(3):
        fields = ["--set", "resolution=15", "--set", "flow=0", "--set", f"seed={seed}"]
        share = command(home, "compute", "surface", f"{run}@last", *fields)["nonconvex_share"]
        assert low <= share <= high


# -- geometry in high dimensions -----------------------------------------------------------------------------------------


def test_the_gradient_points_outwards_and_along_the_way(home, run):
    """Perpendicular to the position at initialisation only; never to the way that is left; flat in most directions."""
    name, record = run
    p = record["parameters"]
    result = command(home, "compute", "high_dimensions", name, "--set", "curvature=1", "--set", "probes=2")
    series = {key: np.array(values, dtype=float) for key, values in result.items() if key.startswith("cosine_")}
    steps = np.array(result["steps"])
    assert abs(series["cosine_position"][0]) < 4 / p**0.5
    later = series["cosine_position"][steps >= 50]
    assert later.max() < 0
    assert later.min() < -0.3
    left = series["cosine_remaining"][:-1]
    assert 0.3 < left[0] < 0.6
    assert left.min() > 0.05
    assert left.max() > 0.6
    assert result["displacement"][-1] > 0.8 * result["theta_norm"][0]
    assert np.mean(result["plane_share_random"]) < 3 * 2 / p
    assert result["flat_share"][-1] > 0.5
    if p <= 3000:  # from the exact matrix
        assert result["outliers"] == 9
        assert result["flat_share"][-1] == pytest.approx(0.59, abs=0.08)
        assert result["top_trace_share"][-1] == pytest.approx(0.69, abs=0.08)
        assert 0.09 < result["negative_share"][-1] < 0.2


GD = ("widths=[20]", "batch_size=0", "steps=600")


def test_full_batch_descent_goes_straight_on(home):
    command(home, "train", "digits-mlp", "--run", "gd", *[word for field in GD for word in ("--set", field)])
    result = command(home, "compute", "high_dimensions", "gd", "--set", "curvature=0")
    steps = np.array(result["steps"])
    position, left = (np.array(result[name], dtype=float) for name in ("cosine_position", "cosine_remaining"))
    assert (position[steps >= 100] < -0.4).all()
    assert (position > -0.95).all()
    assert 0.35 < left[0] < 0.8
    assert left[:-1].max() > 0.9
    assert result["explained_variance"] >= 0.97
