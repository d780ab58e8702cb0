"""What a surface states besides its cells: errors of differences, baselines, residuals, and extras that fail alone."""

import dataclasses
import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import landscape_core as lc
from benchmarks import estimate
from landscape_core.analyses.surface import certificate, whole_hessian
from landscape_core.analyses.surface.directions import spanned
from landscape_core.analyses.surface.probes import pairs_of
from landscape_core.analyses.surface.spec import SurfaceSpec
from landscape_core.linalg import share
from landscape_core.measuring.context import Context, Trajectory
from landscape_core.objective import Objective
from landscape_core.specs import InputError

from .test_compute import context, network, sample, surface


def digits(n=200):
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x / 16).double()
    return (x - x.mean())[:n] / x.std(), torch.tensor(y)[:n]


def rows(result):
    return {item.name: item for item in lc.reading(result)}


def flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


# -- differences of cells ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_errors_of_differences_come_from_the_same_samples_at_both_points(reduction):
    x, y = digits(120)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10)).double()
    objective = Objective(model, nn.CrossEntropyLoss(reduction=reduction), [(x, y)], reduction=reduction)
    result = surface(Context(objective), seed=2)
    origin, d = flat(model), [torch.as_tensor(result[f"direction_{i}"]) for i in (0, 1)]

    def losses(a, b):
        weights = nn.utils.parameters_to_vector(model.parameters())  # the names are those of the model
        named, start = {}, 0
        for name, value in model.named_parameters():
            point = origin + a * d[0] + b * d[1]
            named[name] = point[start : start + value.numel()].reshape(value.shape)
            start += value.numel()
        assert start == len(weights)
        return F.cross_entropy(torch.func.functional_call(model, named, (x,)), y, reduction="none")

    factor = 1 if reduction == "mean" else len(x)
    assert set(result["difference_places"].tolist()) == {"near", "rim", "far"}
    for (a, b), value, error in zip(
        result["difference_cells"], result["differences"], result["difference_errors"], strict=True
    ):
        paired = losses(*a) - losses(*b)
        assert value == pytest.approx(factor * float(paired.mean()), rel=1e-9, abs=1e-12)
        assert error == pytest.approx(factor * float(paired.std()) / len(x) ** 0.5, rel=1e-9)
    near = result["difference_errors"][result["difference_places"] == "near"]
    assert result["difference_error_near"] == near.max()
    # Sharing the samples takes out most of the chance nearby, and not far away: one number for both would be wrong twice.
    assert result["difference_error_near"] < result["difference_error_rim"] < result["difference_error_far"]


def test_the_sentence_quotes_near_and_far_and_not_the_error_of_the_centre():
    x, y = digits(300)
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).double()
    result = lc.compute("surface", Objective(model, F.cross_entropy, [(x, y)]), seed=4, resolution=9, flow=0)
    words = rows(result)["At the centre"].words
    for place in ("near", "rim", "far"):
        assert f"below {2 * result[f'difference_error_{place}']:.2g}" in words.replace(",", "")
    assert f"Differences below {2 * result['center_loss_standard_error']:.2g}" not in words


def coupled(outputs, targets):
    """A loss that samples make up only together."""
    return F.cross_entropy(outputs, targets) + outputs.std()


@pytest.mark.parametrize("loss", [coupled, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2, 3.0]).double())])
def test_where_samples_have_no_losses_of_their_own_nothing_is_said_of_chance(loss):
    x, y = sample()
    result = surface(Context(Objective(network(), loss, [(x.double(), y)], dtype=torch.float64)))
    assert np.isnan(result["center_loss_standard_error"])
    assert "difference_errors" not in result
    said = rows(result)["At the centre"]
    assert "±" not in said.value
    assert "chance" not in said.words
    assert "unknown" in said.words
    assert any("standard error is left out" in note for note in result["notes"])


