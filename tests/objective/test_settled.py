"""The loss is one function of theta: what moves is held still or refused, what is the caller's stays as it is."""

import functools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape_core.objective import Objective
from landscape_core.specs import InputError

SAMPLES = 24


def data(features: int = 5, classes: int = 3, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(SAMPLES, features, generator=generator).to(dtype),
        torch.randint(0, classes, (SAMPLES,), generator=generator),
    )


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))


def small(dtype=torch.float64, make=mlp) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().to(dtype)


def repeats(given: Objective) -> float:
    """The loss, the same however often it is asked, on its own and at many points."""
    values = [given.loss() for _ in range(3)]
    line = given.slice(given.theta, torch.ones(given.space.size, 1).to(given.theta)).evaluate(np.array([[0.0], [0.1], [0.0]]))
    assert values[0] == values[1] == values[2]
    assert np.allclose(line["loss"][[0, 2]], values[0], rtol=1e-5)
    return values[0]


# -- what moves -----------------------------------------------------------------------------------------------------------


class Counting:
    """A loss that weighs by how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return F.cross_entropy(outputs, targets) * self.calls


def counting_variable():
    calls = 0

    def loss(outputs, targets):
        nonlocal calls
        calls += 1
        return F.cross_entropy(outputs, targets) * calls

    return loss


def counting_list():
    seen: list[float] = []

    def loss(outputs, targets):
        seen.append(1.0)
        return F.cross_entropy(outputs, targets) * len(seen)

    return loss


class CountingModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return F.cross_entropy(outputs, targets) * self.calls


@pytest.mark.parametrize("make", [Counting, counting_variable, counting_list, CountingModule])
def test_a_loss_that_counts_its_calls_is_the_loss_of_the_first(make):
    x, y = data()
    loss = make()
    given = Objective(small(), loss, [(x, y)])
    expected = float(F.cross_entropy(small()(x), y))
    assert repeats(given) == pytest.approx(expected, rel=1e-12)
    assert any("every call starts from" in note for note in given.notes)
    if isinstance(loss, Counting):
        assert loss.calls == 0  # the caller's own never counted


def generator_of_torch():
    generator = torch.Generator().manual_seed(3)
    return lambda o, t: F.cross_entropy(o + torch.randn(o.shape, generator=generator, dtype=o.dtype), t)


def generator_of_numpy():
    generator = np.random.default_rng(3)
    return lambda o, t: F.cross_entropy(o + torch.from_numpy(generator.normal(size=o.shape)).to(o), t)


NOISY = {
    "torch": lambda: lambda o, t: F.cross_entropy(o + torch.randn_like(o), t),
    "torch in place": lambda: lambda o, t: F.cross_entropy(o + torch.empty_like(o).uniform_(-1, 1), t),
    "dropout": lambda: lambda o, t: F.cross_entropy(F.dropout(o, 0.5, training=True), t),
    "numpy": lambda: lambda o, t: F.cross_entropy(o + torch.from_numpy(np.random.normal(size=o.shape)).to(o), t),
    "random": lambda: lambda o, t: F.cross_entropy(o * random.random(), t),
    "a generator of torch": generator_of_torch,
    "a generator of numpy": generator_of_numpy,
}


@pytest.mark.parametrize("name", NOISY)
def test_noise_in_a_loss_is_one_draw_the_same_in_both_arithmetics(name):
    x, y = data()
    double = Objective(small(), NOISY[name](), [(x, y)])
    single = Objective(small(torch.float32), NOISY[name](), [(x.float(), y)])
    before = torch.get_rng_state(), np.random.get_state()[2], random.getstate()
    one, two = repeats(double), repeats(single)
    assert two == pytest.approx(one, rel=1e-5)
    assert double.notes
    after = torch.get_rng_state(), np.random.get_state()[2], random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


class Drawing(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.1 * torch.randn_like(x) + 0.1 * torch.rand(x.shape[1], device=x.device))


def test_noise_in_a_model_is_one_draw_the_same_in_both_arithmetics():
    x, y = data()
    double = Objective(small(torch.float64, lambda: Drawing(5, 3)), F.cross_entropy, [(x, y)])
    single = Objective(small(torch.float32, lambda: Drawing(5, 3)), F.cross_entropy, [(x.float(), y)])
    assert repeats(single) == pytest.approx(repeats(double), rel=1e-5)
    assert "the model draws random numbers" in double.notes[0]


class Stateful(nn.Module):
    """Goes on from where the batch before ended."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.state = nn.GRU(5, 3, batch_first=True), None

    def forward(self, x: Tensor) -> Tensor:
        out, state = self.cell(x[:, None], self.state)
        self.state = state.detach()
        return out[:, -1]


