"""Stepping aside for what a foreign model does hides no mistake of ours from tests."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from landscape_core.objective import Objective
from landscape_core.objective.curvature import checks
from landscape_core.objective.foreign import Unplannable, pass_over
from landscape_core.specs import InputError

from .cases import Case, cnn, sizes_of, tanh_mlp


class Mistake(Exception):
    pass


def mistaken(*args, **options):
    raise Mistake


def objective(model, *shape):
    return Objective(*Case("own", model, F.cross_entropy, sizes_of(*shape)).build(), dtype=torch.float64)


def product(model=cnn, shape=(2, 6, 6)):
    given = objective(model, *shape)
    return given.hessian() @ given.theta


def many_points():
    given = objective(tanh_mlp, 4)
    return given.slice(given.theta, torch.ones(given.space.size, 1)).evaluate(np.arange(4.0)[:, None])["loss"]


MISTAKES = {
    "the look at derivatives": ("curvature.checks._examine", product),
    "the look at convolutions": ("curvature.checks.lean_convolutions", product),
    "the look at the loss": ("curvature.checks.OutputLoss", lambda: product(tanh_mlp, (4,))),
    "chains": ("curvature.r_operator._steps", product),
    "plans": ("sweep.Sweep._holds", many_points),
    "tracing": ("plans.graph._Sized", many_points),
    "programs": ("plans.program.fold_batchnorm", many_points),
    "chunks": ("plain.chunk_rows", many_points),
}


@pytest.mark.parametrize("place", MISTAKES)
def test_a_mistake_of_ours_is_seen_in_tests_and_costs_others_speed_alone(place, monkeypatch):
    name, use = MISTAKES[place]
    expected = use()
    monkeypatch.setattr(f"landscape_core.objective.{name}", mistaken)
    with pytest.raises(Mistake):
        use()
    monkeypatch.delenv("LANDSCAPE_STRICT")
    assert np.allclose(use(), expected, rtol=1e-8, atol=1e-12)


def test_what_is_refused_in_words_is_always_passed_over():
    for refusal in (InputError("no"), Unplannable("no")):
        pass_over(refusal)
    with pytest.raises(Mistake):
        pass_over(Mistake())


@pytest.mark.foreign
def test_what_cannot_be_examined_counts_as_sound(monkeypatch):
    monkeypatch.setattr(checks, "_examine", mistaken)
    assert checks.look(objective(cnn, 2, 6, 6)) == checks.Facts()
