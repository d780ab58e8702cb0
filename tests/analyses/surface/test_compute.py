"""The surface analysis: exact cells, Li's invariance, the certificate against closed forms, resume."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape_core.analyses.calibration import compute as calibration
from landscape_core.analyses.calibration.spec import CalibrationSpec
from landscape_core.analyses.surface import certificate
from landscape_core.analyses.surface.certificate import plane_convexity
from landscape_core.analyses.surface.directions import spanned
from landscape_core.analyses.surface.grid import Estimate, levels, nested
from landscape_core.analyses.surface.spec import SurfaceSpec
from landscape_core.jobs.execute import analyse
from landscape_core.measuring.context import Context, Trajectory
from landscape_core.objective import Objective
from landscape_core.objective.sweep import Sweep
from landscape_core.specs import InputError

from ..running import analysed


def network(seed=0, widths=(12, 10, 4), activation=nn.ReLU):
    torch.manual_seed(seed)
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def sample(n=150, features=12, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, features, generator=generator), torch.randint(0, classes, (n,), generator=generator)


def context(model=None, dtype=torch.float64, **kwargs):
    x, y = sample()
    return Context(
        Objective(model or network(), F.cross_entropy, [(x[:100], y[:100]), (x[100:], y[100:])], dtype=dtype), **kwargs
    )


def surface(given, *, stop_after=None, partial=None, **fields):
    """The Result of a surface; with `stop_after`, the partial arrays after so many reports."""
    spec = SurfaceSpec.parse({"resolution": 9, "flow": 0, **fields})
    return analysed("surface", spec, given, partial, stop_after)


# -- cells --------------------------------------------------------------------------------------------------------------


def test_every_cell_of_a_non_square_grid_equals_a_plain_evaluation():
    model = network()
    result = surface(context(model), resolution=[7, 5], extent=[[-1, 1], [-0.5, 2]], test=False)
    x, y = sample()
    assert result["loss"].shape == (7, 5)
    d0, d1 = torch.from_numpy(result["direction_0"]), torch.from_numpy(result["direction_1"])
    theta = nn.utils.parameters_to_vector(model.double().parameters()).detach()
    for i, a in enumerate(result["alphas"]):
        for j, b in enumerate(result["betas"]):
            nn.utils.vector_to_parameters(theta + a * d0 + b * d1, model.parameters())
            plain = F.cross_entropy(model(x.double()), y).item()
            hits = (model(x.double()).argmax(1) == y).double().mean().item()
            assert abs(result["loss"][i, j] - plain) <= 1e-9 * max(1, plain)
            assert result["accuracy"][i, j] == pytest.approx(hits)
            assert result["error"][i, j] == pytest.approx(1 - hits)


def test_swapping_the_axes_transposes_the_grid():
    one = surface(context(), resolution=[7, 5], extent=[[-1, 1], [-0.5, 0.5]])
    vectors = [torch.from_numpy(one[f"direction_{i}"]) for i in (1, 0)]
    two = surface(context(vectors=vectors), directions="given", resolution=[5, 7], extent=[[-0.5, 0.5], [-1, 1]])
    assert np.allclose(one["loss"], two["loss"].T, atol=1e-12)


def test_uneven_batches_and_their_order_change_nothing():
    x, y = sample()
    results = []
    for cuts in ((150,), (100, 50), (1, 149), (7, 50, 93)):
        batches = list(zip(x.split(cuts), y.split(cuts), strict=True))[::-1]
        results.append(surface(Context(Objective(network(), F.cross_entropy, batches, dtype=torch.float64)))["loss"])
    assert all(np.allclose(results[0], other, atol=1e-12) for other in results[1:])


def test_overflow_is_masked_and_counted():
    given = context(dtype=torch.float32)
    result = surface(given, extent=1e30, flow=3)
    assert result["masked_cells"] == int((~np.isfinite(result["loss"])).sum()) > 0
    assert np.isfinite(result["center_loss"])


def test_test_samples_are_evaluated_beside_the_training_samples():
    x, y = sample()
    objective = Objective(network(), F.cross_entropy, (x[:100], y[:100]), test_batches=(x[100:], y[100:]), dtype=torch.float64)
    result = surface(Context(objective), test=True)
    other = surface(Context(Objective(network(), F.cross_entropy, (x[100:], y[100:]), dtype=torch.float64)))
    assert np.allclose(result["loss_test"], other["loss"], atol=1e-12)
    assert result["sample_size_test"] == 50


# -- coarse to fine -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(41, 41), (3, 3), (9, 4), (17,), (50, 33)])
def test_levels_visit_every_cell_once_from_nested_grids(shape):
    seen = np.zeros(shape, dtype=int)
    for stride, cells in levels(shape):
        seen[tuple(cells.T)] += 1
        assert (seen[np.ix_(*(nested(n, stride) for n in shape))] == 1).all()
    assert (seen == 1).all()


def test_any_prefix_gives_a_full_picture_whose_error_is_stated():
    axis = np.linspace(-1, 1, 33)
    exact = 1 + axis[:, None] ** 2 + 0.3 * axis[None, :] ** 4
    estimate = Estimate((axis, axis))
    for stride in (16, 8, 4):
        estimate.complete(exact, stride)
    evaluated = np.zeros(exact.shape, dtype=bool)
    evaluated[np.ix_(nested(33, 4), nested(33, 4))] = True
    picture = estimate.picture(exact, evaluated)
    assert np.isfinite(picture).all()
    assert np.abs(picture - exact).max() / np.ptp(exact) <= estimate.error < 0.05


def test_infinite_values_leave_the_error_of_the_rest():
    axis = np.linspace(-1, 1, 17)
    exact = 1 + axis[:, None] ** 2 + axis[None, :] ** 4
    exact[:4] = np.inf
    estimate = Estimate((axis, axis))
    with np.errstate(all="raise"):
        for stride in (8, 4, 2, 1):
            estimate.complete(exact, stride)
    assert 0 <= estimate.error < 1
    assert np.array_equal(estimate.picture(exact, np.ones(exact.shape, dtype=bool)), exact)


def test_a_partial_names_its_units_and_its_sample():
    partial = surface(context(), resolution=21, stop_after=1)
    assert partial["sample_size"] == surface(context(), resolution=5)["sample_size"] > 0
    assert str(partial["unit_0"]) == str(partial["unit_1"]) != ""


def test_resuming_from_a_partial_evaluates_only_what_is_missing():
    whole = surface(context(), resolution=21)
    partial = surface(context(), resolution=21, stop_after=3)
    known = int(partial["evaluated"].sum())
    assert 0 < known < 441
    resumed = surface(context(), resolution=21, partial=partial)
    assert np.abs(resumed["loss"] - whole["loss"]).max() <= 1e-14  # sums depend on where memory happens to lie
    saved = whole.provenance["counts"]["forwards"] - resumed.provenance["counts"]["forwards"]
    assert saved == known


def test_a_partial_of_another_grid_is_not_taken():
    partial = surface(context(), resolution=21, stop_after=3)
    partial["loss"][:] = 99.0
    assert surface(context(), resolution=21, extent=0.5, partial=partial)["loss"].max() < 99


def test_lines_are_the_lines_of_their_seeds():
    many = surface(context(), dimensions=1, repeats=3, seed=5)
    for i in range(3):
        one = surface(context(), dimensions=1, seed=5 + i)
        assert np.abs(many["loss"][i] - one["loss"][0]).max() <= 1e-14
        assert many["curvatures"][i] == pytest.approx(one["curvature_0"], rel=1e-9)


# -- directions ---------------------------------------------------------------------------------------------------------


def rescaled(model, c):
    """The same function: the first layer times c, the second divided by c (ReLU is positively homogeneous)."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight *= c
        other[0].bias *= c
        other[2].weight /= c
    return other