def test_state_on_a_module_begins_where_the_model_was_given():
    x, y = data()
    model = small(torch.float64, Stateful)
    expected = float(F.cross_entropy(small(torch.float64, Stateful)(x), y))
    given = Objective(model, F.cross_entropy, [(x, y)])
    assert repeats(given) == pytest.approx(expected, rel=1e-12)
    assert repeats(given.to(torch.float32)) == pytest.approx(expected, rel=1e-5)
    assert "attribute 'state'" in given.notes[0]
    assert model.state is None
    assert given.gradient().isfinite().all()


def test_what_moves_out_of_reach_is_refused_in_one_line():
    x, y = data()

    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets) + float(np.random.default_rng().normal())

    with pytest.raises(InputError, match="the loss is no function of the weights"):
        Objective(small(), loss, [(x, y)]).loss()


# -- what is the caller's -------------------------------------------------------------------------------------------------


def scaling(outputs, targets):
    return F.mse_loss(outputs, targets.div_(255.0))


def through_numpy(outputs, targets):
    targets.numpy()[:] *= 0.5
    return F.mse_loss(outputs, targets.clone())


def test_targets_and_inputs_that_are_written_into_stay_the_callers():
    class Centred(nn.Linear):
        def forward(self, x):
            return super().forward(x.sub_(x.mean(0)))

    x, t = data()[0], torch.rand(SAMPLES, 3, dtype=torch.float64) * 255
    kept = x.clone(), t.clone()
    model = small(torch.float64, lambda: Centred(5, 3))
    given = Objective(model, scaling, [(x, t)])
    with torch.no_grad():
        expected = float(F.mse_loss(F.linear(x - x.mean(0), model.weight, model.bias), t / 255))
    assert repeats(given) == pytest.approx(expected, rel=1e-10)
    assert torch.equal(x, kept[0])
    assert torch.equal(t, kept[1])


# -- a loss that refers to more than its arguments ----------------------------------------------------------------------------

GLOBAL = small()


def by_global(outputs, targets):
    return F.cross_entropy(outputs, targets) + sum((p**2).sum() for p in GLOBAL.parameters())


def by_closure(model):
    return lambda o, t: F.cross_entropy(o, t) + sum((p**2).sum() for p in model.parameters())


def by_list(model):
    weights = [*model.parameters()]
    return lambda o, t: F.cross_entropy(o, t) + sum((p**2).sum() for p in weights)


def by_partial(model):
    def loss(model, o, t):
        return F.cross_entropy(o, t) + sum((p**2).sum() for p in model.parameters())

    return functools.partial(loss, model)


class Penalised(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, o, t):
        return F.cross_entropy(o, t) + sum((p**2).sum() for p in self.model.parameters())


def by_helper(model):
    def penalty():
        return sum((p**2).sum() for p in model.parameters())

    return lambda o, t: F.cross_entropy(o, t) + penalty()


@pytest.mark.parametrize("make", [lambda m: by_global, by_closure, by_list, by_partial, Penalised, by_helper])
def test_a_penalty_on_the_model_moves_with_theta(make):
    x, y = data()
    model = GLOBAL
    kept = [p.clone() for p in model.parameters()]
    given, plain = Objective(model, make(model), [(x, y)]), Objective(model, F.cross_entropy, [(x, y)])
    theta = 1.5 * given.theta
    assert given.loss(theta) == pytest.approx(plain.loss(theta) + float(theta @ theta), rel=1e-12)
    assert torch.allclose(given.gradient(theta), plain.gradient(theta) + 2 * theta, rtol=1e-12)
    v = torch.ones_like(theta)
    assert torch.allclose(given.hessian(theta) @ v, plain.hessian(theta) @ v + 2 * v, rtol=1e-9)
    many = given.slice(theta, v[:, None]).evaluate(np.linspace(-0.1, 0.1, 5)[:, None])["loss"]
    assert np.allclose(many, [given.loss(theta + c * v) for c in np.linspace(-0.1, 0.1, 5)], rtol=1e-12)
    with pytest.raises(InputError, match="take the Hessian"):
        given.gauss_newton() @ v
    assert all(torch.equal(a, b) for a, b in zip(kept, model.parameters(), strict=True))


