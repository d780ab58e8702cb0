"""A mean cross-entropy is known by what it does, whatever it is called; what differs anywhere is not taken for one."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape_core.objective import Objective
from landscape_core.objective.recognised import is_cross_entropy
from landscape_core.tasks.losses import cross_entropy, squared_error

ONES = torch.ones(4, dtype=torch.float64)


class Own(nn.Module):
    """A user's class of a loss, with or without a temperature."""

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        self.temperature = temperature

    def forward(self, outputs, targets):
        return F.nll_loss(F.log_softmax(outputs / self.temperature, 1), targets)


def written_out(outputs, targets):
    return (outputs.logsumexp(1) - outputs.gather(1, targets.unsqueeze(1)).squeeze(1)).mean()


def one_by_one(outputs, targets):
    return torch.stack([F.cross_entropy(o[None], t[None]) for o, t in zip(outputs, targets, strict=True)]).mean()


def balanced(outputs, targets):
    """Every class of the batch counts the same."""
    costs, counts = F.cross_entropy(outputs, targets, reduction="none"), targets.bincount(minlength=4)
    return (costs / counts[targets]).sum() / (counts > 0).sum()


def focal(outputs, targets):
    costs = F.cross_entropy(outputs, targets, reduction="none")
    return ((1 - (-costs).exp()) * costs).mean()


RIGHT = {
    "PyTorch's": F.cross_entropy,
    "its class": nn.CrossEntropyLoss(),
    "the tasks'": cross_entropy,
    "a lambda": lambda o, t: F.cross_entropy(o, t),
    "written out": written_out,
    "one by one": one_by_one,
    "a module": Own(),
    "sum over their number": lambda o, t: F.cross_entropy(o, t, reduction="sum") / len(t),
    "one element": lambda o, t: F.cross_entropy(o, t).reshape(1),
    "ignores a class that there is not": lambda o, t: F.cross_entropy(o, t, ignore_index=-100),
    "equal weights": nn.CrossEntropyLoss(weight=2 * ONES),
}
WRONG = {
    "weights": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 1.0, 1.001], dtype=torch.float64)),
    "smoothing": nn.CrossEntropyLoss(label_smoothing=1e-4),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "no reduction": nn.CrossEntropyLoss(reduction="none"),
    "the mean of 64": lambda o, t: F.cross_entropy(o, t, reduction="sum") / 64,
    "an ignored class": nn.CrossEntropyLoss(ignore_index=3),
    "a temperature": Own(1.001),
    "balanced": balanced,
    "a penalty": lambda o, t: F.cross_entropy(o, t) + 1e-6 * o.square().mean(),
    "focal": focal,
    "a clamp": lambda o, t: F.cross_entropy(o.clamp(-1e6, 1e6), t),
    "a small number": lambda o, t: -(o.softmax(1).gather(1, t[:, None]) + 1e-9).log().mean(),
    "overflows": lambda o, t: -(o.softmax(1).gather(1, t[:, None])).log().mean(),
    "the median": lambda o, t: F.cross_entropy(o, t, reduction="none").median(),
    "rounded": lambda o, t: F.cross_entropy(o.float(), t),
    "over the batch": lambda o, t: F.cross_entropy(o - o.mean(0), t),
    "reversed": lambda o, t: F.cross_entropy(o, t.flip(0)),
    "by the first sample": lambda o, t: F.cross_entropy(o, t, reduction="none")[0],
    "a floor": lambda o, t: (F.cross_entropy(o, t) - 0.02).abs() + 0.02,
    "a low floor": lambda o, t: F.cross_entropy(o, t).clamp(min=1e-7),
    "a floor of each": lambda o, t: F.cross_entropy(o, t, reduction="none").clamp(min=1e-7).mean(),
    "squared error": squared_error,
    "margins": nn.MultiMarginLoss(),
    "no number": lambda o, t: None,
    "raises": lambda o, t: 1 / 0,
}


@pytest.mark.parametrize("name", [*RIGHT, *WRONG])
def test_the_loss_is_known_by_what_it_does(name):
    targets = [torch.arange(n) % 4 for n in (40, 64)]
    assert is_cross_entropy((RIGHT | WRONG)[name], targets, (2, 4)) == (name in RIGHT)


def test_every_class_that_there_is_is_looked_at():
    """A weight on one class of a thousand, on one place of an image, on padding."""
    many = torch.randint(0, 1000, (500,), generator=torch.Generator().manual_seed(0))
    weight = torch.ones(1000, dtype=torch.float64)
    weight[many[7]] = 1.01
    assert is_cross_entropy(F.cross_entropy, [many], (2, 1000))
    assert not is_cross_entropy(nn.CrossEntropyLoss(weight=weight), [many], (2, 1000))
    pixels, places = torch.arange(5 * 36).view(5, 6, 6) % 3, torch.ones(6, 6)
    places[2, 3] = 1.5
    assert is_cross_entropy(F.cross_entropy, [pixels], (2, 3, 6, 6))
    assert not is_cross_entropy(lambda o, t: (places * F.cross_entropy(o, t, reduction="none")).mean(), [pixels], (2, 3, 6, 6))


@pytest.mark.parametrize(
    ("targets", "shape"),
    [
        (torch.zeros(5), (2, 4)),  # no classes
        (torch.zeros(5, dtype=torch.int32), (2, 4)),
        (torch.tensor([0, 4]), (2, 4)),  # more than there are scores
        (torch.tensor([-100, -1]), (2, 4)),
        (torch.zeros(5, dtype=torch.long), (2, 1)),
        (torch.zeros(5, 7, dtype=torch.long), (2, 4)),  # scores of other places
        (torch.zeros(5, 7, dtype=torch.long), (2, 4, 6)),
        (torch.zeros(3, dtype=torch.long), (2, 1 << 22)),  # too many to ask
        (None, (2, 4)),
    ],
)
def test_only_scores_of_every_target_can_be_classes(targets, shape):
    assert not is_cross_entropy(lambda o, t: F.cross_entropy(o, t), [targets], shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("places", [False, True], ids=["samples", "pixels"])
@pytest.mark.parametrize("name", ["written out", "a module", "sum over their number", "weights", "smoothing", "a temperature"])
def test_the_fast_form_gives_the_plain_numbers(name, places, dtype):
    torch.manual_seed(0)
    loss = (RIGHT | WRONG)[name]
    model = nn.Conv2d(2, 4, 3) if places else nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    x, y = (
        (torch.randn(20, 2, 5, 5), torch.randint(0, 4, (20, 3, 3)))
        if places
        else (torch.randn(90, 6), torch.randint(0, 4, (90,)))
    )
    if places and name == "sum over their number":
        loss = lambda o, t: F.cross_entropy(o, t, reduction="sum") / t.numel()  # noqa: E731
    given = Objective(model, loss, [(x[:13], y[:13]), (x[13:], y[13:])], dtype=dtype)
    directions = torch.randn(given.space.size, 2, generator=torch.Generator().manual_seed(1)).to(dtype)
    part = given.slice(given.theta, directions)
    points = np.random.default_rng(0).normal(size=(12, 2))
    found = part.evaluate(points)
    assert part._plans["train"] is not None
    assert part._plans["train"]._tallies[0]._one_call == (name in RIGHT)
    plain = [given.to(torch.float64).evaluate(part.point(c).double()) for c in points]
    assert np.allclose(found["loss"], [v["loss"] for v in plain], rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=0)
    assert np.allclose(found["accuracy"], [v["accuracy"] for v in plain], atol=1.5 / 90)
    assert given.slice(given.theta, directions).evaluate(points)["loss"] == pytest.approx(found["loss"], rel=1e-12)
