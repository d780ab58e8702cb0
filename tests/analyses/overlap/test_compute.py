"""The overlap and the counterfactual training against closed forms, dense matrices, the run itself, and resumed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape_core import compute
from landscape_core.__main__ import main
from landscape_core.analyses.counterfactual.spec import CounterfactualSpec
from landscape_core.analyses.overlap.figure import KINDS
from landscape_core.analyses.overlap.figure import figure as overlap_figure
from landscape_core.analyses.overlap.spec import OverlapSpec
from landscape_core.jobs.execute import start
from landscape_core.jobs.requests import Request
from landscape_core.jobs.runner import run_all
from landscape_core.measuring.context import Context, Trajectory
from landscape_core.measuring.top_space import common, shares_along
from landscape_core.objective import Objective
from landscape_core.presenting import reading
from landscape_core.specs import InputError, Result

from ..running import analysed

TRAINED = {"optimizer": "sgd", "lr": 0.1, "batch_size": 16, "seed": 3, "steps": 100, "schedule": "constant"}


def network(hidden: int = 6, inputs: int = 5, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, classes))


def context(count: int = 4, steps: tuple[int, ...] | None = None, **fields: Any) -> Context:
    """A small float64 network on random samples in two batches, with a path of `count` checkpoints."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(80, 5, generator=generator), torch.randint(0, 3, (80,), generator=generator)
    objective = Objective(network(), F.cross_entropy, [(x[:30], y[:30]), (x[30:], y[30:])], dtype=torch.float64)
    way = torch.randn(len(objective.theta), generator=generator, dtype=torch.float64)
    thetas = torch.stack([objective.theta + 0.02 * i * way for i in range(count)])
    path = Trajectory(steps or tuple(range(0, 10 * count, 10)), thetas)
    return Context(objective, own_path=lambda: path, **fields)


def overlap(given: Context | None = None, *, partial: Any = None, stop_after: int | None = None, **values: Any) -> Any:
    return analysed("overlap", OverlapSpec(**values), given or context(), partial, stop_after)


def branches(given: Context, *, partial: Any = None, stop_after: int | None = None, **values: Any) -> Any:
    return analysed("counterfactual", CounterfactualSpec(**values), given, partial, stop_after)


# -- the share ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lanczos", "dense"])
def test_every_number_is_that_of_the_dense_matrix(method: Any) -> None:
    given = context()
    result = overlap(given, method=method, tolerance=1e-8, minibatch_size=7, minibatches=3, reference="first")
    path, objective = given.path(None), given.objective
    bases, k = [], 3
    for i, theta in enumerate(path.thetas):
        values, vectors = np.linalg.eigh(objective.hessian(theta).dense().numpy())
        values, vectors = values[::-1], vectors[:, ::-1]
        g = objective.gradient(theta).numpy()
        own = (vectors.T @ g) ** 2 / (g @ g)
        np.testing.assert_allclose(result["eigenvalues"][i], values[:k], rtol=1e-8)
        np.testing.assert_allclose(result["contributions"][i], own[:k], atol=1e-6)
        assert result["gradient_share"][i] == pytest.approx(own[:k].sum(), abs=1e-6)
        assert result["gradient_share_k_minus_1"][i] == pytest.approx(own[: k - 1].sum(), abs=1e-6)
        assert result["gradient_norm"][i] == pytest.approx(np.linalg.norm(g))
        assert result["loss"][i] == pytest.approx(objective.loss(theta))
        assert result["eigenvalue_next"][i] <= values[k] * (1 + 1e-12)
        bases.append(vectors[:, :k])
        if i + 1 < len(path.thetas):
            d = (path.thetas[i + 1] - theta).numpy()
            expected = np.square(bases[i].T @ d).sum() / (d @ d)
            assert result["displacement_share"][i] == pytest.approx(expected, abs=1e-6)
    matrix = [[np.square(a.T @ b).sum() / k for b in bases] for a in bases]
    np.testing.assert_allclose(result["persistence"], matrix, atol=1e-6)
    np.testing.assert_array_equal(result["persistence_reference"], result["persistence"][0])
    assert result["k"] == k
    assert result["baseline"] == pytest.approx(k / len(objective.theta))
    assert math.isnan(result["displacement_share"][-1])


def test_a_gradient_of_some_samples_is_that_of_the_loss_over_them() -> None:
    objective = context().objective
    chosen = torch.tensor([3, 29, 30, 71])
    x, y = (torch.cat([getattr(batch, name) for batch in objective.batches()])[chosen] for name in ("inputs", "targets"))
    alone = Objective(network(), F.cross_entropy, [(x, y)], dtype=torch.float64)
    torch.testing.assert_close(objective.minibatch_gradient(None, chosen), alone.gradient())
    torch.testing.assert_close(objective.minibatch_gradient(None, torch.arange(80)), objective.gradient())


