"""The fast path: equal to a plain float64 evaluation for every architecture, and stepping aside where it would not be."""

import copy
import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape_core.objective import Objective
from landscape_core.objective.plans import Program
from landscape_core.objective.plans.attention import attention
from landscape_core.specs import task_spec
from landscape_core.tasks import build_model
from landscape_core.tasks.losses import squared_error

ARCHITECTURES = {
    "mlp": ("digits-mlp", {"widths": [20, 12]}, (64,)),
    "mlp-tanh-wide": ("digits-mlp", {"widths": [150], "activation": "tanh"}, (64,)),
    "mlp-deep-skip": ("digits-mlp", {"depth": 6, "widths": [12], "skip": True, "init": "he"}, (64,)),
    "mlp-batchnorm": ("digits-mlp", {"widths": [20, 12], "norm": "batch"}, (64,)),
    "mlp-layernorm": ("digits-mlp", {"widths": [20], "norm": "layer", "activation": "gelu"}, (64,)),
    "lenet": ("mnist-lenet", {}, (1, 28, 28)),
    "lenet-8": ("digits-lenet", {}, (1, 8, 8)),
    "resnet": ("cifar10-resnet", {"depth": 8, "width": 4}, (3, 16, 16)),
    "resnet-wide": ("cifar10-resnet", {"depth": 8, "width": 16}, (3, 8, 8)),
    "resnet-plain": ("cifar10-resnet", {"depth": 8, "width": 4, "skip": False, "norm": None}, (3, 16, 16)),
    "vit": ("digits-vit", {"dim": 16, "heads": 2, "layers": 1}, (1, 8, 8)),
}


def made(name, classes=4, seed=0):
    task, arguments, shape = ARCHITECTURES[name]
    torch.manual_seed(seed)
    model = build_model(task_spec(task, **arguments).architecture, shape, classes)
    for module in model.modules():  # statistics and scales as after training
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    x = torch.randn(70, *shape)
    return model, x, torch.randint(0, classes, (70,))


def slices(model, loss, batches, dtype, scale=0.3, **options):
    """A fast slice in `dtype` and a plain float64 objective, with the same origin and directions."""
    fast = Objective(model, loss, batches, dtype=dtype, **options)
    plain = Objective(model, loss, batches, dtype=torch.float64, **options)
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(len(fast.theta), 2, generator=generator) * scale * fast.theta.norm() / len(fast.theta) ** 0.5
    return fast, fast.slice(fast.theta, directions), plain, directions.double()


def deviations(part, plain, directions, points):
    values = part.evaluate(points)
    worst = 0.0
    for i, point in enumerate(points):
        expected = plain.evaluate(plain.theta + directions @ torch.from_numpy(point))
        worst = max(worst, abs(values["loss"][i] - expected["loss"]) / max(1, abs(expected["loss"])))
        if "accuracy" in expected:  # in float32 two scores may tie that differ in float64
            assert abs(values["accuracy"][i] - expected["accuracy"]) <= 2 / plain.size()
    return worst


def grid(n=5, m=4):
    return np.stack(np.meshgrid(np.linspace(-1, 1, n), np.linspace(-0.7, 1.2, m), indexing="ij"), -1).reshape(-1, 2)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batchnorm", ["stored", "batch"])
