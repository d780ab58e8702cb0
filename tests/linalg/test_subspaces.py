"""Subspaces against closed forms."""

import numpy as np
import pytest
import torch

from landscape_core.linalg import coordinates, cosine, orthogonalised, share
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