def test_mini_batches_are_the_same_at_every_checkpoint_and_all_samples_make_the_full_gradient() -> None:
    result = overlap(minibatch_size=80, minibatches=5)
    np.testing.assert_allclose(result["gradient_share_minibatch"], result["gradient_share"], rtol=1e-12)
    assert result["minibatch_size"] == 80
    none = overlap(minibatches=0)
    assert np.isnan(none["gradient_share_minibatch"]).all()
    assert none["minibatch_size"] == 0
    small = overlap(minibatch_size=4, minibatches=6)
    assert (small["gradient_share_minibatch_spread"] > 0).all()
    assert small.provenance["counts"]["batch_gradients"] == 6 * len(small["steps"])


def test_random_vectors_lie_in_a_space_by_k_over_p() -> None:
    generator = torch.Generator().manual_seed(0)
    p, k = 400, 8
    space, other = (torch.linalg.qr(torch.randn(p, k, generator=generator))[0] for _ in range(2))
    shares = [shares_along(space, torch.randn(p, generator=generator)).sum() for _ in range(300)]
    assert np.mean(shares) == pytest.approx(k / p, rel=0.1)
    assert common(space, other) == pytest.approx(k / p, abs=4 * k / p)
    assert common(space, space) == pytest.approx(1, abs=1e-6)


def gap(k: int, t: float) -> float:
    """The s with e^s + (k - 1) s = 1 + t, by Newton's method."""
    s = math.log1p(t)
    for _ in range(60):
        s -= (math.exp(s) + (k - 1) * s - 1 - t) / (math.exp(s) + k - 1)
    return s


def softmax_flow(k: int, times: list[float]) -> Context:
    """K classes with one orthonormal point each, linear softmax without bias, weights of the gradient flow from zero.

    By symmetry they are s (I - 1/k), s the gap between the right logit and the others.
    """
    objective = Objective(nn.Linear(k, k, bias=False), F.cross_entropy, [(torch.eye(k), torch.arange(k))], dtype=torch.float64)
    shape = (torch.eye(k, dtype=torch.float64) - 1 / k).reshape(-1)
    thetas = torch.stack([gap(k, t) * shape for t in times])
    return Context(objective, own_path=lambda: Trajectory(tuple(range(len(times))), thetas))


@pytest.mark.parametrize(("method", "multiples"), [("auto", False), ("lanczos", True)])
def test_in_the_solvable_classifier_all_of_the_gradient_lies_in_the_top_space(method: Any, multiples: bool) -> None:
    k, times = 10, [0.0, 1.0, 10.0, 100.0]
    result = overlap(softmax_flow(k, times), method=method, multiples=multiples, tolerance=1e-6)
    np.testing.assert_allclose(result["gradient_share"][1:], 1, atol=1e-9)
    assert result["eigenvalues"][2, 0] == pytest.approx(0.019138, abs=1e-6)
    assert result["eigenvalue_next"][2] == pytest.approx(0.008654, abs=1e-6)
    for i, t in enumerate(times):
        e = math.exp(gap(k, t))
        top = e / (e + k - 1)
        np.testing.assert_allclose(result["eigenvalues"][i], top * (1 - top) / (k - 1), rtol=1e-4)  # all k of them
    np.testing.assert_allclose(result["eigenvalues"][0], 1 / k**2, rtol=1e-6)


def test_a_gradient_that_is_only_rounding_has_no_share() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theta = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    model = nn.Linear(3, 1, bias=False)
    objective = Objective(model, F.mse_loss, [(x, x @ theta[:, None])], dtype=torch.float64)
    path = Trajectory((0, 1, 2), torch.stack([theta + 0.1, theta * (1 + 2e-16), theta]))
    result = overlap(Context(objective, own_path=lambda: path), k=1)
    assert np.isfinite(result["gradient_share"][0])
    assert result["gradient_norm"][1] <= result["gradient_floor"][1] < 1e-13
    assert np.isnan(result["gradient_share"][1:]).all()
    assert np.isnan(result["contributions"][1:]).all()
    assert np.isfinite(result["eigenvalues"]).all()


# -- going on ----------------------------------------------------------------------------------------------------------


