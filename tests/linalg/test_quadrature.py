"""Stochastic Lanczos quadrature against moments and dense spectra."""

import numpy as np
import pytest
import torch

from landscape_core.linalg import Quadrature, density, function_of, share_below, share_bounds, spectral_density
from landscape_core.linalg.operators import random_direction
from landscape_core.specs import InputError

from .test_lanczos import Counted, rotated, tailed


def ran(operator, *arguments, **options):
    found = Quadrature(operator, *arguments, **options)
    for _ in found:
        pass
    return found


def test_moments_are_exact_up_to_twice_the_steps():
    """Sum_i w_i theta_i^m = v'A^m v for m <= 2k - 1, and no further."""
    matrix, steps = rotated(tailed(120)), 5
    found = ran(matrix, 2, steps)
    v = power = random_direction(120, 0, 0, torch.float64, torch.device("cpu"))
    gaps = []
    for m in range(2 * steps + 1):
        exact = float(v @ power)
        gaps.append(abs(float((found.weights[0] * found.nodes[0] ** m).sum()) - exact) / abs(exact))
        power = matrix @ power
    assert max(gaps[:-1]) < 1e-10
    assert gaps[-1] > 1e-10


@pytest.mark.parametrize("block", [1, 3, 8])
def test_blocks_change_the_cost_and_not_the_answer(block):
    matrix = rotated(tailed(80))
    one, many = ran(matrix, 5, 12), ran(matrix, 5, 12, block=block)
    assert np.allclose(one.nodes, many.nodes)
    assert np.allclose(one.weights, many.weights)
    assert many.products == 60


def test_errors_over_probes_cover_the_truth():
    values = tailed(150)
    matrix, misses = rotated(values), []
    effective = (np.maximum(values, 0) / (np.maximum(values, 0) + 0.1)).sum()
    for seed in range(20):
        found = ran(matrix, 8, 25, seed=seed)
        estimate, error = function_of(found.nodes, found.weights, lambda t: np.maximum(t, 0) / (np.maximum(t, 0) + 0.1), 150)
        misses.append((estimate - effective) / error)
    assert 10 <= (np.abs(misses) < 1.4).sum() <= 20  # 80 per cent of Student's t with 7 degrees of freedom
    assert np.abs(misses).max() < 8


def test_the_negative_share_is_within_its_error():
    values = np.r_[np.full(30, -1.0), np.linspace(0.5, 1.0, 70)]
    found = ran(rotated(values), 20, 30)
    share, error = share_below(found.nodes, found.weights, -0.1)
    assert abs(share - 0.3) <= 3 * error < 0.5
    low, high = share_bounds(found.nodes, found.weights, -0.1)
    assert (share, error) == pytest.approx(((low + high) / 2, (high - low) / 2))
    hold = 0
    for seed in range(40):
        one = ran(torch.diag(torch.from_numpy(values)), 1, 30, seed=seed)
        (low, high), (least, most) = (share_bounds(one.nodes, one.weights, -0.1, p) for p in (100, None))
        assert 0 < least < low < high < most < 1  # without p it may be a smaller matrix, whose probes vary more
        hold += low <= 0.3 <= high
    assert hold >= 38


def test_the_density_is_not_renormalised():
    found = ran(rotated(tailed(200)), 4, 40)
    whole = np.linspace(-2, 9, 4000)
    mean, error, mass = density(found.nodes, found.weights, whole, 0.05)
    assert mass == pytest.approx(1, abs=1e-6)
    assert np.trapezoid(mean, whole) == pytest.approx(1, abs=1e-3)
    assert (error >= 0).all()
    part = np.linspace(1.0, 9, 4000)
    mean, _, mass = density(found.nodes, found.weights, part, 0.05)
    assert 0 < mass < 0.2
    assert np.trapezoid(mean, part) == pytest.approx(mass, abs=1e-3)
    assert np.isnan(density(found.nodes[:1], found.weights[:1], whole, 0.05)[1]).all()


def test_small_spaces_and_multiples_end_early_and_exactly():
    found = ran(rotated([3.0, 3.0, 3.0, -1.0]), 6, 50)
    assert found.steps == 4
    estimate, _ = function_of(found.nodes, found.weights, lambda t: t, 4)
    assert estimate == pytest.approx(float((found.weights * found.nodes).sum(1).mean() * 4))
    assert np.allclose(found.weights.sum(1), 1)
    assert ((np.abs(found.nodes - 3) < 1e-9) | (np.abs(found.nodes + 1) < 1e-9) | (found.weights < 1e-12)).all()
    assert np.allclose(ran(torch.zeros(9, 9), 2, 5).nodes, 0)