@pytest.mark.parametrize("c", [5.0, 0.1])
def test_filter_normalised_surfaces_do_not_see_a_layer_rescaling(c):
    one, two = (surface(context(m, dtype=torch.float32), directions="filter") for m in (network(), rescaled(network(), c)))
    assert np.abs(one["loss"] - two["loss"]).max() <= 1e-5 * one["loss"].max()


def test_the_uncorrected_rule_of_the_essay_does_see_it():
    one, two = (surface(context(m), directions="essay", extent=1) for m in (network(), rescaled(network(), 5.0)))
    assert np.abs(one["loss"] - two["loss"]).max() > 0.1


@pytest.mark.parametrize("kind", ["filter", "layer", "model"])
def test_normalised_directions_have_the_norms_of_the_weights(kind):
    given = context()
    space, theta = given.objective.space, given.objective.theta
    direction = spanned(SurfaceSpec(directions=kind), given).directions[:, 0]
    parts, weights = space.split(direction), space.split(theta)
    assert not any(parts[name].any() for name in parts if name.endswith("bias"))
    for name in (n for n in parts if n.endswith("weight")):
        if kind == "filter":
            assert torch.allclose(parts[name].norm(dim=1), weights[name].norm(dim=1))
        if kind == "layer":
            assert torch.allclose(parts[name].norm(), weights[name].norm())
    if kind == "model":
        assert direction.norm() == pytest.approx(torch.where(space.ignored, 0, theta).norm())


