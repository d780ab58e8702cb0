"""The Hessian operator against dense torch.func matrices and closed forms."""

import functools

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

from landscape_core.objective import Objective
from landscape_core.specs import InputError

from ..cases import CASES, Case, Referee, hooked, mlp, parametrized, relu_mlp, sizes_of, tanh_mlp

SMALL = [case for case in CASES if case.curvature]


def objective(case: Case, dtype=torch.float64) -> Objective:
    return Objective(*case.build(dtype), dtype=dtype, **case.options)


def dense(operator) -> torch.Tensor:
    return operator @ torch.eye(operator.shape[0], dtype=operator.theta.dtype)


@functools.cache
def reference(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A point beside the given weights, and the dense float64 Hessian there."""
    referee = Referee(next(case for case in CASES if case.name == name))
    theta = referee.theta + 0.1 * torch.randn(len(referee.theta), generator=torch.Generator().manual_seed(1)).double()
    return theta, referee.hessian(theta)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_the_hessian_is_the_dense_one(case):
    """Entry by entry in float64 to 1e-10 of the largest; in float32 on random vectors, to 1e-4."""
    theta, expected = reference(case.name)
    operator = objective(case).hessian(theta)
    found = dense(operator)
    assert operator.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-10 * expected.abs().max()
    assert (found - found.T).abs().max() <= 1e-10 * expected.abs().max()

    vectors = torch.randn(len(theta), 6, generator=torch.Generator().manual_seed(2)).double()
    single = objective(case, torch.float32).hessian(theta.float()) @ vectors.float()
    assert single.dtype == torch.float32
    assert (single.double() - expected @ vectors).norm() <= 1e-4 * (expected @ vectors).norm()


# -- closed forms -----------------------------------------------------------------------------------------------------


def sample(n=20, features=5, classes=4):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, features, generator=g, dtype=torch.float64), torch.randint(0, classes, (n,), generator=g)


def test_linear_regression_has_the_hessian_of_its_inputs():
    """(2 / NC) I_C (x) X'X for the mean over samples and outputs."""
    x, _ = sample()
    model = nn.Linear(5, 3, bias=False).double()
    batches = [(x[:13], torch.ones(13, 3)), (x[13:], torch.ones(7, 3))]
    found = dense(Objective(model, F.mse_loss, batches).hessian())
    assert torch.allclose(found, 2 / (20 * 3) * torch.kron(torch.eye(3).double(), x.T @ x), atol=1e-13)


def test_softmax_regression_has_its_hessian_and_zero_modes():
    """(1/N) sum (diag p - pp') (x) xx'; adding one vector to every class's weights changes nothing."""
    x, y = sample()
    torch.manual_seed(0)
    model = nn.Linear(5, 4, bias=False).double()
    found = dense(Objective(model, F.cross_entropy, [(x[:3], y[:3]), (x[3:], y[3:])]).hessian())
    p = (x @ model.weight.detach().T).softmax(1)
    expected = sum(torch.kron(torch.diag(q) - torch.outer(q, q), torch.outer(a, a)) for q, a in zip(p, x, strict=True)) / 20
    assert torch.allclose(found, expected, atol=1e-13)
    eigenvalues = torch.linalg.eigvalsh(found)
    assert int((eigenvalues.abs() < 1e-12).sum()) == 5
    shift = torch.randn(5, dtype=torch.float64).repeat(4)
    assert (found @ shift).norm() < 1e-12


@pytest.mark.parametrize("dead", [0, 2])
def test_a_hidden_layer_has_its_exact_zero_modes(dead):
    """(h+1) from the softmax's shift and h for each input that is constant."""
    x, y = sample(60)
    x[:, :dead] = 0.3
    torch.manual_seed(0)
    found = dense(Objective(mlp(5, 4, 4).double(), F.cross_entropy, (x, y)).hessian())
    eigenvalues = torch.linalg.eigvalsh(found)
    assert int((eigenvalues.abs() <= 1e-10 * eigenvalues.abs().max()).sum()) == 5 + 4 * dead


@pytest.mark.parametrize(("activation", "equal"), [(nn.ReLU, True), (nn.Tanh, False)])
def test_the_trace_is_that_of_the_gauss_newton_matrix_for_relu_only(activation, equal):
    """The residual part has no diagonal where the outputs are piecewise linear in each weight."""
    x, y = sample(40)
    torch.manual_seed(0)
    model = mlp(5, 6, 5, 4, activation=activation).double()
    trace = dense(Objective(model, F.cross_entropy, (x, y)).hessian()).trace()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    jacobians = torch.func.jacrev(lambda q: torch.func.functional_call(model, q, (x,)))(parameters)
    jacobian = torch.cat([j.flatten(2) for j in jacobians.values()], 2)  # (n, classes, p)
    p = model(x).softmax(1).detach()
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    gauss_newton = torch.einsum("ncp,ncd,ndp->", jacobian, middle, jacobian) / len(x)
    assert (abs(trace - gauss_newton) < 1e-12 * trace.abs()) == equal


def test_the_solvable_classifier_has_its_two_eigenvalues():
    """K classes, one orthonormal point each, at the solution e^s + (k-1)s = 1 + t of gradient flow from zero."""
    k, t = 6, 10.0
    low, high = 0.0, 5.0
    for _ in range(80):
        s = (low + high) / 2
        low, high = (s, high) if torch.tensor(s).exp() + (k - 1) * s < 1 + t else (low, s)
    model = nn.Linear(k, k, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(s * (torch.eye(k) - 1 / k))
    means = Objective(model, F.cross_entropy, (torch.eye(k), torch.arange(k)))
    p = float(torch.tensor(s, dtype=torch.float64).exp())
    right, wrong = p / (p + k - 1), 1 / (p + k - 1)
    eigenvalues, vectors = torch.linalg.eigh(dense(means.hessian()))
    assert torch.allclose(eigenvalues[-k:], torch.full((k,), right * wrong, dtype=torch.float64), rtol=1e-9)
    middle = eigenvalues[-k - k * (k - 2) : -k]
    assert torch.allclose(middle, torch.full_like(middle, wrong / k), rtol=1e-9)
    assert eigenvalues[: -k - k * (k - 2)].abs().max() < 1e-15
    gradient = means.gradient()
    assert float((vectors[:, -k:].T @ gradient).norm() / gradient.norm()) == pytest.approx(1, abs=1e-12)


def test_the_toy_saddle_and_its_valley():
    """L = (ab - 1)^2: eigenvalues +-2 at the origin, {0, 2(a^2 + b^2)} on the valley."""

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))

        def forward(self, x):
            return self.a * self.b * x

    toy = Objective(Product().double(), lambda o, t: ((o - t) ** 2).mean(), (torch.ones(1), torch.ones(1)))
    assert torch.linalg.eigvalsh(dense(toy.hessian())).tolist() == pytest.approx([-2, 2])
    valley = torch.tensor([2.0, 0.5], dtype=torch.float64)
    assert torch.linalg.eigvalsh(dense(toy.hessian(valley))).tolist() == pytest.approx([0, 8.5])