@pytest.mark.parametrize("block", [1, 3])
def test_what_was_killed_goes_on_with_no_product_twice(block, monkeypatch):
    matrix = rotated(tailed(100))
    whole = ran(matrix, 4, 10, block=block)
    for after in range(len([*Quadrature(matrix, 4, 10, block=block)]) + 1):
        first = Quadrature(matrix, 4, 10, block=block)
        for _ in zip(range(after), first, strict=False):
            pass
        counted = Counted(matrix)
        second = ran(counted, 4, 10, block=block, state=first.state())
        assert np.allclose(second.nodes, whole.nodes, rtol=1e-12)
        assert counted.products == 40 - first.products
        assert second.products == 40
    monkeypatch.setattr("landscape_core.linalg.quadrature.STATE_BYTES", 100)  # too little for the vectors of a block
    first = Quadrature(matrix, 4, 10)
    for _ in zip(range(25), first, strict=False):
        pass
    counted = Counted(matrix)
    assert np.allclose(ran(counted, 4, 10, state=first.state()).nodes, whole.nodes)
    assert counted.products == 20  # two probes were done


def test_a_product_that_is_not_finite_is_said():
    with pytest.raises(InputError, match="not finite"):
        ran(torch.full((5, 5), torch.nan, dtype=torch.float64), 1, 3)


def test_memory_cuts_the_steps_and_says_so():
    found = Quadrature(rotated(tailed(100)), 4, 60, block=4, memory=100 * 8 * 40)
    assert found.block * found.steps <= 40


def test_what_cannot_be_done_is_said():
    with pytest.raises(InputError, match="at least 1"):
        Quadrature(torch.eye(3), 0)


def test_one_call_gives_the_density_of_the_dense_spectrum():
    """Against the kernel summed over all eigenvalues, within the error that it states."""
    values = tailed(200)
    matrix = rotated(values)
    found = spectral_density(matrix, probes=16, steps=80, width=0.3)
    t = found.grid
    exact = np.exp(-0.5 * ((t[:, None] - values) / 0.3) ** 2).mean(1) / (0.3 * np.sqrt(2 * np.pi))
    assert found.density.shape == found.error.shape == t.shape
    assert found.nodes.shape == found.weights.shape == (16, 80)
    assert (np.abs(found.density - exact) <= 4 * found.error + 1e-3 * exact.max()).mean() > 0.99
    assert found.mass == pytest.approx(1, abs=1e-6)
    assert np.trapezoid(found.density, t) == pytest.approx(found.mass, abs=1e-3)
    assert found.products == 16 * 80
    by_hand = ran(matrix, 16, 80)
    assert np.array_equal(found.nodes, by_hand.nodes)
    assert np.array_equal(found.density, density(by_hand.nodes, by_hand.weights, t, 0.3, 200)[0])
    # Without p only how the probes differ can be said; it is about the same.
    plain, spread, mass = density(by_hand.nodes, by_hand.weights, t, 0.3)
    assert np.allclose(plain, found.density, atol=0.02 * exact.max())
    assert 0.5 < np.median(spread / found.error) < 2
    assert mass == found.mass


def test_a_probe_of_all_steps_gives_the_eigenvalues_themselves():
    values = np.array([-1.0, 0.5, 2.0, 7.0])
    found = spectral_density(rotated(values), probes=1, steps=9)
    assert np.allclose(found.nodes, values)
    assert (found.error > 0).any()  # that of p, since one probe says nothing of its own error
    assert found.width == pytest.approx(0.007 * 8)
    assert found.grid[[0, -1]] == pytest.approx([-1 - 5 * found.width, 7 + 5 * found.width])
    one = spectral_density(3 * torch.eye(5, dtype=torch.float64), grid=np.linspace(2, 4, 11))
    assert (one.width, one.mass) == (3e-6, 1)
    assert one.density[5] == one.density.max()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0.0}, "width"),
        ({"grid": np.array([1.0])}, "grid"),
        ({"grid": np.array([1.0, 0.0])}, "grid"),
        ({"probes": 0}, "probes"),
    ],
)
def test_a_density_that_cannot_be_had_is_refused_in_one_line(options, words):
    with pytest.raises(InputError, match=words):
        spectral_density(rotated(np.arange(4.0)), **options)