def test_the_essays_rule_leaves_un_normalised_noise_on_biases():
    given = context()
    direction = spanned(SurfaceSpec(directions="essay"), given).directions[:, 0]
    biases = torch.cat([v for n, v in given.objective.space.split(direction).items() if n.endswith("bias")])
    assert 0.5 < biases.std() < 1.6


def test_ignore_copy_takes_the_biases_themselves():
    given = context()
    direction = spanned(SurfaceSpec(ignore="copy"), given).directions[:, 0]
    ignored = given.objective.space.ignored
    assert torch.equal(direction[ignored], given.objective.theta[ignored])


def test_float32_and_float64_draw_the_same_direction():
    a, b = (spanned(SurfaceSpec(), context(dtype=d)).directions for d in (torch.float32, torch.float64))
    assert torch.allclose(a.double(), b, rtol=1e-5)


def test_orthogonal_axes_on_request_and_their_cosine_always():
    assert abs(surface(context(), orthogonal=True)["axis_cosine"]) < 1e-12
    assert 1e-6 < abs(surface(context())["axis_cosine"]) < 0.5


def test_a_plane_through_three_checkpoints_holds_them_in_true_distances():
    given = context()
    theta = given.objective.theta
    others = {"a@1": theta + torch.randn(len(theta)).double() * 0.1, "b@2": theta + torch.randn(len(theta)).double() * 0.2}
    result = surface(dataclasses.replace(given, weights=others.__getitem__), directions="through", through=["a@1", "b@2"])
    anchors = result["anchors"]
    points = [theta, *others.values()]
    for i in range(3):
        for j in range(3):
            assert np.linalg.norm(anchors[i] - anchors[j]) == pytest.approx(float((points[i] - points[j]).norm()), abs=1e-9)
    assert (anchors >= [result["alphas"][0], result["betas"][0]]).all()
    assert (anchors <= [result["alphas"][-1], result["betas"][-1]]).all()


def test_the_difference_line_runs_from_the_source_to_the_other_checkpoint():
    given = context()
    other = network(1).double()
    weights = nn.utils.parameters_to_vector(other.parameters()).detach()
    given = dataclasses.replace(given, weights=lambda _: weights)
    result = surface(given, dimensions=1, directions="difference", through=["x@1"], resolution=5)
    x, y = sample()
    assert np.allclose(result["alphas"], [-0.5, 0, 0.5, 1, 1.5])
    assert result["loss"][0, 3] == pytest.approx(F.cross_entropy(other(x.double()), y).item(), abs=1e-9)


