"""The geometry of a path against dense float64 linear algebra: every number, growing and resumed, its pictures and claims."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape_core.analyses.high_dimensions.claim import MARKS
from landscape_core.analyses.high_dimensions.compute import DRAWS
from landscape_core.analyses.high_dimensions.figure import PICTURES as KINDS
from landscape_core.analyses.high_dimensions.figure import figure as high_dimensions_figure
from landscape_core.analyses.high_dimensions.law_figures import LAWS, law_figure, volume_words
from landscape_core.analyses.high_dimensions.reading import claims
from landscape_core.analyses.high_dimensions.spec import HighDimensionsSpec
from landscape_core.drawing.align import align
from landscape_core.measuring.context import Context, Trajectory
from landscape_core.objective import Objective
from landscape_core.presenting import reading
from landscape_core.presenting.files import content
from landscape_core.specs import DATA, InputError, task_spec
from landscape_core.tasks.architectures import build_model
from landscape_core.tasks.data import load_data

from ..running import analysed
from ..surface.results import changed

STEPS = (0, 1, 2, 5, 10, 30)


def network(activation=nn.Tanh):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), activation(), nn.Linear(6, 6), activation(), nn.Linear(6, 3))


def context(activation=nn.Tanh, steps=STEPS, dtype=torch.float64):
    """A few steps of gradient descent on a random sample, 93 parameters."""
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(80, 5, generator=generator), torch.randint(0, 3, (80,), generator=generator)
    objective = Objective(network(activation), F.cross_entropy, data, dtype=dtype)
    theta, thetas = objective.theta, {0: objective.theta}
    for step in range(1, max(steps, default=0) + 1):
        theta = theta - 0.5 * objective.gradient(theta)
        thetas[step] = theta
    path = Trajectory(tuple(steps), torch.stack([thetas[step] for step in steps]))
    return Context(objective, source=f"r@{steps[-1]}", own_path=lambda: path)


def measured(given=None, *, partial=None, stop_after=None, **values):
    return analysed("high_dimensions", HighDimensionsSpec(**values), given or context(), partial, stop_after)


@pytest.fixture(scope="module")
def plain():
    """A context of ReLU layers, and its result."""
    given = context(nn.ReLU)
    return given, measured(given)


def test_lengths_and_angles_are_those_of_plain_linear_algebra(plain):
    given, result = plain
    thetas = given.own_path().thetas.numpy()
    gradients = np.stack([given.objective.gradient(torch.from_numpy(theta)).numpy() for theta in thetas])

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert result["steps"].tolist() == list(STEPS)
    np.testing.assert_allclose(result["theta_norm"], np.linalg.norm(thetas, axis=1))
    distances = np.linalg.norm(thetas[:, None] - thetas, axis=2)
    np.testing.assert_allclose(result["distances"], distances, atol=1e-12)
    np.testing.assert_allclose(result["displacement"], distances[0], atol=1e-12)
    np.testing.assert_allclose(result["remaining"], distances[-1], atol=1e-12)
    np.testing.assert_allclose(result["step_length"][:-1], np.diag(distances, 1))
    np.testing.assert_allclose(result["gradient_norm"], np.linalg.norm(gradients, axis=1))
    np.testing.assert_allclose(result["loss"], [given.objective.loss(torch.from_numpy(theta)) for theta in thetas])
    for i, (g, theta) in enumerate(zip(gradients, thetas, strict=True)):
        assert result["cosine_position"][i] == pytest.approx(cosine(g, theta))
        if i:
            assert result["cosine_path"][i] == pytest.approx(cosine(-g, theta - thetas[0]))
        if i < len(thetas) - 1:
            assert result["cosine_remaining"][i] == pytest.approx(cosine(-g, thetas[-1] - theta))
        if 0 < i < len(thetas) - 1:
            assert result["cosine_steps"][i] == pytest.approx(cosine(theta - thetas[i - 1], thetas[i + 1] - theta))
    for name, place in (("cosine_path", 0), ("cosine_remaining", -1), ("cosine_steps", 0), ("step_length", -1)):
        assert np.isnan(result[name][place])  # nothing gone yet, nothing left
    axes = np.linalg.svd(thetas - thetas.mean(0), full_matrices=False)[2][:2]
    np.testing.assert_allclose(
        result["plane_share_path"], ((gradients @ axes.T) ** 2).sum(1) / (gradients**2).sum(1), rtol=1e-6
    )
    layers = np.stack([[np.linalg.norm(g[a:b]) for a, b in ((0, 30), (36, 72), (78, 96))] for g in gradients])
    np.testing.assert_allclose(result["layer_gradient_norms"], layers)
    assert result["layer_names"].tolist() == ["0.weight", "2.weight", "4.weight"]


@pytest.mark.parametrize(("init", "low", "high"), [("default", 1e-8, 1e-4), ("he", 0.2, 5.0)])
def test_twenty_layers_lose_the_gradient_or_keep_it_as_their_law_says(init, low, high):
    """First over last hidden layer: 8e-6 with PyTorch's initialisation, 1.2 with He's; either is what the law gives."""
    data = load_data(DATA["digits"](), Path("."), torch.float64)
    x, y = data.split("train")
    torch.manual_seed(0)
    model = build_model(task_spec("digits-mlp", widths=[32], depth=20, init=init).architecture, tuple(x.shape[1:]), 10)
    objective = Objective(model, F.cross_entropy, (x, y), dtype=torch.float64)
    path = Trajectory((0, 1), torch.stack([objective.theta, 1.01 * objective.theta]))
    result = measured(Context(objective, own_path=lambda: path), curvature=0)
    norms, law = result["layer_gradient_norms"][0], result["layer_law"]
    assert low < norms[0] / norms[-2] < high
    assert 0.1 < norms[0] / norms[-2] / (law[0] / law[-2]) < 10
    claim = next(claim for claim in claims(result) if claim.hypothesis.startswith("Vanishing"))
    assert claim.verdict == "as the law says"


def test_eigenvalues_are_counted_as_in_the_dense_matrix(plain):
    given, result = plain
    assert result["curvature_steps"].tolist() == list(STEPS)
    for i, theta in enumerate(given.own_path().thetas):
        values = np.linalg.eigvalsh(given.objective.hessian(theta).dense().numpy())
        norm = np.abs(values).max()
        assert result["sharpness"][i] == pytest.approx(values[-1])
        assert result["flat_share"][i] == pytest.approx((np.abs(values) < 1e-4 * norm).mean())
        assert result["negative_share"][i] == pytest.approx((values < -1e-6 * norm).mean())
        assert result["top_trace_share"][i] == pytest.approx(values[-2:].sum() / values.sum())
        largest = np.sort(np.abs(values))[-2:]
        assert result["top_absolute_share"][i] == pytest.approx(largest.sum() / np.abs(values).sum())
    assert not result["flat_share_error"].any()
    assert result.provenance["counts"]["products"] == len(STEPS) * result["parameters"] == result["products"]
    assert result.provenance["counts"]["gradients"] == len(STEPS) + DRAWS


def test_an_estimate_says_how_far_it_may_be_off():
    given = context(dtype=torch.float32)
    exact, estimate = (measured(given, method=m, flat_tolerance=1e-2, zero_tolerance=1e-2) for m in ("dense", "lanczos"))
    np.testing.assert_allclose(estimate["sharpness"], exact["sharpness"], rtol=1e-3)
    for name in ("flat_share", "negative_share"):
        assert (np.abs(estimate[name] - exact[name]) <= estimate[f"{name}_error"]).all()  # a bound
        assert (estimate[f"{name}_error"] > 0).all()


def test_the_law_of_depth_is_claimed_for_chains_of_relu_layers_only(plain):
    law = plain[1]["layer_law"]
    assert law[-1] == 1
    assert np.isfinite(law).all()
    assert np.isnan(measured(context(nn.Tanh), curvature=0)["layer_law"]).all()


@pytest.mark.parametrize("method", ["dense", "lanczos"])
def test_it_grows_and_goes_on_without_repeating_a_checkpoint(method, monkeypatch):
    monkeypatch.setattr("landscape_core.measuring.growing.REPORT_SECONDS", 0.0)
    given = context()
    options = {"method": method, "probes": 1, "lanczos_steps": 10, "curvature": 3}
    whole = measured(given, **options)
    early = measured(given, stop_after=2, **options)
    assert np.isfinite(early["loss"]).tolist() == [True, True, *[False] * 4]
    assert np.isfinite(early["distances"]).all()
    count = len(STEPS) + (2 if method == "dense" else 14)
    late = measured(given, stop_after=count, **options)
    assert np.isfinite(late["loss"]).all()
    assert 1 <= np.isfinite(late["flat_share"]).sum() < 3
    for partial in (early, late):
        resumed = measured(given, partial=partial, **options)
        for name in ("loss", "cosine_path", "flat_share", "negative_share", "layer_gradient_norms"):
            np.testing.assert_allclose(resumed[name], whole[name])
    assert resumed.provenance["counts"]["gradients"] == 0
    assert resumed.provenance["counts"]["products"] < whole.provenance["counts"]["products"]
    other = measured(given, partial=late, **options, checkpoints=3)
    assert len(other["steps"]) == 3
    assert np.isfinite(other["loss"]).all()


@pytest.mark.parametrize("method", ["dense", "lanczos"])
def test_weights_of_1e200_have_a_reading_all_the_same(method):
    given = context()
    path = given.own_path()
    thetas = path.thetas.clone()
    thetas[-1] *= 1e200
    result = measured(dataclasses.replace(given, own_path=lambda: Trajectory(path.steps, thetas)), method=method)
    assert np.isnan(result["explained_variance"])  # of one point far away they span one dimension
    for row in reading(result):
        assert not any(word in row.value + row.words for word in ("nan", "not a number", "∞"))


@pytest.mark.parametrize(("p", "method"), [(1, "dense"), (1, "lanczos"), (3, "dense")])
def test_where_all_bends_downwards_the_largest_hold_a_share_and_no_negative_one(p, method):
    """L = -sum |x theta|^2 / 2: the largest |eigenvalue| are those far below zero."""
    x = torch.diag(torch.arange(1.0, p + 1, dtype=torch.float64))
    objective = Objective(
        nn.Linear(p, 1, bias=False), lambda z, y: -z.square().mean(), (x, torch.zeros(p, 1)), dtype=torch.float64
    )
    path = Trajectory((0, 1, 2), torch.stack([objective.theta * scale for scale in (1.0, 1.1, 1.2)]))
    result = measured(Context(objective, own_path=lambda: path), method=method, k=1)
    assert result["top_absolute_share"] == pytest.approx(np.full(3, p**2 / sum(i**2 for i in range(1, p + 1))), rel=0.2)
    claim = next(claim for claim in claims(result) if claim.hypothesis.startswith("A few directions"))
    assert "−" not in claim.measured
    assert ("the only eigenvalue holds 100 %" in claim.measured) == (p == 1)


def test_softmax_is_spoken_of_where_the_loss_has_one():
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(30, 4, generator=generator), torch.randint(0, 3, (30,), generator=generator)
    for loss, softmax in (
        (F.cross_entropy, True),
        (lambda z, y: F.nll_loss(z.log_softmax(1), y), True),
        (lambda z, y: F.mse_loss(z, F.one_hot(y, 3).to(z)), False),
    ):
        accuracy = {"accuracy": lambda z, y: (z.argmax(1) == y).double().mean()}
        objective = Objective(nn.Linear(4, 3), loss, (x, y), dtype=torch.float64, metrics=accuracy)
        path = Trajectory((0, 1, 2), torch.stack([objective.theta * scale for scale in (1.0, 1.1, 1.2)]))
        result = measured(Context(objective, own_path=lambda path=path: path))
        assert result["classes"] == 3
        assert any("softmax" in row.words for row in reading(result)) == softmax


def test_a_way_of_rounding_is_not_spelled(plain):
    result = plain[1]
    way = np.full(6, 1e-17)
    way[0] = 0.0
    rows = {row.name: row.words for row in reading(changed(result, displacement=way, theta_norm=np.ones(6)))}
    words = next(words for name, words in rows.items() if "thin shell" in name)
    assert "the way gone is no more than rounding of the first norm" in words


def test_weights_that_are_not_finite_are_left_out_and_not_asked_for_curvature():
    given = context()
    path = given.own_path()
    thetas = path.thetas.clone()
    thetas[2] = math.nan
    result = measured(dataclasses.replace(given, own_path=lambda: Trajectory(path.steps, thetas)))
    assert np.isnan(result["gradient_norm"]).tolist() == [False, False, True, False, False, False]
    assert np.isnan(result["flat_share"][2])
    assert np.isfinite(result["flat_share"][3])
    for kind in KINDS:
        words = high_dimensions_figure(result, kind=kind).layout.title.subtitle.text
        assert "1 of 6 checkpoints are not finite" in words
        assert not any(word in words for word in ("nan", "not a number"))
    assert reading(result)


def test_what_has_no_path_is_one_line():
    bare = Context(context().objective)
    for given, words in ((bare, "give a run as the source"), (context(steps=(0,)), "one checkpoint only")):
        with pytest.raises(InputError, match=words) as error:
            measured(given)
        assert "\n" not in str(error.value)
    big = nn.Sequential(nn.Linear(5, 600), nn.Linear(600, 3))
    objective = Objective(big, F.cross_entropy, (torch.randn(4, 5), torch.zeros(4, dtype=torch.long)))
    path = Trajectory((0, 1), torch.stack([objective.theta, 2 * objective.theta]))
    with pytest.raises(InputError, match="at most 3,000 parameters"):
        measured(Context(objective, own_path=lambda: path), method="dense")
    with pytest.raises(InputError, match="'checkpoints'"):
        HighDimensionsSpec.parse({"checkpoints": 1})


# -- pictures and claims -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dark", [False, True])
def test_every_picture_draws_finished_growing_and_empty(plain, kind, dark):
    given, result = plain
    for data in (result, measured(given, stop_after=1), measured(given, curvature=0), {}):
        figure = high_dimensions_figure(data, kind=kind, dark=dark, color="#3b82c4")
        json.loads(figure.to_json())
        assert figure.layout.paper_bgcolor == ("#242424" if dark else "#ffffff")
    with pytest.raises(InputError, match="unknown kind"):
        high_dimensions_figure(result, kind="cube")


def test_pictures_side_by_side_have_one_scale(plain):
    _, result = plain
    far = {**result, "distances": 2 * result["distances"]}
    maps = [high_dimensions_figure(data, kind="distances") for data in (result, far)]
    align(maps)
    assert maps[0].data[0].zmax == maps[1].data[0].zmax == pytest.approx(far["distances"].max())


def test_every_claim_has_a_measured_value_a_baseline_and_a_verdict(plain):
    _, result = plain
    found = {claim.hypothesis: claim for claim in claims(result)}
    assert len(found) == 13
    assert all(claim.measured and claim.baseline and claim.verdict in MARKS for claim in found.values())
    rows = reading(result)
    assert {row.name for row in rows} >= {claim.name for claim in found.values()}
    assert found["One step is as good as random to the next"].verdict == "fails"
    assert not any(word in row.words for row in rows for word in ("nan", "not a number", "None"))
    for claim in found.values():
        words = claim.reading().words
        assert claim.who in words
        assert "Three-dimensional intuition: " in words
        assert claim.baseline in words
        assert not re.search(r"\b(holds|fails)\.", words.lower())  # of what?


def test_a_verdict_names_what_it_is_about(plain):
    """Of two claims that this run does not bear out, one contradicts intuition and the other is intuition's own."""
    result = changed(plain[1], theta_norm=np.array([1.0, 1.5, 3, 3, 2, 1]), plane_share_path=np.full(6, 0.1))
    found = {claim.hypothesis: claim for claim in claims(result)}
    shell, axes = found["The weights stay in a thin shell"], found["Two principal axes show where training goes"]
    assert shell.verdict == axes.verdict == "fails"
    assert shell.meaning.startswith("The claim does not describe this run: the norm changes more than")
    assert axes.meaning.startswith("Neither the claim nor the intuition describes this run: the plane of the path misses")
    both = changed(plain[1], theta_norm=np.full(6, 3.0), plane_share_path=np.full(6, 0.9))
    found = {claim.hypothesis: claim for claim in claims(both)}
    shell, axes = found["The weights stay in a thin shell"], found["Two principal axes show where training goes"]
    assert shell.verdict == axes.verdict == "holds"
    assert shell.meaning.startswith("The claim describes this run, and the intuition does not: the norm changes no more")
    assert axes.meaning.startswith("The claim describes this run, and so does the intuition: the plane of the path holds")
    start = changed(plain[1], cosine_path=np.array([np.nan, 0, 1, 1, 1, 1.0]), parameters=1e6)
    late = next(claim for claim in claims(start) if claim.hypothesis.startswith("Descent has forgotten"))
    assert late.meaning.startswith("The claim describes the start only: later downhill is tied to the way gone")


