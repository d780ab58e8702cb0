"""What is read from probes against what the eigenvalues are: errors, bounds, densities; rules of fewer steps."""

import numpy as np
import pytest
import torch

from landscape_core.linalg import Quadrature, SpectralMeasure, function_of, share_bounds, student
from landscape_core.linalg.measure import share_at_least
from landscape_core.specs import InputError

from .test_lanczos import rotated, tailed


def measured(values, probes, steps, seed=0, known=0):
    """The measure of a diagonal matrix, its `known` largest eigenvalues left to be taken exactly."""
    values = np.sort(values)
    matrix = torch.diag(torch.from_numpy(values))
    vectors = torch.eye(len(values), dtype=torch.float64)[:, len(values) - known :]
    found = Quadrature(matrix, probes, steps, seed=seed, block=probes, known=vectors)
    for _ in found:
        pass
    return found.measure(values[len(values) - known :])


def both_signs(p=600):
    """A spectrum as networks have it: eigenvalues of both signs that gather at zero, and a few large ones."""
    return np.r_[np.geomspace(1e-7, 1, 2 * p // 3), -np.geomspace(1e-7, 0.1, p // 3 - 10), np.linspace(2, 6, 10)]


def effective(c):
    return lambda t: np.maximum(t, 0) / (np.maximum(t, 0) + c)


def test_lower_rules_are_those_of_fewer_steps():
    matrix = rotated(tailed(80))
    long, short = (Quadrature(matrix, 3, steps, block=3) for steps in (20, 12))
    for found in (long, short):
        for _ in found:
            pass
    nodes, weights = long.measure()._gauss(12)
    assert np.allclose(nodes[:, :12], short.nodes)
    assert np.allclose(weights[:, :12], short.weights)
    assert not weights[:, 12:].any()


def test_anti_gauss_has_the_opposite_error():
    """Of a polynomial of one degree more than the rule integrates exactly."""
    measure = measured(np.linspace(-1, 1, 60), 1, 30)
    (x, w), (y, v) = measure._gauss(6), measure._gauss(7, 2**0.5)
    exact = float((measure.weights * measure.nodes**12).sum())
    low, high = float((w * x**12).sum()) - exact, float((v * y**12).sum()) - exact
    assert low < -1e-3 * exact
    assert high == pytest.approx(-low, rel=1e-6)


def test_a_rule_has_the_node_that_it_was_given():
    measure = measured(both_signs(), 3, 30)
    for threshold in (-0.02, 0.0, 0.3, 5.5):
        nodes, weights = measure._gauss(30, node=threshold)
        assert np.abs(nodes[:, :30] - threshold).min(1) == pytest.approx(np.zeros(3), abs=1e-8)
        for m in range(0, 2 * 30 - 2, 9):  # and keeps the moments
            assert (weights * nodes**m).sum(1) == pytest.approx((measure.weights * measure.nodes**m).sum(1), rel=1e-6)


def test_each_probe_is_enclosed():
    values, steps = np.sort(both_signs(150)), 40
    measure = measured(values, 4, steps)
    found = Quadrature(torch.diag(torch.from_numpy(values)), 4, len(values), block=4)
    for _ in found:
        pass
    for threshold in (-0.05, -1e-3, 1e-3, 0.2, 3.1):
        low, high = measure.enclosed(threshold)
        truth = (found.weights * (found.nodes < threshold)).sum(1)
        assert (low <= truth + 1e-12).all()
        assert (truth <= high + 1e-12).all()
        assert (high - low).max() < 0.9
    low, high = measure.enclosed(-1.0)
    assert not low.any()
    assert high.max() < 0.01


def test_a_space_that_is_exhausted_is_exact():
    values = np.r_[np.zeros(150), np.ones(40), np.full(10, -2.0)]
    measure = measured(values, 5, 30)
    assert measure.exact.all()
    low, high = measure.enclosed(0.5)
    assert np.array_equal(low, high)
    share = measure.share_below(0.5)
    assert share.resolved
    assert abs(share.value - 0.8) <= 3 * share.error
    assert measure.total(np.abs).unresolved == 0


def test_student_makes_two_errors_hold_as_often():
    rng = np.random.default_rng(0)
    for n in (2, 4, 8):
        draws = rng.standard_normal((40_000, n))
        error = student(n - 1) * draws.std(1, ddof=1) / n**0.5
        assert (np.abs(draws.mean(1)) <= 2 * error).mean() == pytest.approx(0.9545, abs=0.004)
    assert student(1e9) == pytest.approx(1)


def test_one_probe_has_the_error_of_the_sphere():
    """Of a sum of many eigenvalues a single probe already knows how far it is off: that of 100 seeds."""
    values = both_signs(300)
    found = [measured(values, 1, 80, seed, known=10).total(effective(0.05)) for seed in range(100)]
    errors = np.array([one.value for one in found]) - effective(0.05)(values).sum()
    stated = np.array([one.error for one in found])
    assert 0.8 < stated.mean() / errors.std() < 1.5
    assert (np.abs(errors) <= 2 * stated).mean() >= 0.9
    assert abs(errors.mean()) <= 0.5 * errors.std()


@pytest.mark.parametrize("steps", [20, 40])
@pytest.mark.parametrize("c", [1e-2, 1e-3, 1e-5])
def test_what_the_steps_do_not_resolve_is_in_the_error(c, steps):
    """Eight probes and few steps: the mean over probes is off by far more than they scatter."""
    values, hold, resolved = both_signs(), [], []
    truth = effective(c)(values).sum()
    for seed in range(20):
        measure = measured(values, 8, steps, seed)
        value, error = function_of(measure.nodes, measure.weights, effective(c), len(values))
        hold.append(abs(value - truth) <= 2 * error)
        resolved.append(measure.total(effective(c)).resolved)
    assert np.mean(hold) >= 0.95
    assert not any(resolved)


def test_a_ratio_has_the_error_of_both_its_parts():
    values = both_signs(300)
    truth = np.abs(values).sum() ** 2 / (values**2).sum()
    found = [measured(values, 3, 60, seed).total(np.abs, np.square, of=lambda a, b: a**2 / b) for seed in range(100)]
    errors, stated = np.array([one.value for one in found]) - truth, np.array([one.error for one in found])
    assert 0.8 < stated.mean() / errors.std() < 1.5
    assert (np.abs(errors) <= 2 * stated).mean() >= 0.9


@pytest.mark.parametrize(("p", "rank"), [(300, 60), (300, 20), (600, 30), (200, 199)])
def test_bounds_of_the_nullity_are_bounds_of_the_matrix(p, rank):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(p, rank, generator=generator, dtype=torch.float64)
    values = torch.linalg.eigvalsh(root @ root.T / rank).numpy()
    zero, hold = 1e-6 * values.max(), {"with p": 0, "without": 0}
    for seed in range(40):
        measure = measured(values, 8, 40, seed)
        for way, ends in (
            ("with p", [measure.share_bounds(t) for t in (-zero, zero)]),
            ("without", [share_bounds(measure.nodes, measure.weights, t) for t in (-zero, zero)]),
        ):
            (least, most), (low, high) = ends
            hold[way] += max(0, p * (low - most)) - 1e-9 <= p - rank <= p * (high - least) + 1e-9
    assert hold["with p"] >= 38
    assert hold["without"] >= 38


def test_a_density_is_as_wide_as_its_steps_resolve():
    values = both_signs()
    few, many = (measured(values, 3, steps, known=10) for steps in (15, 120))
    grid = np.linspace(-0.5, 6.5, 250)
    widths = [measure.resolved_width(grid, 0.02) for measure in (few, many)]
    assert widths[0] > 1.5 * widths[1] >= 0.03
    grid = np.linspace(-0.5, 6.5, 1001)
    for measure, width in zip((few, many), widths, strict=True):
        mean, error, _ = measure.density(grid, width)
        exact = np.exp(-0.5 * ((grid - values[:, None]) / width) ** 2).mean(0) / (width * (2 * np.pi) ** 0.5)
        seen = exact * width * (2 * np.pi) ** 0.5 * len(values) > 0.5
        assert (np.abs(mean - exact)[seen] <= 2 * error[seen] + 1e-9).mean() >= 0.8
        known = grid > 1.9
        assert np.allclose(mean[known], exact[known], atol=0.02 * exact[known].max())


def test_known_vectors_must_fit():
    with pytest.raises(InputError, match="known vectors"):
        Quadrature(torch.eye(5), 1, 3, known=torch.eye(4))
    with pytest.raises(InputError, match="known vectors"):
        Quadrature(torch.eye(5), 1, 3, known=torch.eye(5))


def test_rows_are_the_whole_measure():
    values = both_signs()
    measure = measured(values, 2, 30, known=10)
    nodes, weights = measure.rows()
    assert nodes.shape == weights.shape == (2, 40)
    assert weights.sum(1) == pytest.approx(np.ones(2))
    whole = SpectralMeasure(nodes, weights, len(values))
    assert (whole.weights * whole.nodes).sum(1) * len(values) == pytest.approx(
        measure.known.sum() + measure.size * (measure.weights * measure.nodes).sum(1)
    )


def test_the_least_share_is_one_of_what_was_seen_however_small_that_is():
    assert share_at_least(2.552e-6, 2, 259) == 2.552e-6  # of so little the law gives nothing at all in 99 of 100 cases
    for size, probes in ((259, 2), (12, 1), (100_000, 8), (None, 3)):
        least = [share_at_least(float(seen), probes, size) for seen in np.geomspace(1e-15, 1, 60)]
        assert all(0 <= low <= seen for low, seen in zip(least, np.geomspace(1e-15, 1, 60), strict=True))
    assert 0.3 < share_at_least(0.5, 2, 259) < 0.5
