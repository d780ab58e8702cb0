"""The Objective against torch.func and plain evaluations: values, gradients, coordinates, manners, and what it refuses."""

import copy
import functools
import gc
import weakref
from collections import UserDict, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

from landscape_core.objective import Objective, ParameterSpace, group_norms
from landscape_core.specs import InputError

from .cases import CASES, Case, Referee, cnn, encoder, hooked, mlp, relu_mlp, sizes_of, tanh_mlp, weighted

EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
DTYPES = [torch.float64, torch.float32]
VALUE = {torch.float64: 1e-12, torch.float32: 1e-5}  # |deviation| / max(1, |loss|)
SLOPE = {torch.float64: 1e-10, torch.float32: 1e-4}  # of the largest entry


def objective(case: Case, dtype=torch.float64, **options) -> Objective:
    return Objective(*case.build(dtype), dtype=dtype, **{**case.options, **options})


def classifier(model=None, **options) -> Objective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = (tanh_mlp() if model is None else model).double()
    return Objective(model, F.cross_entropy, sizes_of(4)(), **options)


@functools.cache
def referee(name: str) -> Referee:
    return Referee(next(case for case in CASES if case.name == name))


def near(theta: torch.Tensor, seed: int = 1, scale: float = 0.2) -> torch.Tensor:
    return theta + scale * torch.randn(len(theta), generator=torch.Generator().manual_seed(seed)).double()


def close(found, expected, dtype) -> bool:
    found, expected = (torch.as_tensor(v, dtype=torch.float64) for v in (found, expected))
    return bool(((found - expected).abs() <= VALUE[dtype] * expected.abs().clamp(min=1)).all())


# -- values -----------------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_equal_a_plain_float64_evaluation_at_any_point(case, dtype):
    plain, given = referee(case.name), objective(case, dtype)
    assert given.theta.dtype == dtype
    assert torch.equal(given.theta, plain.theta.to(dtype))
    thetas = torch.stack([plain.theta, near(plain.theta, 1), near(plain.theta, 2)])
    expected = [plain.value(theta) for theta in thetas]
    assert close([given.loss(theta) for theta in thetas.to(dtype)], expected, dtype)
    assert close(given.losses(thetas.to(dtype)), expected, dtype)


@EVERY
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_slice_equals_a_plain_float64_evaluation_on_a_non_square_grid(case, dtype):
    plain, given = referee(case.name), objective(case, dtype)
    axes = torch.stack([near(0 * plain.theta, 3), near(0 * plain.theta, 4)], 1)
    cells = np.array([(a, b) for a in (-1.0, 0.0, 0.5) for b in (-0.7, 0.3)])
    found = given.slice(given.theta, axes.to(dtype)).evaluate(cells)
    expected = [plain.value(plain.theta + axes @ torch.as_tensor(c)) for c in cells]
    assert close(found["loss"], expected, dtype)
    assert ("accuracy" in found) == case.accuracy
    if case.accuracy:
        values = [given.evaluate(given.theta + axes.to(dtype) @ torch.as_tensor(c).to(dtype)) for c in cells]
        assert found["accuracy"] == pytest.approx([v["accuracy"] for v in values])
        assert found["error"] == pytest.approx([1 - v["accuracy"] for v in values])


@EVERY
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_gradient_is_that_of_torch_func(case, dtype):
    plain, given = referee(case.name), objective(case, dtype)
    theta = near(plain.theta)
    expected, found = plain.gradient(theta), given.gradient(theta.to(dtype))
    assert found.dtype == dtype
    assert (found.double() - expected).abs().max() <= SLOPE[dtype] * expected.abs().max()


@EVERY
def test_losses_of_single_samples_average_to_the_loss(case):
    if case.mixes:
        return
    given = objective(case)
    found = given.sample_losses()
    assert len(found) == given.size()
    total = found.sum() if given.reduction == "sum" else found.mean()
    assert float(total) == pytest.approx(given.loss(), abs=1e-12)