@pytest.mark.parametrize("loss", [F.cross_entropy, lambda o, y: F.mse_loss(o, F.one_hot(y, 10).to(o))], ids=["nll", "mse"])
@pytest.mark.parametrize("seed", range(4))
def test_a_loss_that_casts_its_scores_has_a_standard_error_in_float64(loss, seed):
    """Rounding of the cast is more than that of float64: it does not part the samples from their mean."""
    x, y = digits()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10)).double()
    objective = Objective(model, lambda o, t: loss(o.float(), t), [(x[:120], y[:120]), (x[120:], y[120:])])
    result = lc.compute("surface", objective, resolution=3, flow=0, dtype="float64")
    each = objective.sample_losses(objective.theta).numpy()
    assert result["center_loss_standard_error"] == pytest.approx(each.std(ddof=1) / len(each) ** 0.5, rel=1e-4)


def test_pairs_lie_around_the_centre_at_the_rim_and_between():
    axes = [np.linspace(-1, 1, 5), np.linspace(-1, 3, 9)]
    finite = np.ones((5, 9), bool)
    found = pairs_of(axes, finite)
    assert {place: sum(p == place for p, *_ in found) for place in ("near", "rim", "far")} == {"near": 8, "rim": 6, "far": 2}
    assert all(a == (2, 2) for place, a, _ in found if place != "rim")
    finite[3, 3] = finite[4, 8] = False
    cells = {cell for _, *pair in pairs_of(axes, finite) for cell in pair}
    assert not cells & {(3, 3), (4, 8)}
    assert {place for place, *_ in pairs_of([axes[0]], np.ones(5, bool))} == {"near", "rim", "far"}


# -- extras ---------------------------------------------------------------------------------------------------------------


def broken(error):
    def fails(*_, **__):
        raise error

    return fails


FAILURES = [
    ("float64", lambda m: m.setattr(Context, "double", broken(RuntimeError("no float64 kernel"))), "check against float64"),
    ("standard error", lambda m: m.setattr(Objective, "sample_losses", broken(RuntimeError("vmap"))), "standard error"),
    ("memory", lambda m: m.setattr(Objective, "sample_losses", broken(MemoryError())), "not enough memory"),
    ("gradient", lambda m: m.setattr(Objective, "gradient", broken(RuntimeError("no grad_fn"))), "gradient"),
    ("flow", lambda m: m.setattr(certificate, "projected_flow", broken(InputError("it has no slope"))), "it has no slope"),
    ("spectrum", lambda m: m.setattr(whole_hessian, "spectrum_card", broken(RuntimeError("CUDA"))), "whole Hessian"),
    ("convexity", lambda m: m.setattr(whole_hessian, "convexity_map", broken(RuntimeError("CUDA"))), "map of convexity"),
    ("path", lambda m: m.setattr(certificate, "trajectory_card", broken(RuntimeError("shape"))), "path in the picture"),
]


@pytest.mark.parametrize(("what", "breaks", "words"), FAILURES, ids=[name for name, *_ in FAILURES])
def test_an_extra_that_fails_leaves_the_finished_grid_and_a_note(monkeypatch, caplog, what, breaks, words):
    given = context()
    theta = given.objective.theta
    path = Trajectory((0, 1, 2, 3), theta + 0.1 * torch.randn(4, len(theta)).double())
    given = dataclasses.replace(given, own_path=lambda: path)
    fields = {"flow": 3, "spectrum": True, "convexity": 3, "directions": "pca"}
    whole = surface(given, **fields)
    assert not any(whole["notes"])
    breaks(monkeypatch)
    with caplog.at_level(logging.CRITICAL):
        result = surface(given, **fields)
    assert np.array_equal(result["loss"], whole["loss"])
    assert [note for note in result["notes"] if words in note], result["notes"]
    said = [item for item in lc.reading(result) if item.name == "Left out"]
    assert any(words in item.words for item in said)
    assert not any(raw in item.words for item in said for raw in ("kernel", "vmap", "grad_fn", "CUDA"))
    assert {"gradient_share", "curvature_0", "convexity_plane", "picture_shape"} <= set(result)


