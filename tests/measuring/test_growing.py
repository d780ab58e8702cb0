"""What grows and is resumed: whatever an attempt left is taken up, and nothing that means something else."""

import numpy as np
import pytest
import torch

from landscape_core.measuring.context import Context
from landscape_core.measuring.growing import FORM, Growing
from landscape_core.objective import Objective


@pytest.fixture
def context():
    torch.manual_seed(0)
    data = torch.randn(8, 2), torch.randint(0, 2, (8,))
    return Context(Objective(torch.nn.Linear(2, 2), torch.nn.functional.cross_entropy, data))


def left(context, **state):
    """The partial arrays of an attempt that knew a series over three steps, half of it."""
    growing = Growing(context, {"a": 4, "b": 6})
    growing.put(steps=np.arange(3), loss=np.array([1.0, np.nan, np.nan]))
    growing.keep("a", state)
    growing.done["a"] = 4
    return dict(growing.report("half way").partial)


def after(context, partial):
    return Growing(Context(context.objective, partial=partial))


def test_what_was_left_is_taken_up(context):
    growing, series = after(context, left(context, vectors=np.ones((2, 6)))), {"loss": np.full(3, np.nan)}
    assert growing.resumed(series, steps=np.arange(3))
    assert series["loss"][0] == 1
    assert growing.state_of("a")["vectors"].shape == (2, 6)
    assert growing.state_of("b") == {}


@pytest.mark.parametrize("steps", [np.arange(4), np.array([0, 1, 5])])
def test_what_was_of_other_steps_is_not(context, steps):
    growing, series = after(context, left(context)), {"loss": np.full(len(steps), np.nan)}
    assert not growing.resumed(series, steps=steps)
    assert np.isnan(series["loss"]).all()


@pytest.mark.parametrize("form", [None, 0, 2])
def test_what_another_version_left_is_begun_anew(context, form):
    partial = left(context, vectors=np.ones((2, 6)))
    del partial[FORM]
    if form is not None:
        partial[FORM] = np.asarray(form)
    growing, series = after(context, partial), {"loss": np.full(3, np.nan)}
    assert not growing.resumed(series, steps=np.arange(3))
    assert growing.state_of("a") == {}


def test_work_is_counted_by_stage_and_never_said_to_be_over(context):
    growing = Growing(context, {"a": 4, "b": 6})
    shares = []
    for stage, done in (("a", 2), ("a", 4), ("b", 3), ("b", 6), ("b", 9)):
        growing.done[stage] = done
        shares.append((growing.news("").done, growing.news("").total))
    assert shares == [(2, 10), (4, 10), (7, 10), (10, 11), (13, 14)]


def test_large_states_stay_behind_and_notes_are_said_once(context, monkeypatch):
    monkeypatch.setattr("landscape_core.measuring.growing.STATE_BYTES", 10)
    growing = Growing(context)
    growing.keep("a", {"vectors": np.ones(100)})
    growing.note("mind this", "mind this")
    assert "state_a_vectors" not in growing.report("").partial
    growing.close(products=7)
    assert growing.arrays["notes"].tolist() == ["mind this"]
    assert growing.arrays["products"] == 7