def test_a_random_walk_is_told_from_descent():
    """Gaussian steps in a loss that is not theirs: every law of chance holds, and the claims say so."""
    torch.manual_seed(3)
    given = context()
    steps = tuple(range(0, 41))
    p = len(given.objective.theta)
    walk = torch.randn(41, p, dtype=torch.float64).cumsum(0) * 1e-3 + 10 * torch.randn(p, dtype=torch.float64)
    result = measured(dataclasses.replace(given, own_path=lambda: Trajectory(steps, walk), source="r@40"), curvature=0)
    verdicts = {claim.hypothesis: claim.verdict for claim in claims(result)}
    assert verdicts["One step is as good as random to the next"] == "holds"
    assert verdicts["Training wanders like a random walk"] == "holds"
    assert verdicts["The weights stay in a thin shell"] == "holds"
    assert result["explained_variance"] == pytest.approx(result["explained_variance_null"], abs=0.1)


def verdicts(result, **values):
    return {claim.hypothesis: claim.verdict for claim in claims(changed(result, **values))}


def test_in_few_dimensions_chance_is_no_proof():
    """A gradient far from a right angle, a third of it in any plane: of four parameters that shows nothing."""
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(30, 2, generator=generator), torch.randint(0, 2, (30,), generator=generator)
    torch.manual_seed(0)
    objective = Objective(nn.Linear(2, 2, bias=False), F.cross_entropy, data, dtype=torch.float64)
    thetas = [objective.theta]
    for _ in range(4):
        thetas.append(thetas[-1] - 0.5 * objective.gradient(thetas[-1]))
    path = Trajectory(tuple(range(5)), torch.stack(thetas))
    result = measured(Context(objective, own_path=lambda: path))
    found = verdicts(result)
    assert "holds" not in found.values()
    assert found["A random plane holds next to nothing of the gradient"] == "not resolved"
    assert not any(word in row.words + row.value for row in reading(result) for word in ("nan", "not a number", "1e+02"))


