"""Products with convolutions: exact in every form a convolution takes, and without work that nobody asked for."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from landscape_core.objective import Objective
from landscape_core.objective.curvature import HessianOperator
from landscape_core.objective.curvature.checks import facts
from landscape_core.specs import InputError

from ..cases import Case, Referee, cnn, sizes_of

aten = torch.ops.aten


class Pooled(nn.Module):
    """Layers, then the mean over all places."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(2).mean(2)


class Shared(nn.Module):
    """One convolution used twice, its output read before and after its norm, changed in place on one way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        kept = torch.tanh(z)
        y = self.norm(z) + kept
        again = self.conv(y)
        again += kept
        return self.head(self.norm(again)).mean((2, 3))


class Partly(nn.Module):
    """A convolution's output without a gradient before its norm."""

    def __init__(self, detached: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
        self.detached = detached

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        if self.detached:
            still = z.detach()
        else:
            with torch.no_grad():
                still = self.conv(x)
        return self.head(torch.tanh(self.norm(still) * self.norm(z))).mean((2, 3))


class Halved(nn.Module):
    """Half of a gradient stops between a convolution and its norm."""

    def __init__(self, by_hook: bool):
        super().__init__()
        self.conv, self.norm, self.by_hook = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), by_hook

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        if self.by_hook:
            z.register_hook(lambda g: g / 2)
        else:
            z = z / 2 + z.detach() / 2
        return torch.tanh(self.norm(z)).mean((2, 3))


class Overwritten(nn.Module):
    """The convolution's input is another one when its norm comes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        z = self.conv(x)
        x.mul_(2)
        return self.norm(z).mean((2, 3))


class Slope(nn.Module):
    """Derivatives of convolutions inside forward, by torch.func or by autograd."""

    def __init__(self, functional: bool):
        super().__init__()
        self.conv, self.functional = nn.Conv1d(2, 3, 3), functional

    def energy(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(x)).square().sum()

    def forward(self, x: Tensor) -> Tensor:
        if self.functional:
            slope = torch.func.grad(self.energy)(x)
        else:
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(x), x, create_graph=True)
        return torch.cat([slope.mean(2), self.conv(x).mean((1, 2))[:, None]], 1)


class Checkpointed(nn.Module):
    """Activations computed again on the way back."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 3, 2))
        self.again = again

    def forward(self, x: Tensor) -> Tensor:
        found = checkpoint(self.body, x, use_reentrant=False) if self.again else self.body(x)
        return torch.tanh(found).mean((2, 3))


def frozen() -> nn.Module:
    model = Pooled(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 3, 2), nn.BatchNorm2d(3), nn.Tanh())
    model.layers[0].requires_grad_(False)
    model.layers[3].weight.requires_grad_(False)
    return model


MODELS = {
    "conv1d": (
        lambda: Pooled(nn.Conv1d(2, 4, 3, stride=2, dilation=2, groups=2), nn.Tanh(), nn.Conv1d(4, 3, 2, bias=False)),
        (2, 12),
    ),
    "conv2d": (
        lambda: Pooled(nn.Conv2d(2, 4, (3, 2), (1, 2), (2, 0)), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 3, 2)),
        (2, 5, 6),
    ),
    "conv3d": (
        lambda: Pooled(nn.Conv3d(1, 2, 2, padding=1), nn.BatchNorm3d(2, affine=False), nn.Tanh(), nn.Conv3d(2, 3, 2)),
        (1, 3, 4, 2),
    ),
    "same": (
        lambda: Pooled(nn.Conv2d(2, 2, 3, padding="same"), nn.Tanh(), nn.Conv2d(2, 3, 2, padding="same"), nn.Tanh()),
        (2, 4, 4),
    ),
    "valid": (lambda: Pooled(nn.Conv2d(2, 3, 3, padding="valid"), nn.Tanh()), (2, 4, 4)),
    "circular": (
        lambda: Pooled(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(3), nn.Tanh()),
        (2, 4, 4),
    ),
    "transposed": (lambda: Pooled(nn.ConvTranspose2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 3, 2)), (2, 3, 3)),
    "norm-first": (lambda: Pooled(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 2), nn.Tanh()), (2, 3, 3)),
    "no-statistics": (lambda: Pooled(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3, track_running_stats=False), nn.Tanh()), (2, 4, 4)),
    "frozen": (frozen, (2, 5, 5)),
    "shared": (Shared, (2, 4, 4)),
    "slope-functional": (lambda: Slope(True), (2, 6)),
}


FOREIGN = pytest.mark.foreign  # they ask for gradients inside, which are switched off at the first look


