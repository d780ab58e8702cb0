"""Eigenpairs at both ends, against dense float64."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from landscape_core.linalg import Lanczos, dense_eigenpairs, eigenpairs
from landscape_core.specs import InputError


def rotated(values, seed=0):
    """A dense symmetric matrix with the given eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.as_tensor(values, dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))[0]
    matrix = q @ torch.diag(values) @ q.T
    return (matrix + matrix.T) / 2


def tailed(p=400, seed=0):
    """Like a network's: nine outliers, two negative, the bulk near zero."""
    rng = np.random.default_rng(seed)
    bulk = 0.4 * rng.random(p - 11) ** 6 - 0.02 * rng.random(p - 11) ** 3
    return np.r_[[6.4, 5.8, 4.8, 3.7, 3.3, 2.9, 2.5, 2.35, 1.96], [-0.34, -0.21], bulk]


class Counted:
    """A matrix that counts its products and remembers the widest block."""

    def __init__(self, matrix):
        self.matrix, self.shape, self.dtype, self.device = matrix, matrix.shape, matrix.dtype, matrix.device
        self.products = 0

    def __matmul__(self, vectors):
        self.products += 1 if vectors.dim() == 1 else vectors.shape[1]
        return self.matrix @ vectors


class Diagonal:
    """A diagonal operator that counts its products; `noise` of this norm comes with every product."""

    def __init__(self, values, dtype=torch.float64, noise=0.0):
        self.values = torch.as_tensor(values, dtype=dtype)
        self.shape, self.dtype, self.device = (len(values), len(values)), dtype, torch.device("cpu")
        self.products, self.noise, self.generator = 0, noise, torch.Generator().manual_seed(0)

    def __matmul__(self, vectors):
        self.products += 1 if vectors.dim() == 1 else vectors.shape[1]
        noise = torch.randn(vectors.shape, generator=self.generator, dtype=self.dtype) / len(self.values) ** 0.5
        return self.values.reshape(-1, *[1] * (vectors.dim() - 1)) * vectors + self.noise * noise


