"""The gradient is that of the loss: rewritten where PyTorch has another one, refused where nobody knows better."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from landscape_core.objective import Objective
from landscape_core.specs import InputError

TOKENS, CLASSES = 8, 3


def text() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, TOKENS, (24, 7), generator=generator)
    tokens[:, 5:] = 0
    return tokens, torch.randint(0, CLASSES, (24,), generator=generator)


class Text(nn.Module):
    def __init__(self, look_up) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(TOKENS, 4)), nn.Linear(4, CLASSES)
        self.look_up = look_up

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.look_up(tokens, self.weight)))


def mean(**options):
    return lambda tokens, weight: F.embedding(tokens, weight, **options).mean(1)


def bag(**options):
    return lambda tokens, weight: F.embedding_bag(tokens, weight, mode="mean", **options)


LOOKUPS = {
    "padding": mean(padding_idx=0),
    "frequency": mean(scale_grad_by_freq=True),
    "sparse": mean(sparse=True),
    "all": mean(padding_idx=-1, scale_grad_by_freq=True, sparse=True),
    "bag": bag(),
    "sparse bag": bag(sparse=True),
    "frequency bag": bag(scale_grad_by_freq=True),
}


def made(look_up) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Text(look_up).double()


def plain_derivatives(batch) -> tuple[Tensor, Tensor]:
    model = made(None)
    tokens, y = batch
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def f(theta):
        w, a, b = (t.view(s) for t, s in zip(theta.split([32, 12, 3]), ((TOKENS, 4), (3, 4), (3,)), strict=True))
        return F.cross_entropy(F.linear(torch.tanh(w[tokens].mean(1)), a, b), y)

    return torch.func.grad(f)(theta), torch.func.hessian(f)(theta)


@pytest.mark.parametrize("name", LOOKUPS)
def test_embeddings_have_the_derivatives_of_their_value(name):
    batch = text()
    gradient, hessian = plain_derivatives(batch)
    given = Objective(made(LOOKUPS[name]), F.cross_entropy, [batch])
    assert torch.allclose(given.gradient(), gradient, rtol=1e-10, atol=1e-14)
    operator = given.hessian()
    found = operator.dense()
    assert (found - hessian).abs().max() <= 1e-6 * hessian.abs().max()
    assert (operator.method == "differences") == ("bag" in name)
    if "bag" in name:
        assert "good to about" in operator.notes[0]


def test_modules_of_embeddings_too():
    tokens, y = text()
    for options in ({"padding_idx": 0}, {"scale_grad_by_freq": True}, {"sparse": True}):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            layers = (nn.Embedding(TOKENS, 4, **options), nn.Flatten(), nn.Linear(28, CLASSES))
            model = nn.Sequential(*layers).double()
        given = Objective(model, F.cross_entropy, [(tokens, y)])
        free = nn.Sequential(nn.Embedding(TOKENS, 4), nn.Flatten(), nn.Linear(28, CLASSES)).double()
        free.load_state_dict(model.state_dict())
        expected = Objective(free, F.cross_entropy, [(tokens, y)])
        assert torch.allclose(given.gradient(), expected.gradient(), rtol=1e-12, atol=1e-15)


class Again(nn.Module):
    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first, self.before = first, nn.Linear(5, 5)
        self.body, self.head = nn.Sequential(nn.Tanh(), nn.Linear(5, 5)), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.body, x if self.first else self.before(x), use_reentrant=True))


@pytest.mark.parametrize("first", [True, False])
def test_checkpoints_that_reenter_are_computed_at_once(first):
    x, y = torch.randn(20, 5, dtype=torch.float64), torch.randint(0, 3, (20,))
    model = Again(first).double()
    plain = nn.Sequential(*([] if first else [model.before]), model.body, model.head)
    given, expected = Objective(model, F.cross_entropy, [(x, y)]), Objective(plain, F.cross_entropy, [(x, y)])
    parts, others = given.space.split(given.gradient()), expected.space.split(expected.gradient())
    assert torch.allclose(parts["head.weight"], [*others.values()][-2], rtol=1e-12)
    assert torch.allclose(parts["body.1.weight"], [*others.values()][-4], rtol=1e-12)
    assert (given.hessian() @ torch.ones_like(given.theta)).norm() > 0
    assert torch.utils.checkpoint.CheckpointFunction.__dict__.get("apply") is None  # PyTorch's own again


class Straight(torch.autograd.Function):
    """Rounds, and says that it did not."""

    @staticmethod
    def forward(ctx, x):
        return torch.sign(x)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Doubled(torch.autograd.Function):
    """A square whose derivative is off by a factor."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        return 4 * grad * ctx.saved_tensors[0]


@pytest.mark.parametrize("wrong", [Straight.apply, Doubled.apply, lambda x: x**2 + (x.detach() ** 3)])
def test_a_gradient_that_is_not_the_losss_is_refused_and_values_are_not(wrong):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.last(wrong(self.first(x)))

    x, y = torch.randn(20, 5, dtype=torch.float64), torch.randint(0, 3, (20,))
    model = Net().double()
    given = Objective(model, F.cross_entropy, [(x, y)])
    assert given.loss() == pytest.approx(float(F.cross_entropy(model(x), y)), rel=1e-10)
    for ask in (given.gradient, lambda: given.hessian() @ given.theta):
        with pytest.raises(InputError, match="autograd's gradient is not that of the loss"):
            ask()


