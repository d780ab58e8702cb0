"""Closed forms that curvature must meet: gradient descent on quadratics, random slices, gradients through depth."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import digamma, polygamma
from torch import nn

from landscape_core.linalg import Trace, eigenpairs
from landscape_core.objective import Objective


class Quadratic(nn.Module):
    """L = x'Ax / 2 at every sample."""

    def __init__(self, matrix):
        super().__init__()
        self.x = nn.Parameter(torch.ones(len(matrix), dtype=torch.float64))
        self.register_buffer("a", matrix)

    def forward(self, inputs):
        return (0.5 * self.x @ self.a @ self.x).expand(len(inputs))


def quadratic(values):
    generator = torch.Generator().manual_seed(0)
    n = len(values)
    q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    matrix = q @ torch.diag(torch.as_tensor(values, dtype=torch.float64)) @ q.T
    return Objective(Quadratic((matrix + matrix.T) / 2), lambda o, _t: o.mean(), (torch.zeros(3, 1), torch.zeros(3)))


@pytest.mark.parametrize(("factor", "stable"), [(0.99, True), (1.01, False)])
def test_gradient_descent_is_stable_below_two_over_the_largest_eigenvalue(factor, stable):
    objective = quadratic([3.0, 1.0, 0.2, 0.01])
    rate = factor * 2 / float(eigenpairs(objective.hessian(objective.theta), 1).top[0])
    theta = objective.theta.clone()
    before = objective.loss(theta)
    for _ in range(400):
        theta = theta - rate * objective.gradient(theta)
    assert (objective.loss(theta) < before) == stable


def test_a_slice_of_a_quadratic_is_one():
    objective = quadratic([3.0, 1.0, -0.2, 0.01])
    directions = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]])
    found = objective.slice(objective.theta, directions).evaluate(points)["loss"]
    bend = found[1] - 2 * found[0] + found[2]
    assert bend == pytest.approx(float(directions[:, 0] @ (objective.hessian(objective.theta) @ directions[:, 0])))
    assert found[3] == pytest.approx(found[0] + (found[1] - found[2]) + 2 * bend)  # f(2) of the parabola through -1, 0, 1


def test_random_slices_show_the_mean_curvature():
    """For a unit Gaussian d: E d'Hd = tr H / p, Var = 2 (tr H^2 - (tr H)^2 / p) / (p (p + 2))."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    objective = Objective(model, F.cross_entropy, (torch.randn(50, 6), torch.randint(0, 4, (50,))), dtype=torch.float64)
    operator = objective.hessian(objective.theta)
    matrix, p = operator.dense(), len(objective.theta)
    d = torch.randn(p, 4000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    d = d / d.norm(dim=0)
    values = (d * (operator @ d)).sum(0)
    mean = float(matrix.trace()) / p
    variance = 2 * (float(matrix.square().sum()) - mean**2 * p) / (p * (p + 2))
    assert float(values.mean()) == pytest.approx(mean, abs=4 * (variance / 4000) ** 0.5)
    assert float(values.var()) == pytest.approx(variance, rel=0.15)
    estimate = Trace(operator, relative=0.02, max_products=4000, block=50)
    for _ in estimate:
        pass
    assert estimate.estimate == pytest.approx(p * mean, abs=4 * estimate.standard_error)


def test_gradients_through_depth_follow_the_law_of_random_matrices():
    """Through L Gaussian n x n layers of variance 1/n: E log |J'v|^2 = L (psi(n/2) + log(2/n)), Var = L psi'(n/2)."""
    n, layers, draws = 16, 20, 300
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(*[nn.Linear(n, n, bias=False) for _ in range(layers + 1)]).double()
    x, v = (torch.nn.functional.normalize(torch.randn(n, generator=generator, dtype=torch.float64), dim=0) for _ in range(2))
    objective = Objective(model, lambda o, _t: (o @ v).mean(), (x[None], torch.zeros(1)), dtype=torch.float64)
    first = objective.space.entries[0].size
    logs = []
    for _ in range(draws):
        theta = torch.randn(len(objective.theta), generator=generator, dtype=torch.float64) / n**0.5
        logs.append(float(objective.gradient(theta)[:first].square().sum().log()))  # of W_1: |(W_L ... W_2)'v|^2 |x|^2
    mean, variance = layers * (digamma(n / 2) + np.log(2 / n)), layers * polygamma(1, n / 2)
    assert np.mean(logs) == pytest.approx(mean, abs=4 * (variance / draws) ** 0.5)
    assert np.var(logs) == pytest.approx(variance, rel=0.35)