def test_uneven_batches_their_order_and_empty_ones_change_nothing():
    x, y = sizes_of(4, sizes=(11,))()[0]
    model = relu_mlp().double()
    whole = Objective(model, F.cross_entropy, (x, y))
    parts = Objective(model, F.cross_entropy, [(x[9:], y[9:]), (x[:0], y[:0]), (x[:1], y[:1]), (x[1:9], y[1:9])])
    theta = near(whole.theta)
    assert parts.size() == whole.size() == 11
    assert close(parts.loss(theta), whole.loss(theta), torch.float64)
    assert torch.allclose(parts.gradient(theta), whole.gradient(theta), atol=1e-14)


def test_batch_statistics_are_those_of_training():
    case = Case("bn", lambda: mlp(4, 5, 3, extra=nn.BatchNorm1d), F.cross_entropy, sizes_of(4))
    model, loss, batches = case.build()
    with torch.no_grad():
        expected = sum(float(loss(model.train()(x), y)) * len(y) for x, y in batches) / 11
    assert objective(case, batchnorm="batch").loss() == pytest.approx(expected, abs=1e-13)
    assert objective(case).loss() != pytest.approx(expected, abs=1e-3)


def test_test_samples_are_a_split_of_their_own():
    other = sizes_of(4, sizes=(6, 3))()
    given = classifier(test_batches=[(x + 1, y) for x, y in other])
    alone = classifier()
    assert given.has_test
    assert not alone.has_test
    assert given.size("test") == 9
    assert given.loss() == alone.loss()
    theta = near(given.theta)
    assert given.losses(theta[None], "test").tolist() == pytest.approx([given.loss(theta, "test")])
    with pytest.raises(InputError, match="test_batches"):
        alone.loss(split="test")


def test_other_arithmetic_is_the_same_loss():
    given = objective(
        next(case for case in CASES if case.name == "class-weights-module"), torch.float32, test_batches=sizes_of(4)()
    )
    double = given.to(torch.float64)
    assert double.theta.dtype == torch.float64
    assert torch.equal(double.theta.float(), given.theta)
    assert double.loss() == pytest.approx(given.loss(), abs=1e-6)
    assert double.loss(split="test") == pytest.approx(given.loss(split="test"), abs=1e-6)
    assert given.to(torch.float32) is given


def test_nan_and_infinity_are_values():
    given = classifier()
    for value in (float("nan"), float("inf"), -float("inf")):
        theta = given.theta.clone()
        theta[3] = value
        assert given.gradient(theta).shape == theta.shape
        assert not np.isfinite(given.loss(torch.full_like(theta, value)))
    broken = torch.full_like(given.theta, float("nan"))
    values = given.losses(torch.stack([broken, given.theta]))
    assert torch.isnan(values[0])
    assert float(values[1]) == pytest.approx(given.loss())
    assert given.evaluate(broken)["accuracy"] == 0
    with pytest.raises(InputError, match="the weights are not finite"):
        given.hessian(broken) @ given.theta


@pytest.mark.parametrize(
    ("outputs", "targets", "expected"),
    [
        (torch.eye(4), torch.tensor([0, 1, 0, 0]), 0.5),
        (torch.eye(4), torch.tensor([0, 1, -100, -100]), 1.0),
        (torch.eye(3)[None].repeat(2, 1, 1), torch.tensor([[0, 1, 2], [0, 0, 0]]), 4 / 6),
        (torch.eye(4)[:, :, None, None].expand(4, 4, 4, 4), torch.arange(4)[:, None, None].expand(4, 4, 4), 1.0),
        (torch.eye(5)[None, :3], torch.tensor([[0, 1, -100]]), 1.0),
        (torch.eye(2), torch.tensor([False, True]), 1.0),
        (torch.eye(3)[:, :1], torch.tensor([0, 0, 0]), None),
        (torch.eye(3), torch.eye(3), None),
        (torch.ones(3), torch.tensor([1, 1, 1]), None),
    ],
)
def test_accuracy_counts_targets(outputs, targets, expected):
    """One a sample, pixel or token; classes along dimension 1 or the last; none where targets are not classes."""

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.scale * outputs

    last = outputs.dim() > 2 and outputs.shape[:2] == targets.shape
    loss = lambda o, t: F.cross_entropy(o.movedim(-1, 1) if last else o, t.long())  # noqa: E731
    if expected is None:
        loss = lambda o, t: o.square().mean()  # noqa: E731
    found = Objective(Constant(), loss, (torch.zeros(len(targets), 1), targets)).evaluate()
    assert found.get("accuracy") == (None if expected is None else pytest.approx(expected))


