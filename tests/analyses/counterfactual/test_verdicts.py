"""Every verdict of training inside and outside against chance, over many seeds, and against the clear case; of which loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape_core.analyses.counterfactual import compute
from landscape_core.analyses.counterfactual.figure import figure as counterfactual_figure
from landscape_core.analyses.counterfactual.reading import fluctuation
from landscape_core.analyses.counterfactual.spec import CounterfactualSpec
from landscape_core.drawing.statement import Reading
from landscape_core.linalg import basis
from landscape_core.measuring.context import Context
from landscape_core.measuring.top_space import TopSpace
from landscape_core.objective import Objective
from landscape_core.presenting import reading
from landscape_core.specs import Result

from ..overlap.results import counterfactual
from ..running import analysed
from ..surface.results import changed

Effort = Callable[[int, int], int]
FALSE = 0.05  # of the draws by chance may be called more than that
SETTINGS = {"optimizer": "sgd", "lr": 0.3, "batch_size": 0, "steps": 100, "schedule": "constant", "train_samples": 80}


def row(result: Any, name: str = "Which part trains?") -> Reading:
    return next(item for item in reading(result) if item.name == name)


def branches(objective: Objective, settings: dict[str, Any], **values: Any) -> Result:
    given = Context(objective, source="r@0", training=settings)
    return analysed("counterfactual", CounterfactualSpec(**values), given, None, None)


def classifier(seed: int) -> Objective:
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(80, 5, generator=source)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    return Objective(model, F.cross_entropy, (x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()), dtype=torch.float64)


class Bowl(nn.Module):
    """½ θᵀ diag(values) θ from a given place."""

    def __init__(self, values: Tensor, start: Tensor):
        super().__init__()
        self.theta = nn.Parameter(start.clone())
        self.values = values

    def forward(self, x: Tensor) -> Tensor:
        return (0.5 * self.values * self.theta.square()).sum() * torch.ones_like(x)


def bowl(start: Tensor, top: int = 5) -> Objective:
    values = torch.cat([torch.full((top,), 1.0), torch.full((len(start) - top,), 0.5)]) + 0.01 * torch.rand(len(start))
    return Objective(Bowl(values, start), lambda z, _: z.mean(), (torch.zeros(4, 1), torch.zeros(4, 1)), dtype=torch.float64)


# -- chance ------------------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("k", "refresh", "settings"),
    [
        (3, 8, {}),
        (3, 40, {}),
        (1, 10, {"weight_decay": 0.01}),
        (10, 10, {"batch_size": 16}),
        (25, 20, {"optimizer": "adam", "lr": 0.02}),
    ],
)
def test_a_random_space_is_credited_with_no_more_than_random_directions(
    k: int, refresh: int, settings: dict[str, Any], effort: Effort, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter(range(10**9))

    def random_space(operator: Any, k: int, **_: Any) -> Iterator[int]:
        source = torch.Generator().manual_seed(next(drawn))
        vectors = basis(torch.randn(operator.shape[0], k, generator=source, dtype=torch.float64))
        return TopSpace(np.ones(k), vectors, np.zeros(k), 0.0, 1)
        yield 0

    monkeypatch.setattr(compute, "top_space", random_space)
    count, said = effort(25, 250), Counter[bool]()
    for seed in range(count):
        given = SETTINGS | settings | {"seed": seed}
        words = row(branches(classifier(seed), given, k=k, refresh=refresh, steps=40, records=20, seed=seed)).words
        said[
            "no further than it may in random directions" in words or "cannot be told from what random directions do" in words
        ] += 1
    assert said[False] <= FALSE * count


def test_a_fall_that_is_no_longer_than_the_curve_fluctuates_has_no_shares() -> None:
    rng = np.random.default_rng(0)
    given = counterfactual()
    false = 0
    for _ in range(200):
        curves = {f"loss_{name}": 0.1 + 0.01 * rng.standard_normal(51) for name in ("free", "inside", "outside", "random")}
        falls = {name: float(curve[0] - curve[-1]) for name, curve in curves.items()}
        free = falls["loss_free"]
        drops = {name.replace("loss", "drop"): fall / free if free > 0 else np.nan for name, fall in falls.items()}
        item = row(changed(given, **curves, **drops))
        false += "nothing to take a share of" not in item.words
        assert "unknown" not in item.words
    assert (
        false <= 0.1 * 200
    )  # the first and the last of a curve lie two deviations apart in one of twelve draws, half of them down
    assert fluctuation(np.linspace(1, 0, 51)) == pytest.approx(0, abs=1e-12)


def test_where_the_top_space_carries_or_the_rest_does_it_is_said() -> None:
    torch.manual_seed(0)
    top, rest = torch.zeros(300, dtype=torch.float64), torch.zeros(300, dtype=torch.float64)
    top[:5], rest[5:] = torch.randn(5, dtype=torch.float64), torch.randn(295, dtype=torch.float64)
    values = {"k": 5, "steps": 30, "refresh": 3, "records": 30, "tolerance": 1e-6}
    carried = row(branches(bowl(top), SETTINGS, **values))
    assert "here the top space carries the training" in carried.words
    assert carried.value == "100 % inside, 0 % outside"
    outside = row(branches(bowl(rest), SETTINGS, **values))
    assert "training goes on outside the space; inside it the loss" in outside.words
    assert outside.verdict == "ok"
    assert outside.value == "0 % inside, 100 % outside"


# -- which loss --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_with_decay_the_verdict_is_of_the_loss_that_is_trained(optimizer: str) -> None:
    """One step split by dense eigenvectors: the loss with the decay in it falls outside, whatever the plain one does."""
    objective = classifier(1)
    theta, wd, lr = objective.theta, 0.5, 0.02
    result = branches(objective, SETTINGS | {"weight_decay": wd, "lr": lr, "optimizer": optimizer}, k=3, steps=1, records=1)
    g = objective.gradient() + wd * theta
    way = -lr * (g if optimizer == "sgd" else g / (g.abs() + 1e-8))
    vectors = torch.linalg.eigh(objective.hessian().dense())[1][:, -3:]
    inside = vectors @ (vectors.T @ way)
    for name, part in (("free", way), ("inside", inside), ("outside", way - inside)):
        at = theta + part
        assert result[f"loss_{name}"][1] == pytest.approx(objective.loss(at), abs=1e-5)
        assert result[f"loss_{name}_trained"][1] == pytest.approx(objective.loss(at) + 0.25 * float(at @ at), abs=1e-4)
    falls = {name: -np.diff(result[f"loss_{name}_trained"])[0] for name in ("free", "inside", "outside")}
    assert result["drop_outside_trained"] == pytest.approx(falls["outside"] / falls["free"])
    words = row(result).words
    assert "of the loss that is trained, weight decay included, in free training" in words
    assert row(result, "Plain loss").value.endswith(f"to {result['loss_free'][1]:.3g}")


def test_the_plain_loss_may_rise_while_the_trained_one_falls() -> None:
    torch.manual_seed(0)
    data = torch.randn(30, 3), torch.randn(30, 1)
    lifted = Objective(nn.Linear(3, 1), lambda z, t: 1 + (z - t).square().mean(), data, dtype=torch.float64)
    for _ in range(400):  # from the bottom of the plain loss the decay leads away
        lifted.theta = lifted.theta - 0.3 * lifted.gradient(lifted.theta)
    result = branches(lifted, SETTINGS | {"weight_decay": 1.0}, k=1, steps=20, refresh=5, records=10)
    assert result["loss_free"][-1] > result["loss_free"][0]
    assert result["loss_free_trained"][-1] < result["loss_free_trained"][0]
    assert np.isnan(result["drop_inside"])
    assert result["drop_free_trained"] == 1
    assert "Descent may raise L" in row(result, "Plain loss").words
    assert "of that fall" not in row(result, "Plain loss").words
    assert "unknown" not in "".join(item.words + item.value for item in reading(result))


def test_a_decay_that_is_in_no_loss_changes_none() -> None:
    result = branches(classifier(0), SETTINGS | {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1}, steps=5, k=3)
    assert not [name for name in result if name.endswith("_trained")]
    assert "part of no loss" in row(result, "Weight decay").words
    plain = branches(classifier(0), SETTINGS, steps=5, k=3)
    assert not [item for item in reading(plain) if item.name in ("Weight decay", "Plain loss")]


def test_both_losses_are_drawn_where_they_differ() -> None:
    result = branches(classifier(0), SETTINGS | {"weight_decay": 0.01}, steps=8, records=8, k=3)
    figure = counterfactual_figure(result)
    assert len(figure.data) == 8
    assert sum(trace.showlegend is not False for trace in figure.data) == 4
    assert [trace.yaxis for trace in figure.data] == ["y2"] * 4 + ["y"] * 4
    assert "below the plain one" in figure.layout.title.subtitle.text
    np.testing.assert_array_equal(figure.data[-1].y, result["loss_random_trained"])
    assert len(counterfactual_figure(result, kind="distance").data) == 4


# -- what was made -----------------------------------------------------------------------------------------------------------


def test_what_is_said_of_the_making_fits_it() -> None:
    full = row(branches(classifier(0), SETTINGS, steps=3, k=3), "How it was made").words
    assert "Every step of every branch takes 80 samples. The space is found once, at the start, from" in full
    assert "mini-batch" not in full
    assert "memory" not in full
    heavy = branches(classifier(0), SETTINGS | {"momentum": 0.9, "batch_size": 16, "seed": 0}, steps=6, refresh=2, k=3)
    words = row(heavy, "How it was made").words
    assert "sees the same mini-batches and starts with an empty memory" in words
    assert "anew every 2 steps, at the branch's own weights," in words
    everything = "".join(item.words for item in reading(heavy))
    assert "BatchNorm" not in everything
    assert "ropout" not in everything


def test_a_network_with_dropout_or_batchnorm_does_not_train_on_as_its_run_did() -> None:
    x = torch.randn(80, 5)
    for layer, said in ((nn.Dropout(0.5), "Dropout is off here"), (nn.BatchNorm1d(6), "BatchNorm takes stored statistics")):
        model = nn.Sequential(nn.Linear(5, 6), layer, nn.Tanh(), nn.Linear(6, 3))
        objective = Objective(model, F.cross_entropy, (x, (x[:, 0] > 0).long()), dtype=torch.float64)
        result = branches(objective, SETTINGS | {"seed": 0}, steps=2, k=3)
        assert not result["own_settings"]
        assert said in row(result, "Note").words


def test_branches_that_diverge_are_named() -> None:
    result = changed(counterfactual(), loss_inside=np.append(np.full(50, 0.1), np.nan))
    assert row(result).value == "no answer here"
    assert "Diverged: inside." in row(result).words


def test_a_fall_that_the_digits_hide_is_given_by_itself() -> None:
    curve = np.linspace(0.5, 0.5 - 1e-6, 51)
    given = changed(counterfactual(), **{f"loss_{name}": curve for name in ("free", "inside", "outside", "random")})
    assert "(from 0.5 by 1e−6)" in row(given).words
