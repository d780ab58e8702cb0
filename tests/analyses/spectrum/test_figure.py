"""Figures, readings and files of a spectrum: from synthetic results, finished, growing and empty."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from landscape_core.analyses.spectrum.data import binned, merged, signed_log
from landscape_core.analyses.spectrum.figure import KINDS
from landscape_core.analyses.spectrum.figure import figure as spectrum_figure
from landscape_core.drawing.align import align
from landscape_core.drawing.axes import log_axis
from landscape_core.drawing.style import LIGHT
from landscape_core.presenting import reading
from landscape_core.specs import InputError

from ..running import table
from . import results as spectra


def words(figure: Any) -> str:
    return str(figure.layout.title.subtitle.text)


def row(result: Any, name: str) -> Any:
    return next(item for item in reading(result) if item.name == name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("log", "dark", "compact"), list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("data", ["exact", "estimate", "beside", "growing", "early"])
def test_every_kind_draws_and_is_plain_json(kind: str, log: bool, dark: bool, compact: bool, data: str) -> None:
    made = {
        "exact": spectra.exact,
        "estimate": spectra.estimate,
        "beside": lambda: spectra.exact(beside=True),
        "growing": spectra.growing,
        "early": lambda: spectra.growing("eigenvalues"),
    }[data]()
    figure = spectrum_figure(made, kind=kind, log=log, dark=dark, compact=compact, color="#3b82c4")  # type: ignore[arg-type]
    text = figure.to_json()
    json.loads(text)
    assert len(text) < 200_000
    assert figure.layout.paper_bgcolor == ("#242424" if dark else "#ffffff")


def test_a_single_eigenvalue_stands_at_one_and_equal_ones_are_counted() -> None:
    figure = spectrum_figure(spectra.exact())
    stems = next(trace for trace in figure.data if trace.name == "10 largest eigenvalues")
    assert list(stems.y) == [1.0] * 10
    assert "λ₁ = 6.4" in stems.hovertext[0]
    area = next(trace for trace in figure.data if trace.name == "density")
    at = np.abs(np.asarray(area.x) - 6.4).argmin()
    assert float(area.y[at]) == pytest.approx(1, abs=0.05)
    assert figure.layout.yaxis.type == "log"
    twice = spectra.changed(spectra.exact(), eigenvalues_top=np.array([3.0, 2, 2, 2, 1]), residuals_top=np.full(5, 1e-9))
    figure = spectrum_figure(twice)
    stems = next(trace for trace in figure.data if trace.name == "5 largest eigenvalues")
    assert list(stems.y) == [1.0, 3.0, 1.0]
    assert "3 eigenvalues" in stems.hovertext[1]


def test_close_eigenvalues_are_told_apart_as_far_as_their_errors_allow() -> None:
    values = np.array([1.0, 0.999, 0.9])
    assert [g.count for g in merged(values, np.full(3, 1e-6))] == [1, 1, 1]
    assert [g.count for g in merged(values, np.full(3, 1e-2))] == [2, 1]


def test_bars_of_the_signed_logarithm_hold_every_eigenvalue_once() -> None:
    data = spectra.exact()
    zero = data["zero_threshold"]
    at, mean = binned(data["nodes"], data["weights"], spectra.PARAMETERS, signed_log(zero))
    assert mean.sum() == pytest.approx(spectra.PARAMETERS)
    every = spectra.values()
    assert mean[np.abs(at) < 0.5].sum() == pytest.approx((np.abs(every) <= zero).sum())
    assert mean[at < -0.5].sum() == pytest.approx((every < -zero).sum())
    place = signed_log(1e-3)
    np.testing.assert_allclose(place([0, 1e-3, 1e-2, -1e-1, 5e-4]), [0, 0, 1.5, -2.5, 0])


def test_error_bars_are_the_residuals() -> None:
    data = spectra.estimate()
    figure = spectrum_figure(data, kind="eigenvalues")
    top = figure.data[0]
    np.testing.assert_allclose(top.error_y.array, data["residuals_top"] * data["eigenvalues_top"])
    bottom = figure.data[1]
    np.testing.assert_allclose(bottom.error_y.array, data["residuals_bottom"] * data["norm"])
    assert (np.asarray(bottom.y) > 0).all()


def test_several_pictures_share_their_axes() -> None:
    figures = [spectrum_figure(spectra.exact(seed)) for seed in range(2)]
    figures.append(spectrum_figure({}))
    align(figures)
    assert figures[0].layout.xaxis.range == figures[1].layout.xaxis.range
    assert figures[0].layout.yaxis.range == figures[1].layout.yaxis.range


@pytest.mark.parametrize(
    ("low", "high", "most"), [(0.01, 0.015, 7), (0.1, 0.3, 7), (1e-9, 3, 7), (1e-9, 1e3, 3), (0.02, 2.3, 3)]
)
def test_a_logarithmic_axis_has_a_few_numbers_also_after_it_was_stretched(low: float, high: float, most: int) -> None:
    axes = [log_axis(LIGHT, "loss", np.array(ends), most=most) for ends in ((low, high), (high, 2 * high))]
    domain = [0, 1] if most == 7 else [0, 0.24]
    figures = [go.Figure(data=[go.Scatter(y=[1])], layout={"yaxis": axis | {"domain": domain}}) for axis in axes]
    assert all(2 <= len(figure.layout.yaxis.tickvals) <= most for figure in figures)
    align(figures)
    first, second = (figure.layout.yaxis for figure in figures)
    assert first.tickvals == second.tickvals
    assert 2 <= len(first.tickvals) <= most
    assert all(first.range[0] <= np.log10(tick) <= first.range[1] for tick in first.tickvals)


def test_what_grows_says_so_and_nothing_is_a_sentence() -> None:
    assert "density follows" in words(spectrum_figure(spectra.growing("eigenvalues")))
    assert "2 probes so far" in words(spectrum_figure(spectra.growing()))
    assert "Growing" not in words(spectrum_figure(spectra.estimate()))
    assert "Waiting" in spectrum_figure({}).layout.annotations[0].text
    assert "come last" in spectrum_figure(spectra.growing(), kind="layers").layout.annotations[0].text
    with pytest.raises(InputError, match="unknown kind"):
        spectrum_figure(spectra.exact(), kind="pie")  # type: ignore[arg-type]


def test_lost_mass_is_stated_and_not_put_back() -> None:
    lost = spectra.changed(spectra.estimate(), density_mass=0.9)
    assert "holds 90 % of the density" in words(spectrum_figure(lost))
    assert row(lost, "Density").verdict == "warn"


@pytest.mark.parametrize("kind", ["limit", "reference", "none"])
def test_the_run_shows_the_limit_only_where_there_is_one(kind: str) -> None:
    data = spectra.over_run(kind)
    figure = spectrum_figure(data)
    names = [trace.name for trace in figure.data]
    assert ("limit of stability" in names) == (kind == "limit")
    assert ("limit of full-batch descent, for reference" in names) == (kind == "reference")
    item = row(data, "Limit of stability")
    assert ("none claimed" in item.value) == (kind == "none")
    partial = {name: value for name, value in data.arrays.items() if name != "products"}
    partial["eigenvalues_top_steps"] = np.where(np.arange(9)[:, None] < 3, data["eigenvalues_top_steps"], np.nan)
    assert "3 of 9 checkpoints" in words(spectrum_figure(partial))


# -- readings --------------------------------------------------------------------------------------------------------------


def test_sharpness_is_held_to_the_limit_that_the_optimiser_has() -> None:
    reference = row(spectra.exact(), "Sharpness")
    assert "32 % of 2/lr = 20" in reference.words
    assert "only a reference" in reference.words
    limit = {"stability_kind": "limit", "stability_words": ""}
    assert "stable here" in row(spectra.changed(spectra.exact(), **limit), "Sharpness").words
    edge = spectra.changed(spectra.exact(), **limit, stability_limit=6.5)
    assert "edge of stability" in row(edge, "Sharpness").words
    beyond = spectra.changed(spectra.exact(), **limit, stability_limit=5.0)
    assert row(beyond, "Sharpness").verdict == "note"
    adam = spectra.changed(spectra.exact(), stability_limit=np.nan, stability_words="Adam: none is claimed.")
    assert row(adam, "Sharpness").words == "Adam: none is claimed."
    assert "not of the Hessian" in row(spectra.exact(operator="ggn"), "Sharpness").words


def test_zero_modes_found_are_held_to_those_counted() -> None:
    assert "Exactly these" in row(spectra.exact(), "Zero eigenvalues").words
    fewer = row(spectra.changed(spectra.exact(), nullity=90.0), "Zero eigenvalues")
    assert fewer.verdict == "warn"
    assert "float64" in fewer.words
    more = row(spectra.changed(spectra.exact(), nullity=176.0), "Zero eigenvalues").words
    assert "75 more eigenvalues are of unknown cause" in more
    assert "dead" not in more
    assert row(spectra.estimate(), "Zero eigenvalues").value == "101 to 260 of 1,510"
    vague = row(spectra.changed(spectra.estimate(), negative_share_error=0.4), "Negative eigenvalues")
    assert vague.value == "2 % to 60 %"


def test_equal_traces_are_recognised_within_their_errors() -> None:
    data = spectra.exact(beside=True)
    assert "not equal" in row(data, "Hessian and Gauss-Newton matrix").words
    same = spectra.changed(data, beside_trace=data["trace"])
    assert ": equal" in row(same, "Hessian and Gauss-Newton matrix").words


def test_estimates_carry_their_errors_and_exact_numbers_none() -> None:
    for name in ("Trace", "Negative eigenvalues", "Effective dimension"):
        assert "±" in row(spectra.estimate(), name).value
        assert "±" not in row(spectra.exact(), name).value
    bad = spectra.changed(spectra.estimate(), converged_top=np.arange(10) < 8)
    assert row(bad, "Accuracy").verdict == "warn"
    assert "2 of 15" in row(bad, "Accuracy").words


def test_weight_decay_and_samples_are_always_stated() -> None:
    assert "No weight decay" in row(spectra.exact(), "Loss").words
    assert "left out" in row(spectra.changed(spectra.exact(), weight_decay=0.01), "Loss").words
    assert (
        "every eigenvalue is larger by 0.01"
        in row(spectra.changed(spectra.exact(weight_decay=True), weight_decay=0.01), "Loss").words
    )
    adamw = row(spectra.changed(spectra.exact(), weight_decay=0.01, optimizer="adamw"), "Loss").words
    assert "a part of no loss" in adamw
    assert "eigenvalue" not in adamw
    fisher = row(spectra.changed(spectra.exact(operator="fisher"), weight_decay=0.01, optimizer="sgd"), "Loss").words
    assert "A Fisher matrix has none" in fisher
    assert "kinks" not in adamw.lower()
    assert "Kinks" in row(spectra.changed(spectra.exact(), kinks=True), "Loss").words
    assert "exaggerated" in row(spectra.exact(samples=100), "Loss").words


# -- files ------------------------------------------------------------------------------------------------------------------


def test_the_table_holds_every_eigenvalue_and_the_density() -> None:
    data = spectra.estimate()
    rows = table(data)
    top = [float(r["value"]) for r in rows if r["part"] == "top"]
    assert top == data["eigenvalues_top"].tolist()
    assert [r["index"] for r in rows if r["part"] == "trace_layer"] == list(spectra.NAMES)
    assert sum(r["part"] == "density" for r in rows) == 401
    run = table(spectra.over_run())
    assert [int(r["step"]) for r in run] == [0, 1, 5, 20, 50, 100, 400, 1000, 2000]
    assert math.isclose(float(run[-1]["lambda_1"]), 22)
