"""Causes of zero eigenvalues: counted where they are, at every theta or at this one, and named nowhere else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape_core import Objective
from landscape_core.measuring.zero_modes import ZeroModeSearch, zero_modes

N = 40


def inputs(d=5, n=N, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(classes=3, n=N, seed=1):
    return torch.randint(0, classes, (n,), generator=torch.Generator().manual_seed(seed))


def classified(model, x=None, classes=3, **options):
    x = inputs() if x is None else x
    return Objective(model.double(), F.cross_entropy, [(x, labels(classes, len(x)))], **options)


def fitted(model, x=None, **options):
    """Squared error to the model's own outputs: a point of zero gradient, where H is J'J."""
    x = inputs() if x is None else x
    model = model.double()
    own = Objective(model, F.mse_loss, [(x, torch.zeros(len(x), 1, dtype=torch.float64))], **options)
    return Objective(model, F.mse_loss, [(x, own.logits())], **options)


def matrix(objective, kind="hessian"):
    operator = objective.hessian() if kind == "hessian" else objective.gauss_newton()
    dense = operator @ torch.eye(objective.space.size, dtype=torch.float64)
    return (dense + dense.T) / 2


def here(objective, kind="hessian"):
    """(counted, found, reasons) at this theta."""
    dense = matrix(objective, kind)
    values = torch.linalg.eigvalsh(dense).abs()
    zero = 1e-6 * float(values.max())
    found = ZeroModeSearch(objective, kind, range(len(objective.space.entries))).here(dense, zero)
    return found.count, int((values <= zero).sum()), " / ".join(found.reasons)


class Frozen(nn.Module):
    """A last layer whose bias is not trained."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(5, 4), nn.Linear(4, 3)
        self.out.bias.requires_grad_(False)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x)))


class Convolutions(nn.Module):
    """The last layer is a convolution over what is left of the image, flattened."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Conv2d(3, 3, 4), nn.Conv2d(1, 3, 5)  # in an order that is not that of use

    def forward(self, x):
        return self.last(torch.tanh(self.first(x.view(-1, 1, 8, 8)))).flatten(1)


class Functional(nn.Module):
    """No layer modules at all."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        return torch.tanh(x @ self.a.T) @ self.b.T