class Mixing(nn.Module):
    """Each sample's outputs are a mean over all samples of the batch, weighted by a matrix given beside them."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x, weights):
        return torch.tanh(weights @ self.linear(x))


class Graph(Mixing):
    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.eye(90, dtype=torch.float64).roll(1, 0).to_sparse())

    def forward(self, x):
        return super().forward(x, self.weights)


class Doubled(nn.Linear):
    """Works on batches of even size only."""

    def forward(self, x):
        return super().forward((x.unflatten(0, (2, -1)) + 1).flatten(0, 1))


def silent() -> nn.Sequential:
    """The outputs are zero for every sample at the given weights, so that no weighting of samples shows there."""
    model = mlp(4, 5, 3)
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    return model


def broken() -> nn.Sequential:
    model = mlp(4, 5, 3)
    nn.init.constant_(model[2].bias, float("nan"))
    return model


WHOLE = pytest.mark.foreign  # they raise for a part of their batch


@pytest.mark.parametrize(
    ("model", "loss", "inputs"),
    [
        (silent, weighted, None),
        (broken, weighted, None),
        (lambda: mlp(4, 5, 3, extra=lambda n: nn.BatchNorm1d(n, track_running_stats=False)), F.cross_entropy, None),
        (lambda: nn.Linear(4, 3), lambda o, t: torch.cdist(o, o).mean(), None),
        (lambda: nn.Linear(4, 3), lambda o, t: F.cross_entropy(o, t, ignore_index=1), None),
        pytest.param(Mixing, F.cross_entropy, lambda x: (x, torch.full((90, 90), 1 / 90)), marks=WHOLE),
        pytest.param(Graph, F.cross_entropy, None, marks=WHOLE),
        pytest.param(lambda: Doubled(4, 3), F.cross_entropy, None, marks=WHOLE),
        pytest.param(
            lambda: nn.GRU(4, 3), lambda o, t: F.cross_entropy(o[0][-1], t), lambda x: x.expand(45, 90, 4), marks=WHOLE
        ),
    ],
    ids=["silent", "broken", "batch-norm", "pairs", "ignored-class", "mixing", "graph", "even", "time-first"],
)
def test_many_points_are_right_where_samples_see_each_other(model, loss, inputs, monkeypatch):
    """Then the data may not be cut into pieces for the cache, also if that cannot be seen at the given weights."""
    monkeypatch.setattr("landscape_core.objective.chunks.CACHE_BYTES", 1)
    monkeypatch.setattr("landscape_core.objective.sweep.CHAIN_ROWS", 32)
    x, y = sizes_of(4, sizes=(90,))()[0]
    torch.manual_seed(0)
    given = Objective(model(), loss, ((x if inputs is None else inputs(x)), y), dtype=torch.float64)
    thetas = torch.randn(5, given.space.size, generator=torch.Generator().manual_seed(0)).double()
    expected = [given.loss(theta) for theta in thetas]
    assert close(given.losses(thetas), expected, torch.float64)
    part = given.slice(given.theta, (thetas[:2] - given.theta.nan_to_num()).T)
    part.evaluate(np.zeros((1, 2)))
    if given.theta.isfinite().all():
        assert close(part.evaluate(np.eye(2))["loss"], expected[:2], torch.float64)


# -- symmetries of the gradient ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "holds"), [(nn.ReLU, True), (nn.Tanh, False)])
def test_relu_rescaling_leaves_no_gradient(activation, holds):
    """For each hidden unit <g, (W1_i, b1_i, -W2_i)> = 0."""
    model = mlp(4, 6, 3, activation=activation).double()
    given = classifier(model)
    g = given.space.split(given.gradient())
    w = given.space.split(given.theta)
    along = (g["0.weight"] * w["0.weight"]).sum(1) + g["0.bias"] * w["0.bias"] - (g["2.weight"] * w["2.weight"]).sum(0)
    assert (float(along.abs().max()) < 1e-15) == holds


@pytest.mark.parametrize(("mode", "holds"), [("batch", True), ("stored", False)])
def test_batch_normalisation_makes_the_loss_blind_to_scale_and_bias(mode, holds):
    case = Case("bn", lambda: mlp(4, 5, 3, extra=nn.BatchNorm1d), F.cross_entropy, sizes_of(4, sizes=(30, 41)))
    given = objective(case, batchnorm=mode)
    g, w = given.space.split(given.gradient()), given.space.split(given.theta)
    cosine = F.cosine_similarity(g["0.weight"].flatten(), w["0.weight"].flatten(), 0)
    assert (abs(float(cosine)) < 1e-3) == holds
    assert (float(g["0.bias"].norm()) < 1e-14) == holds


# -- coordinates ------------------------------------------------------------------------------------------------------


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.scalar = nn.Parameter(torch.tensor(2.0))
        self.conv = nn.Conv2d(2, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.layernorm = nn.LayerNorm((3, 2))
        self.table = nn.Embedding(4, 2)
        self.fixed = nn.Linear(2, 2).requires_grad_(False)
        self.linear = nn.Linear(2, 5)
        self.tied = self.linear


def test_the_space_names_orders_and_groups_the_trainable_parameters():
    model = Everything()
    space = ParameterSpace.of(model)
    sizes = {"scalar": 1, "conv.weight": 54, "conv.bias": 3, "norm.weight": 3, "norm.bias": 3, "layernorm.weight": 6}
    sizes |= {"layernorm.bias": 6, "table.weight": 8, "linear.weight": 10, "linear.bias": 5}
    assert {e.name: e.size for e in space.entries} == sizes
    assert space.size == sum(sizes.values()) == len(space.ignored) == len(space.filters) == len(space.layers)
    assert {e.name for e in space.entries if not e.ignored} == {"conv.weight", "table.weight", "linear.weight"}
    assert int(space.ignored.sum()) == 1 + 3 + 6 + 12 + 5
    filters = space.split(space.filters)
    assert [len(filters[name].unique()) for name in sizes] == [1, 3, 1, 1, 1, 3, 3, 4, 5, 1]
    assert all(len(part[0].unique()) == 1 for name, part in filters.items() if part.dim() > 1)
    assert int(space.filters.max()) + 1 == 23
    assert [int(part.unique()) for part in space.split(space.layers).values()] == list(range(10))

    theta = space.flatten(dict(model.named_parameters()))
    assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in space.split(theta).items())
    norms = group_norms(theta, space.filters)
    assert norms.dtype == torch.float64
    assert torch.allclose(norms[1:4], model.conv.weight.detach().double().flatten(1).norm(dim=1))
    assert float(group_norms(theta, space.layers)[-2]) == pytest.approx(float(model.linear.weight.norm()))


def test_weights_are_matched_by_name_never_by_place():
    model = mlp(4, 5, 3)
    space = ParameterSpace.of(model)
    shuffled = dict(reversed(model.state_dict().items()))
    assert torch.equal(space.flatten(shuffled), space.flatten(model.state_dict()))
    del shuffled["0.bias"]
    shuffled["2.weight"] = torch.zeros(2, 5)
    with pytest.raises(InputError, match=r"missing: 0\.bias; other shape: 2\.weight"):
        space.flatten(shuffled)


def test_wrapped_models_have_the_coordinates_of_what_they_wrap():
    inner = tanh_mlp().double()
    for wrapped in (nn.DataParallel(inner), torch.compile(inner, backend="eager"), torch.compile(nn.DataParallel(inner))):
        given = classifier(wrapped)
        assert [e.name for e in given.space.entries] == [name for name, _ in inner.named_parameters()]
        assert given.loss() == classifier(inner).loss()


# -- manners ----------------------------------------------------------------------------------------------------------


def snapshot(model: nn.Module) -> list:
    """Everything of a model that an evaluation could touch."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [
        [(name, t.detach().clone(), t.data_ptr(), t._version, t.requires_grad) for name, t in tensors],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [(id(m), m.training, list(m._forward_hooks), list(m._forward_pre_hooks), sorted(vars(m))) for m in model.modules()],
        torch.get_rng_state(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
    ]


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def use(given: Objective) -> None:
    given.loss(near(given.theta).to(given.theta))
    given.losses(torch.stack([given.theta, 2 * given.theta, -given.theta]))
    given.gradient()
    given.hessian() @ given.theta
    if given.batchnorm == "batch":
        with pytest.raises(InputError, match="see each other"):
            given.sample_losses()
    else:
        given.sample_losses()