def test_weights_of_the_caller_that_cannot_be_replaced_are_refused_in_one_line():
    x, y = data()
    model = small()

    class Hidden:
        def __getattr__(self, name):
            return model

    hidden = Hidden()
    loss = lambda o, t: F.cross_entropy(o, t) + (hidden.anything[0].weight ** 2).sum()  # noqa: E731
    with pytest.raises(InputError, match=r"reads 0\.weight of the model that was given"):
        Objective(model, loss, [(x, y)]).loss()


def test_class_weights_and_masks_in_closures_follow_the_arithmetic():
    x, y = data()
    weights, mask = torch.tensor([1.0, 2.0, 0.5]), (torch.arange(SAMPLES) % 3 > 0).float()
    weighted = lambda o, t: F.cross_entropy(o, t, weight=weights)  # noqa: E731
    masked = lambda o, t: (F.cross_entropy(o, t, reduction="none") * mask).sum() / mask.sum()  # noqa: E731
    for loss in (weighted, masked):
        single = Objective(small(torch.float32), loss, [(x.float(), y)])
        double = single.to(torch.float64)
        expected = float(
            F.cross_entropy(small()(x), y, weight=weights.double())
            if loss is weighted
            else (F.cross_entropy(small()(x), y, reduction="none") * mask.double()).sum() / mask.double().sum()
        )
        assert single.loss() == pytest.approx(expected, rel=1e-5)
        assert double.loss() == pytest.approx(expected, rel=1e-6)
        assert not single.separate()
        assert (single.hessian() @ torch.ones(single.space.size)).isfinite().all()


def hooked(shared: bool):
    store: dict[str, Tensor] = {}
    model = small()
    if shared:
        model[0].register_forward_hook(lambda m, i, o: store.__setitem__("a", o))
        return model, lambda o, t: F.cross_entropy(o, t) + 0.1 * store["a"].pow(2).mean()

    class Auxiliary(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.extra = inner, None

        def forward(self, x):
            self.extra = self.inner[0](x).pow(2).mean()
            return self.inner(x)

    outer = Auxiliary(model)
    return outer, lambda o, t: F.cross_entropy(o, t) + 0.1 * outer.extra


@pytest.mark.parametrize("shared", [True, False], ids=["a hook's dictionary", "an attribute of the model"])
def test_what_a_model_leaves_for_its_loss_belongs_to_the_same_point(shared):
    x, y = data()
    model, loss = hooked(shared)
    given = Objective(model, loss, [(x[:16], y[:16]), (x[16:], y[16:])])
    assert given.found().entangled
    d = torch.randn(given.space.size, 2, generator=torch.Generator().manual_seed(1)).double()
    points = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 2), -1).reshape(-1, 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = given.slice(given.theta, d).evaluate(points)["loss"]
    finally:
        torch.set_num_threads(threads)

    def plain(theta):
        parts = given.space.split(theta)
        prefix = "" if shared else "inner."
        total = 0.0
        for a, b in ((x[:16], y[:16]), (x[16:], y[16:])):
            z = F.linear(a, parts[prefix + "0.weight"], parts[prefix + "0.bias"])
            out = F.linear(z.tanh(), parts[prefix + "2.weight"], parts[prefix + "2.bias"])
            total = total + len(b) * (F.cross_entropy(out, b) + 0.1 * z.pow(2).mean())
        return total / len(y)

    expected = [float(plain(given.theta + d @ torch.from_numpy(p))) for p in points]
    assert np.allclose(found, expected, rtol=1e-10)
    theta = given.theta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(plain(theta), theta, create_graph=True)
    assert torch.allclose(given.gradient(), gradient.detach(), rtol=1e-9)
    (product,) = torch.autograd.grad(gradient @ d[:, 0], theta)
    assert torch.allclose(given.hessian() @ d[:, 0], product, rtol=1e-8)


# -- units, structure -----------------------------------------------------------------------------------------------------


def spread_loss(o, t):
    return torch.sqrt(F.mse_loss(o, t))


def variance(o, t):
    return (o - t).var()


@pytest.mark.parametrize("loss", [spread_loss, variance])
@pytest.mark.parametrize("unit", [1e-9, 1e-6, 1.0, 1e6])
def test_a_loss_of_the_whole_batch_is_known_in_every_unit(loss, unit):
    x = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0))
    t = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.05, 3, 4000)[:, None]

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small(torch.float32)

        def forward(self, x):
            return unit * self.net(x)

    given = Objective(Scaled(), loss, [(x, unit * t)])
    double = given.to(torch.float64)
    expected = float(loss(unit * small()(x.double()), unit * t.double()))
    assert not given.separate()
    assert double.loss() == pytest.approx(expected, rel=1e-6)
    line = given.slice(given.theta, torch.ones(given.space.size, 1)).evaluate(np.linspace(-0.1, 0.1, 5)[:, None])["loss"]
    assert line[2] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_separate_samples_are_known_in_every_unit(unit):
    x, y = data()
    assert Objective(small(), lambda o, t: unit * F.cross_entropy(o, t), [(x, y)]).separate()