def test_verdicts_need_more_than_chance_and_look_at_all_of_the_path(plain):
    result = plain[1]
    flat, top = "The loss is flat in most directions", "A few directions hold most of the curvature"
    shares = np.full(6, 0.6)
    assert verdicts(result, flat_share=shares)[flat] == "holds"
    assert verdicts(result, flat_share=shares, flat_tolerance=0.5)[flat] == "not resolved"
    assert verdicts(result, top_absolute_share=shares)[top] == "holds"
    assert verdicts(result, top_absolute_share=shares, outliers=40)[top] == "not resolved"
    assert verdicts(result, top_absolute_share=shares, top_absolute_share_error=shares / 10)[top] == "not resolved"
    assert verdicts(result, flat_share=shares, flat_share_error=shares / 5)[flat] == "not resolved"
    there_and_back = np.array([1.0, 1.5, 3, 3, 2, 1])
    assert verdicts(result, theta_norm=there_and_back)["The weights stay in a thin shell"] == "fails"
    walk = "Training wanders like a random walk"
    late = np.array([1000.0, 1001, 1002, 1005, 1010, 1030])  # a run that was brought in has no early steps
    root = {"steps": late, "displacement": np.sqrt(late - 1000), "cosine_steps": np.zeros(6)}
    assert verdicts(result, **root)[walk] == "holds"
    assert verdicts(result, **root | {"cosine_steps": np.full(6, -0.9)})[walk] == "fails"


