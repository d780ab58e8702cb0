"""Networks of other packages: loss, gradient, spectrum and surface against plain float64 PyTorch and scipy's eigsh."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import landscape_core
from landscape_core import InputError, Objective

from .networks import CASES, Case, own_loss, t5
from .plain import Plain

DENSE = 3000  # parameters up to which the whole matrix is taken
FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


@dataclass
class Subject:
    """A case, what it is in plain float64, and that with the roundings that it has inside."""

    case: Case
    exact: Plain
    rounded: Plain

    def objective(self, dtype: torch.dtype) -> Objective:
        return Objective(self.case.model, self.case.loss, list(self.case.batches), dtype=dtype)

    def loss(self, theta: Tensor, dtype: torch.dtype) -> Any:
        """What a loss must be: to 1e-5, or to 1e-9 and what a network rounds inside."""
        plain, exact = self.rounded.loss(theta), self.exact.loss(theta)
        if dtype == torch.float32:
            return pytest.approx(exact, rel=1e-5)
        return pytest.approx(plain, rel=1e-9, abs=(4 * abs(plain - exact) + 1e-7 * abs(plain)) if self.case.rounds else 0)

    def relative(self, dtype: torch.dtype) -> float:
        """The relative error that a gradient may have."""
        return 1e-4 if dtype == torch.float32 else 1e-5 if self.case.rounds else 1e-9


@pytest.fixture(scope="module", params=list(CASES))
def subject(request: pytest.FixtureRequest) -> Subject:
    torch.manual_seed(0)
    return subject_of(CASES[request.param]())


def subject_of(case: Case) -> Subject:
    given = (case.model, case.loss, case.batches, case.weights, case.call)
    return Subject(case, Plain(*given), Plain(*given, rounded=True))


@pytest.fixture(scope="module")
def largest(subject: Subject) -> np.ndarray:
    return subject.exact.top(subject.exact.theta, 3)


def small(subject: Subject) -> None:
    """Skips what takes long with millions of parameters and tells nothing that the other tests of them do not."""
    if len(subject.exact.theta) > 1e6:
        pytest.skip("it takes long")


def spectrum(objective: Objective, **fields: Any) -> Any:
    """Three eigenvalues by Lanczos, and little else."""
    cheap = {"probes": 2, "lanczos_steps": 20, "trace_tolerance": 0.2} if len(objective.theta) > 200 else {}
    return landscape_core.compute("spectrum", objective, k=3, k_bottom=1, method="lanczos", **cheap, **fields)


def said(result: Any) -> str:
    """Everything that is printed beside the picture, which must be possible to draw."""
    landscape_core.figure(result)
    return " ".join(f"{line.name} {line.value} {line.words}" for line in landscape_core.reading(result))


@FLOATS
def test_loss_and_accuracy(subject: Subject, dtype: torch.dtype) -> None:
    found = subject.objective(dtype).evaluate()
    assert found["loss"] == subject.loss(subject.exact.theta, dtype)
    if "accuracy" in found:  # none is as good
        assert found["accuracy"] == pytest.approx(subject.case.accuracy(subject.case), abs=1e-6)


@FLOATS
def test_gradient(subject: Subject, dtype: torch.dtype) -> None:
    found, expected = subject.objective(dtype).gradient().double(), subject.exact.gradient(subject.exact.theta)
    assert float((found - expected).norm() / expected.norm()) < subject.relative(dtype)


@FLOATS
def test_largest_eigenvalues_by_lanczos(subject: Subject, largest: np.ndarray, dtype: torch.dtype) -> None:
    if dtype == torch.float64:
        small(subject)
    objective = subject.objective(dtype)
    result = spectrum(objective)
    assert result["eigenvalues_top"] == pytest.approx(largest, rel=1e-3)
    assert "nan" not in said(result)


def test_whole_matrix(subject: Subject) -> None:
    """Every eigenvalue by the dense matrix; by Lanczos, counted zeros that are there and a trace within its error."""
    if len(subject.exact.theta) > DENSE:
        pytest.skip("the matrix is large")
    expected = subject.exact.eigenvalues(subject.exact.theta)
    size = np.abs(expected).max()
    objective = subject.objective(torch.float32)
    result = landscape_core.compute("spectrum", objective, k=10, k_bottom=5, method="dense")
    assert result["eigenvalues_top"] == pytest.approx(expected[:10], rel=1e-4, abs=1e-4 * size)
    assert result["eigenvalues_bottom"] == pytest.approx(expected[:-6:-1], rel=1e-4, abs=1e-4 * size)
    assert float(result["trace"]) == pytest.approx(expected.sum(), rel=1e-4, abs=1e-4 * size)
    assert float(result["negative_share"]) == pytest.approx((expected < -1e-6 * size).mean(), abs=0.02)
    assert "nan" not in said(result)
    estimate = spectrum(objective)
    for found in (result, estimate):
        assert float(found["nullity_predicted"]) <= (np.abs(expected) <= 1e-9 * size).sum()
    assert float(estimate["trace"]) == pytest.approx(expected.sum(), abs=5 * float(estimate["trace_standard_error"]))


def test_gauss_newton(subject: Subject) -> None:
    small(subject)
    objective = subject.objective(torch.float32)
    if subject.case.loss is own_loss:  # there is no matrix between the outputs and a loss that is one of them
        with pytest.raises(InputError, match="one of the model's outputs"):
            spectrum(objective, operator="ggn")
        return
    expected = subject.exact.top_gauss_newton(subject.exact.theta, 3)
    assert spectrum(objective, operator="ggn")["eigenvalues_top"] == pytest.approx(expected, rel=1e-3)
    if subject.case.likelihood:
        assert spectrum(objective, operator="fisher")["eigenvalues_top"] == pytest.approx(expected, rel=1e-3)


def test_empirical_fisher(subject: Subject) -> None:
    small(subject)
    objective = subject.objective(torch.float32)
    if not subject.case.separate:
        with pytest.raises(InputError, match=r"gradients of single samples|one of the model's outputs"):
            spectrum(objective, operator="empirical_fisher")
        return
    expected = subject.exact.top_empirical_fisher(subject.exact.theta, 3)
    assert spectrum(objective, operator="empirical_fisher")["eigenvalues_top"] == pytest.approx(expected, rel=1e-3)


@FLOATS
def test_products_are_autograds_where_it_has_them(subject: Subject, dtype: torch.dtype) -> None:
    """What a network rounds inside is no reason to take differences, which that rounding spoils."""
    hessian = subject.objective(dtype).hessian()
    vector = torch.randn(len(subject.exact.theta), 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    product = (hessian @ vector.to(dtype)).double()
    expected = subject.exact.product(subject.exact.theta, vector[:, 0])[:, None]
    assert float((product - expected).norm() / expected.norm()) < 1e-4
    if subject.case.twice:
        assert hessian.method in ("graph", "chain"), hessian.notes
    else:
        assert any("differences" in note for note in hessian.notes)


@FLOATS
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("layers", "tied"), [(1, True), (2, False)])
def test_what_a_network_rounds_inside_spoils_no_product(layers: int, tied: bool, seed: int, dtype: torch.dtype) -> None:
    test_products_are_autograds_where_it_has_them(subject_of(t5(layers, tied=tied, seed=seed)), dtype)


@FLOATS
def test_surface(subject: Subject, dtype: torch.dtype) -> None:
    if dtype == torch.float64:
        small(subject)
    result = landscape_core.compute("surface", subject.objective(dtype), resolution=5, extent=0.5, flow=3)
    directions = torch.from_numpy(np.stack([result["direction_0"], result["direction_1"]], 1)).double()
    for i, j in ((2, 2), (0, 0), (1, 3), (4, 2), (3, 4)):
        place = torch.tensor([result["alphas"][i], result["betas"][j]])
        assert result["loss"][i, j] == subject.loss(subject.exact.theta + directions @ place, dtype)
    assert float(result["center_loss"]) == subject.loss(subject.exact.theta, dtype)
    for i in (0, 1):
        bent = directions[:, i] @ subject.exact.product(subject.exact.theta, directions[:, i])
        assert float(result[f"curvature_{i}"]) == pytest.approx(float(bent), rel=1e-3, abs=1e-3 * float(abs(bent)))
    right = subject.case.accuracy(subject.case)
    if "accuracy" in result and not math.isnan(float(result["accuracy"][2, 2])):
        assert result["accuracy"][2, 2] == pytest.approx(right, abs=1e-6)
    assert "nan" not in said(result)


def test_standard_error(subject: Subject) -> None:
    """A loss has one where it is the mean of the losses of its samples, which do not see each other."""
    small(subject)
    result = landscape_core.compute("surface", subject.objective(torch.float64), resolution=3, flow=0)
    found = float(result["center_loss_standard_error"]) if "center_loss_standard_error" in result else math.nan
    if not subject.case.rows:
        losses = subject.case.samples and subject.case.samples(subject.case)
    else:
        losses = subject.exact.row_losses(subject.exact.theta)
        if losses.mean() != pytest.approx(subject.exact.loss(subject.exact.theta), rel=1e-6):
            losses = None  # rows with more tokens count for more
    if losses is None:
        assert math.isnan(found)
    elif not subject.case.rows and math.isnan(found):
        pass  # what cannot be cut cannot be asked whether its samples see each other
    else:
        assert found == pytest.approx(losses.std(ddof=1) / math.sqrt(len(losses)), rel=1e-3)


def test_nothing_of_the_callers_changes(subject: Subject) -> None:
    small(subject)
    before = {name: value.clone() for name, value in subject.case.model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in subject.case.model.parameters()]
    modes = [module.training for module in subject.case.model.modules()]
    landscape_core.compute("surface", subject.objective(torch.float32), resolution=3, flow=0)
    after = subject.case.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert modes == [module.training for module in subject.case.model.modules()]
    for own, parameter in zip(gradients, subject.case.model.parameters(), strict=True):
        assert parameter.grad is None if own is None else torch.equal(own, parameter.grad)