@pytest.mark.parametrize("mode", ["stored", "batch"])
def test_the_callers_model_is_untouched_bit_by_bit(mode):
    model, loss, batches = Case("cnn", cnn, F.cross_entropy, sizes_of(2, 6, 6)).build()
    model[3].eval()
    model[0].requires_grad_(False)
    calls = []
    model[6].register_forward_hook(lambda *_: calls.append(1))
    loss(model(batches[0][0]), batches[0][1]).backward()
    del calls[:]
    before = snapshot(model)
    data = copy.deepcopy(batches)
    for dtype in (None, torch.float32):
        use(Objective(model, loss, batches, batchnorm=mode, dtype=dtype))
    assert same(snapshot(model), before)
    assert same(data, batches)


def test_the_callers_model_is_untouched_when_the_loss_raises():
    model, _, batches = Case("cnn", cnn, F.cross_entropy, sizes_of(2, 6, 6)).build()
    before = snapshot(model)
    switch = SimpleNamespace(on=True)

    def loss(outputs, targets):
        if switch.on and len(targets) == 4:
            raise KeyboardInterrupt
        return F.cross_entropy(outputs, targets)

    given = Objective(model, loss, batches)
    for attempt in (given.loss, given.gradient, lambda: given.hessian() @ given.theta, lambda: given.losses(given.theta[None])):
        with pytest.raises(KeyboardInterrupt):
            attempt()
        assert same(snapshot(model), before)
    switch.on = False
    assert given.loss() == Objective(model, F.cross_entropy, batches).loss()


