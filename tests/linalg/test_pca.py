"""Principal axes against closed forms."""

import numpy as np
import pytest
import torch

from landscape_core.linalg import basis, pca, random_walk_law, random_walk_path, random_walk_share
from landscape_core.specs import InputError


@pytest.mark.parametrize("centered", [False, True])
def test_pca_equals_the_singular_vectors_of_the_displacements(centered):
    points = torch.randn(12, 30, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    offsets = points - (points.mean(0) if centered else points[-1])
    _, singular, vectors = torch.linalg.svd(offsets, full_matrices=False)
    found = pca(points, 2, centered=centered)
    assert torch.allclose((found.axes.T @ vectors[:2].T).abs(), torch.eye(2, dtype=torch.float64), atol=1e-10)
    assert np.allclose(found.shares, (singular**2 / (singular**2).sum())[:2].numpy())
    assert torch.allclose(basis(found.axes) @ basis(found.axes).T, found.axes @ found.axes.T, atol=1e-12)


def test_pca_of_a_straight_path_has_one_axis():
    points = torch.arange(5.0)[:, None] * torch.ones(5, 9)
    assert pca(points, 1).shares[0] == pytest.approx(1)
    with pytest.raises(InputError, match="fewer than 2 dimensions"):
        pca(points, 2)


@pytest.mark.parametrize(
    ("spaced", "centered", "expected"),
    [("uniform", True, 0.761), ("log", True, 0.793), ("uniform", False, 0.900), ("log", False, 0.968)],
)
def test_random_walk_null_equals_simulation(spaced, centered, expected):
    """The figures are of simulated walks: 40 log-spaced steps, or many uniform ones."""
    steps = np.arange(1000) if spaced == "uniform" else np.unique(np.round(2000 ** (np.arange(40) / 39)))
    assert random_walk_share(steps, 2, centered=centered) == pytest.approx(expected, rel=0.01)


def test_random_walk_null_matches_a_walk_drawn_here():
    steps = np.array([0, 1, 2, 5, 9, 20, 50, 90, 150, 200])
    walk = torch.randn(201, 4000, generator=torch.Generator().manual_seed(4)).cumsum(0)[steps]
    for centered in (True, False):
        drawn = pca(walk, 2, centered=centered).shares.sum()
        assert random_walk_share(steps, 2, centered=centered) == pytest.approx(drawn, rel=0.02)
        offsets = walk - (walk.mean(0) if centered else walk[-1])
        found = offsets @ pca(walk, 2, centered=centered).axes.float() / offsets.norm()
        assert np.allclose(random_walk_path(steps, 2, centered=centered), found, atol=0.02)


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize(("count", "p"), [(10, 17), (41, 57), (30, 600), (120, 200)])
def test_the_law_of_a_walk_in_few_dimensions_is_that_of_walks_drawn_here(count, p, centered):
    rng, steps = np.random.default_rng(1), np.unique(np.geomspace(1, 2000, count).round())
    moves = np.sqrt(np.diff(steps, prepend=0))[:, None]
    drawn = []
    for _ in range(200):
        points = (moves * rng.standard_normal((steps.size, p))).cumsum(0)
        squares = np.linalg.svd(points - (points.mean(0) if centered else points[-1]), compute_uv=False) ** 2
        drawn.append(squares[:2].sum() / squares.sum())
    mean, deviation = random_walk_law(steps, 2, p, centered=centered)
    assert mean == pytest.approx(np.mean(drawn), abs=4 * deviation / 200**0.5)
    assert deviation == pytest.approx(np.std(drawn), rel=0.35)
    assert mean >= random_walk_share(steps, 2, centered=centered) - 0.3 * deviation


def test_a_random_walk_on_its_principal_axes_is_a_lissajous_figure():
    path = random_walk_path(np.arange(1000), 2, centered=True)
    for i in (0, 1):
        cosine_ = np.cos(np.pi * (i + 1) * (np.arange(1000) + 0.5) / 1000)
        assert np.allclose(path[:, i] / np.abs(path[:, i]).max(), cosine_, atol=0.01)
    assert (path**2).sum() == pytest.approx(random_walk_share(np.arange(1000), 2, centered=True))


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_axes_and_shares_know_no_scale(scale):
    points = torch.randn(8, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, plain = pca(points * scale, 2), pca(points, 2)
    assert np.allclose(found.shares, plain.shares)
    assert torch.allclose(found.axes, plain.axes)


@pytest.mark.parametrize("far", [float("nan"), float("inf")])
def test_points_that_are_not_finite_have_no_axes(far):
    points = torch.randn(6, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points[2, 3] = far
    with pytest.raises(InputError, match="not finite"):
        pca(points, 2)
