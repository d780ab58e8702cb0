"""The limit of stability: at one checkpoint, over a schedule, and only of the loss that is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape_core.analyses.overlap.spec import OverlapSpec
from landscape_core.drawing.limits import limit_row
from landscape_core.measuring.path import not_trained_on
from landscape_core.measuring.stability import stability, stability_over, trained_decay
from landscape_core.objective import Objective

FULL = {"optimizer": "sgd", "lr": 0.1, "batch_size": 0, "train_samples": 100}


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.5), (0.9, 0.5), (0.5, 3.0)])
def test_the_limit_is_where_the_optimiser_itself_begins_to_diverge(momentum: float, decay: float) -> None:
    """On a quadratic of one weight, just below and just above."""
    told = stability(FULL | {"momentum": momentum, "weight_decay": decay}, 0.1)
    for factor, grows in ((0.98, False), (1.02, True)):
        theta = nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = torch.optim.SGD([theta], lr=0.1, momentum=momentum, weight_decay=decay)
        for _ in range(3000):
            optimizer.zero_grad()
            (0.5 * factor * told["stability_limit"] * theta.square().sum()).backward()
            optimizer.step()
        assert (float(theta.detach().abs()) > 1) == grows
    assert told["stability_kind"] == "limit"


@pytest.mark.parametrize(
    ("changes", "rate", "kind", "said"),
    [
        ({"batch_size": 10}, 0.1, "reference", "Mini-batches of 10"),
        ({"batch_size": 100}, 0.1, "limit", "Full-batch"),
        ({"batch_size": 10, "train_samples": 0}, 0.1, "reference", "Mini-batches of 10"),
        ({"optimizer": "adam"}, 0.1, "none", "Adam rescales"),
        ({"optimizer": "adamw"}, 0.1, "none", "AdamW rescales"),
        ({"optimizer": "lion"}, 0.1, "none", "not known here"),
        ({}, 0.0, "none", "no step follows"),
        ({}, None, "none", "not known"),
        ({"schedule": "cosine"}, 0.1, "limit", "changes over the run"),
    ],
)
def test_what_kind_of_statement_it_is(changes: dict[str, Any], rate: float | None, kind: str, said: str) -> None:
    told = stability(FULL | changes, rate)
    assert told["stability_kind"] == kind
    assert said in told["stability_words"]
    assert np.isfinite(told["stability_limit"]) == (kind != "none")


def over(rates: list[float], top: list[float], **changes: Any) -> Any:
    told = stability_over(FULL | {"schedule": "cosine"} | changes, rates)
    return told, limit_row({"steps": np.arange(len(rates)) * 10, **told}, np.array(top))


def test_a_schedule_is_judged_checkpoint_by_checkpoint() -> None:
    told, row = over([0.2, 0.1, 0.05, 0.0], [5.0, 25.0, 10.0, 1e6])
    np.testing.assert_allclose(told["stability_limit_steps"], [10, 20, 40, np.nan])
    assert told["stability_kind"] == "limit"
    assert row.value == "1 of 3 checkpoints above"
    for said in (
        "2/lr = 10 to 40 over the run",
        "rates of 0.05 to 0.2",
        "Above it: step 10.",
        "step 10 the largest eigenvalue is 125 %",
    ):
        assert said in row.words
    assert "Where the learning rate is 0 (step 30) no step follows" in row.words
    assert "every curvature" not in row.words


def test_a_constant_rate_has_one_limit() -> None:
    _, row = over([0.1, 0.1], [5.0, 6.0], schedule="constant")
    assert "2/lr = 20. No checkpoint lies above it." in row.words
    assert row.verdict == "ok"


def test_without_a_limit_none_is_claimed() -> None:
    assert over([0.1, 0.1], [5.0, 6.0], optimizer="adamw")[1].value == "none claimed"
    assert over([0.0, 0.0], [5.0, 6.0])[1].value == "none claimed"
    _, steep = over([0.1, 0.1], [5.0, -6.0], weight_decay=30.0)
    assert steep.value == "2 of 2 checkpoints above"
    assert "%" not in steep.words
    ggn = limit_row({"steps": np.arange(2), **stability_over(FULL, [0.1, 0.1])}, np.ones(2), "the Gauss-Newton part")
    assert ggn.verdict == "note"
    assert "eigenvalues of the Gauss-Newton part" in ggn.words


@pytest.mark.parametrize(("optimizer", "wd"), [("sgd", 0.1), ("adam", 0.1), ("adamw", 0.0), ("lion", 0.0)])
def test_only_a_decay_in_the_gradient_is_a_part_of_the_loss(optimizer: str, wd: float) -> None:
    assert trained_decay({"optimizer": optimizer, "weight_decay": 0.1}) == wd
    assert trained_decay({}) == 0


def test_why_a_loss_is_not_the_one_that_was_trained_on() -> None:
    def of(*layers: nn.Module, **fields: Any) -> str:
        model = nn.Sequential(nn.Linear(3, 4), *layers, nn.Linear(4, 2))
        return not_trained_on(
            OverlapSpec(**fields), Objective(model, F.cross_entropy, (torch.randn(9, 3), torch.zeros(9).long()))
        )

    assert of() == of(nn.Dropout(0.0)) == of(nn.BatchNorm1d(4), batchnorm="batch") == ""
    assert "test samples" in of(split="test")
    assert "a part of the training samples" in of(samples=5)
    assert "BatchNorm takes stored statistics" in of(nn.BatchNorm1d(4))
    assert "dropout is off" in of(nn.Dropout(0.1))