def test_a_stopped_overlap_goes_on_without_a_finished_checkpoint_computed_again() -> None:
    whole = overlap(context(6), method="lanczos")
    left = overlap(context(6), method="lanczos", stop_after=4)  # the first report comes before any checkpoint
    assert np.isfinite(left["gradient_share"]).sum() == 3
    rest = overlap(context(6), method="lanczos", partial=left)
    assert rest.provenance["counts"]["products"] == whole["products_steps"][3:].sum()
    assert rest.provenance["counts"]["gradients"] == 3
    for name in ("gradient_share", "eigenvalues", "persistence", "gradient_share_minibatch", "displacement_share"):
        np.testing.assert_allclose(rest[name], whole[name], rtol=1e-12)
    assert np.isfinite(rest["persistence"]).all()


def test_searches_start_warm_where_the_space_has_moved_little() -> None:
    near = overlap(context(5), method="lanczos", tolerance=1e-6)
    assert near["warm"].tolist() == [0, 1, 1, 1, 1]
    cold = overlap(context(5), method="lanczos", tolerance=1e-6, warm="never")
    assert not cold["warm"].any()
    np.testing.assert_allclose(near["eigenvalues"], cold["eigenvalues"], rtol=1e-9)


def test_a_checkpoint_that_is_not_finite_is_left_out_and_not_tried_again() -> None:
    given = context(5)
    path = given.path(None)
    thetas = path.thetas.clone()
    thetas[2] *= math.nan
    broken = dataclasses.replace(given, own_path=lambda: Trajectory(path.steps, thetas))
    result = overlap(broken, method="lanczos")
    for name in ("loss", "gradient_share", "eigenvalue_next", "persistence_reference"):
        assert np.isnan(result[name]).tolist() == [False, False, True, False, False]
    assert result["notes"].tolist() == ["step 20 is left out: the weights are not finite there"]
    for kind in KINDS:
        words = overlap_figure(result, kind=kind).layout.title.subtitle.text
        assert ("not finite" in words, "Growing" in words) == (kind != "eigenvalues", False)
    assert any(row.name == "Note" for row in reading(result))
    rest = overlap(broken, method="lanczos", partial=overlap(broken, method="lanczos", stop_after=5))
    assert rest.provenance["counts"]["gradients"] == 1
    assert rest["notes"].tolist() == result["notes"].tolist()
    never = dataclasses.replace(given, own_path=lambda: Trajectory(path.steps, thetas * math.nan))
    with pytest.raises(InputError, match=r"^the weights are not finite at every checkpoint$"):
        overlap(never)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"k": 57}, "field 'k': must be below the number of parameters, 57"),
        ({"reference": "7"}, "field 'reference': the run has no checkpoint at step 7; the nearest is 10"),
    ],
)
def test_what_cannot_be_asked_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        overlap(**values)


def test_the_exact_matrix_is_for_small_networks() -> None:
    big = Objective(network(hidden=400), F.cross_entropy, [(torch.randn(9, 5), torch.zeros(9, dtype=torch.long))])
    path = Trajectory((0, 1), torch.stack([big.theta, 2 * big.theta]))
    with pytest.raises(InputError, match="method=dense is for at most 3,000 parameters"):
        overlap(Context(big, own_path=lambda: path), method="dense")


def test_a_bare_objective_has_no_run() -> None:
    with pytest.raises(InputError, match="trajectory of a run"):
        overlap(dataclasses.replace(context(), own_path=None))
    regression = Objective(nn.Linear(3, 1), F.mse_loss, [(torch.randn(9, 3), torch.randn(9, 1))])
    given = Context(regression, own_path=lambda: Trajectory((0, 1), torch.stack([regression.theta] * 2)))
    with pytest.raises(InputError, match="no classes to count"):
        overlap(given)


def test_every_checkpoint_of_a_run_names_the_same_job(home: Path) -> None:
    keys = {Request("overlap", f"run@{step}").key(home) for step in (0, 40)} | {Request("overlap", "run").key(home)}
    assert len(keys) == 1
    assert Request("overlap", "run@0").pinned(home).source == "run@40"
    assert Request("counterfactual", "run@0").key(home) != Request("counterfactual", "run@40").key(home)


def test_what_another_version_left_without_its_vectors_is_begun_anew() -> None:
    partial = overlap(k=2, stop_after=3)
    assert np.isfinite(partial["loss"]).any()
    left = {name.replace("state_spaces_", "state_"): value for name, value in partial.items()}
    assert left.keys() != partial.keys()
    whole, again = overlap(k=2), overlap(k=2, partial=left)
    assert np.array_equal(again["persistence"], whole["persistence"], equal_nan=True)
    assert list(again["notes"]) == list(whole["notes"])