def test_dropout_is_off_and_results_repeat():
    case = Case("dropout", lambda: mlp(4, 30, 3, extra=lambda _: nn.Dropout(0.5)), F.cross_entropy, sizes_of(4))
    given = objective(case)
    assert len({given.loss() for _ in range(3)}) == 1
    assert torch.equal(given.gradient(), given.gradient())
    plain = objective(Case("plain", lambda: mlp(4, 30, 3, extra=lambda _: nn.Identity()), F.cross_entropy, sizes_of(4)))
    assert plain.theta.norm() > 0
    assert given.loss(plain.theta) == plain.loss()


class Impure(nn.Module):
    """Draws random numbers in evaluation mode, counts its calls in a buffer, averages in another, writes into its input."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        x.mul_(0.5)
        self.calls += 1
        hidden = F.dropout(torch.tanh(self.first(x)), 0.3)
        self.mean = 0.9 * self.mean + hidden.mean(0)
        return self.second(hidden) * self.calls + self.mean.sum()


def test_an_impure_model_is_made_a_function():
    torch.manual_seed(0)
    model, batches = Impure(), [(x.float(), y) for x, y in sizes_of(4)()]
    before, data = snapshot(model), copy.deepcopy(batches)
    given = Objective(model, F.cross_entropy, batches)
    thetas = torch.stack([given.theta, 2 * given.theta, 3 * given.theta, given.theta])
    alone = given.loss()
    replica = given.replica()
    replica.set(given.theta)
    with torch.no_grad():
        assert float(given.measure(replica, given.batches(), given.size())["loss"]) == alone
    first = given.losses(thetas)
    assert first[0] == first[3] == alone
    assert torch.equal(given.losses(thetas), first)
    assert [given.loss(theta) for theta in thetas] == pytest.approx(first.tolist(), abs=1e-6)
    v = torch.randn(len(given.theta), generator=torch.Generator().manual_seed(0))
    step = 1e-2 * v / v.norm()
    slope = (given.loss(given.theta + step) - given.loss(given.theta - step)) / 2
    assert float(given.gradient() @ step) == pytest.approx(slope, rel=1e-2, abs=1e-5)
    given.hessian() @ v
    assert same(snapshot(model), before)
    assert same(data, batches)


def test_randomness_of_the_caller_is_left_alone_also_by_a_shuffled_loader():
    x, y = sizes_of(4, sizes=(20,))()[0]
    loader = DataLoader(TensorDataset(x, y), batch_size=7, shuffle=True)
    before = torch.get_rng_state()
    given = Objective(tanh_mlp().double(), F.cross_entropy, loader)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    model = tanh_mlp().double()
    assert torch.equal(torch.get_rng_state(), after)
    assert given.loss() == pytest.approx(Objective(model, F.cross_entropy, (x, y)).loss(), abs=1e-13)


def test_an_objective_goes_with_its_last_reference():
    given = classifier()
    use(given)
    part = given.slice(given.theta, given.theta[:, None])
    part.evaluate(np.zeros((3, 1)))
    watched = weakref.ref(given), weakref.ref(given.network)
    gc.disable()
    try:
        del given
        assert watched[0]() is not None  # the slice still needs it
        part.evaluate(np.zeros((3, 1)))
        del part
        assert [ref() for ref in watched] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_nothing_depends_on_the_callers_gradient_mode(context):
    expected = classifier()
    v = expected.theta
    with context():
        given = classifier(copy.deepcopy(expected.network.model))
        inside = classifier(copy.deepcopy(expected.network.model))
        assert given.loss() == expected.loss()
        assert torch.equal(given.gradient(), expected.gradient())
        assert torch.equal(given.hessian() @ v, expected.hessian() @ v)
        assert given.losses(v[None]).tolist() == [expected.loss()]
    assert torch.equal(inside.gradient(), expected.gradient())


# -- models and data of every kind ------------------------------------------------------------------------------------


def test_models_that_deepcopy_refuses_are_copied():
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.cache = nn.Linear(4, 3), {}

        def forward(self, x):
            self.last = self.linear(x)
            self.cache["all"] = [self.last, self.last * 2]
            return self.last

    model = Caching()
    model(torch.zeros(2, 4))
    with pytest.raises(RuntimeError):
        copy.deepcopy(model)
    given = Objective(model, F.cross_entropy, [(x.float(), y) for x, y in sizes_of(4)()])
    assert given.gradient().norm() > 0
    pruned = tanh_mlp()
    prune.random_unstructured(pruned[0], "weight", amount=0.5)
    pruned(torch.zeros(2, 4))
    assert classifier(pruned).gradient().norm() > 0
    assert classifier(hooked()).gradient().norm() > 0


def test_a_padded_encoder_has_one_loss_with_and_without_gradients():
    """PyTorch's fast path without gradients zeroes padded positions, so that loss and gradient would not belong together."""
    case = next(case for case in CASES if case.name == "padded-encoder")
    given = objective(case)
    with torch.enable_grad():
        assert float(sum(given.weighted_terms())) == pytest.approx(given.loss(), abs=1e-13)
    assert encoder().use_nested_tensor