def test_a_zero_or_parallel_axis_is_refused_in_one_line():
    given = context()
    same = dataclasses.replace(given, weights=lambda _: given.objective.theta)
    with pytest.raises(InputError, match=r"same weights|zero|parallel"):
        surface(same, directions="through", through=["a@1", "b@1"])
    vector = torch.ones(len(given.objective.theta))
    with pytest.raises(InputError, match="parallel"):
        surface(dataclasses.replace(given, vectors=[vector, 2 * vector]), directions="given")
    with pytest.raises(InputError, match="shape"):
        surface(dataclasses.replace(given, vectors=[vector[:3], vector]), directions="given")
    with pytest.raises(InputError, match="trajectory"):
        surface(given, directions="pca")


# -- the certificate --------------------------------------------------------------------------------------------------------


def quadratic():
    """L(w) = mean_i (w.x_i - y_i)^2 with Hessian 2 X'X / n: every slice is exactly quadratic."""
    x, _ = sample(60, 5)
    y = x @ torch.arange(5.0) + 1
    model = nn.Linear(5, 1, bias=False)
    return Context(
        Objective(model, lambda o, t: ((o[:, 0] - t) ** 2).mean(), (x, y), dtype=torch.float64)
    ), 2 * x.double().T @ x.double() / 60


def test_on_a_quadratic_every_statement_of_the_certificate_is_exact():
    given, hessian = quadratic()
    result = surface(given, flow=4)
    d = np.stack([result["direction_0"], result["direction_1"]], 1)
    h = hessian.numpy()
    for i in range(2):
        assert result[f"curvature_{i}"] == pytest.approx(d[:, i] @ h @ d[:, i])
        assert result[f"second_difference_{i}"] == pytest.approx(d[:, i] @ h @ d[:, i], rel=1e-8)
    q = np.linalg.qr(d)[0]
    assert np.allclose(result["plane_curvatures"], np.linalg.eigvalsh(q.T @ h @ q))
    g = given.objective.gradient().numpy()
    assert result["gradient_share"] == pytest.approx(np.sum((q.T @ g) ** 2) / np.sum(g**2))
    assert result["nonconvex_share"] == 0
    theta = given.objective.theta.numpy()
    for i, a in enumerate(result["flow_alphas"]):
        for j, b in enumerate(result["flow_betas"]):
            gradient = g + h @ (d @ [a, b])
            assert np.allclose(result["flow"][i, j], -np.linalg.solve(d.T @ d, d.T @ gradient))
    assert len(theta) == 5


def test_the_second_difference_meets_the_curvature_only_as_the_spacing_shrinks():
    ratios = []
    for extent in (2.0, 0.02):
        result = surface(context(network(activation=nn.Tanh)), extent=extent, resolution=5)
        ratios.append(result["second_difference_0"] / result["curvature_0"])
    assert abs(ratios[1] - 1) < 1e-3 < abs(ratios[0] - 1)


@pytest.mark.parametrize(
    ("kind", "ignore"), [("filter", "biases-and-norms"), ("filter", "none"), ("essay", "none"), ("gaussian", "none")]
)
def test_the_baseline_of_the_gradient_share_is_its_mean_over_directions(kind, ignore):
    given = context()
    gradient = given.objective.gradient()
    found = []
    for seed in range(600):
        axes = spanned(SurfaceSpec(directions=kind, ignore=ignore, dimensions=1, seed=seed), given)
        d = axes.directions[:, 0]
        found.append(float((d @ gradient) ** 2 / (d @ d) / (gradient @ gradient)))
    card = certificate.gradient_card(axes, gradient)
    assert np.mean(found) == pytest.approx(card["gradient_share_baseline"], rel=0.2)


