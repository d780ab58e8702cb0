"""Subspaces and principal axes against closed forms."""

import numpy as np
import pytest
import torch

from landscape_core.linalg import basis, coordinates, cosine, orthogonalised, pca, random_walk_path, random_walk_share, share
from landscape_core.specs import InputError


def test_projection_round_trips_on_axes_of_any_norm_and_angle():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(500, generator=generator, dtype=torch.float64)
    directions = torch.stack([3 * first, 0.2 * (first + 0.5 * torch.randn(500, generator=generator, dtype=torch.float64))], 1)
    assert cosine(*directions.T) > 0.8
    wanted = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    assert torch.allclose(coordinates(directions, wanted @ directions.T), wanted, atol=1e-12)


def test_least_squares_leaves_a_residual_orthogonal_to_both_axes():
    generator = torch.Generator().manual_seed(1)
    directions, vector = torch.randn(50, 2, generator=generator), torch.randn(1, 50, generator=generator)
    rest = vector.double() - coordinates(directions, vector) @ directions.T.double()
    assert (rest @ directions.double()).abs().max() < 1e-6


def test_share_is_one_inside_zero_across_and_k_over_p_on_average():
    directions = torch.eye(6, dtype=torch.float64)[:, :2] @ torch.tensor([[1.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    assert share(directions, directions @ torch.tensor([2.0, -1.0], dtype=torch.float64)) == pytest.approx(1)
    assert share(directions, torch.eye(6)[3]) == 0
    generator = torch.Generator().manual_seed(2)
    mean = np.mean([share(torch.randn(40, 2, generator=generator), torch.randn(40, generator=generator)) for _ in range(400)])
    assert mean == pytest.approx(2 / 40, rel=0.15)


def test_orthogonalised_keeps_the_norm_and_refuses_parallel_axes():
    a, b = torch.tensor([1.0, 0, 0]), torch.tensor([2.0, 1.0, 2.0])
    found = orthogonalised(b, a)
    assert abs(float(found @ a)) < 1e-6
    assert float(found.norm()) == pytest.approx(3.0)
    with pytest.raises(InputError, match="parallel"):
        orthogonalised(2 * a, a)


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


def test_a_random_walk_on_its_principal_axes_is_a_lissajous_figure():
    path = random_walk_path(np.arange(1000), 2, centered=True)
    for i in (0, 1):
        cosine_ = np.cos(np.pi * (i + 1) * (np.arange(1000) + 0.5) / 1000)
        assert np.allclose(path[:, i] / np.abs(path[:, i]).max(), cosine_, atol=0.01)
    assert (path**2).sum() == pytest.approx(random_walk_share(np.arange(1000), 2, centered=True))
