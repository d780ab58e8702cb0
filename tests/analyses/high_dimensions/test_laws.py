"""The laws of chance against published figures, against each other and against draws."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import digamma, polygamma

from landscape_core.analyses.high_dimensions import laws
from landscape_core.specs import InputError

RNG = np.random.default_rng(0)
DRAWS = 20_000


def test_a_radius_larger_by_a_hair_in_175_billion_dimensions():
    """(1 + 1e-10)^(1.75e11) = e^17.5 to rounding; a naive float64 power is off by 1.5e-6, float32 gives 1."""
    assert math.exp(laws.log_volume_ratio(1e-10, 1.75e11)) == pytest.approx(39_824_784.36, rel=1e-9)
    assert abs((1 + 1e-10) ** 1.75e11 / 39_824_784.36 - 1) > 1e-6
    assert laws.cube_diagonal(1.75e11) / 1000 == pytest.approx(418.330, abs=1e-3)


@pytest.mark.parametrize("d", [2, 3, 10, 300])
def test_angles_of_random_vectors(d):
    a, b = RNG.standard_normal((2, DRAWS, d))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosines.std() == pytest.approx(laws.cosine_deviation(d), rel=0.02)
    assert np.abs(cosines).mean() == pytest.approx(laws.mean_cosine(d), rel=0.02)
    for share in (0.5, 0.99):
        assert (np.abs(cosines) < laws.cosine_bound(d, share)).mean() == pytest.approx(share, abs=0.012)
    angles = np.linspace(0, math.pi, 20_001)
    density = laws.angle_density(angles, d)
    density /= density.sum()
    assert (density * np.cos(angles) ** 2).sum() == pytest.approx(1 / d, rel=1e-3)


def test_large_dimensions_tend_to_a_normal_law():
    for d in (1e6, 1e12):
        assert laws.cosine_bound(d) * math.sqrt(d) == pytest.approx(2.5758, rel=1e-4)
        assert laws.mean_cosine(d) * math.sqrt(d) == pytest.approx(math.sqrt(2 / math.pi), rel=1e-5)
    assert laws.cosine_bound(1) == 1
    assert laws.mean_cosine(1) == pytest.approx(1)


@pytest.mark.parametrize(("k", "d"), [(1, 4), (2, 30), (5, 50)])
def test_the_share_of_a_random_vector_in_a_plane(k, d):
    v = RNG.standard_normal((DRAWS, d))
    shares = (v[:, :k] ** 2).sum(1) / (v**2).sum(1)
    assert shares.mean() == pytest.approx(laws.plane_share(k, d), rel=0.03)
    low, high = laws.plane_share_bounds(k, d)
    assert ((shares > low) & (shares < high)).mean() == pytest.approx(0.99, abs=0.004)
    assert laws.plane_share_bounds(d, d) == (1, 1)


@pytest.mark.parametrize("d", [1, 3, 100, 9_999, 10_001])
def test_norms_of_random_vectors_lie_in_a_shell_that_gets_no_thicker(d):
    norms = np.sqrt(RNG.chisquare(d, DRAWS))
    assert norms.mean() == pytest.approx(laws.norm_mean(d), rel=0.02)
    assert norms.std() == pytest.approx(laws.norm_deviation(d), rel=0.03)
    assert laws.norm_mean(d) ** 2 + laws.norm_deviation(d) ** 2 == pytest.approx(d, rel=1e-9)
    assert laws.norm_deviation(1e12) == pytest.approx(1 / math.sqrt(2), rel=1e-9)


def test_both_ways_to_a_norm_meet():
    edge = laws.LARGE
    assert laws.norm_deviation(edge * (1 - 1e-9)) == pytest.approx(laws.norm_deviation(edge), rel=1e-6)
    assert laws.norm_mean(edge * (1 - 1e-12)) == pytest.approx(laws.norm_mean(edge), rel=1e-10)


def test_balls_and_cubes():
    assert math.exp(laws.log_ball_volume(3)) == pytest.approx(4 / 3 * math.pi)
    assert math.exp(laws.log_inscribed_share(2)) == pytest.approx(math.pi / 4)
    assert laws.outer_share(0.1, 3) == pytest.approx(1 - 0.9**3)
    assert laws.outer_share(1.0, 3) == 1
    for d in (1, 3, 1e9):
        assert laws.outer_share(laws.outer_half(d), d) == pytest.approx(0.5)


def test_the_gain_of_a_wide_layer_is_no_difference_of_large_numbers():
    assert laws.log_gain(1, 1e12)[0] == pytest.approx(-1e-12, rel=1e-9, abs=0)
    assert laws.log_gain(1, laws.LARGE)[0] == pytest.approx(laws.log_gain(1, laws.LARGE * (1 - 1e-9))[0], rel=1e-7)


def test_products_of_random_matrices():
    """Fifty of width 64: -0.785 and 1.59; in draws -0.743 and 1.63."""
    mean, variance = laws.log_gain(50, 64)
    assert (mean, variance) == pytest.approx((-0.785, 1.587), abs=1e-3)
    assert mean == pytest.approx(50 * (digamma(32) + np.log(2 / 64)))
    assert variance == pytest.approx(50 * polygamma(1, 32))


def test_the_profile_of_gradients_is_that_of_random_relu_layers():
    """|delta_l| |h_(l-1)| of single samples through 6 random layers of width 200, biases as large as the signal."""
    sizes = [50, 200, 200, 200, 200, 200, 10]
    squares, count = np.zeros(6), 40
    for _ in range(count):
        weights = [RNG.standard_normal((b, a)) * 1.1 / math.sqrt(a) for a, b in itertools.pairwise(sizes)]
        biases = [0.3 * RNG.standard_normal(b) for b in sizes[1:]]
        h, below, slopes = RNG.standard_normal(50), [], []
        for weight, bias in zip(weights, biases, strict=True):
            below.append(h @ h)
            z = weight @ h + bias
            slopes.append(z > 0)
            h = np.maximum(z, 0)
        delta, above = RNG.standard_normal(10), []
        for weight, slope in zip(reversed(weights), reversed([np.ones(50, bool), *slopes[:-1]]), strict=True):
            above.append(delta @ delta)
            delta = slope * (weight.T @ delta)
        squares += np.array(below) * np.array(above[::-1]) / (10 * count)
    shapes = [(b, a) for a, b in itertools.pairwise(sizes)]
    law = laws.depth_profile(shapes, [1.21 * b for b in sizes[1:]], [0.09 * b for b in sizes[1:]], 50.0)
    np.testing.assert_allclose(np.sqrt(squares / squares[-1]), law, rtol=0.15)
    he, usual = (laws.depth_profile([(64, 64)] * 20, [64 * gain] * 20, [0.0] * 20, 1.0) for gain in (2, 1 / 3))
    np.testing.assert_allclose(he, 1)  # of both ways each layer takes the factor that the other gives
    np.testing.assert_allclose(usual, 1)
    growing = laws.depth_profile([(64, 64)] * 20, [64 / 3] * 20, [64.0] * 20, 1.0)
    assert growing[1] / growing[-1] == pytest.approx(
        6 ** (-18 / 2), rel=0.5
    )  # the biases keep the signal, so only the way back counts
    deep = laws.depth_profile([(4, 4)] * 3000, [1.0] * 3000, [0.0] * 3000, 1.0)
    assert deep[-1] == 1
    assert np.isfinite(deep).all()


def test_flat_eigenvalues_of_a_random_matrix():
    matrix = RNG.standard_normal((800, 800))
    values = np.linalg.eigvalsh(matrix + matrix.T)
    assert (np.abs(values) < 0.2 * np.abs(values).max()).mean() == pytest.approx(laws.semicircle_share(0.2), rel=0.05)
    assert laws.semicircle_share(1e-4) == pytest.approx(4e-4 / math.pi, rel=1e-6)
    assert laws.semicircle_share(1) == pytest.approx(1)


def test_rank_correlation():
    a = np.array([1.0, 2, 3, np.nan, 5])
    assert laws.rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert laws.rank_correlation(a, -a) == pytest.approx(-1)
    assert laws.rank_correlation(np.array([1.0, 1, 2, 2]), np.array([3.0, 3, 4, 4])) == pytest.approx(1)  # ties
    assert math.isnan(laws.rank_correlation(a[:2], a[:2]))
    assert math.isnan(laws.rank_correlation(a, np.ones(5)))


@pytest.mark.parametrize(
    "ask",
    [
        lambda: laws.cosine_bound(0),
        lambda: laws.norm_mean(math.nan),
        lambda: laws.plane_share(5, 3),
        lambda: laws.log_volume_ratio(-1, 3),
        lambda: laws.log_gain(3, 0),
    ],
)
def test_what_is_no_dimension_is_one_line(ask):
    with pytest.raises(InputError) as error:
        ask()
    assert "\n" not in str(error.value)