@pytest.mark.parametrize(("dtype", "gate"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["float32", "float64"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_cell_equals_a_plain_float64_evaluation(name, dtype, gate, batchnorm, threads):
    model, x, y = made(name)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batches = [(x[:41], y[:41]), (x[41:], y[41:])]
        fast, part, plain, directions = slices(model, F.cross_entropy, batches, dtype, batchnorm=batchnorm)
        assert deviations(part, plain, directions, grid()) <= gate
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert part._plans["train"] is not None
    assert fast.counts["forwards"] >= len(grid())


def program(name, loss=F.cross_entropy, **changes):
    model, x, y = made(name)
    for attribute, value in changes.items():
        setattr(model, attribute, value)
    _, part, _, _ = slices(model, loss, (x, y), torch.float32)
    part.evaluate(grid())
    plan = part._plans["train"]
    return plan, plan.program, inspect.getsource(plan.program.combine)


def test_small_networks_of_linear_layers_are_evaluated_many_points_at_once():
    for name in ("mlp", "mlp-tanh-wide", "mlp-deep-skip", "mlp-batchnorm"):
        plan, found, _ = program(name)
        assert found.is_chain
        assert plan._joined
        assert len(found.affine) == 1
        assert plan._tallies[0]._one_call
    assert not program("mlp-layernorm")[1].is_chain


def test_what_reads_the_data_is_computed_once_for_a_slice():
    _, lenet, code = program("lenet")
    assert len(lenet.affine) == 1
    assert lenet.stored == 6 * 28 * 28 * 4
    assert code.count("torch.conv2d(") == 1  # the second
    assert "amax" in code
    assert "max_pool2d" not in code
    assert "relu_" in code


def test_stored_batchnorm_is_folded_into_convolutions():
    _, resnet, code = program("resnet")
    assert not resnet.affine
    assert "batch_norm" not in code
    assert "scale_features" not in code
    assert "add_" in code


def test_wide_convolutions_have_channels_last():
    assert program("resnet-wide")[1].channels_last
    assert not program("lenet")[1].channels_last


def test_wide_convolutions_end_in_their_sum_and_relu():
    code = program("resnet-wide")[2]
    assert "convolution_relu(" in code
    assert "convolution_add_relu(" in code
    assert "relu_(" not in code.replace("convolution_relu_", "")


def test_results_do_not_depend_on_the_number_of_threads():
    found = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            model, x, y = made("lenet")
            _, part, _, _ = slices(model, F.cross_entropy, [(x[:41], y[:41]), (x[41:], y[41:])], torch.float32)
            found.append(part.evaluate(grid())["loss"])
        finally:
            torch.set_num_threads(before)
    assert np.allclose(*found, rtol=1e-6, atol=0)


class Branching(nn.Module):
    """Reads its data to decide: no tracer can follow."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 4)

    def forward(self, x):
        return self.body(x) if float(x.sum()) > -1e9 else x


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(torch.tanh(self.two(torch.relu(self.one(x)))))


class Reused(nn.Module):
    """One layer reads the data and a later value."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.layer(torch.relu(self.layer(x))) + x)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, a, b):
        return self.left(a) * torch.sigmoid(self.right(b)) + self.left.bias


def frozen():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    model[0].weight.requires_grad_(False)
    return model


class Spare(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 4)
        self.spare = nn.Parameter(torch.randn(3))

    def forward(self, x):
        return F.relu(self.body(x), inplace=False)


MODELS = {
    "branching": Branching,
    "tied": Tied,
    "reused": Reused,
    "frozen first layer": frozen,
    "unused parameter": Spare,
    "dropout": lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 4)),
    "in-place": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 4)),
    "without bias": lambda: nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 4, bias=False)),
    "one layer": lambda: nn.Linear(6, 4),
    "number of samples": lambda: Sized(),
    "weight norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 4)),
    "recurrent": lambda: nn.Sequential(nn.Unflatten(1, (3, 2)), nn.RNN(2, 4, batch_first=True), Last()),
}


class Last(nn.Module):
    def forward(self, found):
        return found[0][:, -1]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.foreign) if n == "branching" else n for n in MODELS])
def test_any_module_is_evaluated_rightly(name):
    torch.manual_seed(0)
    x, y = torch.randn(33, 6), torch.randint(0, 4, (33,))
    _, part, plain, directions = slices(MODELS[name](), F.cross_entropy, [(x[:20], y[:20]), (x[20:], y[20:])], torch.float64)
    assert deviations(part, plain, directions, grid()) <= 1e-9


