"""A loss is a mean or a sum by what it does; what couples samples has no losses of single ones; what fails is one line."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape_core.objective import Objective
from landscape_core.specs import InputError

DRAW = torch.Generator().manual_seed(8)
X, Y = torch.randn(30, 5, generator=DRAW).double(), torch.randint(0, 3, (30,), generator=DRAW)
T, P = torch.randn(30, 3, generator=DRAW).double(), torch.rand(30, 3, generator=DRAW).double()
CUT = (slice(0, 20), slice(20, 30))
WEIGHTS = torch.tensor([1.0, 2.0, 0.5]).double()


def built(*after, features=5, outputs=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(features, outputs), *after).double()


def pairs(targets):
    return [(X[s], targets[s]) for s in CUT]


def vae(outputs, targets):
    return F.mse_loss(outputs, targets, reduction="sum") - 0.5 * (1 + outputs - outputs.exp()).sum()


def rmse(outputs, targets):
    return (outputs - targets).square().mean().sqrt()


def in_batch(outputs, _targets):
    z = F.normalize(outputs, dim=1)
    return F.cross_entropy(z @ z.T / 0.1, torch.arange(len(z)))


# -- mean or sum ------------------------------------------------------------------------------------------------------

SUMS = {  # losses of modules that say so, the last module, and targets
    "cross-entropy": (nn.CrossEntropyLoss(reduction="sum"), (), Y),
    "cross-entropy with weights": (nn.CrossEntropyLoss(WEIGHTS, reduction="sum"), (), Y),
    "likelihood": (nn.NLLLoss(reduction="sum"), (nn.LogSoftmax(1),), Y),
    "squared error": (nn.MSELoss(reduction="sum"), (), T),
    "Huber": (nn.SmoothL1Loss(reduction="sum"), (), T),
    "binary": (nn.BCELoss(reduction="sum"), (nn.Sigmoid(),), P),
    "Poisson": (nn.PoissonNLLLoss(log_input=False, reduction="sum"), (nn.Softplus(),), P),
    "divergence": (nn.KLDivLoss(reduction="sum"), (nn.LogSoftmax(1),), P.softmax(1)),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_module_that_says_sum_is_one_with_and_without_the_flag(name):
    loss, last, targets = SUMS[name]
    model = built(*last)
    expected = float(loss(model(X), targets).detach())
    for options in ({}, {"reduction": "sum"}):
        given = Objective(model, loss, pairs(targets), **options)
        assert given.loss() == pytest.approx(expected, rel=1e-12)
        assert given.reduction == "sum"
        assert given.to(torch.float32).loss() == pytest.approx(expected, rel=1e-5)
        v = torch.randn(given.space.size, 1, generator=torch.Generator().manual_seed(0)).double()
        found = given.slice(given.theta, v).evaluate(np.array([[0.0], [1e-3], [2e-3], [3e-3]]))
        assert found["loss"][0] == pytest.approx(expected, rel=1e-12)
        step = 1e-6 * v[:, 0]
        slope = (given.loss(given.theta + step) - given.loss(given.theta - step)) / 2e-6
        assert float(given.gradient() @ v[:, 0]) == pytest.approx(slope, rel=1e-5)
    alone = Objective(model, loss, (X, targets))
    assert alone.loss() == pytest.approx(expected, rel=1e-12)


FUNCTIONS = {
    "squared error": (lambda o, t: (o - t).square().sum(), (), T),
    "half of it": (lambda o, t: 0.5 * (o - t).square().sum(), (), T),
    "cross-entropy": (lambda o, t: F.cross_entropy(o, t, reduction="sum"), (), Y),
    "errors": (lambda o, t: (o.argmax(1) != t).sum(), (), Y),
    "an autoencoder's": (vae, (), T),
    "over a constant": (lambda o, t: F.cross_entropy(o, t, reduction="sum") / 64, (), Y),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_function_that_adds_up_is_refused_as_a_mean_of_several_batches(name, dtype):
    loss, last, targets = FUNCTIONS[name]
    model = built(*last)
    for attempt in (
        lambda given: given.loss(),
        lambda given: given.gradient(),
        lambda given: given.hessian() @ given.theta,
        lambda given: given.losses(given.theta[None]),
    ):
        with pytest.raises(InputError, match=r"the loss is a sum over the samples of a batch.*pass reduction='sum'"):
            attempt(Objective(model, loss, pairs(targets), dtype=dtype))
    expected = float(loss(model(X), targets).detach())
    for given in (
        Objective(model, loss, pairs(targets), reduction="sum", dtype=dtype),
        Objective(model, loss, (X, targets), dtype=dtype),  # of one batch it is a sum, and there is nothing to weigh
    ):
        assert given.loss() == pytest.approx(expected, rel=1e-5 if dtype == torch.float32 else 1e-12)
        assert given.reduction == "sum"


MEANS = {
    "cross-entropy": (F.cross_entropy, (), Y),
    "module with weights": (nn.CrossEntropyLoss(WEIGHTS), (), Y),
    "squared error": (lambda o, t: (o - t).square().mean(), (), T),
    "module": (nn.L1Loss(), (), T),
    "sum over the samples' number": (lambda o, t: (o - t).square().sum() / len(t), (), T),
    "likelihood": (F.nll_loss, (nn.LogSoftmax(1),), Y),
}


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_that_is_called_a_sum_is_refused(name):
    loss, last, targets = MEANS[name]
    for batches in (pairs(targets), [(X, targets)]):
        with pytest.raises(InputError, match=r"the loss is a mean over the samples of a batch.*leave reduction='sum' out"):
            Objective(built(*last), loss, batches, reduction="sum").loss()


NEITHER = {
    "root of a mean": (rmse, (), T),
    "negatives in the batch": (in_batch, (), Y),
    "pairs": (lambda o, t: ((o[:, None] - o[None]).square().sum(-1) * (t[:, None] == t[None])).mean(), (), Y),
    "balanced by hand": (lambda o, t: F.cross_entropy(o, t, weight=WEIGHTS.to(o)), (), Y),
    "correlation": (lambda o, t: -F.cosine_similarity(o.flatten() - o.mean(), t.flatten() - t.mean(), 0), (), T),
    "largest error": (lambda o, t: (o - t).abs().amax(), (), T),
}


@pytest.mark.parametrize("name", NEITHER)
def test_what_is_neither_passes_as_it_is_said(name):
    loss, last, targets = NEITHER[name]
    model = built(*last)
    values = [float(loss(model(x), y).detach()) for x, y in pairs(targets)]
    mean, total = (Objective(model, loss, pairs(targets), reduction=r) for r in ("mean", "sum"))
    assert mean.loss() == pytest.approx((20 * values[0] + 10 * values[1]) / 30, rel=1e-12)
    assert total.loss() == pytest.approx(sum(values), rel=1e-12)


class Normal(nn.Linear):
    """Outputs that know how many samples they are of."""

    def forward(self, x):
        return torch.distributions.Normal(super().forward(x), 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_that_cannot_be_made_up_are_asked_as_they_are(dtype):
    model = Normal(5, 3).double()
    means, total = lambda o, t: -o.log_prob(t).mean(), lambda o, t: -o.log_prob(t).sum()
    assert Objective(model, means, pairs(T), dtype=dtype).reduction == "mean"
    with pytest.raises(InputError, match="is a sum"):
        Objective(model, total, pairs(T), dtype=dtype).loss()
    given = Objective(model, total, pairs(T), dtype=dtype, reduction="sum")
    assert given.loss() == pytest.approx(float(total(model(X), T).detach()), rel=1e-5)


def test_given_weights_leave_a_sum_to_the_caller():
    loss = lambda o, t: (o - t).square().sum()  # noqa: E731
    model = built()
    values = [float(loss(model(x), y).detach()) for x, y in pairs(T)]
    assert Objective(model, loss, pairs(T), weights=[1, 1]).loss() == pytest.approx(sum(values) / 2, rel=1e-12)


def test_small_batches_are_asked_too():
    model = built()
    ones = [(X[i : i + 1], Y[i : i + 1]) for i in range(4)]
    with pytest.raises(InputError, match="is a mean"):
        Objective(model, lambda o, t: F.cross_entropy(o, t), ones, reduction="sum").loss()
    with pytest.raises(InputError, match="is a sum"):
        Objective(model, lambda o, t: F.cross_entropy(o, t, reduction="sum"), ones).loss()


def test_a_loss_without_reduction_is_refused_in_one_line():
    for loss in (nn.CrossEntropyLoss, nn.MSELoss, nn.BCEWithLogitsLoss):
        with pytest.raises(InputError, match=f"{loss.__name__} has reduction='none'"):
            Objective(built(), loss(reduction="none"), (X, T))


def test_asking_leaves_no_trace():
    state, targets, ticks = torch.get_rng_state(), Y.clone(), itertools.count()

    def loss(outputs, labels):
        next(ticks)  # a list would be put back
        assert len(labels) <= 30
        labels = labels.clone()
        return F.cross_entropy(outputs + 1e-3 * torch.zeros_like(outputs), labels)

    given = Objective(built(), loss, pairs(targets))
    given.evaluate()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(targets, Y)
    asked = next(ticks)
    given.evaluate()
    given.gradient()
    assert next(ticks) == asked + 1 + 4 + 8  # once an Objective: two batches, and a first look at derivatives
    assert asked <= 32


def test_a_sum_that_nobody_called_one_is_noted():
    summed = lambda o, t: (o - t).square().sum()  # noqa: E731
    assert Objective(built(), summed, (X, T)).sample.notes == (
        "the loss adds up over the samples of a batch: L is their sum, not their mean",
    )
    for given in (Objective(built(), summed, (X, T), reduction="sum"), Objective(built(), nn.MSELoss(), (X, T))):
        assert not given.sample.notes


def test_outputs_are_joined_along_samples_or_refused_in_one_line():
    x, y = torch.randn(6, 10, 5, generator=DRAW).double(), torch.randint(0, 3, (6, 10), generator=DRAW)
    loss = lambda o, t: F.cross_entropy(o.reshape(-1, 3), t.reshape(-1))  # noqa: E731
    model = built()
    given = Objective(model, loss, [(x[:, :8], y[:, :8]), (x[:, 8:], y[:, 8:])])
    assert torch.allclose(given.logits(), model(x))
    assert given.nature.scores == (6, 8, 3)
    ragged = Objective(model, loss, [(x[:, :8], y[:, :8]), (x[:4, 8:], y[:4, 8:])])
    with pytest.raises(InputError, match="cannot be joined"):
        ragged.logits()


# -- losses of single samples ------------------------------------------------------------------------------------------

COUPLED = {
    "negatives in the batch": (built, in_batch, Y),
    "root of a mean": (built, rmse, T),
    "pairs": (built, lambda o, t: ((o[:, None] - o[None]).square().sum(-1) * (t[:, None] == t[None])).mean(), Y),
    "class weights": (built, nn.CrossEntropyLoss(WEIGHTS), Y),
    "class weights by hand": (built, NEITHER["balanced by hand"][0], Y),
    "centred outputs": (built, lambda o, t: F.cross_entropy(o - o.mean(0), t), Y),
    "small units": (built, lambda o, t: rmse(1e-6 * o, 1e-6 * t), T),
}


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_that_see_each_other_have_no_losses_of_their_own(name, dtype):
    make, loss, targets = COUPLED[name]
    given = Objective(make(), loss, pairs(targets), dtype=dtype)
    if name != "small units":  # asked against an absolute 1
        assert not given.separate()
        with pytest.raises(InputError, match="see each other"):
            given.sample_losses()
    assert given.evaluate()["loss"] == pytest.approx(given.loss())


def test_batchnorm_on_the_batchs_statistics_couples_samples():
    model = built(nn.BatchNorm1d(3))
    for mode, separate in (("batch", False), ("stored", True)):
        given = Objective(model, F.cross_entropy, pairs(Y), batchnorm=mode)
        assert given.separate() == separate
        if separate:
            assert float(given.sample_losses().mean()) == pytest.approx(given.loss())
        else:
            with pytest.raises(InputError, match="see each other"):
                given.sample_losses()


def test_losses_of_sequences_are_those_of_rows():
    """Tokens of a sequence are no samples of their own."""
    x, y = torch.randn(9, 6, 4, generator=DRAW).double(), torch.randint(0, 3, (9, 6), generator=DRAW)
    model = built(features=4)
    loss = lambda o, t: F.cross_entropy(o.reshape(-1, 3), t.reshape(-1))  # noqa: E731
    given = Objective(model, loss, [(x[:7], y[:7].reshape(-1)), (x[7:], y[7:].reshape(-1))])
    assert given.sample_losses().tolist() == pytest.approx([float(loss(model(x[i]), y[i]).detach()) for i in range(9)])


# -- what fails -------------------------------------------------------------------------------------------------------

FAILS = {
    "labels above": (lambda: (F.cross_entropy, Y + 1), r"targets run from 1 to 3, but outputs have 3 classes, 0 to 2"),
    "labels below": (lambda: (F.cross_entropy, Y - 1), r"targets run from -1 to 1, but outputs have 3 classes"),
    "int32": (
        lambda: (F.cross_entropy, Y.int()),
        r"targets int32 \(20,\): labels of classes must be int64, give targets\.long",
    ),
    "int32 from numpy": (lambda: (nn.CrossEntropyLoss(), Y.numpy().astype("int32")), "must be int64"),
    "bool": (lambda: (F.cross_entropy, Y > 1), r"bool .* must be int64"),
    "float labels": (lambda: (F.cross_entropy, Y.double()), r"must be integers, give targets\.long"),
    "float labels of a likelihood": (lambda: (F.nll_loss, Y.double()), "must be integers"),
    "a column": (lambda: (F.cross_entropy, Y[:, None]), r"give targets\.squeeze\(1\)"),
    "one-hot integers": (lambda: (F.cross_entropy, F.one_hot(Y, 3)), r"labels of classes are targets\.argmax\(1\)"),
    "a list": (lambda: (F.cross_entropy, None), "must be Tensor, not list"),
    "other features": (lambda: (F.mse_loss, torch.zeros(30, 4).double()), r"fails on batches\[0\]: RuntimeError: The size of"),
    "raises": (lambda: (lambda o, t: 1 / 0, Y), r"fails on batches\[0\]: ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("name", FAILS)
def test_labels_that_do_not_fit_are_one_line_wherever_they_are_met(name):
    make, words = FAILS[name]
    loss, targets = make()
    batches = [(x, y.tolist()) for x, y in pairs(Y)] if targets is None else pairs(targets)
    attempts = (
        lambda given: given.loss(),
        lambda given: given.evaluate(),
        lambda given: given.gradient(),
        lambda given: given.losses(torch.stack([given.theta] * 4)),
        lambda given: given.slice(given.theta, given.theta[:, None]).evaluate(np.zeros((4, 1))),
        lambda given: given.hessian() @ given.theta,
        lambda given: given.gauss_newton() @ given.theta,
    )
    for attempt in attempts:
        with pytest.raises(InputError, match=words) as caught:
            attempt(Objective(built(), loss, batches))
        assert "\n" not in str(caught.value)


def test_a_batch_is_named():
    labels = Y.clone()
    labels[25] = 7
    with pytest.raises(InputError, match=r"fails on batches\[1\]: targets run from 0 to 7"):
        Objective(built(), F.cross_entropy, pairs(labels)).loss()
    with pytest.raises(InputError, match=r"fails on test_batches\[1\]"):
        Objective(built(), F.cross_entropy, pairs(Y), test_batches=pairs(labels)).loss(split="test")


INPUTS = {
    "integers": (
        torch.randint(0, 3, (30, 5)),
        r"the model fails on the inputs of batches\[0\] \(int64 \(30, 5\)\): RuntimeError",
    ),
    "features": (X[:, :4], r"\(float64 \(30, 4\)\): RuntimeError: mat1 and mat2 shapes"),
    "a dict": ({"weird": X}, r"the model fails on the inputs of batches\[0\]"),
    "two arguments": ((X, X), r"the model fails on the inputs of batches\[0\]"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_that_do_not_fit_are_one_line(name):
    inputs, words = INPUTS[name]
    for attempt in (lambda given: given.loss(), lambda given: given.gradient(), lambda given: given.hessian() @ given.theta):
        with pytest.raises(InputError, match=words) as caught:
            attempt(Objective(built(), F.cross_entropy, (inputs, Y)))
        assert "\n" not in str(caught.value)


SPREAD = {
    "(N, 1) and (N,)": (built(outputs=1), F.mse_loss, T[:, 0]),
    "(N,) and (N, 1)": (built(nn.Flatten(0), outputs=1), F.mse_loss, T[:, :1]),
    "by hand": (built(outputs=1), lambda o, t: (o - t).abs().mean(), T[:, 0]),
    "sum": (built(outputs=1), nn.MSELoss(reduction="sum"), T[:, 0]),
    "integers": (built(outputs=1), F.mse_loss, Y),
}


@pytest.mark.parametrize("name", SPREAD)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_outputs_that_are_compared_with_every_target_are_refused(name):
    model, loss, targets = SPREAD[name]
    with pytest.raises(InputError, match=r"outputs of shape \(N,.* are compared each with each: give both one shape"):
        Objective(model, loss, (X, targets)).loss()


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (lambda o, t: (o.squeeze(1) - t).square().mean(), T[:, 0]),
        (lambda o, t: F.binary_cross_entropy_with_logits(o.view(-1), t), P[:, 0]),
        (lambda o, t: (o.view(-1).sort().values - t.sort().values).square().mean(), T[:, 0]),  # of distributions
        (lambda o, t: F.mse_loss(o, t[:, None]), T[:, 0]),
    ],
)
def test_shapes_that_the_loss_itself_brings_together_are_not(loss, targets):
    model = built(outputs=1)
    expected = float(loss(model(X), targets).detach())
    assert Objective(model, loss, (X, targets)).loss() == pytest.approx(expected, rel=1e-12)
