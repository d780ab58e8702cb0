"""The spectrum analysis against closed forms, exact matrices and itself: exact, estimated, resumed, over a run."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import landscape_core
from landscape_core.__main__ import main
from landscape_core.analyses.spectrum.compute import outliers
from landscape_core.analyses.spectrum.spec import SpectrumSpec
from landscape_core.jobs.execute import analyse
from landscape_core.measuring.context import Context, Trajectory
from landscape_core.measuring.critical import gradient_measure, newton_decrement
from landscape_core.measuring.path import evenly
from landscape_core.measuring.stability import stability
from landscape_core.measuring.zero_modes import zero_modes
from landscape_core.objective import Objective
from landscape_core.specs import DATA, InputError
from landscape_core.tasks.data import load_data

from ..running import analysed


def digits(n=None):
    """The training split of the digits, float64; the first n samples of it."""
    data = load_data(DATA["digits"](), Path("."), torch.float64)
    x, y = data.split("train")
    return x[:n].reshape(len(x[:n]), -1), y[:n]


def network(hidden=6, inputs=5, classes=3, activation=nn.Tanh, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, hidden), activation(), nn.Linear(hidden, classes))


def sample(n=80, inputs=5, classes=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, inputs, generator=generator), torch.randint(0, classes, (n,), generator=generator)


def context(model=None, loss=F.cross_entropy, data=None, dtype=torch.float64, **kwargs):
    x, y = data or sample()
    cut = len(x) // 3
    batches = [(x[:cut], y[:cut]), (x[cut:], y[cut:])]
    return Context(Objective(model or network(), loss, batches, dtype=dtype), **kwargs)


def spectrum(given=None, *, partial=None, stop_after=None, **values):
    return analysed("spectrum", SpectrumSpec(**values), given or context(), partial, stop_after)


def dense(given):
    """The Hessian by torch.func, independently of the operators."""
    objective = given.objective
    model = objective.network.model
    names = [entry.name for entry in objective.space.entries]

    def loss(theta):
        parts = objective.space.split(theta)
        total = sum(
            objective.loss_function(torch.func.functional_call(model, {n: parts[n] for n in names}, (b.inputs,)), b.targets)
            * b.size
            for b in objective.batches()
        )
        return total / objective.size()

    return torch.func.hessian(loss)(objective.theta)


# -- exact ------------------------------------------------------------------------------------------------------------


def test_every_number_of_the_exact_spectrum_is_that_of_the_dense_matrix():
    given = context()
    result = spectrum(given, k=4, k_bottom=3, vectors=True, damping=0.05)
    matrix = dense(given).numpy()
    values, vectors = np.linalg.eigh(matrix)
    norm = np.abs(values).max()
    np.testing.assert_allclose(result["eigenvalues_top"], values[::-1][:4], atol=1e-12 * norm)
    np.testing.assert_allclose(result["eigenvalues_bottom"], values[:3], atol=1e-12 * norm)
    assert (result["residuals_top"] < 1e-10).all()
    assert result["trace"] == pytest.approx(np.trace(matrix))
    assert result["negative_share"] == pytest.approx((values < -1e-6 * norm).mean())
    assert result["nullity"] == (np.abs(values) <= 1e-6 * norm).sum()
    assert result["classification"] == "not critical"
    g = given.objective.gradient().numpy()
    assert result["gradient_norm"] == pytest.approx(np.linalg.norm(g))
    assert result["gradient_curvature"] == pytest.approx(np.linalg.norm(matrix @ g) / np.linalg.norm(g))
    keep = np.abs(values) > 1e-6 * norm
    assert result["newton_decrement"] == pytest.approx(0.5 * ((vectors.T @ g)[keep] ** 2 / np.abs(values[keep])).sum())
    positive = np.maximum(values, 0)
    assert result["effective_dimension"] == pytest.approx((positive / (positive + 0.05)).sum())
    assert result["participation"] == pytest.approx(np.abs(values).sum() ** 2 / (values**2).sum())
    scale = np.abs(given.objective.theta.numpy())
    assert result["sharpness_invariant"] == pytest.approx(np.linalg.eigvalsh(scale[:, None] * matrix * scale)[-1])
    assert result["eigenvectors"].shape == (len(values), 4)
    assert np.allclose(matrix @ result["eigenvectors"], result["eigenvectors"] * result["eigenvalues_top"], atol=1e-10)
    assert result["trace_layers"].sum() == pytest.approx(result["trace"])
    assert list(result["layer_names"]) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert result["products"] == result["parameters"] == len(values)


def test_the_density_counts_every_eigenvalue_once_and_says_what_it_misses():
    result = spectrum()
    step = result["density_grid"][1] - result["density_grid"][0]
    assert result["density"].sum() * step == pytest.approx(1, abs=1e-3)
    assert result["density_mass"] == pytest.approx(1, abs=1e-3)
    assert not result["density_error"].any()
    at_top = np.abs(result["density_grid"] - result["eigenvalues_top"][0]).argmin()
    height = result["density"][at_top] * result["parameters"] * result["density_width"] * math.sqrt(2 * math.pi)
    assert height == pytest.approx(1, abs=0.05)  # one eigenvalue stands at one


@pytest.mark.parametrize("theta", ["initial", "moved"])
def test_tanh_on_digits_has_exactly_101_zero_eigenvalues_and_they_are_predicted(theta):
    """H + 1 = 21 by the softmax shift and 20 x 4 by the four constant pixels, at every theta."""
    model = network(20, 64, 10)
    if theta == "moved":
        with torch.no_grad():
            for p in model.parameters():
                p += 0.1 * torch.randn(p.shape)
    given = context(model, data=digits())
    modes = zero_modes(given.objective, "hessian", range(4))
    assert modes.count == 101
    assert len(modes.reasons) == 2
    if theta == "moved":
        result = spectrum(given, zero_tolerance=1e-10)
        assert result["nullity"] == result["nullity_predicted"] == 101


def test_zero_modes_of_restricted_layers_and_of_low_rank_matrices():
    given = context(network(20, 64, 10), data=digits(100))
    last = [2, 3]
    assert zero_modes(given.objective, "hessian", last).count == 21
    assert zero_modes(given.objective, "hessian", [2]).count == 20
    assert zero_modes(given.objective, "empirical_fisher", range(4)).count == 1510 - 100
    squared = context(network(), loss=lambda o, t: ((o - F.one_hot(t, 3)) ** 2).mean())
    assert zero_modes(squared.objective, "hessian", range(4)).count == 0


def test_a_softmax_regression_counts_what_two_symmetries_share_once():
    x, y = sample()
    x[:, 1] = 2.0
    given = context(nn.Sequential(nn.Linear(5, 3)), data=(x, y))
    result = spectrum(given, zero_tolerance=1e-10)
    assert result["nullity"] == result["nullity_predicted"] == 6 + 3 * 1 - 1


def test_relu_has_the_trace_of_its_gauss_newton_matrix_and_tanh_has_not():
    relu = spectrum(context(network(activation=nn.ReLU)), beside="ggn")
    assert relu["trace"] == pytest.approx(relu["trace_ggn"], rel=1e-12)
    assert relu["beside_eigenvalues_bottom"].min() > -1e-10
    tanh = spectrum(beside="ggn")
    assert abs(tanh["trace"] - tanh["trace_ggn"]) > 1e-3 * abs(tanh["trace"])
    fisher = spectrum(operator="fisher", beside="ggn")
    np.testing.assert_allclose(fisher["eigenvalues_top"], fisher["beside_eigenvalues_top"], rtol=1e-10)


def test_weight_decay_shifts_everything_and_is_stated():
    training = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.01, "batch_size": 0, "train_samples": 80}
    given = context(training=training)
    plain, decayed = spectrum(given), spectrum(given, weight_decay=True)
    np.testing.assert_allclose(decayed["eigenvalues_top"], plain["eigenvalues_top"] + 0.01, atol=1e-10)
    assert decayed["stability_limit"] == pytest.approx(20)
    assert plain["stability_limit"] == pytest.approx(20 - 0.01)
    with pytest.raises(InputError, match="AdamW"):
        spectrum(context(training=training | {"optimizer": "adamw"}), weight_decay=True)


def test_a_block_of_layers_is_the_block_of_the_matrix():
    given = context()
    result = spectrum(given, layers=["2"])
    block = dense(given)[36:, 36:]
    np.testing.assert_allclose(result["eigenvalues_top"][:5], torch.linalg.eigvalsh(block).flip(0)[:5], atol=1e-12)
    assert result["parameters"] == 21
    with pytest.raises(InputError, match=r"'head'.*2\.weight"):
        spectrum(given, layers=["head"])


# -- estimated against exact ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def relu():
    return context(network(10, 64, 10, nn.ReLU), data=digits(150))


@pytest.fixture(scope="module")
def both(relu):
    return spectrum(relu), spectrum(relu, method="lanczos", probes=3, lanczos_steps=110)


def test_an_effective_dimension_that_no_step_resolves_is_bounds(relu):
    exact, estimate = (spectrum(relu, method=m, damping=1e-5, lanczos_steps=40) for m in ("dense", "lanczos"))
    assert math.isnan(estimate["effective_dimension"])
    assert math.isnan(estimate["effective_dimension_error"])
    low, high = estimate["effective_dimension_bounds"]
    assert 0 < low < exact["effective_dimension"] < high <= 760
    assert (exact["effective_dimension_bounds"] == exact["effective_dimension"]).all()


def test_what_lanczos_found_is_no_estimate(both):
    """Its eigenvalues stand among the nodes with the weight of one each, and the density has them without an error."""
    exact, estimate = both
    known = int(estimate["nodes_known"])
    assert known == 15
    assert (estimate["weights"][:, :known] == 1 / 760).all()
    assert estimate["weights"].sum(1) == pytest.approx(np.ones(3))
    found = np.sort(np.r_[estimate["eigenvalues_top"], estimate["eigenvalues_bottom"]])
    assert np.array_equal(np.sort(estimate["nodes"][0, :known]), found)
    at = np.abs(estimate["density_grid"] - exact["eigenvalues_top"][0]).argmin()
    single = 1 / (760 * estimate["density_width"] * (2 * np.pi) ** 0.5)
    assert estimate["density"][at] == pytest.approx(single, rel=0.05)
    assert estimate["density_error"][at] < 0.01 * single


def test_lanczos_finds_what_the_matrix_has(both):
    exact, estimate = both
    norm = exact["norm"]
    for end, allowed in (("top", 1e-3 * exact["eigenvalues_top"]), ("bottom", 1e-3 * norm)):
        assert estimate[f"converged_{end}"].all()
        assert (np.abs(estimate[f"eigenvalues_{end}"] - exact[f"eigenvalues_{end}"]) <= allowed).all()
    assert estimate["sharpness_invariant"] == pytest.approx(exact["sharpness_invariant"], rel=1e-3)
    assert estimate["gradient_curvature"] == pytest.approx(exact["gradient_curvature"], rel=1e-9)
    assert math.isnan(estimate["newton_decrement"])  # most of it comes from eigenvalues that its space has not found


def test_estimates_lie_within_their_errors(both):
    exact, estimate = both
    assert estimate["trace_operator"] == "ggn"  # whose diagonal is the same in this network
    assert estimate["trace_standard_error"] <= 0.02 * estimate["trace"]
    assert abs(estimate["trace"] - exact["trace"]) <= 4 * estimate["trace_standard_error"]
    off = np.abs(estimate["trace_layers"] - exact["trace_layers"])
    assert (off <= 5 * estimate["trace_layers_standard_error"] + 1e-9).all()
    for name in ("negative_share", "nullity"):
        low, high = estimate[f"{name}_bounds"]
        assert low <= exact[name] <= high
        # So many steps do not tell which of the many eigenvalues near zero lie on which side of it.
        assert math.isnan(estimate[name])
        assert math.isnan(estimate[f"{name}_error"])
    assert 0 < estimate["participation_error"] < 0.25 * exact["participation"]
    assert abs(estimate["participation"] - exact["participation"]) <= 4 * estimate["participation_error"]
    low, high = estimate["effective_dimension_bounds"]  # no number: so few steps leave more open than is known by luck
    assert math.isnan(estimate["effective_dimension"])
    assert low <= exact["effective_dimension"] <= high
    assert estimate["outliers"] == exact["outliers"]
    assert 0.98 < estimate["density_mass"] <= 1.001


def test_float32_agrees_with_float64(relu):
    half = context(network(10, 64, 10, nn.ReLU), data=digits(150), dtype=torch.float32)
    one, two = (spectrum(g, method="lanczos", k=6, probes=2, lanczos_steps=20) for g in (relu, half))
    np.testing.assert_allclose(two["eigenvalues_top"], one["eigenvalues_top"], rtol=2e-3)
    assert two.provenance["dtype"] == "float32"
    exact = spectrum(half, k=6)
    assert exact["arithmetic"] == exact.provenance["dtype"] == "float64"
    assert exact.provenance["counts"]["products"] == 760
    assert spectrum(half, k=6, dtype="float32")["arithmetic"] == "float32"


# -- progress and resuming --------------------------------------------------------------------------------------------


def test_the_picture_grows_and_the_progress_ends(monkeypatch):
    monkeypatch.setattr("landscape_core.measuring.growing.REPORT_SECONDS", 0.0)
    run = analyse("spectrum", SpectrumSpec(method="lanczos", k=3, probes=2, lanczos_steps=8), context())
    seen = []
    try:
        while True:
            seen.append(next(run))
    except StopIteration:
        pass
    assert any("eigenvalues_top" in p.partial and "density" not in p.partial for p in seen)
    assert any("density" in p.partial and "trace" not in p.partial for p in seen)
    done = [p.done for p in seen]
    assert done == sorted(done)
    assert all(p.done <= p.total for p in seen)
    assert "products" in seen[0].message


@pytest.mark.parametrize("values", [{"method": "lanczos", "probes": 3, "lanczos_steps": 10, "beside": "ggn"}, {}])
def test_resuming_repeats_nothing_and_changes_nothing(values, monkeypatch):
    monkeypatch.setattr("landscape_core.measuring.growing.REPORT_SECONDS", 0.0)
    monkeypatch.setattr("landscape_core.analyses.spectrum.estimates.COLUMNS", 4)
    whole = spectrum(**values)
    total = whole.provenance["counts"]["products"]
    for stop in (6, 25) if values else (3,):
        partial = spectrum(stop_after=stop, **values)
        assert any(name.startswith("state_") for name in partial)
        resumed = spectrum(partial=partial, **values)
        assert resumed.provenance["counts"]["products"] < total
        np.testing.assert_allclose(resumed["eigenvalues_top"], whole["eigenvalues_top"], rtol=1e-6)
        assert resumed["trace"] == pytest.approx(whole["trace"], rel=1e-6)
        np.testing.assert_allclose(resumed["nodes"], whole["nodes"], atol=1e-9)


def test_large_states_are_not_kept(monkeypatch):
    monkeypatch.setattr("landscape_core.measuring.growing.STATE_BYTES", 10)
    monkeypatch.setattr("landscape_core.measuring.growing.REPORT_SECONDS", 0.0)
    partial = spectrum(method="lanczos", stop_after=12)
    assert "eigenvalues_top" in partial
    assert [name for name in partial if name.startswith("state_")] == ["state_form"]


# -- kinds of points --------------------------------------------------------------------------------------------------


class Product(nn.Module):
    """L = (ab - 1)^2: a saddle at 0 with eigenvalues +-2, minima on ab = 1 with {0, 2 (a^2 + b^2)}."""

    def __init__(self, a, b):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([a, b], dtype=torch.float64))

    def forward(self, x):
        return self.w[0] * self.w[1] * x


@pytest.mark.parametrize(
    ("a", "b", "kind", "values"),
    [(0.0, 0.0, "strict saddle", [2, -2]), (2.0, 0.5, "degenerate", [8.5, 0]), (1.0, 0.5, "not critical", None)],
)
def test_the_toy_of_two_weights(a, b, kind, values):
    given = context(Product(a, b), loss=lambda o, t: ((o - t) ** 2).mean(), data=(torch.ones(4, 1), torch.ones(4, 1)))
    result = spectrum(given, k=2, k_bottom=2)
    assert result["classification"] == kind
    if values:
        np.testing.assert_allclose(result["eigenvalues_top"], values, atol=1e-12)
        assert result["nullity"] == (1 if kind == "degenerate" else 0)


def test_the_gradients_measure_has_its_moments():
    torch.manual_seed(0)
    a = torch.randn(30, 30, dtype=torch.float64)
    a = a + a.T
    g = torch.randn(30, dtype=torch.float64)
    nodes, weights, bend = gradient_measure(a, g, 8)
    for power in range(8):
        exact = float(g @ torch.linalg.matrix_power(a, power) @ g / (g @ g))
        assert float((weights * nodes**power).sum()) == pytest.approx(exact, rel=1e-9, abs=1e-9)
    assert bend == pytest.approx(float((a @ g).norm() / g.norm()))
    nodes, weights, bend = gradient_measure(a, torch.zeros(30, dtype=torch.float64), 8)
    assert newton_decrement(nodes, weights, 0.0, 0.0) == bend == 0


def test_outliers_are_counted_at_the_largest_gap():
    assert outliers(np.array([9.0, 8, 7, 1, 0.9]), np.ones(5, bool)) == (3, 7.0)
    assert outliers(np.array([9.0, 8, 7, 1, 0.9]), np.array([1, 1, 1, 0, 0], bool))[0] == 2
    assert outliers(np.array([2.0, -1]), np.ones(2, bool))[0] == 0


# -- stability --------------------------------------------------------------------------------------------------------


def test_the_limit_of_stability_is_claimed_only_where_there_is_one():
    sgd = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "batch_size": 0, "train_samples": 100}
    assert stability(sgd, 0.1)["stability_limit"] == pytest.approx(20)
    assert stability(sgd, 0.1)["stability_kind"] == "limit"
    assert stability(sgd | {"momentum": 0.9}, 0.1)["stability_limit"] == pytest.approx(38)
    assert stability(sgd | {"batch_size": 100}, 0.1)["stability_kind"] == "limit"
    assert stability(sgd | {"batch_size": 10}, 0.1)["stability_kind"] == "reference"
    assert stability(sgd, 0.1, differs="these are other samples")["stability_kind"] == "reference"
    for none in (stability(sgd | {"optimizer": "adam"}, 0.1), stability({}, None), stability(sgd, 0.0)):
        assert math.isnan(none["stability_limit"])
        assert none["stability_kind"] == "none"
        assert none["stability_words"]


@pytest.mark.parametrize(("momentum", "lr"), [(0.0, 0.3), (0.9, 0.3)])
def test_the_limit_is_where_descent_on_a_quadratic_turns(momentum, lr):
    training = {"optimizer": "sgd", "momentum": momentum, "weight_decay": 0.0, "batch_size": 0, "train_samples": 1}
    limit = stability(training, lr)["stability_limit"]
    for curvature, stable in ((0.98 * limit, True), (1.02 * limit, False)):
        x, v = 1.0, 0.0
        for _ in range(3000):
            v = momentum * v + curvature * x
            x -= lr * v
            if abs(x) > 1e6:
                break
        assert (abs(x) < 1) == stable


# -- the same function ------------------------------------------------------------------------------------------------


def test_rescaling_changes_the_curvature_and_not_the_invariant_sharpness():
    result = spectrum(context(network(activation=nn.ReLU)), rescale=5.0)
    assert result["rescaled_deviation"] < 1e-12
    assert result["rescaled_sharpness"] > 2 * result["eigenvalues_top"][0]
    assert result["rescaled_invariant"] == pytest.approx(result["sharpness_invariant"], rel=1e-9)
    assert "no symmetry" in spectrum(rescale=5.0)["rescaled_note"]


# -- over a run -------------------------------------------------------------------------------------------------------


def test_over_a_run_every_checkpoint_has_its_own_spectrum_and_resumes():
    given = context()
    theta = given.objective.theta
    thetas = torch.stack([theta * scale for scale in (0.5, 0.8, 1.0)])
    training = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "batch_size": 0, "train_samples": 80, "lr": 0.1}
    given = dataclasses.replace(
        given,
        own_path=lambda: Trajectory((0, 10, 20), thetas),
        source="r@10",
        training=training,
        rates={0: 0.1, 10: 0.05, 20: 0.05},
    )
    result = spectrum(given, over="run", k=3)
    assert result["steps"].tolist() == [0, 10, 20]
    assert result["stability_limit_steps"].tolist() == pytest.approx([20, 40, 40])
    for i, point in enumerate(thetas):
        alone = spectrum(dataclasses.replace(given, objective=_at(given.objective, point)), k=3)
        np.testing.assert_allclose(result["eigenvalues_top_steps"][i], alone["eigenvalues_top"], rtol=1e-3)
        assert result["eigenvalue_bottom_steps"][i] == pytest.approx(alone["eigenvalues_bottom"][0], abs=1e-3 * alone["norm"])
        assert result["gradient_norm_steps"][i] == pytest.approx(alone["gradient_norm"])
    assert np.array_equal(result["eigenvalues_top"], result["eigenvalues_top_steps"][1])
    assert result["classification"] == "not critical"
    assert spectrum(given, over="run", k=3, operator="ggn")["classification"] == "none"
    partial = spectrum(given, over="run", k=3, stop_after=2)
    assert np.isfinite(partial["eigenvalues_top_steps"]).all(axis=1).tolist() == [True, True, False]
    resumed = spectrum(given, over="run", k=3, partial=partial)
    assert resumed.provenance["counts"]["products"] < result.provenance["counts"]["products"]
    np.testing.assert_allclose(resumed["eigenvalues_top_steps"], result["eigenvalues_top_steps"], rtol=1e-3)


def _at(objective, theta):
    other = Objective(
        objective.network.model,
        objective.loss_function,
        [(b.inputs, b.targets) for b in objective.batches()],
        dtype=torch.float64,
    )
    other.theta = theta.clone()
    return other


def test_checkpoints_are_spread_and_keep_the_asked_one():
    assert evenly([1, 2, 3], 5, 2) == [1, 2, 3]
    found = evenly(range(100), 10, 37)
    assert (found[0], found[-1], len(found)) == (0, 99, 10)
    assert 37 in found


# -- the Spec ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"beside": "hessian"}, "operator itself"),
        ({"over": "run", "beside": "ggn"}, "'beside'"),
        ({"operator": "fisher", "weight_decay": True}, "part of the loss"),
        ({"k": 0}, "'k'"),
        ({"operator": "kfac"}, "'operator'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(values, words):
    with pytest.raises(InputError, match=words):
        SpectrumSpec.parse(values)
    assert SpectrumSpec.parse({"layers": []}).layers is None


def test_the_dense_matrix_has_a_limit_and_the_estimate_grows_with_the_question():
    with pytest.raises(InputError, match="3,000"):
        spectrum(context(network(500)), method="dense")
    assert SpectrumSpec().work(1510)["products"] >= 1510
    small, large = (SpectrumSpec(k=k).work(10**6)["products"] for k in (5, 50))
    assert small < large < 10**4
    assert SpectrumSpec(over="run").whole_run()
    assert SpectrumSpec().vectors_held(10**7) < 200


# -- acceptance, through the command line -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nine_outliers_stand_apart(home, seed, capsys):
    """A classifier of ten classes early in training, three seeds: nine eigenvalues, then a gap of at least 2.5."""

    def command(*arguments):
        capsys.readouterr()
        assert main([*arguments, "--home", str(home)]) == 0
        return capsys.readouterr().out

    run = f"relu-{seed}"
    fields = ("widths=[20]", "steps=200", "record=[50,100,200]", f"seed={seed}")
    command("train", "digits-mlp", "--run", run, *(part for field in fields for part in ("--set", field)))
    sources = [f"{run}@50", f"{run}@100", f"{run}@200"]
    fields = ("k=15", "k_bottom=1", "method=lanczos", "probes=2", "lanczos_steps=20")
    options = [part for field in fields for part in ("--set", field)]
    results = json.loads(command("compute", "spectrum", *sources, *options, "--json"))
    for result, least in zip(results, (2.5, 2.5, 1.5), strict=True):
        values = np.array(result["eigenvalues_top"])
        ratios = values[4:14] / values[5:15]
        assert 5 + int(ratios.argmax()) == 9
        assert ratios.max() >= least
        assert result["outliers"] == 9
        assert result["classification"] == "not critical"
        assert result["eigenvalues_bottom"][0] < -0.05
        assert result["stability_kind"] == "reference"
        assert result["stability_limit"] == pytest.approx(20)
    # A part of the sample: the smallest eigenvalue is biased most, and downwards; the trace hardly.
    few = json.loads(command("compute", "spectrum", sources[2], *options, "--set", "samples=32", "--json"))
    few, whole = few[0] if isinstance(few, list) else few, results[2]
    assert few["eigenvalues_bottom"][0] < 1.5 * whole["eigenvalues_bottom"][0] < 0
    assert 0.5 < few["trace"] / whole["trace"] < 1.6
    assert 20 < whole["trace"] < 55
    assert 3 < whole["eigenvalues_top"][0] < 9
    summary = command("compute", "spectrum", sources[1], *options)
    assert "Outliers: 9" in summary
    assert "Kind of point: not critical" in summary


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_a_loss_that_reads_the_weights_has_its_own_trace_and_no_symmetries_of_the_outputs(activation):
    """A penalty lifts every eigenvalue: the trace is not the Gauss-Newton matrix's, and nothing is flat at every theta."""
    x, y = sample()
    model = network(activation=activation).double()
    decay = 0.2

    def penalised(outputs, targets):
        return F.cross_entropy(outputs, targets) + decay / 2 * sum((p**2).sum() for p in model.parameters())

    plain = Objective(model, F.cross_entropy, [(x.double(), y)])
    given = Objective(model, penalised, [(x.double(), y)])
    every = range(len(given.space.entries))
    assert zero_modes(plain, "hessian", every).count > 0
    assert zero_modes(given, "hessian", every).count == 0
    expected = torch.linalg.eigvalsh(plain.hessian().dense()) + decay
    for method in ("dense", "lanczos"):
        result = landscape_core.compute("spectrum", given, method=method, k=2, k_bottom=2)
        assert abs(float(result["trace"]) - float(expected.sum())) <= 5 * float(result["trace_standard_error"]) + 1e-8
        assert np.allclose(result["eigenvalues_top"], expected.flip(0)[:2], rtol=1e-5)


@pytest.mark.parametrize(("squash", "kinks"), [(nn.ReLU(), True), (torch.relu, True), (torch.tanh, False)])
def test_kinks_are_seen_where_a_function_makes_them_too(squash, kinks):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last, self.squash = nn.Linear(5, 6), nn.Linear(6, 3), squash

        def forward(self, x):
            return self.last(self.squash(self.first(x)))

    x, y = sample()
    result = landscape_core.compute("spectrum", Objective(Net().double(), F.cross_entropy, [(x.double(), y)]), k=1)
    assert bool(result["kinks"]) == kinks
