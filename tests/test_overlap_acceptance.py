"""Where the gradient lies and which part of it trains: the measured figures through the command line, within their gates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landscape_core.__main__ import main

Command = Callable[..., Any]
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def command(home: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: str, **fields: Any) -> Any:
        options = [part for name, value in fields.items() for part in ("--set", f"{name}={json.dumps(value)}")]
        capsys.readouterr()
        assert main([*words, *options, "--home", str(home), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def trained(command: Command, name: str, seed: int, **fields: Any) -> str:
    """ReLU 64-20-10 on digits, learning rate 0.1; trained at its first use."""
    run = f"{name}-{seed}"
    command("train", "digits-mlp", "--run", run, widths=[20], seed=seed, **fields)
    return run


def sgd(command: Command, seed: int) -> str:
    return trained(command, "sgd", seed, steps=2000, record=[50, 100, 200, 400, 1000])


@pytest.mark.parametrize("seed", SEEDS)
def test_noisy_descent_lies_in_the_top_space_and_full_batch_descent_does_not(command: Command, seed: int) -> None:
    """Gates: SGD at least 0.7 at step 400, gradient descent below 0.01, their ratio at least 50; k - 1 close to k."""
    full = trained(command, "gd", seed, steps=400, batch_size=0, record=[50, 100, 200])
    noisy, smooth = (command("compute", "overlap", run) for run in (sgd(command, seed), full))
    at = noisy["steps"].index(400)
    share, less = noisy["gradient_share"][at], noisy["gradient_share_k_minus_1"][at]
    assert share >= 0.7
    assert less == pytest.approx(share, abs=0.02)
    assert max(smooth["gradient_share"][1:]) < 0.01
    assert share / smooth["gradient_share"][-1] >= 50
    # The noise of mini-batches lies there in either case.
    assert smooth["gradient_share_minibatch"][-1] > 0.5
    assert noisy["baseline"] == pytest.approx(10 / 1510)
    assert noisy["residuals"][at][-1] <= 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_top_space_persists(command: Command, seed: int) -> None:
    """Gate: from step 100 on at least 0.8 in common with the last; at the start about 0.3, where k/p is 0.0066."""
    result = command("compute", "overlap", sgd(command, seed))
    common = dict(zip(result["steps"], result["persistence_reference"], strict=True))
    assert all(value >= 0.8 for step, value in common.items() if step >= 100)
    assert common[0] < 0.5
    assert common[2000] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(result["persistence"], np.transpose(result["persistence"]))


@pytest.mark.parametrize("seed", SEEDS)
def test_training_inside_the_top_space_does_not_train(command: Command, seed: int) -> None:
    """Gates, 400 steps from step 200: inside the loss falls by less than 5 %, outside by at least 80 % of the free fall."""
    result = command("compute", "counterfactual", f"{sgd(command, seed)}@200", records=4)
    assert result["own_settings"]
    start = result["loss_free"][0]
    assert 1 - result["loss_inside"][-1] / start < 0.05
    assert result["drop_outside"] >= 0.8
    assert abs(result["drop_random"]) < 0.1
    assert result["loss_free"][-1] < 0.6 * start
