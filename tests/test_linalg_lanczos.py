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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("top", "bottom"), [(10, 0), (0, 3), (10, 2), (1, 1)])
def test_both_ends_are_those_of_the_dense_matrix(dtype, top, bottom):
    matrix = rotated(tailed())
    exact, _ = dense_eigenpairs(matrix, top, bottom)
    operator = Counted(matrix.to(dtype))
    found = eigenpairs(operator, top, bottom, tolerance=1e-4)
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
        assert torch.allclose(true, stated, atol=2e-6)
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_multiple_eigenvalues_are_found_as_often_as_they_are_there(dtype):
    """The solvable classifier with k classes: one value k times, the next k (k - 2) times, the rest zero (k = 6)."""
    values = np.r_[np.full(6, 0.0191), np.full(24, 0.00865), np.zeros(220)]
    found = eigenpairs(rotated(values).to(dtype), 9, multiples=True, dtype=dtype)
    assert np.allclose(found.top, values[:9], rtol=1e-3)
    once = eigenpairs(rotated(values).to(dtype), 9, dtype=dtype)
    assert not np.allclose(once.top, values[:9], rtol=1e-3)  # what the option is for


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


def test_products_are_no_more_than_those_of_arpack():
    matrix = rotated(tailed(1000))
    counted = Counted(matrix)
    peer = LinearOperator(matrix.shape, matvec=lambda v: (counted @ torch.from_numpy(v.ravel())).numpy(), dtype=float)
    eigsh(peer, 10, which="LA", tol=1e-3)
    found = eigenpairs(matrix, 10, tolerance=1e-3)
    assert found.products <= 1.1 * counted.products  # ours verify the residuals besides


def test_memory_is_honoured_by_restarts():
    p, vectors = 100_000, 40
    diagonal = torch.linspace(0, 1, p, dtype=torch.float64) ** 8
    diagonal[:4] = torch.tensor([9.0, 7.0, 5.0, -2.0])

    class Diagonal:
        shape, dtype, device = (p, p), torch.float32, torch.device("cpu")

        def __matmul__(self, v):
            return diagonal.to(v).reshape(-1, *[1] * (v.dim() - 1)) * v

    bound = vectors * p * 4
    solver = Lanczos(Diagonal(), 5, 1, tolerance=1e-2, memory=bound, max_products=300)
    largest = 0
    for _ in solver:
        largest = max(largest, solver.state()["basis"].nbytes)
    assert solver._basis.nbytes <= bound
    assert largest <= bound
    assert np.allclose(solver.pairs().top[:3], [9, 7, 5], rtol=1e-3)
    assert np.allclose(solver.pairs().bottom, [-2], rtol=1e-2)
    with pytest.raises(InputError, match="memory for 9 basis vectors"):
        Lanczos(Diagonal(), 5, 1, memory=10 * p * 4)


def test_restarts_do_not_change_the_answer():
    matrix = rotated(tailed(500))
    exact, _ = dense_eigenpairs(matrix, 10, 2)
    small = eigenpairs(matrix, 10, 2, tolerance=1e-6, memory=36 * 500 * 8)
    assert np.allclose(small.top, exact.top, rtol=1e-9)
    assert np.allclose(small.bottom, exact.bottom, atol=1e-6)


@pytest.mark.parametrize("after", [3, 20, 33])
def test_what_was_killed_goes_on_with_no_product_twice(after):
    matrix = rotated(tailed())
    whole = eigenpairs(matrix, 10, 2, tolerance=1e-5)
    first = Lanczos(matrix, 10, 2, tolerance=1e-5)
    for _, _ in zip(range(after), first, strict=False):
        pass
    counted = Counted(matrix)
    second = Lanczos(counted, 10, 2, tolerance=1e-5, state=first.state())
    for _ in second:
        pass
    assert np.allclose(second.pairs().top, whole.top, rtol=1e-12)
    assert second.products == whole.products == after + counted.products


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
