"""Figures, readings and files of overlaps and of training on inside and outside: from synthetic results."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest

from landscape_core.analyses import ANALYSES
from landscape_core.analyses.counterfactual.figure import figure as counterfactual_figure
from landscape_core.analyses.overlap.figure import KINDS
from landscape_core.analyses.overlap.figure import figure as overlap_figure
from landscape_core.drawing.align import align
from landscape_core.presenting import reading
from landscape_core.specs import InputError

from ..running import table
from ..surface.results import changed
from . import results as overlaps


def row(result: Any, name: str) -> Any:
    return next(item for item in reading(result) if item.name == name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("log", "dark", "compact"), list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("data", ["finished", "growing", "empty"])
def test_every_kind_draws_and_is_plain_json(kind: Any, log: bool, dark: bool, compact: bool, data: str) -> None:
    made = overlaps.overlap() if data == "finished" else overlaps.growing(3 if data == "growing" else 0)
    figure = overlap_figure(made, kind=kind, log=log, dark=dark, compact=compact, source="r@100", color="#3b82c4")
    json.loads(figure.to_json())
    assert figure.layout.paper_bgcolor == ("#242424" if dark else "#ffffff")
    words = str(figure.layout.title.subtitle.text)
    assert ("Growing: 3 of 9" in words) == (data == "growing")
    assert bool(figure.data) == (data != "empty")


def test_share_and_loss_stand_over_the_same_steps_beside_the_baseline() -> None:
    figure = overlap_figure(overlaps.overlap())
    curves = {trace.name: trace for trace in figure.data}
    assert curves["full gradient"].y[-1] == pytest.approx(0.8)
    assert list(curves["loss"].x) == list(curves["full gradient"].x)
    assert curves["random: k/p = 0.0066"].y[0] == pytest.approx(10 / 1510)
    assert overlap_figure(overlaps.overlap(1e-4), log=True).layout.yaxis.range[0] <= -5


def test_a_log_axis_reaches_down_to_the_smallest_share_and_marks_none() -> None:
    shares = np.geomspace(1e-11, 0.5, 9)
    shares[3] = 0.0
    figure = overlap_figure(changed(overlaps.overlap(), gradient_share=shares, baseline=1e-8), log=True)
    curves = {trace.name: trace for trace in figure.data}
    np.testing.assert_array_equal(curves["full gradient"].y, np.where(shares, shares, np.nan))
    mark = curves["zero: full gradient"]
    assert list(mark.x) == [curves["full gradient"].x[3]]
    assert figure.layout.yaxis.range[0] < np.log10(mark.y[0]) < -11  # inside, and below every share


def test_pictures_side_by_side_share_axes_and_colours() -> None:
    figures = [overlap_figure(overlaps.overlap(level), kind="contributions") for level in (0.9, 0.3)]
    align(figures, ANALYSES["overlap"].aligned)
    assert [figure.data[0].zmax for figure in figures] == pytest.approx([0.09, 0.09])
    figures = [overlap_figure(overlaps.overlap()), overlap_figure(overlaps.growing())]
    align(figures, ANALYSES["overlap"].aligned)
    assert figures[0].layout.yaxis2.range == figures[1].layout.yaxis2.range


def test_each_matrix_of_persistence_fills_its_square() -> None:
    short = changed(overlaps.overlap(), steps=overlaps.STEPS // 10 + np.arange(9))
    figures = [overlap_figure(data, kind="persistence") for data in (overlaps.overlap(), short)]
    alone = figures[1].layout.xaxis.range
    align(figures, ANALYSES["overlap"].aligned)
    assert figures[1].layout.xaxis.range == figures[1].layout.yaxis.range == alone
    assert alone[1] < figures[0].layout.xaxis.range[1]


@pytest.mark.parametrize(
    ("level", "said"), [(0.9, "it holds here"), (0.3, "in part"), (0.001, "less of the gradient lies there than of a")]
)
def test_the_reading_gives_hypothesis_measure_baseline_and_verdict(level: float, said: str) -> None:
    item = row(overlaps.overlap(level), "Gradient in the top space")
    for word in ("Hypothesis", "Measured", "Baseline: 0.662 %", "between 0.14 % and 1.7 %", "Verdict", said):
        assert word in item.words
    assert "over the last 3 checkpoints" in item.words
    assert ("far above" in row(overlaps.overlap(level), "Mini-batch gradients").words) == (level == 0.001)


def test_no_verdict_credits_what_chance_explains() -> None:
    chance = {"baseline": 0.6, "baseline_bounds": np.array([0.3, 0.85]), "persistence_chance": 0.9}
    given = changed(overlaps.overlap(0.8), **chance)
    assert "a random direction would have such a share" in row(given, "Gradient in the top space").words
    assert "random spaces may have as much in common" in row(given, "Persistence").words
    assert "no more than by chance" in row(given, "Mini-batch gradients").words
    assert "no more of the way lies there than of a random direction" in row(given, "Way made inside it").words
    little = row(overlaps.overlap(0.04), "Gradient in the top space").words
    assert "more than by chance" in little
    assert "less of" not in little


def test_the_way_and_the_batches_are_judged_by_what_they_are() -> None:
    for share, said in ((0.6, "most of the way lies there"), (0.2, "a part of the way"), (0.03, "little of the way")):
        words = row(changed(overlaps.overlap(0.2), displacement_share=np.full(9, share)), "Way made inside it").words
        assert said in words
        assert "Of the gradient itself it is 17.8 %" in words
    assert "back" not in "".join(item.words for item in reading(overlaps.overlap()))
    whole = row(changed(overlaps.overlap(), minibatch_size=1437), "Mini-batch gradients").words
    assert "is all samples, so this is the full gradient once more" in whole
    assert "1 random batch of 64" in row(overlaps.overlap(minibatches=1), "Mini-batch gradients").words


def test_persistence_from_the_first_checkpoint_is_judged_at_the_end() -> None:
    values = np.linspace(1, 0.1, 9)
    item = row(changed(overlaps.overlap(), persistence_reference=values, reference_step=0), "Persistence")
    assert item.value == "10 %"
    assert "it turns during training" in item.words
    assert "at step 0," not in item.words
    empty = np.append(np.nan, np.linspace(0.9, 1, 8))  # the first one lost
    words = row(changed(overlaps.overlap(), persistence_reference=empty), "Persistence").words
    assert not any(word in words for word in ("nan", "not a number"))


def test_a_gap_is_claimed_as_far_as_it_is_known() -> None:
    assert "at most" in row(overlaps.overlap(), "Gap below the space").words
    exact = row(overlaps.overlap(method="dense"), "Gap below the space")
    assert "at most" not in exact.words + exact.value
    assert "A clear gap" in exact.words
    assert "softmax" not in row(overlaps.overlap(k=10), "k − 1 directions").words
    assert (
        "it holds little"
        in row(changed(overlaps.overlap(), gradient_share_k_minus_1=np.full(9, 0.7)), "k − 1 directions").words
    )
    assert (
        "more than a little here"
        in row(changed(overlaps.overlap(), gradient_share_k_minus_1=np.full(9, 0.1)), "k − 1 directions").words
    )
    other = row(overlaps.overlap(kind="limit", operator="ggn"), "Limit of stability")
    assert other.verdict == "note"
    assert "Gauss-Newton" in other.words


def test_what_has_no_share_or_no_limit_is_said() -> None:
    given = overlaps.overlap(kind="none")
    assert row(given, "Limit of stability").value == "none claimed"
    dead = changed(given, gradient_norm=np.append(np.ones(8), 1e-9))
    assert row(dead, "Gradient at machine zero").value == "1 of 9 checkpoints"


@pytest.mark.parametrize(("inside", "outside", "said"), [(0.01, 0.95, "outside the space"), (0.9, 0.1, "carries the training")])
def test_the_experiment_is_drawn_and_judged(inside: float, outside: float, said: str) -> None:
    given = overlaps.counterfactual(inside, outside)
    for kind, log, dark in itertools.product(("loss", "distance"), (False, True), (False, True)):
        assert len(counterfactual_figure(given, kind=kind, log=log, dark=dark).data) == 4
    assert said in row(given, "Which part trains?").words
    diverged = changed(given, loss_free=np.where(given["steps"] < 400, given["loss_free"], np.nan))
    assert "Growing" not in counterfactual_figure(diverged).layout.title.subtitle.text
    halted = {name: value for name, value in diverged.arrays.items() if not name.startswith("drop_")}
    assert "Growing: step 392 of 600" in counterfactual_figure(halted).layout.title.subtitle.text


@pytest.mark.parametrize(
    ("inside", "outside", "chance", "said"),
    [
        (0.9, 0.1, 1.1, "cannot be told from what random directions do"),
        (
            0.3,
            0.9,
            0.4,
            "training goes on outside the space; inside it the loss falls no further than it may in random directions",
        ),
        (-0.4, 0.9, 0.4, "inside it the loss does not fall"),
        (0.1, 0.9, 0.04, "inside it little happens, if more than random directions do"),
        (0.1, 0.5, 0.04, "inside little happens, and what is outside does not do all of it"),
        (0.9, 0.9, 0.04, "either part is nearly enough"),
        (0.3, 0.9, 0.04, "and a part of it inside as well"),
        (0.3, 0.6, 0.01, "neither part does all of it"),
    ],
)
def test_the_experiment_credits_no_part_with_what_chance_or_neither_does(
    inside: float, outside: float, chance: float, said: str
) -> None:
    given = changed(overlaps.counterfactual(inside, outside), drop_chance=chance)
    assert said in row(given, "Which part trains?").words
    assert ("A negative share is a rise: inside." in row(given, "Which part trains?").words) == (inside < 0)
    rows = {item.name: item.words for item in reading(overlaps.counterfactual(batchnorm="batch"))}
    assert "stored" not in rows["What this picture does not show"]


def test_a_table_has_one_row_a_step() -> None:
    rows = table(overlaps.overlap())
    assert [int(line["step"]) for line in rows] == overlaps.STEPS.tolist()
    assert float(rows[-1]["gradient_share"]) == pytest.approx(0.8)
    assert float(rows[-1]["eigenvalues_10"]) == pytest.approx(0.6)
    rows = table(overlaps.counterfactual())
    assert float(rows[-1]["loss_inside"]) == pytest.approx(0.169)


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(InputError, match="'pie'"):
        overlap_figure(overlaps.overlap(), kind="pie")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'pie'"):
        counterfactual_figure(overlaps.counterfactual(), kind="pie")  # type: ignore[arg-type]