@pytest.mark.parametrize("verify", ["mix", "each"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("top", "bottom"), [(10, 0), (0, 3), (10, 2), (1, 1)])
def test_both_ends_are_those_of_the_dense_matrix(dtype, top, bottom, verify):
    matrix = rotated(tailed())
    exact, _ = dense_eigenpairs(matrix, top, bottom)
    operator = Counted(matrix.to(dtype))
    found = eigenpairs(operator, top, bottom, tolerance=1e-4, verify=verify)
    assert bool(found.top_converged.all() and found.bottom_converged.all())
    assert torch.allclose(found.top, exact.top, rtol=1e-6)
    assert torch.allclose(found.bottom, exact.bottom, atol=1e-3 * found.norm)
    assert found.products == operator.products
    for values, vectors, stated, sizes in (
        (found.top, found.top_vectors, found.top_residuals, found.top.abs()),
        (found.bottom, found.bottom_vectors, found.bottom_residuals, torch.full_like(found.bottom, found.norm)),
    ):
        v = vectors.double()
        true = (matrix @ v - v * values).norm(dim=0) / sizes
        assert torch.allclose(true, stated, atol=2e-6 if verify == "each" else 5e-6)
        assert (stated <= 1e-4).all()
        assert torch.allclose(v.T @ v, torch.eye(len(values), dtype=torch.float64), atol=1e-5)


def test_no_ghosts_after_200_steps_in_float32():
    """Without full re-orthogonalisation the largest eigenvalue comes back seven to ten times."""
    matrix = rotated(tailed(600))
    solver = Lanczos(matrix.float(), 10, 0, dtype=torch.float32)
    for _ in range(200):  # long after it would have stopped
        solver._expand()
    ritz, exact = solver.ritz(), np.linalg.eigvalsh(matrix.numpy())
    assert len(ritz) == 200
    assert (np.abs(ritz - exact[-1]) < 1e-3).sum() == 1
    assert np.allclose(ritz[::-1][:10], exact[::-1][:10], rtol=1e-4)


def test_negative_outliers_are_not_taken_for_the_top():
    values = np.r_[[3.0, 2.0, 1.0], [-9.0, -5.0], 0.01 * np.random.default_rng(0).random(200)]
    found = eigenpairs(rotated(values), 3, 2)
    assert np.allclose(found.top, [3, 2, 1], rtol=1e-3)
    assert np.allclose(found.bottom, [-9, -5], rtol=1e-3)


def softmax_matrix(k, gap):
    """The Hessian of the solvable classifier: k classes at orthonormal means, logits `gap` apart."""
    eye = torch.eye(k, dtype=torch.float64)
    p = torch.softmax(gap * eye, 1)
    return sum(torch.kron(torch.diag(p[c]) - torch.outer(p[c], p[c]), torch.outer(eye[c], eye[c])) for c in range(k)) / k


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_solvable_classifier_has_its_multiplicities(dtype):
    """P(1 - P) / (k - 1) k times, q / k k (k - 2) times, the rest zero."""
    k, gap = 6, 0.9
    large = float(np.exp(gap) / (np.exp(gap) + k - 1))
    expected = np.r_[np.full(k, large * (1 - large) / (k - 1)), np.full(k * (k - 2), (1 - large) / (k - 1) / k), np.zeros(2)]
    matrix = softmax_matrix(k, gap).to(dtype)
    found = eigenpairs(matrix, len(expected), multiples=True)
    assert np.allclose(found.top, expected, rtol=1e-3, atol=1e-6)
    assert bool(found.top_converged.all())
    assert not np.allclose(eigenpairs(matrix, 9).top, expected[:9], rtol=1e-3)  # what the option is for


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("p", [1500, 20_000])
def test_copies_are_found_above_a_spread_bulk_too(p, seed):
    """There the first vector does not run out of space: nothing but a search shows that copies are missing."""
    outliers = [6.4, 6.4, 5.8, 3.3, 3.3, 3.3, 2.5, 2.5, 1.9, 1.9, 1.2, 0.8]
    operator = Diagonal(np.r_[outliers, 0.4 * np.random.default_rng(seed).random(p - 12) ** 6, [-0.9, -0.9]])
    found = eigenpairs(operator, 10, 2, multiples=True, seed=seed)
    assert np.allclose(found.top, outliers[:10], rtol=1e-4)
    assert np.allclose(found.bottom, -0.9, rtol=1e-3)
    assert found.products == operator.products <= 110


@pytest.mark.parametrize("exponent", [0.75, 1.5])
def test_a_quadratic_with_a_fat_tail(exponent):
    values = np.arange(1, 601) ** -exponent
    matrix = rotated(values, seed=4)
    found = eigenpairs(matrix.float(), 10, 1, tolerance=1e-4)
    assert np.allclose(found.top, values[:10], rtol=1e-5)
    assert bool(found.top_converged.all())


def test_the_two_layer_linear_network_at_zero():
    """Eigenvalues +-sigma_i(M), each h times."""
    h, singular = 3, np.array([3.0, 2.0, 1.0])
    blocks = np.kron(np.array([[0, 1], [1, 0]]), np.kron(np.diag(singular), np.eye(h)))
    found = eigenpairs(torch.from_numpy(blocks), 4, 4, multiples=True)
    assert np.allclose(found.top, [3, 3, 3, 2], rtol=1e-3)
    assert np.allclose(found.bottom, [-3, -3, -3, -2], rtol=1e-3)


def test_close_pairs_are_told_apart():
    values = np.r_[[2.529, 2.507, 2.5069], 0.3 * np.random.default_rng(1).random(300)]
    found = eigenpairs(rotated(values), 3, tolerance=1e-8)
    assert np.allclose(found.top, values[:3], rtol=1e-8)


@pytest.mark.parametrize(("k", "tolerance"), [(10, 1e-3), (20, 1e-3), (10, 1e-5)])
def test_products_are_no_more_than_those_of_arpack(k, tolerance):
    """All of ours are counted, those of the verification too; over three matrices, for one may be lucky either way."""
    theirs = own = 0
    for seed in range(3):
        matrix = rotated(tailed(1000, seed), seed)
        counted, ours = Counted(matrix), Counted(matrix)
        peer = LinearOperator(matrix.shape, matvec=lambda v, a=counted: (a @ torch.from_numpy(v.ravel())).numpy(), dtype=float)
        eigsh(peer, k, which="LA", tol=tolerance, v0=np.random.default_rng(seed).standard_normal(1000))
        found = eigenpairs(ours, k, tolerance=tolerance, seed=seed)
        assert bool(found.top_converged.all())
        assert found.products == ours.products
        theirs, own = theirs + counted.products, own + ours.products
    assert own <= 1.1 * theirs


def test_memory_is_honoured_by_restarts():
    """A million parameters: the basis is never larger than the bound, nor moved to a larger place."""
    p, bound = 1_000_000, 24 * 1_000_000 * 4
    values = torch.linspace(0, 1, p) ** 8
    values[:4] = torch.tensor([9.0, 7.0, 5.0, -2.0])
    operator = Diagonal(values, torch.float32)
    solver = Lanczos(operator, 6, 1, tolerance=1e-3, memory=bound, max_products=45)
    place, largest = solver._basis.data_ptr(), 0
    for _ in solver:
        assert solver._basis.data_ptr() == place
        largest = max(largest, solver.count)
    assert solver._basis.nbytes <= bound
    assert largest == solver.rows < solver.products  # it was filled, and restarted
    assert np.allclose(solver.pairs().top[:3], [9, 7, 5], rtol=1e-5)
    assert np.allclose(solver.pairs().bottom, [-2], rtol=1e-5)
    basis = solver._basis[: solver.count].double()
    assert (basis @ basis.T - torch.eye(len(basis))).abs().max() < 1e-5  # 9e-5 if sums are taken in float32
    with pytest.raises(InputError, match="memory for 9 basis vectors"):
        Lanczos(operator, 5, 1, memory=10 * p * 4)


def test_products_have_an_end():
    operator = Diagonal(np.random.default_rng(0).random(3000))
    found = eigenpairs(operator, 10, max_products=30)
    assert found.products == operator.products == 30
    assert not bool(found.top_converged.all())
    true = (operator.values[:, None] * found.top_vectors - found.top_vectors * found.top).norm(dim=0) / found.top
    assert torch.allclose(true, found.top_residuals, rtol=1e-6)


def test_noise_in_the_products_is_not_taken_for_convergence():
    """The recursion cannot see it: only a product with the vectors found does."""
    values = tailed(2000)
    found = eigenpairs(Diagonal(values, noise=0.003), 3, tolerance=1e-4, max_products=200)
    true = (torch.from_numpy(values)[:, None] * found.top_vectors - found.top_vectors * found.top).norm(dim=0) / found.top
    assert not bool(found.top_converged.any())
    assert (found.top_residuals > true / 2).all()
    assert found.products <= 60


def test_restarts_do_not_change_the_answer():
    matrix = rotated(tailed(500))
    exact, _ = dense_eigenpairs(matrix, 10, 2)
    small = eigenpairs(matrix, 10, 2, tolerance=1e-6, memory=36 * 500 * 8)
    assert np.allclose(small.top, exact.top, rtol=1e-9)
    assert np.allclose(small.bottom, exact.bottom, atol=1e-6)


KILLED = {
    "plain": (tailed(), {"top": 10, "bottom": 2, "tolerance": 1e-5}),
    "restarts": (tailed(), {"top": 8, "tolerance": 1e-4, "memory": 26 * 400 * 8}),
    "copies": (np.r_[np.full(4, 3.0), np.full(4, 2.0), np.zeros(92)], {"top": 6, "multiples": True}),
    "copies over a bulk": (np.r_[5, 5, 4, 4, 4, tailed(300)[11:]], {"top": 5, "multiples": True}),
    "each": (tailed(), {"top": 3, "verify": "each"}),
}


@pytest.mark.parametrize("case", KILLED)
def test_what_was_killed_goes_on_with_no_product_twice(case):
    """After any product: also among restarts, in a search for copies, after the verification, at the end."""
    values, options = KILLED[case]
    whole = Lanczos(Diagonal(values), **options)
    stops = [*whole]
    for after in range(len(stops) + 1):
        first = Lanczos(Diagonal(values), **options)
        for _ in zip(range(after), first, strict=False):
            pass
        if after == len(stops):
            assert [*first] == []  # lets it end
        done = first.products
        operator = Diagonal(values)
        second = Lanczos(operator, **options, state=first.state())
        for _ in second:
            pass
        assert second.products == whole.products == done + operator.products
        assert np.allclose(second.pairs().top, whole.pairs().top, rtol=1e-12)
        assert np.allclose(second.pairs().top_residuals, whole.pairs().top_residuals, rtol=1e-3, atol=1e-12)


def test_a_state_of_another_problem_is_not_taken():
    other = Lanczos(rotated(tailed(50)), 2)
    next(iter(other))
    found = Lanczos(rotated(tailed(60)), 2, state=other.state())
    assert found.products == 0


def test_partial_pairs_come_before_the_end():
    solver = Lanczos(rotated(tailed()), 10, 2)
    seen = []
    for _ in solver:
        top, errors, bottom, _ = solver.values()
        assert len(top) == len(errors) <= 10
        seen.append(len(top) + len(bottom))
    assert seen[:3] == [1, 2, 3]
    assert seen[-1] == 12


def test_a_warm_start_between_neighbours_needs_fewer_products():
    matrix = rotated(tailed(1000))
    noise = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    neighbour = matrix + 2e-4 * (noise + noise.T)
    known = eigenpairs(matrix, 9)
    cold = [eigenpairs(neighbour, 9, seed=seed).products for seed in range(3)]
    assert eigenpairs(neighbour, 9, start=known.top_vectors).products < min(cold)


def test_small_and_empty_operators():
    assert torch.equal(eigenpairs(torch.zeros(20, 20), 3, 2).top, torch.zeros(3, dtype=torch.float64))
    assert np.allclose(eigenpairs(torch.eye(4, dtype=torch.float64), 4).top, 1)
    assert np.allclose(eigenpairs(torch.tensor([[2.5]], dtype=torch.float64), 1).top, [2.5])
    found = eigenpairs(rotated([3.0, 1.0, -1.0]), 2, 1)
    assert np.allclose(np.r_[found.top, found.bottom], [3, 1, -1])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: eigenpairs(torch.eye(3), 3, 1), "between 1 and p = 3 eigenpairs"),
        (lambda: eigenpairs(torch.eye(3), 0, 0), "between 1 and p = 3"),
        (lambda: eigenpairs(torch.zeros(3, 4), 1), "square"),
        (lambda: eigenpairs(torch.full((3, 3), torch.nan, dtype=torch.float64), 1), "not finite"),
        (lambda: eigenpairs(torch.eye(3), 1, start=torch.ones(4)), "a start must have shape"),
        (lambda: dense_eigenpairs(torch.full((3, 3), torch.inf), 1), "not finite"),
    ],
)
def test_what_cannot_be_solved_is_said_in_one_line(build, words):
    with pytest.raises(InputError, match=words) as caught:
        build()
    assert "\n" not in str(caught.value)