# -- training on -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("overlap")
    fields = {"task": "digits-mlp", "run": "run", "widths": [8], "steps": 40, "record": [10, 20, 40]}
    run_all([Request("train", None, fields)], place)
    return place


def of_run(home: Path, source: str, **values: Any) -> Result:
    steps = start("counterfactual", source, CounterfactualSpec(**values), home)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Result = end.value
            return found


def test_training_on_freely_is_the_run_itself(home: Path) -> None:
    result = of_run(home, "run@10", steps=30, records=3, refresh=10)
    assert result["steps"].tolist() == [10, 20, 30, 40]
    assert result["own_settings"]
    recorded = compute("overlap", "run", home=home, minibatches=0)
    losses = dict(zip(recorded["steps"].tolist(), recorded["loss"], strict=True))
    assert result["loss_free"][[0, 1, 3]] == pytest.approx([losses[10], losses[20], losses[40]], rel=1e-5)
    assert result["distance_free"][0] == 0
    for other in ({"lr": 0.01}, {"samples": 100}, {"split": "test"}):
        assert not of_run(home, "run@10", steps=2, **other)["own_settings"]


def test_a_rate_held_constant_is_not_that_of_a_schedule() -> None:
    given = context(training=TRAINED | {"schedule": "cosine"})
    assert branches(given, steps=1)["own_settings"]
    assert not branches(given, steps=1, lr=TRAINED["lr"])["own_settings"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_one_update_is_split_by_the_dense_eigenvectors(optimizer: Any) -> None:
    given = context(training=TRAINED | {"batch_size": 0, "optimizer": optimizer})
    result = branches(given, steps=1, records=1, tolerance=1e-9, k=4)
    objective, theta = given.objective, given.objective.theta
    g = objective.gradient()
    vectors = torch.linalg.eigh(objective.hessian().dense())[1][:, -4:]
    way = -0.1 * (g if optimizer == "sgd" else g / (g.abs() + 1e-8))
    inside = vectors @ (vectors.T @ way)
    for name, part in (("free", way), ("inside", inside), ("outside", way - inside)):
        assert result[f"loss_{name}"][1] == pytest.approx(objective.loss(theta + part), abs=1e-8)
        assert result[f"distance_{name}"][1] == pytest.approx(float(part.norm()), rel=1e-5)
    assert result["distance_random"][1] < result["distance_free"][1]
    assert result["drop_free"] == 1


def test_a_stopped_experiment_goes_on_to_the_same_curves() -> None:
    given = context(training=TRAINED | {"momentum": 0.9})
    values = {"steps": 30, "refresh": 7, "records": 10, "k": 4}
    whole = branches(given, **values)
    left = branches(given, **values, stop_after=6)
    assert 0 < np.isfinite(left["loss_free"]).sum() < 11
    rest = branches(given, **values, partial=left)
    for name in ("free", "inside", "outside", "random"):
        np.testing.assert_array_equal(rest[f"loss_{name}"], whole[f"loss_{name}"])
    assert rest["products"] == whole["products"]
    assert rest.provenance["counts"]["products"] < whole.provenance["counts"]["products"]


def test_a_branch_that_diverges_is_left_empty_and_the_others_go_on() -> None:
    objective = Objective(nn.Linear(3, 1), F.mse_loss, [(torch.randn(30, 3), torch.randn(30, 1))], dtype=torch.float64)
    given = Context(objective, training=TRAINED | {"lr": 1000.0, "batch_size": 0})
    result = branches(given, steps=200, refresh=20, records=20, k=1)
    assert np.isfinite(result["loss_free"][0])
    assert math.isnan(result["loss_free"][-1])
    assert math.isnan(result["drop_inside"])


def test_weights_of_unknown_origin_need_the_settings() -> None:
    with pytest.raises(InputError, match="'optimizer': how these weights were trained is not known, so give"):
        branches(context())
    result = branches(context(), optimizer="adam", lr=0.01, batch_size=0, steps=3)
    assert not result["own_settings"]
    assert result["steps"].tolist() == [0, 1, 2, 3]


def test_bad_fields_are_one_line_on_the_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["overlap", "run", "--set", "reference=5"], "'reference'"),
        (["overlap", "run", "--set", "reference=soon"], "'reference'"),
        (["overlap", "nobody"], "nobody"),
        (["counterfactual", "run@10", "--set", "steps=0"], "'steps'"),
    ):
        assert main(["compute", *arguments, "--home", str(home)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert said in lines[0]