class Attention(nn.Module):
    """Attention written out, as people do; asks for all its sizes."""

    def __init__(self, scores, mask=None, heads=3):
        super().__init__()
        self.heads, self.scores = heads, scores
        self.up, self.qkv, self.head = nn.Linear(2, 6), nn.Linear(6, 18), nn.Linear(6, 4)
        self.register_buffer("mask", mask)

    def forward(self, x):
        samples, length, width = x.shape[0], 3, 6
        h = self.up(x.view(samples, length, 2))
        query, key, value = self.qkv(h).view(samples, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = self.scores(query, key, self.mask) @ value
        h = h + mixed.transpose(1, 2).reshape(samples, h.size(1), width) / h.shape[-1]
        return self.head(h).mean(1)


def divided(query, key, mask):
    scores = query @ key.transpose(-2, -1) / query.size(-1) ** 0.5
    return (scores if mask is None else scores.masked_fill(mask, -torch.inf)).softmax(-1)


def multiplied(query, key, mask):
    scores = torch.matmul(query, key.mT) * 0.7
    return F.softmax(scores if mask is None else torch.masked_fill(scores, mask, float("-inf")), dim=3)


def over_queries(query, key, mask):
    return (query @ key.transpose(2, 3)).softmax(-2)


LATER = torch.triu(torch.ones(3, 3, dtype=torch.bool), 1)
HIDDEN = LATER.logical_not()  # the first row sees what comes later, the last row nothing: NaN
SCORES = {
    "divided": (divided, None, True),
    "masked": (divided, LATER, True),
    "multiplied": (multiplied, None, True),
    "multiplied and masked": (multiplied, LATER, True),
    "over queries": (over_queries, None, False),
    "nothing to see": (divided, HIDDEN, False),
}


@pytest.mark.parametrize("name", SCORES)
def test_attention_written_out_is_fused_where_that_changes_nothing(name):
    scores, mask, fused = SCORES[name]
    torch.manual_seed(0)
    model = Attention(scores, mask)
    x, y = torch.randn(40, 6), torch.randint(0, 4, (40,))
    fast, part, plain, directions = slices(model, F.cross_entropy, [(x[:23], y[:23]), (x[23:], y[23:])], torch.float64)
    found = Program.of(fast.replica(), fast.batches()[0])
    assert any(node.target is attention for node in found.traced.graph.nodes) == fused
    if mask is HIDDEN:
        assert np.isnan(part.evaluate(grid(2, 2))["loss"]).all()
    else:
        assert deviations(part, plain, directions, grid()) <= 1e-9
        assert part._plans["train"] is not None


class Sized(nn.Module):
    """Computes with the number of samples: pieces of a batch are not what they are in it."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 4)

    def forward(self, x):
        h = self.body(x)
        return h.T.reshape(4, -1).T * (h.shape[0] / 10)


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_several_inputs(form):
    torch.manual_seed(0)
    a, b, y = torch.randn(33, 6), torch.randn(33, 6), torch.randint(0, 4, (33,))
    inputs = (a, b) if form == "tuple" else {"b": b, "a": a}
    _, part, plain, directions = slices(TwoInputs(), F.cross_entropy, [(inputs, y)], torch.float64)
    assert deviations(part, plain, directions, grid()) <= 1e-9


WEIGHTED = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2, 2.0]))
LOSSES = {
    "weighted": WEIGHTED,
    "squared error": squared_error,
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "branching": lambda o, t: F.cross_entropy(o, t) if float(o.abs().sum()) > 0 else o.sum(),
    "over the batch": lambda o, t: F.cross_entropy(o - o.mean(0), t),
}


@pytest.mark.parametrize("name", LOSSES)
def test_any_loss_is_evaluated_rightly(name):
    """Also those of a whole batch, which may not be cut into chunks."""
    torch.manual_seed(0)
    x, y = torch.randn(1500, 6), torch.randint(0, 4, (1500,))
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    _, part, plain, directions = slices(model, LOSSES[name], [(x[:1400], y[:1400]), (x[1400:], y[1400:])], torch.float64)
    assert deviations(part, plain, directions, grid(3, 3)) <= 1e-9


def test_regression_has_no_accuracy():
    torch.manual_seed(0)
    x, y = torch.randn(33, 6), torch.randn(33, 1)
    _, part, plain, directions = slices(
        nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)), F.mse_loss, (x, y), torch.float64
    )
    assert set(part.evaluate(grid())) == {"loss"}
    assert deviations(part, plain, directions, grid()) <= 1e-9


def test_sum_reduction():
    torch.manual_seed(0)
    x, y = torch.randn(33, 6), torch.randint(0, 4, (33,))
    loss = nn.CrossEntropyLoss(reduction="sum")
    _, part, plain, directions = slices(
        nn.Linear(6, 4), loss, [(x[:20], y[:20]), (x[20:], y[20:])], torch.float64, reduction="sum"
    )
    assert deviations(part, plain, directions, grid()) <= 1e-9


def test_points_that_overflow_are_values():
    model, x, y = made("mlp")
    fast, part, _, _ = slices(model, F.cross_entropy, (x, y), torch.float32)
    points = np.array([[0.5, 0.5], [1e30, 0.0], [0.0, 0.0], [0.0, 1e38]])
    values = part.evaluate(points)["loss"]
    assert np.isfinite(values[[0, 2]]).all()
    assert not np.isfinite(values[[1, 3]]).any()
    assert values[2] == pytest.approx(fast.loss(), abs=1e-6)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_any_number_of_axes(axes):
    model, x, y = made("lenet-8")
    objective = Objective(model, F.cross_entropy, (x, y), dtype=torch.float64)
    directions = torch.randn(len(objective.theta), axes, generator=torch.Generator().manual_seed(0)).double() * 0.02
    points = np.random.default_rng(0).normal(size=(5, axes))
    values = objective.slice(objective.theta, directions).evaluate(points)["loss"]
    expected = [objective.loss(objective.theta + directions @ torch.from_numpy(p)) for p in points]
    assert np.allclose(values, expected, rtol=1e-10)


def test_the_test_samples_have_a_plan_of_their_own():
    model, x, y = made("mlp")
    objective = Objective(model, F.cross_entropy, (x[:50], y[:50]), test_batches=(x[50:], y[50:]), dtype=torch.float64)
    part = objective.slice(objective.theta, torch.randn(len(objective.theta), 2).double() * 0.1)
    found = part.evaluate(grid(), "test")["loss"]
    other = Objective(model, F.cross_entropy, (x[50:], y[50:]), dtype=torch.float64)
    assert np.allclose(found, other.slice(part.origin, part.directions.T).evaluate(grid())["loss"], atol=1e-12)


def test_the_callers_model_stays_as_it_was():
    model, x, y = made("resnet")
    model.train()
    before = copy.deepcopy(model.state_dict())
    _, part, _, _ = slices(model, F.cross_entropy, (x, y), torch.float32)
    part.evaluate(grid())
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
