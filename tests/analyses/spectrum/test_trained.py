"""Where weight decay is a part of the loss that was trained, its spectrum stands beside that of the plain one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape_core.analyses.spectrum.spec import SpectrumSpec
from landscape_core.measuring.context import Context, Trajectory
from landscape_core.objective import Objective
from landscape_core.presenting import reading

from ..running import analysed

WD = 0.05


def settled(**training: Any) -> Context:
    """A softmax regression at the minimum of its loss with weight decay, which is a point on a slope of the plain one."""
    source = torch.Generator().manual_seed(0)
    data = torch.randn(40, 4, generator=source), torch.randint(0, 3, (40,), generator=source)
    torch.manual_seed(0)
    objective = Objective(nn.Linear(4, 3), F.cross_entropy, data, dtype=torch.float64)
    theta = objective.theta
    for _ in range(30):  # Newton's method
        matrix = objective.hessian(theta).dense() + WD * torch.eye(len(theta), dtype=torch.float64)
        theta = theta - torch.linalg.solve(matrix, objective.gradient(theta) + WD * theta)
    objective.theta = theta
    path = Trajectory((0, 5, 10), torch.stack([2 * theta, 1.5 * theta, theta]))
    known = {"optimizer": "sgd", "lr": 0.1, "batch_size": 0, "weight_decay": WD, "train_samples": 40} | training
    return Context(objective, source="r@10", own_path=lambda: path, training=known)


def spectrum(given: Context, **values: Any) -> Any:
    return analysed("spectrum", SpectrumSpec(**values), given, None, None)


def loss_line(result: Any) -> str:
    return next(item.words for item in reading(result) if item.name == "Loss")


@pytest.mark.parametrize("method", ["dense", "lanczos"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_minimum_of_the_loss_that_was_trained_is_none_of_the_plain_one(method: Any, optimizer: str) -> None:
    result = spectrum(settled(optimizer=optimizer), method=method, k=5, k_bottom=4)
    assert result["classification"] == "not critical"
    if method == "dense":
        assert result["classification_trained"] == "minimum"
        assert "its kind of point: minimum" in loss_line(result)
    else:
        assert result["classification_trained"] != "not critical"
    assert result["gradient_norm_trained"] < 1e-10 < result["gradient_norm"]
    for end in ("top", "bottom"):
        np.testing.assert_allclose(result[f"eigenvalues_{end}_trained"], result[f"eigenvalues_{end}"] + WD)
    asked = spectrum(settled(optimizer=optimizer), method=method, weight_decay=True, k=5, k_bottom=4)
    np.testing.assert_allclose(asked["eigenvalues_top"], result["eigenvalues_top_trained"], rtol=1e-3)
    assert asked["classification"] == result["classification_trained"]
    assert not [name for name in asked if name.endswith("_trained")]


@pytest.mark.parametrize(
    ("training", "values"),
    [({"weight_decay": 0.0}, {}), ({"optimizer": "adamw"}, {}), ({"optimizer": "lion"}, {}), ({}, {"operator": "fisher"})],
)
def test_there_is_one_loss_where_no_decay_is_in_it(training: dict[str, Any], values: dict[str, Any]) -> None:
    result = spectrum(settled(**training), **values)
    assert not [name for name in result if name.endswith("_trained")]
    assert "every eigenvalue is larger" not in loss_line(result)


def test_a_block_of_layers_has_no_kind_of_point_with_the_decay_either() -> None:
    result = spectrum(settled(), layers=["weight"])
    assert "classification_trained" not in result
    assert len(result["eigenvalues_top_trained"]) == len(result["eigenvalues_top"])


def test_over_a_run_both_stand_at_every_checkpoint() -> None:
    given = settled()
    result = spectrum(given, over="run", k=2)
    np.testing.assert_allclose(result["eigenvalues_top_steps_trained"], result["eigenvalues_top_steps"] + WD)
    for i, theta in enumerate(given.path(None).thetas):
        norm = float((given.objective.gradient(theta) + WD * theta).norm())
        assert result["gradient_norm_steps_trained"][i] == pytest.approx(norm, abs=1e-9)
    np.testing.assert_allclose(result["stability_limit_steps"], 20 - WD)