@pytest.mark.parametrize("model", [tanh_mlp, parametrized, hooked])
def test_curvature_agrees_with_differences_of_gradients(model):
    case = Case("smooth", model, F.cross_entropy, sizes_of(4))
    given = objective(case)
    v = torch.randn(given.space.size, generator=torch.Generator().manual_seed(0)).double()
    difference = (given.gradient(given.theta + 1e-5 * v) - given.gradient(given.theta - 1e-5 * v)) / 2e-5
    assert torch.allclose(given.hessian() @ v, difference, atol=1e-8)


class Sparse(nn.Module):
    """A sparse operator of the graph times features."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, graph, x):
        return torch.tanh(torch.sparse.mm(graph, self.linear(x)))


class Droppy(nn.Module):
    """Attention with dropout that ignores the evaluation mode, inside activation checkpointing."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 3)

    def attend(self, x):
        q = self.inner(x)[:, None]
        return F.scaled_dot_product_attention(q, q, q, dropout_p=0.4)[:, 0]

    def forward(self, x):
        return self.outer(torch.utils.checkpoint.checkpoint(self.attend, x, use_reentrant=False).mean(1))


def final(outputs, targets):
    return F.cross_entropy(outputs[0][:, -1], targets)


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
WORDS = torch.arange(12).view(6, 2) % 7
STEPS = torch.stack([X, X.flip(0), -X], 1)
OTHERS = {
    "lstm": (lambda: nn.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True, dropout=0.5), STEPS, final),
    "lstm-projection": (lambda: nn.LSTM(4, 5, proj_size=3, batch_first=True), STEPS, final),
    "rnn": (lambda: nn.RNN(4, 3, batch_first=True), STEPS, final),
    "packed": (
        lambda: nn.GRU(4, 3),
        nn.utils.rnn.pack_sequence([X[:5], X[:3], X[:2], X[2:4], X[:1], X[1:2]]),
        lambda o, t: F.cross_entropy(o[1][-1], t),
    ),
    "multihead": (lambda: nn.MultiheadAttention(4, 2, batch_first=True), (STEPS, STEPS, STEPS), final),
    "encoder-decoder": (
        lambda: nn.Transformer(4, 2, 1, 1, 5, batch_first=True),
        (STEPS, STEPS.flip(1)),
        lambda o, t: F.cross_entropy(o.mean(1), t),
    ),
    "sparse-input": (Sparse, (torch.eye(6).roll(1, 0).to_sparse(), X), F.cross_entropy),
    "sparse-gradient": (
        lambda: nn.Sequential(nn.Embedding(7, 2, sparse=True), nn.Flatten(), nn.Tanh(), nn.Linear(4, 3)),
        WORDS,
        F.cross_entropy,
    ),
    "orthogonal": (lambda: nn.utils.parametrizations.orthogonal(nn.Linear(4, 3)), X, F.cross_entropy),
    "hooked-spectral-norm": (lambda: nn.utils.spectral_norm(nn.Linear(4, 3)), X, F.cross_entropy),
    "checkpointed-dropout": (Droppy, X[:, None].repeat(1, 3, 1), F.cross_entropy),
    "upsampling": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 4)),
            nn.ConvTranspose1d(1, 2, 3),
            nn.Upsample(scale_factor=2),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(24, 3),
        ),
        X,
        F.cross_entropy,
    ),
    "label-smoothing": (lambda: nn.Bilinear(2, 2, 3), (X[:, :2], X[:, 2:]), nn.CrossEntropyLoss(label_smoothing=0.1)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_slopes_and_curvature_of_other_layers_agree_with_differences(name):
    build, inputs, loss = OTHERS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
    given = Objective(model, loss, [(inputs, torch.arange(6) % 3)], dtype=torch.float64)
    v = torch.randn(given.space.size, generator=torch.Generator().manual_seed(0)).double()
    theta, step = given.theta + 0.1 * v.roll(1), 1e-5 * v
    slope = (given.loss(theta + step) - given.loss(theta - step)) / 2e-5
    assert float(given.gradient(theta) @ v) == pytest.approx(slope, rel=1e-6, abs=1e-8)
    change = (given.gradient(theta + step) - given.gradient(theta - step)) / 2e-5
    assert (given.hessian(theta) @ v - change).norm() <= 1e-6 * change.norm()
    if name in ("sparse-input", "checkpointed-dropout"):  # which cannot be cut, or draws by the size of the batch
        with pytest.raises(InputError, match="see each other"):
            given.sample_losses(theta)
    elif name != "packed":
        assert len(given.sample_losses(theta)) == 6


# -- manners ----------------------------------------------------------------------------------------------------------


def test_an_operator_keeps_its_point_and_takes_blocks_of_any_width():
    given = objective(Case("relu", relu_mlp, F.cross_entropy, sizes_of(4)))
    theta = given.theta.clone()
    operator, v = given.hessian(theta), torch.ones(len(theta)).double()
    before = operator @ v
    theta.add_(1)
    given.loss(theta)
    assert torch.equal(operator @ v, before)
    assert torch.allclose((operator @ torch.stack([v, 2 * v], 1))[:, 1], 2 * before)
    assert (operator @ v[:, None]).shape == (len(theta), 1)
    assert (operator @ torch.zeros(len(theta), 0)).shape == (len(theta), 0)
    assert given.counts["products"] == 5
    with pytest.raises(InputError, match=r"vectors must have shape"):
        operator @ torch.ones(3)


def test_a_loss_without_curvature_gives_zeros():
    x, _ = sample()
    linear = Objective(nn.Linear(5, 1).double(), lambda o, t: o.mean(), (x, x))
    assert float((linear.hessian() @ torch.ones(6)).abs().max()) == 0
    constant = Objective(nn.Linear(5, 4).double(), lambda o, t: (o.argmax(1) != t).double().mean(), sample())
    assert float((constant.hessian() @ torch.ones(24)).abs().max()) == 0


def test_a_model_without_second_derivative_is_refused_in_one_line():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad

    x, y = sample()
    once = Objective(nn.Linear(5, 4).double(), lambda o, t: F.cross_entropy(Once.apply(o) ** 2, t), (x, y))
    assert once.gradient().norm() > 0
    with pytest.raises(InputError, match=r"cannot be differentiated twice.*once_differentiable") as caught:
        once.hessian() @ torch.ones(24)
    assert "\n" not in str(caught.value)