def test_the_centre_is_held_to_a_plain_evaluation_and_has_a_standard_error():
    result = surface(context(dtype=torch.float32))
    x, y = sample()
    losses = F.cross_entropy(network().double()(x.double()), y, reduction="none")
    assert result["center_loss_reference"] == pytest.approx(losses.mean().item(), abs=1e-12)
    assert result["center_deviation"] <= 1e-6
    assert result["center_loss_standard_error"] == pytest.approx(losses.std().item() / 150**0.5)
    assert result["sample_size"] == 150


def test_the_trajectory_is_projected_by_least_squares_with_its_errors():
    given = context()
    theta = given.objective.theta
    steps = torch.randn(6, len(theta), generator=torch.Generator().manual_seed(1)).double() * 0.05
    thetas = theta + torch.cat([steps[:-1].cumsum(0) - steps[:-1].sum(0), torch.zeros(1, len(theta))])
    path = Trajectory((0, 1, 2, 5, 9, 12), thetas)
    result = surface(dataclasses.replace(given, own_path=lambda: path), directions="pca", resolution=[9, 7])
    assert result["axis_norm_0"] == pytest.approx(1)
    d = np.stack([result["direction_0"], result["direction_1"]], 1)
    offsets = (thetas - theta).numpy()
    assert np.allclose(result["trajectory_coordinates"], offsets @ d)
    assert np.allclose(result["trajectory_residual"], np.linalg.norm(offsets - offsets @ d @ d.T, axis=1))
    assert result["trajectory_residual"][-1] < 1e-10
    plain = [given.objective.loss(t) for t in thetas]
    flat = [given.objective.loss(theta + torch.from_numpy(d @ c)) for c in result["trajectory_coordinates"]]
    assert np.allclose(result["trajectory_height_error"], np.abs(np.array(plain) - flat))
    assert 0 < result["explained_variance_null"] < 1
    walk = result["random_walk_coordinates"]
    assert np.allclose(walk[-1], result["trajectory_coordinates"][-1])  # both are about the last checkpoint
    displacement = ((walk - walk[-1]) ** 2).sum() / np.square(offsets - offsets[-1]).sum()
    assert displacement == pytest.approx(result["explained_variance_null"])


def test_non_convex_share_of_a_saddle_and_of_a_bowl():
    a = b = np.linspace(-1, 1, 9)
    grid = np.meshgrid(a, b, indexing="ij")
    assert certificate.nonconvex_share(a, b, grid[0] ** 2 - grid[1] ** 2) == 1
    assert certificate.nonconvex_share(a, b, grid[0] ** 2 + grid[1] ** 2) == 0
    loss = grid[0] ** 2 - grid[1] ** 2
    loss[4, 4] = np.nan
    assert certificate.nonconvex_share(a, b, loss) == 1


def test_the_callers_model_stays_untouched():
    model = network()
    before = copy.deepcopy(model.state_dict())
    model.train()
    run = analyse("surface", SurfaceSpec(resolution=21), context(model))
    next(run)
    run.close()
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# -- beside the whole Hessian -----------------------------------------------------------------------------------------------