def test_files_hold_a_row_for_each_checkpoint(plain):
    _, result = plain
    lines = content(result, ".csv").decode().splitlines()
    header = lines[0].split(",")
    assert header[0] == "step"
    assert "gradient_norm 2.weight" in header
    assert len(lines) == 1 + len(STEPS)
    column = header.index("cosine_position")
    assert [float(line.split(",")[column]) for line in lines[1:]] == result["cosine_position"].tolist()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("power", [0, 0.3, 3.0, 12])
def test_laws_are_drawn_for_one_dimension_and_for_many(law, power):
    figure = law_figure(law, power)
    json.loads(figure.to_json())
    assert power != 0.3 or figure.layout.title.text.endswith(" 2" if law == "depth" else " 2 dimensions")


def test_the_calculator_gives_the_essays_figures_and_names_what_it_cannot_use():
    rows = dict(volume_words(175_000_000_000, "1e-10"))
    assert rows["Ratio of the volumes"] == "39,824,784"
    assert rows["Diagonal of a cube of side 1 m"] == "418.33 km"
    assert dict(volume_words(1e12, 1))["Ratio of the volumes"].startswith("10^(3.0103e11")
    for dimensions, excess, words in ((0, 1, "between 1 and 1e12"), ("", 1, "dimensions"), (3, "wide", "must be a number")):
        with pytest.raises(InputError, match=words):
            volume_words(dimensions, excess)
    for law, power in (("cube", 3), ("angle", 400), ("angle", -1)):
        with pytest.raises(InputError):
            law_figure(law, power)