class Single(nn.Module):
    """Works in float32 only."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 3))

    def forward(self, x):
        if self.w.dtype != torch.float32:
            raise RuntimeError("expected scalar type Float but found Double")
        return x.float() @ self.w


def test_a_model_that_knows_only_float32_still_has_a_surface():
    x, y = torch.randn(20, 4), torch.randint(0, 3, (20,))
    result = surface(Context(Objective(Single(), F.cross_entropy, [(x, y)])))
    assert np.isfinite(result["loss"]).all()
    assert any("float64" in note for note in result["notes"])
    assert np.isnan(result["center_deviation"])
    assert "Arithmetic" not in rows(result)
    assert np.isfinite(result["center_loss_standard_error"])
    assert np.isfinite(result["difference_error_near"])
    assert all("\n" not in item.words for item in lc.reading(result))


def test_a_loss_without_a_second_derivative_has_its_surface():
    class Sign(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("not differentiable")

    x, y = sample()
    loss = lambda o, t: F.cross_entropy(Sign.apply(o), t)  # noqa: E731
    result = surface(Context(Objective(network(), loss, [(x.double(), y)], dtype=torch.float64)), flow=3)
    assert np.isfinite(result["loss"]).all()
    assert "flow" not in result
    assert result["curvature_note"]


# -- baselines --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["filter", "layer", "model", "gaussian", "essay"])
@pytest.mark.parametrize("ignore", ["copy", "biases-and-norms", "none"])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_baseline_and_null_are_the_means_over_seeds(kind, ignore, dimensions):
    """Of a network whose normalisation parameters are a large part of its norm: what both axes copy counts once."""
    x, y = digits()
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(64, 10), nn.LayerNorm(10), nn.Tanh(), nn.Linear(10, 10), nn.LayerNorm(10)).double()
    given = Context(Objective(model, F.cross_entropy, [(x, y)]))
    gradient = given.objective.gradient().double()
    shares, cosines = [], []
    for seed in range(300):
        axes = spanned(SurfaceSpec(directions=kind, ignore=ignore, dimensions=dimensions, seed=seed), given)
        shares.append(share(axes.directions, gradient))
        if dimensions == 2:
            a, b = axes.directions.T
            cosines.append(float(a @ b / a.norm() / b.norm()))
    card = certificate.gradient_card(axes, gradient)
    error = np.std(shares) / len(shares) ** 0.5
    assert abs(card["gradient_share_baseline"] - np.mean(shares)) < 4 * error + 0.03 * np.mean(shares)
    if cosines:
        assert certificate.cosine_null(axes) == pytest.approx(np.sqrt(np.mean(np.square(cosines))), rel=0.12)


def test_the_angle_is_held_against_its_own_kind():
    copied = surface(context(), ignore="copy")
    said = rows(copied)["Angle of the axes"].words
    assert f"±{copied['axis_cosine_null']:.2g}" in said
    straight = surface(context(), orthogonal=True)
    assert np.isnan(straight["axis_cosine_null"])
    assert rows(straight)["Angle of the axes"].words == "The axes are perpendicular."
    assert rows(straight)["Angle of the axes"].value == "cos = 0"


# -- eigenvectors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low", [-2.0, -1e-2, -3e-4])
@pytest.mark.parametrize("ends", ["both", "bottom"])
def test_small_eigenvalues_are_found_to_their_own_tolerance_or_say_that_they_are_not(low, ends):
    h = torch.cat([torch.tensor([50.0, 3.0, low, low / 2]), torch.linspace(1e-3, 1, 196)]).double()

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.x = nn.Parameter(torch.ones(200).double() * 0.1)

        def forward(self, inputs):
            return (0.5 * h * self.x**2).sum().expand(len(inputs))

    loss = lambda o, _: o.mean()  # noqa: E731
    given = Context(Objective(Quadratic(), loss, [(torch.zeros(2, 1).double(), torch.zeros(2).double())]))
    result = surface(given, directions="eigenvectors", ends=ends, resolution=5)
    for i, residual in enumerate(result["axis_residuals"]):
        v = result[f"direction_{i}"]
        value = v @ (h.numpy() * v)
        own = np.linalg.norm(h.numpy() * v - value * v) / abs(value)
        assert own <= 1.5 * residual + 1e-9
        assert residual <= 2e-3
    assert "residual" in rows(result)["Eigenvectors"].value
    assert "own eigenvalue" in rows(result)["Eigenvectors"].words


# -- the path -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_path_in_the_plane_lies_in_it(dtype):
    given = context(dtype=dtype)
    theta = given.objective.theta.double()
    torch.manual_seed(0)
    u, v = torch.randn(2, len(theta)).double()
    inside = Trajectory(
        (0, 1, 2, 5, 9), torch.stack([theta + a * u + b * v for a, b in [(1, 0), (0, 1), (2, 2), (1, 1), (0, 0)]])
    )
    found = rows(surface(dataclasses.replace(given, own_path=lambda: inside), directions="pca"))
    assert found["Path beside the picture"].value == "in it"
    assert "shadow" not in found["Path beside the picture"].words
    assert found["Height of the path"].value == "right"
    off = Trajectory(inside.steps, inside.thetas + 0.3 * torch.randn(5, len(theta)).double())
    found = rows(surface(dataclasses.replace(given, own_path=lambda: off), directions="pca"))
    assert "does not lie" in found["Path beside the picture"].words


def test_two_checkpoints_are_no_evidence_of_a_straight_path():
    given = context()
    theta = given.objective.theta
    path = Trajectory((0, 1, 2), theta + torch.randn(3, len(theta)).double())
    found = rows(surface(dataclasses.replace(given, own_path=lambda: path), directions="pca"))["Path explained"]
    assert "Any path of 3 checkpoints" in found.words
    assert found.verdict == "ok"


# -- sentences fit the network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "kinks", "normed"),
    [
        (network(activation=nn.Tanh), "", False),
        (network(activation=nn.ReLU), "ReLU", False),
        (network(activation=nn.LeakyReLU), "leaky ReLU", False),
        (nn.Sequential(nn.Linear(12, 4), nn.BatchNorm1d(4), nn.GELU()), "", True),
    ],
)
def test_kinks_and_batchnorm_are_spoken_of_where_there_are_some(model, kinks, normed):
    result = surface(context(model))
    assert str(result["kinks"]) == kinks
    assert bool(result["has_batchnorm"]) == normed
    found = rows(result)
    said = " ".join([*(item.words + item.value for item in found.values())])
    assert ("Kinks" in found) == bool(kinks)
    assert ("ReLU" in said) == bool(kinks)
    assert ("BatchNorm" in said) == normed


def test_a_functional_relu_and_an_absolute_loss_have_kinks_too():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(12, 5), nn.Linear(5, 1)

        def forward(self, x):
            return self.b(F.relu(self.a(x)))

    x, _ = sample()
    objective = Objective(Functional(), lambda o, t: (o[:, 0] - t).abs().mean(), [(x, x[:, 0])], dtype=torch.float64)
    assert set(str(surface(Context(objective))["kinks"]).split(", ")) == {"ReLU", "absolute value"}


def test_all_dimensions_of_two_are_all_there_is():
    objective = Objective(nn.Linear(1, 1), F.mse_loss, [(torch.randn(9, 1), torch.randn(9, 1))], dtype=torch.float64)
    words = rows(surface(Context(objective), directions="gaussian", ignore="none"))["What this picture does not show"].words
    assert "all 2 dimensions" in words
    assert "other directions" not in words


# -- the picture on the way ----------------------------------------------------------------------------------------------------


def test_the_stated_error_bounds_the_true_one_in_95_of_100_pictures():
    """Of twelve shapes, as a share of the range of the loss and of its logarithm; the long table is `benchmarks.estimate`."""
    found = estimate.table(15)
    for kind in ("plain", "log"):
        assert estimate.pooled(found, kind) >= 95
        assert min(row["held"] for name, row in found.items() if name.endswith(kind)) >= 85
    assert found["bowl plain"]["held"] == found["valley plain"]["held"] == found["saddle plain"]["held"] == 100
    smooth = [found[name]["ratio"] for name in ("bowl plain", "valley plain", "saddle plain")]
    assert max(smooth) < 10  # and it is no number that bounds anything


def test_a_ravine_through_the_weights_is_in_the_first_picture():
    from landscape_core.analyses.surface.grid import Estimate

    axis = np.linspace(-1, 1, 41)
    loss = 1e-4 + np.minimum(1, (axis[:, None] / 0.03) ** 2) + 0 * axis[None]
    found = Estimate((axis, axis))
    found.complete(loss, 16)
    assert found.values is not None
    assert found.values[20].max() < 0.5
    found.complete(loss, 8)
    assert found.error >= 0.5