def test_rounding_to_float32_inside_is_not_taken_for_samples_that_see_each_other():
    generator = torch.Generator().manual_seed(5)
    for rows in (6, 10, 17):
        x, y = torch.randn(rows, 5, generator=generator).double(), torch.randint(0, 3, (rows,), generator=generator)
        batches = [(x[:4], y[:4]), (x[4:], y[4:])]
        assert Objective(small(), lambda o, t: F.cross_entropy(o.float(), t), batches).separate()
        assert Objective(small(), lambda o, t: F.cross_entropy(o.float(), t).double(), batches).separate()
        assert not Objective(small(), lambda o, t: spread_loss(o.float(), F.one_hot(t, 3).float()), batches).separate()


def test_models_and_losses_that_derive_inside_have_values_and_curvature():
    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1))

        def forward(self, t):
            with torch.enable_grad():
                t = t.detach().clone().requires_grad_(True)
                u = self.net(t)
                return torch.autograd.grad(u.sum(), t, create_graph=True)[0] + u

    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1))

        def forward(self, x):
            x = x.requires_grad_()
            return self.net(x), x

    def penalty(o, t):
        slope = torch.autograd.grad(o[0].sum(), o[1], create_graph=True)[0]
        return o[0].mean() + ((slope.norm(dim=1) - 1) ** 2).mean()

    t = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None]
    for model, loss in ((Energy(), F.mse_loss), (Critic(), penalty)):
        model.double()
        expected = float(loss(model(t.clone()), torch.zeros_like(t)).detach())
        given = Objective(model, loss, [(t, torch.zeros_like(t))])
        assert repeats(given) == pytest.approx(expected, rel=1e-10)
        assert (given.hessian() @ torch.ones(given.space.size).double()).norm() > 0
        assert not t.requires_grad


def test_outputs_that_are_the_loss_itself():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small()

        def forward(self, x, y):
            return F.cross_entropy(self.net(x), y)

    x, y = data()
    given = Objective(Own(), lambda o, t: o, [((x, y), y)])
    assert repeats(given) == pytest.approx(float(F.cross_entropy(small()(x), y)), rel=1e-12)
    plain = Objective(small(), F.cross_entropy, [(x, y)])
    v = torch.ones_like(given.theta)
    assert torch.allclose(given.hessian() @ v, plain.hessian() @ v, rtol=1e-9)
    with pytest.raises(InputError, match="the loss is one of the model's outputs"):
        given.gauss_newton() @ v


def test_a_loss_of_training_mode_alone_is_refused_in_one_line():
    class Detector(nn.Linear):
        def forward(self, x):
            out = super().forward(x)
            return {"loss": out.square().mean()} if self.training else {"scores": out}

    x, y = data()
    with pytest.raises(InputError, match="in training mode only"):
        Objective(Detector(5, 3).double(), lambda o, t: o["loss"], [(x, y)]).loss()


def test_the_first_look_costs_at_most_four_losses_and_two_gradients():
    x, y = data()
    given = Objective(small(), F.cross_entropy, [(x, y)])
    given.loss()
    given.loss()
    assert (given.counts["check_losses"], given.counts["check_gradients"], given.counts["forwards"]) == (2, 0, 2)
    given.gradient()
    given.gradient()
    assert (given.counts["check_losses"], given.counts["check_gradients"], given.counts["gradients"]) == (4, 2, 2)


# -- where a loss keeps the model and what it needs --------------------------------------------------------------------------


def written(source: str, module: str = "userscript", **names):
    """What a source text defines, as in a script or module of that name."""
    place = {"F": F, "nn": nn, "__name__": module, **names}
    exec(source, place)
    return place