@pytest.mark.parametrize("name", [pytest.param(n, marks=FOREIGN) if n == "slope-functional" else n for n in MODELS])
def test_products_are_the_dense_ones(name):
    model, shape = MODELS[name]
    case = Case(name, model, F.cross_entropy, sizes_of(*shape))
    referee = Referee(case)
    theta = referee.theta + 0.1 * torch.randn(len(referee.theta), generator=torch.Generator().manual_seed(1)).double()
    given = Objective(*case.build(), dtype=torch.float64)
    hessian = given.hessian(theta)
    expected = referee.hessian(theta)
    eye = torch.eye(len(theta), dtype=torch.float64)
    assert hessian.method == "auto"
    found = hessian @ eye
    assert (found - expected).abs().max() <= 1e-10 * expected.abs().max()
    assert (hessian.method, hessian.notes) == ("graph", ())
    assert facts(given).lean == (name != "slope-functional")
    plain = HessianOperator(given, theta) @ eye
    assert (found - plain).abs().max() <= 1e-10 * expected.abs().max()


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param(Slope, (2, 6), marks=FOREIGN),
        (Checkpointed, (2, 4, 4)),
        (Partly, (2, 4, 4)),
        pytest.param(Halved, (2, 4, 4), marks=FOREIGN),
    ],
)
def test_both_ways_to_write_a_model_give_one_matrix(model, shape):
    """Slopes of an energy inside forward (the Hessian is a third derivative), activations computed anew, gradients stopped."""
    found = {}
    for way in (True, False):
        case = Case("written", lambda w=way: model(w), F.cross_entropy, sizes_of(*shape))
        given = Objective(*case.build(), dtype=torch.float64)
        hessian = given.hessian(method="graph")
        found[way] = hessian @ torch.eye(hessian.shape[0], dtype=torch.float64)
    assert found[True].abs().max() > 1e-3
    assert (found[True] - found[False]).abs().max() <= 1e-12 * found[True].abs().max()


def test_an_input_that_was_overwritten_is_not_taken_for_the_old_one():
    case = Case("overwritten", Overwritten, F.cross_entropy, sizes_of(2, 4, 4))
    given = Objective(*case.build(), dtype=torch.float64)
    with pytest.raises(InputError, match="modified by an inplace operation"):
        given.hessian(method="graph") @ given.theta


class Attentive(nn.Module):
    """Weighs classes by a derivative by features that its norm reads, or computes its norm anew."""

    def __init__(self, way: str):
        super().__init__()
        self.conv, self.norm, self.way = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), way

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        y = checkpoint(self.norm, z, use_reentrant=False) if self.way == "checkpoint" else self.norm(z)
        if self.way != "derivative":
            return torch.tanh(y).mean((2, 3))
        (slope,) = torch.autograd.grad(torch.tanh(y + z).sum(), z, create_graph=True)
        return torch.tanh(y).mean((2, 3)) * torch.sigmoid(slope.mean((2, 3)))


@pytest.mark.parametrize("way", [pytest.param("derivative", marks=FOREIGN), "checkpoint"])
def test_what_looks_behind_a_norm_keeps_pytorchs_own_forms(way):
    case = Case("attentive", lambda: Attentive(way), F.cross_entropy, sizes_of(2, 4, 4))
    given = Objective(*case.build(), dtype=torch.float64)
    hessian = given.hessian()
    eye = torch.eye(hessian.shape[0], dtype=torch.float64)
    expected = HessianOperator(given, given.theta) @ eye
    assert (hessian @ eye - expected).abs().max() <= 1e-10 * expected.abs().max()
    assert not facts(given).lean


class Counted(TorchDispatchMode):
    """What a product runs."""

    def __init__(self) -> None:
        super().__init__()
        self.derived: list[tuple[tuple[int, ...], list[bool]]] = []
        self.other: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is aten.convolution_backward.default:
            self.derived.append((tuple(args[1].shape), list(args[-1])))
        elif "batch_norm" in func.name():
            self.other.append(func.name())
        return func(*args, **(kwargs or {}))


def test_no_product_derives_by_data_or_normalises():
    case = Case("cnn", cnn, F.cross_entropy, sizes_of(2, 6, 6, sizes=(5,)))
    operator = Objective(*case.build(), dtype=torch.float64).hessian()
    v = torch.ones(operator.shape[0], dtype=torch.float64)
    operator @ v
    with Counted() as counted:
        operator @ v
    assert counted.other == []
    data = [wanted for shape, wanted in counted.derived if shape == (5, 2, 6, 6)]
    hidden = [wanted for shape, wanted in counted.derived if shape == (5, 3, 3, 3)]
    assert data == [[False, True, True]]
    assert sorted(hidden) == [[False, True, False], [True, False, False], [True, True, True]]