class Adapter(nn.Module):
    """A frozen layer with an update of low rank, B A, that starts at zero."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(5, 3)
        for p in self.frozen.parameters():
            p.requires_grad_(False)
        self.A, self.B = nn.Parameter(torch.randn(2, 5)), nn.Parameter(torch.zeros(3, 2))

    def forward(self, x):
        return self.frozen(x) + x @ self.A.T @ self.B.T


class Numbers(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.a * self.b * x


def seeded(make):
    torch.manual_seed(0)
    return make()


def layers(*parts):
    return seeded(lambda: nn.Sequential(*[part() for part in parts]))


def linear(a, b, **options):
    return lambda: nn.Linear(a, b, **options)


# -- at every theta -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: classified(seeded(lambda: nn.Linear(5, 3))), 6),
        (lambda: classified(seeded(lambda: nn.Linear(5, 3, bias=False))), 5),
        (lambda: classified(layers(linear(5, 4), nn.Tanh, linear(4, 3))), 5),
        (lambda: classified(seeded(Frozen)), 4),
        (lambda: classified(seeded(Convolutions), inputs(64)), 3 * 16 + 1),
        (lambda: classified(seeded(Functional)), 4),
    ],
)
def test_the_softmax_shift_of_any_last_layer_is_found_by_what_it_does(make, count):
    objective = make()
    modes = zero_modes(objective, "hessian", range(len(objective.space.entries)))
    assert modes.count == count
    assert "softmax shift" in modes.reasons[0]
    assert here(objective)[:2] == (count, count)


def test_nothing_is_named_where_nothing_is_flat():
    for model in (layers(linear(5, 4), nn.Tanh, linear(4, 2)), seeded(lambda: nn.Linear(5, 3))):
        objective = fitted(model)
        assert zero_modes(objective, "hessian", range(len(objective.space.entries))).count == 0
        assert here(objective) == (0, 0, "")


def test_inputs_that_no_unit_can_tell_apart():
    x = inputs(6)
    x[:, 1], x[:, 2] = 2.0, x[:, 0] - 3 * x[:, 5]
    for bias, each in ((True, 2), (False, 1)):  # without a bias a constant input is seen
        objective = fitted(layers(linear(6, 4, bias=bias), nn.Tanh, linear(4, 2)), x)
        modes = zero_modes(objective, "hessian", range(len(objective.space.entries)))
        assert modes.count == 4 * each
        assert "constant or depend on others" in modes.reasons[0]
        assert here(objective)[0] == 4 * each
    shared = classified(seeded(lambda: nn.Linear(6, 3)), x)
    assert zero_modes(shared, "hessian", [0, 1]).count == 7 + 2 * 3 - 2  # what both causes share is counted once
    assert here(shared)[:2] == (11, 11)


def test_a_convolution_over_a_constant_border():
    x = torch.zeros(N, 1, 8, 8, dtype=torch.float64)
    x[:, :, 3:5, 3:5] = inputs(4).view(N, 1, 2, 2)
    objective = fitted(layers(lambda: nn.Conv2d(1, 2, 8), nn.Tanh, nn.Flatten, linear(2, 2)), x)
    counted, found, reasons = here(objective)
    assert counted == found == 2 * 60
    assert "0.weight" in reasons


def test_tokens_that_never_occur_and_biases_that_batchnorm_removes():
    torch.manual_seed(0)
    tokens = torch.randint(0, 6, (N, 4), generator=torch.Generator().manual_seed(2))
    objective = classified(nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Tanh(), nn.Linear(8, 3)), tokens)
    modes = zero_modes(objective, "hessian", range(3))
    assert modes.count == 9 + 3 * 2
    assert any("does not feel" in reason for reason in modes.reasons)
    model = layers(linear(5, 4), lambda: nn.BatchNorm1d(4), nn.Tanh, linear(4, 2))
    stored, batch = (fitted(model, batchnorm=mode) for mode in ("stored", "batch"))
    assert zero_modes(stored, "hessian", range(6)).count == 0
    assert zero_modes(batch, "hessian", range(6)).count == 4


def test_units_far_out_and_faint_inputs_are_no_reason():
    """Saturated units and pixels of 0 to 255 have no slope here, but are not flat at every theta."""
    objective = fitted(layers(linear(5, 4), nn.Tanh, linear(4, 2)), 255 * inputs().abs())
    assert zero_modes(objective, "hessian", range(4)).count == 0
    x = inputs()
    x[:, 0] *= 1e-5
    assert zero_modes(fitted(layers(linear(5, 4), nn.Tanh, linear(4, 2)), x), "hessian", range(4)).count == 0
    dead = layers(linear(5, 4), nn.ReLU, linear(4, 2))
    with torch.no_grad():
        dead[0].bias.fill_(-50)
    assert zero_modes(fitted(dead), "hessian", range(4)).count == 0  # at other weights they speak


def test_no_softmax_where_there_is_none():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.l, self.n, self.o = nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 2)

        def forward(self, x):
            return self.o(self.n(self.l(x)))

    modes = zero_modes(fitted(seeded(Normed)), "hessian", range(6))
    assert modes.count == 6
    assert "softmax" not in " ".join(modes.reasons)
    assert "removes their mean" in modes.reasons[0]


# -- at this theta ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "count", "words"),
    [
        (lambda: fitted(layers(linear(5, 4), nn.ReLU, linear(4, 2))), 4, "scale of each unit"),
        (lambda: fitted(layers(linear(5, 4), linear(4, 2))), 34 - 12, "factorisation"),
        (lambda: fitted(seeded(Adapter)), 10, "factorisation"),
        (lambda: fitted(seeded(Numbers), inputs(1)), 1, "scale of each unit"),
        (
            lambda: fitted(layers(linear(5, 4), lambda: nn.BatchNorm1d(4), nn.ReLU, linear(4, 2)), batchnorm="batch"),
            12,
            "a normalisation removes",
        ),
    ],
)
def test_symmetries_of_the_function_are_counted_where_the_gradient_vanishes(make, count, words):
    counted, found, reasons = here(make())
    assert counted == found == count, reasons
    assert words in reasons
    assert here(make(), "ggn")[0] == count


def test_the_scale_of_a_relu_is_no_zero_mode_of_the_hessian_on_a_slope():
    objective = classified(layers(linear(5, 4), nn.ReLU, linear(4, 3)))
    assert "scale" not in here(objective)[2]
    assert "scale of each unit" in here(objective, "ggn")[2]


def test_dead_units_are_named_where_units_are_dead():
    model = layers(linear(5, 4), nn.ReLU, linear(4, 2))
    with torch.no_grad():
        model[0].bias[:2] = -50
    counted, found, reasons = here(fitted(model))
    assert counted == found == 2 * (5 + 1 + 2) + 2  # and the scale of the two that live
    assert "16 from units that are silent" in reasons
    # Units that nothing listens to are not dead: they are flat at this point, of a cause that has no name here.
    model = layers(linear(5, 4), nn.Tanh, linear(4, 2))
    with torch.no_grad():
        model[2].weight[:, :2] = 0
    counted, found, reasons = here(fitted(model))
    assert found == 2 * 6
    assert "dead" not in reasons


def test_few_samples_bound_the_rank():
    objective = fitted(layers(linear(5, 4), nn.Tanh, linear(4, 2)), inputs(n=4))
    counted, found, reasons = here(objective, "ggn")
    assert counted == found == 34 - 8
    assert "4 samples make no rank above 8" in reasons
    assert here(objective)[0] == 2 * 4  # the Hessian has only what four inputs of five leave unseen


def test_no_more_is_counted_than_there_is():
    """Random networks, sums of causes that share directions."""
    x = inputs(6)
    x[:, 1], x[:, 2] = 2.0, 0.0
    for make in (
        lambda: fitted(layers(linear(6, 5), linear(5, 4), nn.ReLU, linear(4, 4), linear(4, 2)), x),
        lambda: classified(layers(linear(6, 5), linear(5, 4), nn.ReLU, linear(4, 3)), x),
        lambda: fitted(layers(linear(6, 5, bias=False), linear(5, 4, bias=False), linear(4, 2, bias=False)), x),
    ):
        for kind in ("hessian", "ggn"):
            counted, found, _ = here(make(), kind)
            assert 0 < counted <= found