PENALTY = "0.1 * sum(p.pow(2).sum() for p in NET.parameters())"
KEEPING = {
    "a global of a method": (
        "class L:\n"
        "    def __call__(self, o, t): return F.cross_entropy(o, t, weight=W) + self.pen()\n"
        f"    def pen(self): return {PENALTY}\n"
        "loss = L()\n"
    ),
    "a global of a bound method": (
        f"class L:\n    def pen(self, o, t): return F.cross_entropy(o, t, weight=W) + {PENALTY}\nloss = L().pen\n"
    ),
    "a global of a module": (
        f"class L(nn.Module):\n    def forward(self, o, t): return F.cross_entropy(o, t, weight=W) + {PENALTY}\nloss = L()\n"
    ),
    "an ordered dict": (
        "from collections import OrderedDict\n"
        "held = OrderedDict(net=NET, w=W)\n"
        "def make(held):\n"
        "    def loss(o, t): return F.cross_entropy(o, t, weight=held['w']) + "
        "0.1 * sum(p.pow(2).sum() for p in held['net'].parameters())\n"
        "    return loss\n"
        "loss = make(held)\n"
    ),
    "a named tuple": (
        "from collections import namedtuple\n"
        "held = namedtuple('Held', 'net w')(NET, W)\n"
        "def loss(o, t): return F.cross_entropy(o, t, weight=held.w) + "
        "0.1 * sum(p.pow(2).sum() for p in held.net.parameters())\n"
    ),
    "slots": (
        "class Held:\n"
        "    __slots__ = ('net', 'w')\n"
        "held = Held()\n"
        "held.net, held.w = NET, W\n"
        "def loss(o, t): return F.cross_entropy(o, t, weight=held.w) + "
        "0.1 * sum(p.pow(2).sum() for p in held.net.parameters())\n"
    ),
}