class Rounding(nn.Module):
    """A norm that computes in float32, whatever the model does."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.weight, self.kind = nn.Parameter(torch.ones(12)), kind

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.to(self.kind).pow(2).mean(-1, keepdim=True) + 1e-6))


def deep(kind: torch.dtype, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [layer for _ in range(4) for layer in (nn.Linear(12, 12), nn.Tanh(), Rounding(kind))]
        model = nn.Sequential(*layers, nn.Linear(12, 3)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)
    return model


@pytest.mark.parametrize("seed", range(3))
def test_rounding_inside_a_model_is_no_wrong_derivative(seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(30, 12, generator=generator).double(), torch.randint(0, 3, (30,), generator=generator)
    given = Objective(deep(torch.float32, seed), F.cross_entropy, [(x, y)])
    expected = Objective(deep(torch.float64, seed), F.cross_entropy, [(x, y)])
    v = torch.randn(given.space.size, generator=generator).double()
    operator = given.hessian()
    true = expected.hessian() @ v
    assert (operator @ v - true).norm() <= 1e-3 * true.norm()
    assert operator.method == "graph"
    assert operator.notes == ()
    assert given.separate()


def test_coarser_rounding_inside_accuses_nobody_either():
    class Coarse(nn.Linear):
        def forward(self, x):
            return super().forward(x.to(torch.bfloat16).to(x.dtype))

    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(30, 12, generator=generator).double(), torch.randint(0, 3, (30,), generator=generator)
    for seed in range(4):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), Coarse(12, 12), nn.Tanh(), Coarse(12, 3)).double()
        given = Objective(model, F.cross_entropy, [(x, y)])
        parts = torch.autograd.grad(F.cross_entropy(model(x), y), [*model.parameters()])
        assert torch.allclose(given.gradient(), torch.cat([g.reshape(-1) for g in parts]), rtol=1e-9)


@pytest.mark.parametrize(
    ("squash", "off"),
    [(F.hardsigmoid, "differences"), (nn.Hardsigmoid(), "differences")],
)
def test_functions_without_second_derivative_have_products_by_differences(squash, off):
    class Net(nn.Module):
        def __init__(self, squash):
            super().__init__()
            self.first, self.last, self.squash = nn.Linear(5, 6), nn.Linear(6, 3), squash

        def forward(self, x):
            return self.last(self.squash(self.first(x)))

    x, y = torch.randn(20, 5, dtype=torch.float64), torch.randint(0, 3, (20,))
    model = Net(squash).double()
    same = Net(lambda z: (z / 6 + 0.5).clamp(0, 1)).double()
    same.load_state_dict(model.state_dict())
    given, expected = (Objective(m, F.cross_entropy, [(x, y)]) for m in (model, same))
    v = torch.randn(given.space.size, 2, dtype=torch.float64)
    for kind in ("hessian", "gauss_newton", "fisher", "empirical_fisher"):
        operator, true = getattr(given, kind)(), getattr(expected, kind)() @ v
        assert (operator @ v - true).norm() <= 1e-6 * true.norm(), kind
        assert "differences" in " ".join(operator.notes)
    assert given.hessian().method in ("auto", off)


def test_what_is_not_finite_is_named():
    x, y = torch.randn(12, 5, dtype=torch.float64), torch.randint(0, 3, (12,))

    class Centres(nn.Module):
        def __init__(self, power):
            super().__init__()
            self.centres, self.head, self.power = nn.Parameter(x[:4].clone()), nn.Linear(4, 3), power

        def forward(self, x):
            d = torch.linalg.norm(x[:, None] - self.centres[None], dim=2)
            return self.head(torch.exp(-(d**self.power)))

    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return x[:, :3] + self.weight.abs().sum().sqrt()

    second = Objective(Centres(2).double(), F.cross_entropy, [(x, y)])
    with pytest.raises(InputError, match="own second derivative is not finite"):
        second.hessian() @ second.theta
    first = Objective(Root().double(), F.cross_entropy, [(x, y)])
    with pytest.raises(InputError, match="own gradient is not finite"):
        first.hessian() @ torch.ones(3).double()
    far = Objective(nn.Linear(5, 3).double(), F.cross_entropy, [(x, y)])
    with pytest.raises(InputError, match="the weights are not finite"):
        far.hessian(torch.full_like(far.theta, torch.nan)) @ far.theta


@pytest.mark.parametrize("width", [3, 4])
def test_complex_weights_as_pairs_stand_at_any_place(width):
    class Fourier(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.pairs = nn.Linear(4, width), nn.Parameter(torch.randn(4, 2))
            self.head = nn.Linear(width, 3)

        def forward(self, x):
            turned = torch.fft.rfft(self.before(x), dim=1) * torch.view_as_complex(self.pairs)[None, :, None]
            return self.head(torch.tanh(torch.fft.irfft(turned, dim=1)).mean(1))

    x, y = torch.randn(12, 6, 4, dtype=torch.float64), torch.randint(0, 3, (12,))
    model = Fourier().double()
    given = Objective(model, F.cross_entropy, [(x, y)])
    loss = F.cross_entropy(model(x), y)
    parameters = [*model.parameters()]
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    assert given.loss() == pytest.approx(float(loss), rel=1e-10)
    assert torch.allclose(given.gradient(), torch.cat([g.detach().reshape(-1) for g in gradient]), rtol=1e-9)
    v = torch.randn(given.space.size, dtype=torch.float64)
    inner = sum((g * w).sum() for g, w in zip(gradient, given.space.split(v).values(), strict=True))
    expected = torch.cat([h.reshape(-1) for h in torch.autograd.grad(inner, parameters)])
    assert torch.allclose(given.hessian() @ v, expected, rtol=1e-8, atol=1e-12)
