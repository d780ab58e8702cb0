"""Loss curves: what is drawn of a run that grows, has ended, or went wrong."""

import numpy as np
import pytest

from landscape_core.drawing.runs import loss_curves

STEPS = np.array([0, 1, 10, 100])


def test_both_curves_stand_over_the_logarithm_of_the_step() -> None:
    figure = loss_curves({"steps": STEPS, "train_loss": np.array([2.0, 1.0, 0.5, 0.1]), "test_loss": np.full(4, 1.0)})
    assert [trace.name for trace in figure.data] == ["train", "test"]
    assert np.allclose(figure.data[0].x, np.log10(1.0 + STEPS))
    assert np.allclose(figure.data[0].y, [2.0, 1.0, 0.5, 0.1])
    assert list(figure.layout.xaxis.ticktext) == ["0", "1", "10", "100"]
    assert figure.layout.yaxis.type == "log"


def test_a_growing_curve_keeps_its_axis() -> None:
    early = loss_curves({"steps": STEPS[:2], "train_loss": np.array([2.0, 1.9])}, last_step=100)
    late = loss_curves({"steps": STEPS, "train_loss": np.array([2.0, 1.9, 1.0, 0.1])}, last_step=100)
    assert early.layout.xaxis.range == late.layout.xaxis.range


def test_a_loss_of_zero_takes_a_plain_axis_and_nothing_finite_is_a_sentence() -> None:
    figure = loss_curves({"steps": STEPS, "train_loss": np.array([2.0, 0.0, np.nan, np.inf])})
    assert figure.layout.yaxis.type != "log"
    assert np.isnan(figure.data[0].y[2:]).all()
    nothing = loss_curves({"steps": STEPS[:1], "train_loss": np.array([np.nan])})
    assert not nothing.data
    assert "No loss" in nothing.layout.annotations[0].text


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("compact", [False, True])
def test_every_look_can_be_drawn(dark: bool, compact: bool) -> None:
    figure = loss_curves({"steps": STEPS[:1], "train_loss": np.array([2.3])}, dark=dark, compact=compact)
    assert figure.data[0].mode == "markers"
    assert figure.to_plotly_json()