@pytest.mark.parametrize("module", ["userscript", "torch_losses", "math_utils"])
@pytest.mark.parametrize("where", KEEPING)
def test_the_model_and_its_weights_are_found_wherever_a_loss_keeps_them(where, module):
    x, y = data(dtype=torch.float32)
    model = small(torch.float32)
    weight = torch.tensor([0.5, 1.0, 2.0])
    given = Objective(model, written(KEEPING[where], module, NET=model, W=weight)["loss"], [(x, y)])
    theta = given.theta + 0.1
    double = small().double()
    nn.utils.vector_to_parameters(theta.double(), double.parameters())
    expected = F.cross_entropy(double(x.double()), y, weight=weight.double()) + 0.1 * theta.double().pow(2).sum()
    slope = (
        torch.cat(
            [
                g.reshape(-1)
                for g in torch.autograd.grad(
                    F.cross_entropy(double(x.double()), y, weight=weight.double()), [*double.parameters()]
                )
            ]
        )
        + 0.2 * theta.double()
    )
    assert given.loss(theta) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert torch.allclose(given.gradient(theta).double(), slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("module", ["userscript", "random_losses"])
def test_a_counter_is_found_in_a_module_of_any_name(module):
    x, y = data()
    source = (
        "STEP = 0\n"
        "class L:\n"
        "    def __call__(self, o, t): return F.cross_entropy(o, t) * self.ramp()\n"
        "    def ramp(self):\n"
        "        global STEP\n"
        "        STEP += 1\n"
        "        return STEP\n"
    )
    place = written(source, module)
    given = Objective(small(), place["L"](), [(x, y)])
    assert repeats(given) == pytest.approx(float(F.cross_entropy(small()(x), y).detach()), rel=1e-12)


VIEWS = {"a view": lambda model: model[0].weight.view(-1), "a detached one": lambda model: model[0].weight.data}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("view", VIEWS)
def test_views_of_the_callers_weights_are_refused_in_every_arithmetic(view, dtype):
    x, y = data(dtype=dtype)
    model = small(dtype)
    w = VIEWS[view](model)
    given = Objective(model, lambda o, t: F.cross_entropy(o, t) + w.norm(), [(x, y)])
    for kind in (torch.float32, torch.float64):
        for _ in range(2):
            with pytest.raises(InputError, match="which stay as they are"):
                given.to(kind).loss()


class Emptying(nn.Module):
    """Takes its inputs out of the dict they come in."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"scores": self.net(batch.pop("x")), "more": batch["y"]}


def test_what_takes_entries_out_of_its_arguments_has_a_dict_of_its_own():
    x, y = data()
    batch = {"x": x, "y": y}

    def loss(outputs, targets):
        outputs["scores"] -= outputs["scores"].mean(1, keepdim=True)
        return F.cross_entropy(outputs["scores"], targets.pop("y"))

    given = Objective(small(make=Emptying), loss, [((batch,), {"y": y})])
    assert repeats(given) == pytest.approx(float(F.cross_entropy(small(make=Emptying).net(x), y).detach()), rel=1e-12)
    assert given.gradient().isfinite().all()
    assert (given.hessian() @ given.theta).isfinite().all()
    assert (given.gauss_newton() @ given.theta).isfinite().all()
    assert batch.keys() == {"x", "y"}


def test_a_loss_that_writes_into_outputs_has_curvature():
    x, y = data()

    def loss(outputs, targets):
        outputs -= outputs.mean(1, keepdim=True)
        return F.cross_entropy(outputs, targets)

    v = torch.ones_like(Objective(small(), F.cross_entropy, [(x, y)]).theta)
    products = [Objective(small(), each, [(x, y)]).hessian() @ v for each in (loss, F.cross_entropy)]
    assert torch.allclose(*products, rtol=1e-9, atol=1e-12)


# -- what a loss clears after it has read it -----------------------------------------------------------------------------------


def clears_a_list(model):
    kept: list[Tensor] = []
    model[1].register_forward_hook(lambda *call: kept.append(call[2]))

    def loss(outputs, targets):
        value = F.cross_entropy(outputs, targets) + kept[-1].pow(2).mean()
        kept.clear()
        return value

    return loss


def pops_from_a_dict(model):
    kept: dict[str, Tensor] = {}
    model[1].register_forward_hook(lambda *call: kept.update(hidden=call[2]))
    return lambda outputs, targets: F.cross_entropy(outputs, targets) + kept.pop("hidden").pow(2).mean()


def clears_a_variable(model):
    kept = None

    def hook(*call):
        nonlocal kept
        kept = call[2]

    def loss(outputs, targets):
        nonlocal kept
        value = F.cross_entropy(outputs, targets) + kept.pow(2).mean()
        kept = None
        return value

    model[1].register_forward_hook(hook)
    return loss


def clears_an_attribute(model):
    model[1].register_forward_hook(lambda module, _, found: setattr(module, "kept", found))

    def loss(outputs, targets):
        value = F.cross_entropy(outputs, targets) + model[1].kept.pow(2).mean()
        model[1].kept = None
        return value

    return loss


def reads_the_models_own_dict(model):
    model[1].features = features = {"hidden": torch.ones(SAMPLES, 6)}
    model[1].register_forward_hook(lambda module, _, found: module.features.update(hidden=found))
    return lambda outputs, targets: F.cross_entropy(outputs, targets) + features["hidden"].pow(2).mean()


LEAVING = [clears_a_list, pops_from_a_dict, clears_a_variable, clears_an_attribute, reads_the_models_own_dict]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", LEAVING)
def test_what_a_loss_clears_is_what_the_model_left_at_that_point(make, dtype):
    x, y = data(dtype=dtype)
    model = small(dtype)
    batches = [(x[:14], y[:14]), (x[14:], y[14:])]
    given = Objective(model, make(model), batches)
    double = small()

    def expected(theta):
        weights = dict(zip(dict(double.named_parameters()), nn_split(theta, double), strict=True))

        def one(x, y):
            hidden = torch.tanh(F.linear(x.double(), weights["0.weight"], weights["0.bias"]))
            return F.cross_entropy(F.linear(hidden, weights["2.weight"], weights["2.bias"]), y) + hidden.pow(2).mean()

        return sum(len(b) * one(a, b) for a, b in batches) / SAMPLES

    axis = torch.linspace(-1, 1, given.space.size, dtype=torch.float64)
    points = np.linspace(-1, 1, 6)[:, None]
    center = given.theta.double()
    found = given.slice(given.theta, axis[:, None].to(dtype)).evaluate(points)["loss"]
    assert np.allclose(found, [float(expected(center + axis * c)) for c in points[:, 0]], rtol=1e-5)
    slope = torch.func.grad(expected)(center)
    assert torch.allclose(given.gradient().double(), slope, rtol=1e-4, atol=1e-6)
    product = torch.func.jvp(torch.func.grad(expected), (center,), (axis,))[1]
    assert torch.allclose((given.hessian() @ axis.to(dtype)).double(), product, rtol=1e-3, atol=1e-5)


def nn_split(theta: Tensor, model: nn.Module) -> list[Tensor]:
    parts = theta.split([p.numel() for p in model.parameters()])
    return [part.view(p.shape) for part, p in zip(parts, model.parameters(), strict=True)]