def test_complex_buffers_and_inputs_keep_their_imaginary_part():
    class Rotary(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.register_buffer("turn", torch.polar(torch.ones(4), torch.arange(4.0)))

        def forward(self, x):
            return self.linear((x * self.turn).real)

    model, batches = Rotary(), [(torch.polar(x.abs(), x), y) for x, y in sizes_of(4)()]
    values = [Objective(model, F.cross_entropy, batches, dtype=dtype).loss() for dtype in DTYPES]
    with torch.no_grad():
        expected = sum(float(F.cross_entropy(model(x.to(torch.complex64)), y)) * len(y) for x, y in batches) / 11
    assert values == pytest.approx([expected] * 2, abs=1e-6)


def test_scripted_and_partly_compiled_models():
    model = tanh_mlp().double()
    x, y = sizes_of(4)()[0]
    expected = Objective(model, F.cross_entropy, (x, y))
    mixed = copy.deepcopy(model)
    mixed[0] = torch.compile(mixed[0], backend="eager")
    for other in (torch.jit.trace(model, x), mixed):
        given = Objective(other, F.cross_entropy, (x, y))
        theta = near(given.theta)
        assert given.loss(theta) == pytest.approx(expected.loss(theta), abs=1e-13)
        assert torch.allclose(given.gradient(theta), expected.gradient(theta), atol=1e-14)


def test_half_precision_weights_are_used_as_they_are():
    model = tanh_mlp()
    halves = copy.deepcopy(model).bfloat16()
    given = Objective(halves, F.cross_entropy, sizes_of(4)(), dtype=torch.float32)
    assert torch.equal(given.theta, torch.cat([p.detach().bfloat16().float().flatten() for p in model.parameters()]))


def test_autocast_of_the_caller_does_not_round():
    given = classifier(relu_mlp(), dtype=torch.float32)
    expected = given.loss(), given.gradient()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert given.loss() == expected[0]
        assert torch.equal(given.gradient(), expected[1])


Pair = namedtuple("Pair", "a b")


def forms() -> dict:
    x, y = sizes_of(4, sizes=(6,))()[0]
    rows = [(x[:4], y[:4]), (x[4:], y[4:])]
    with torch.inference_mode():
        inference = [(x.clone(), y.clone())]
    return {
        "tuple": (x, y),
        "list of two tensors": [x, y],
        "one batch from a loader": next(iter(DataLoader(TensorDataset(x, y), batch_size=6))),
        "tuple of one pair": (rows[0], rows[1], rows[0], rows[0])[:1] + (rows[1],) * 0 + ((x[4:], y[4:]), (x[:0], y[:0])),
        "generator": (row for row in rows),
        "lists": [[a, b] for a, b in rows],
        "numpy": (x.numpy(), y.numpy()),
        "float32 data": (x.float().requires_grad_(), y),
        "inference tensors": inference,
        "positional": ((x,), y),
        "keyword": ({"input": x}, y),
        "mapping that is no dict": (UserDict(input=x), y),
        "other layout": (x.t().contiguous().t(), y),
    }


@pytest.mark.parametrize("form", forms())
def test_batches_come_in_any_form(form):
    model = tanh_mlp().double()
    x, y = sizes_of(4, sizes=(6,))()[0]
    given = Objective(model, F.cross_entropy, forms()[form])
    assert given.size() == 6
    assert given.loss() == pytest.approx(float(F.cross_entropy(model(x), y).detach()), abs=1e-7)
    assert given.gradient().norm() > 0


def test_nested_inputs_keep_their_types():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, pair, *, flag=True):
            return self.linear(pair.a + pair.b[0]["c"])

    x, y = sizes_of(4)()[0]
    half = {"pair": Pair(x / 2, [{"c": x / 2}]), "flag": False}
    given = Objective(Named().double(), F.cross_entropy, [(half, y)])
    assert given.losses(given.theta[None]).tolist() == pytest.approx([given.loss()])