class Valley(nn.Module):
    """L = (8 x0^2 + 2 x1^2 - x2^2 + 0.1 sum of the rest) / 2: all about it is known."""

    def __init__(self, p=40):
        super().__init__()
        self.x = nn.Parameter(torch.full((2, p // 2), 0.5))
        self.register_buffer("h", torch.cat([torch.tensor([8.0, 2.0, -1.0]), torch.full((p - 3,), 0.1)]))

    def forward(self, inputs):
        return (0.5 * self.h * self.x.flatten() ** 2).sum().expand(len(inputs))


def valley():
    return Context(Objective(Valley(), lambda o, _t: o.mean(), (torch.zeros(4, 1), torch.zeros(4)), dtype=torch.float64))


@pytest.mark.parametrize(
    ("ends", "places", "values"), [("both", (0, 2), (8, -1)), ("top", (0, 1), (8, 2)), ("bottom", (2, None), (-1, 0.1))]
)
def test_eigenvector_axes_are_the_extreme_eigenvectors(ends, places, values):
    result = surface(valley(), directions="eigenvectors", ends=ends, resolution=5, flow=0)
    for i, (place, value) in enumerate(zip(places, values, strict=True)):
        assert result[f"curvature_{i}"] == pytest.approx(value, rel=1e-3)
        assert f"eigenvalue {value:.3g}" in str(result[f"unit_{i}"])
        assert result[f"axis_norm_{i}"] == pytest.approx(1)
        if place is not None:
            assert result[f"direction_{i}"][place] == pytest.approx(1, abs=1e-3)  # and not -1
    line = surface(valley(), directions="eigenvectors", ends="both", dimensions=1, resolution=5)
    assert line["curvature_0"] == pytest.approx(8, rel=1e-3)


def test_the_slice_is_held_against_the_spectrum():
    result = surface(valley(), spectrum=True, directions="gaussian", resolution=5, flow=0)
    assert result["hessian_top"] == pytest.approx(8, rel=1e-3)
    assert result["hessian_bottom"] == pytest.approx(-1, rel=1e-3)
    assert result["hessian_trace"] == pytest.approx(12.7, rel=0.02)
    assert result["trace_share"] == pytest.approx(result["plane_curvatures"].sum() / result["hessian_trace"])
    assert result["trace_share_baseline"] == 2 / 40
    assert abs(result["hessian_negative"] - 1 / 40) <= 3 * result["hessian_negative_error"]
    line = surface(valley(), spectrum=True, directions="gaussian", dimensions=1, resolution=5)
    assert line["hessian_bottom"] == pytest.approx(-1, rel=1e-3)


def test_the_convexity_map_is_that_of_the_dense_hessian():
    found = surface(context(), convexity=3, resolution=7, flow=0)
    objective = context().objective
    part = objective.slice(objective.theta, torch.stack([torch.from_numpy(found[f"direction_{i}"]) for i in (0, 1)], 1))
    for i, a in enumerate(found["convexity_alphas"]):
        for j, b in enumerate(found["convexity_betas"]):
            values = torch.linalg.eigvalsh(objective.hessian(part.point([a, b])).dense())
            size = float(values.abs().max())
            assert found["convexity_min"][i, j] == pytest.approx(float(values[0]), abs=0.03 * size)
            assert found["convexity_max"][i, j] == pytest.approx(float(values[-1]), abs=0.03 * size)
            assert found["convexity"][i, j] == pytest.approx(float(values[0]) / size, abs=0.05)


def test_convexity_in_the_plane_is_that_of_second_differences():
    alphas = betas = np.linspace(-1, 1, 5)
    a, b = np.meshgrid(alphas, betas, indexing="ij")
    assert np.allclose(plane_convexity(alphas, betas, 4 * a**2 - b**2), -0.25)
    assert np.allclose(plane_convexity(alphas, betas, 4 * a**2 + b**2), 0.25)
    assert np.allclose(plane_convexity(alphas, betas, a + b), 0)
    holed = 4 * a**2 + b**2
    holed[0, 0] = np.inf
    assert np.isnan(plane_convexity(alphas, betas, holed)[0, 0])


# -- what a cost estimate rests on ----------------------------------------------------------------------------------------


def test_what_is_prepared_once_is_not_in_the_measured_price(monkeypatch):
    timed, made = [False], []
    plan, seconds = Sweep.plan, calibration._seconds

    def making(self, *args):
        made.append(timed[0])
        return plan(self, *args)

    def timing(function):
        timed[0] = True
        try:
            return seconds(function)
        finally:
            timed[0] = False

    monkeypatch.setattr(Sweep, "plan", making)
    monkeypatch.setattr(calibration, "_seconds", timing)
    result = analysed("calibration", CalibrationSpec(), context(), None, None)
    assert made == [False]
    assert result["seconds_forward"] > 0