def test_a_loss_may_branch_return_one_element_or_be_a_count():
    branching = classifier()
    branching.loss_function = lambda o, t: F.cross_entropy(o, t) if float(o.sum()) > -1e9 else o.sum()
    assert float(branching.sample_losses().mean()) == pytest.approx(branching.loss())
    element = Objective(tanh_mlp().double(), lambda o, t: F.cross_entropy(o, t)[None], sizes_of(4)())
    assert element.gradient().norm() > 0
    right = {"accuracy": lambda o, t: (o.argmax(1) == t).double().mean()}
    count = lambda o, t: (o.argmax(1) != t).sum()  # noqa: E731
    errors = Objective(tanh_mlp().double(), count, sizes_of(4)(), reduction="sum", metrics=right)
    assert errors.loss() == round(errors.evaluate()["error"] * 11)
    assert float(errors.gradient().norm()) == 0


# -- what is refused, in one line -------------------------------------------------------------------------------------


class Lambda(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
        inner = super().forward
        self.forward = lambda x: inner(x)


def stubborn() -> nn.Module:
    model = tanh_mlp()
    model.lock = __import__("threading").Lock()
    return model


def scripted_batchnorm() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)))


class Detached(nn.Linear):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


X, Y = sizes_of(4, sizes=(6,))()[0][0].float(), sizes_of(4, sizes=(6,))()[0][1]
REFUSED = {
    "model is a class": (lambda: Objective(nn.Linear, F.cross_entropy, (X, Y)), "model must be a torch.nn.Module"),
    "loss is a name": (lambda: Objective(tanh_mlp(), "cross_entropy", (X, Y)), "loss must be a function"),
    "reduction": (lambda: Objective(tanh_mlp(), F.cross_entropy, (X, Y), reduction="none"), "reduction must be"),
    "batchnorm": (lambda: Objective(tanh_mlp(), F.cross_entropy, (X, Y), batchnorm="train"), "batchnorm must be"),
    "half precision": (lambda: Objective(tanh_mlp().half(), F.cross_entropy, (X, Y)), "pass dtype=torch.float32"),
    "dtype by name": (lambda: Objective(tanh_mlp(), F.cross_entropy, (X, Y), dtype="float32"), "pass dtype=torch.float32"),
    "device": (lambda: Objective(tanh_mlp(), F.cross_entropy, (X, Y), device="gpu"), "device 'gpu' cannot be used"),
    "no trainable": (lambda: Objective(tanh_mlp().requires_grad_(False), F.cross_entropy, (X, Y)), "no trainable parameter"),
    "no parameter": (lambda: Objective(nn.ReLU(), F.cross_entropy, (X, Y)), "no trainable parameter"),
    "lazy": (lambda: Objective(nn.LazyLinear(3), F.cross_entropy, (X, Y)), "weight has no values yet"),
    "meta": (lambda: Objective(nn.Linear(4, 3, device="meta"), F.cross_entropy, (X, Y)), "weight has no values yet"),
    "complex": (lambda: Objective(nn.Linear(4, 3, dtype=torch.cfloat), F.cross_entropy, (X, Y)), "weight is complex"),
    "cannot be copied": (lambda: Objective(stubborn(), F.cross_entropy, (X, Y)), "cannot be copied"),
    "forward replaced": (lambda: Objective(Lambda(), F.cross_entropy, (X, Y)), "forward of the model was replaced"),
    "scripted": (lambda: Objective(scripted_batchnorm(), F.cross_entropy, (X, Y), batchnorm="batch"), "TorchScript"),
    "no samples": (lambda: Objective(tanh_mlp(), F.cross_entropy, []), "no sample"),
    "not a pair": (lambda: Objective(tanh_mlp(), F.cross_entropy, [(X, Y, Y)]), r"batches\[0\] is not an"),
    "tensor only": (lambda: Objective(tanh_mlp(), F.cross_entropy, X), r"batches\[0\] is not an"),
    "number": (lambda: Objective(tanh_mlp(), F.cross_entropy, 3), "batches must be a list"),
    "data set": (lambda: Objective(tanh_mlp(), F.cross_entropy, TensorDataset(X, Y)), "DataLoader"),
    "text": (lambda: Objective(tanh_mlp(), F.cross_entropy, [("a", "b")]), r"batches\[0\] holds no tensor"),
    "two pairs": (lambda: Objective(tanh_mlp(), F.cross_entropy, ((X, Y), (X, Y))), "put it in a list"),
    "loss per sample": (lambda: Objective(tanh_mlp(), lambda o, t: o.sum(1) - t, (X, Y)).loss(), r"shape \(6,\)"),
    "forward without gradient": (
        lambda: Objective(Detached(4, 3), F.cross_entropy, (X, Y)).gradient(),
        "do not depend on its trainable",
    ),
    "loss is a float": (lambda: Objective(tanh_mlp(), lambda o, t: 1.0, (X, Y)).gradient(), "got float"),
    "batch of one": (
        lambda: Objective(mlp(4, 5, 3, extra=nn.BatchNorm1d), F.cross_entropy, [(X[:1], Y[:1])], batchnorm="batch").loss(),
        "more than one sample",
    ),
    "theta": (lambda: classifier().loss(torch.zeros(3)), r"theta must have shape \(51,\)"),
    "theta is a number": (lambda: classifier().gradient(torch.tensor(0.0)), "theta must have shape"),
    "one theta": (lambda: classifier().losses(torch.zeros(51)), r"thetas must have shape \(n, p\)"),
    "rows as directions": (lambda: classifier().slice(torch.zeros(51), torch.zeros(2, 51)), "a slice needs"),
    "flat direction": (lambda: classifier().slice(torch.zeros(51), torch.zeros(51)), "a slice needs"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_mistakes_are_refused_in_one_line(mistake):
    attempt, words = REFUSED[mistake]
    with pytest.raises(InputError, match=words) as caught:
        attempt()
    assert "\n" not in str(caught.value)
