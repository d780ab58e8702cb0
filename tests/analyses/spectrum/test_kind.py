"""The kind of a point: a table of points whose kind is known, by both methods and of every matrix, and what the cards say."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import landscape_core
from landscape_core import Objective
from landscape_core.measuring.critical import Signs, classify, relative_gradient

LANCZOS = {"method": "lanczos", "k": 3, "k_bottom": 3, "probes": 2, "lanczos_steps": 8}
NEVER = {  # what must not stand on the card of each class
    "minimum": ("saddle", "Degenerate", "No minimum", "negative"),
    "maximum": ("A minimum", "saddle", "Degenerate"),
    "strict saddle": ("A minimum", "A maximum", "Degenerate"),
    "degenerate": ("A minimum", "A maximum", "saddle", "No minimum"),
    "degenerate, downhill": ("A minimum", "A maximum", "saddle"),
    "not critical": ("A minimum", "A maximum", "A strict saddle", "Degenerate"),
    "unresolved": ("A minimum", "A maximum", "A strict saddle", "Degenerate"),
}
MUST = {
    "minimum": ("A minimum: all",),
    "maximum": ("A maximum: all",),
    "strict saddle": ("A strict saddle",),
    "degenerate": ("Degenerate",),
    "degenerate, downhill": ("No minimum", "Nullity"),
    "not critical": ("no critical point",),
    "unresolved": ("Unresolved",),
}


class Vector(nn.Module):
    """The parameters are the outputs."""

    def __init__(self, x):
        super().__init__()
        self.x = nn.Parameter(torch.as_tensor(x, dtype=torch.float64))

    def forward(self, inputs):
        return self.x[None] + 0 * inputs[:, :1]


def function(loss, at) -> Objective:
    """The Objective of any function of a few numbers."""
    one = torch.zeros(1, 1, dtype=torch.float64)
    return Objective(Vector(at), lambda outputs, _: loss(outputs[0]), [(one, one[:, 0])])


def quadratic(values, at=None, units=1.0, turned=False) -> Objective:
    """units/2 x'Hx with eigenvalues `values`; `turned` into general position."""
    d = torch.as_tensor(np.asarray(values, float))
    basis = torch.linalg.qr(torch.randn(len(d), len(d), generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    matrix = basis @ torch.diag(d) @ basis.T if turned else torch.diag(d)
    return function(lambda x: 0.5 * units * x @ matrix @ x, np.zeros(len(d)) if at is None else at)


def net(model, x, y, loss=F.mse_loss, **options) -> Objective:
    return Objective(model.double(), loss, [(x.double(), y if y.dtype == torch.long else y.double())], **options)


def filled(model, **values) -> nn.Module:
    """A model with its parameters set: numbers fill a tensor, the rest is copied."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            value = values.get(name.replace(".", "_"), 0.0)
            p.copy_(torch.as_tensor(value, dtype=p.dtype).expand_as(p))
    return model


def inputs(n=12, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batchnorm_net() -> Objective:
    """Batch statistics, a network that fits its constant targets: zero gradient, flat in all that BatchNorm removes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
    with torch.no_grad():
        model[3].weight.zero_()
        model[3].bias.fill_(2.0)
    return net(model, inputs(), torch.full((12, 1), 2.0), batchnorm="batch")


def dead_net() -> Objective:
    """Every unit is silent on every sample, the output's bias is the mean target: one curved direction, the rest flat."""
    model = filled(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)), **{"0_bias": -9.0, "2_weight": 1.0})
    return net(model, inputs() / 10, torch.tensor([[1.0], [-1.0]]).repeat(6, 1))


def softmax_regression(scale=1.0) -> Objective:
    """Every input carries every label once: W = 0 is critical, curved but for the shift of all rows."""
    x = inputs(5).repeat_interleave(3, 0)
    y = torch.arange(3).repeat(5)
    return net(filled(nn.Linear(3, 3, bias=False)), x, y, lambda o, t: scale * F.cross_entropy(o, t))


def linear_net(depth) -> Objective:
    """A linear network at the origin, targets of mean zero."""
    model = filled(nn.Sequential(*[nn.Linear(3, 3, bias=False) for _ in range(depth)]))
    x = inputs()
    return net(model, x, x @ torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)))


def product(a, b, units=1.0) -> Objective:
    return function(lambda x: units * (x[0] * x[1] - 1) ** 2, [a, b])


@dataclass
class Point:
    name: str
    make: Any
    kind: str
    negative: int | None = None
    zero: int | None = None
    options: Any = None


UP = np.linspace(0.5, 3, 20)
POINTS = [
    Point("definite", lambda: quadratic(UP), "minimum", 0, 0),
    Point("definite, turned", lambda: quadratic(UP, turned=True), "minimum", 0, 0),
    Point("definite, badly conditioned", lambda: quadratic(np.geomspace(1e-5, 1, 20)), "minimum", 0, 0),
    Point("one eigenvalue of a ten millionth", lambda: quadratic([1e-7, *UP], turned=True), "degenerate", 0, 1),
    Point("one of minus a ten millionth", lambda: quadratic([-1e-7, *UP], turned=True), "degenerate", 0, 1),
    Point("one zero", lambda: quadratic([0, *UP]), "degenerate", 0, 1),
    Point("many zeros, turned", lambda: quadratic([0] * 7 + [1, 2, 3], turned=True), "degenerate", 0, 7),
    Point("indefinite", lambda: quadratic(np.linspace(-1, 1, 20)), "strict saddle", 10, 0),
    Point("one faint negative", lambda: quadratic([-2e-4, *UP]), "strict saddle", 1, 0),
    Point("one fainter negative, turned", lambda: quadratic([-2e-5, *UP], turned=True), "strict saddle", 1, 0),
    Point("indefinite with zeros", lambda: quadratic([-1, 0, 0, *UP], turned=True), "strict saddle", 1, 2),
    Point("one positive among negatives", lambda: quadratic([1e-3, *-UP]), "strict saddle", 20, 0),
    Point("negative", lambda: quadratic(-UP), "maximum", 20, 0),
    Point("negative, turned", lambda: quadratic(-UP, turned=True), "maximum", 20, 0),
    Point("negative with a zero", lambda: quadratic([0, *-UP]), "degenerate, downhill", 20, 1),
    Point("0, -2, -3", lambda: quadratic([0, -2, -3]), "degenerate, downhill", 2, 1),
    Point("no curvature at all", lambda: quadratic(np.zeros(20)), "degenerate", 0, 20),
    Point("a constant loss", lambda: function(lambda x: 0 * x.sum() + 3, [1.0, 2.0, 3.0, 4.0]), "degenerate", 0, 4),
    Point("a loss of exactly zero", lambda: function(lambda x: 0 * x.sum(), np.ones(5)), "degenerate", 0, 5),
    Point("a tilted plane", lambda: function(lambda x: x.sum(), np.ones(5)), "not critical", 0, 5),
    Point("a faintly tilted plane", lambda: function(lambda x: 1e-9 * x.sum(), np.ones(5)), "not critical", 0, 5),
    Point("on the wall of a bowl", lambda: quadratic(UP, at=np.ones(20)), "not critical", 0, 0),
    Point("on the wall of a saddle", lambda: quadratic([-1, *UP], at=np.ones(21)), "not critical", 1, 0),
    Point("far down a long tail", lambda: function(lambda x: (-x).exp().sum(), np.full(4, 12.0)), "not critical", 0, 0),
    Point("a fourth power", lambda: function(lambda x: (x**4).sum(), np.zeros(4)), "degenerate", 0, 4),
    Point("a cubic", lambda: function(lambda x: (x**3).sum() + (x[0] - 1) ** 2 * 0, np.zeros(3)), "degenerate", 0, 3),
    Point("a monkey saddle", lambda: function(lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2, [0.0, 0.0]), "degenerate", 0, 2),
    Point("a parabola on a valley", lambda: function(lambda x: x[0] ** 2 + x[1] ** 4, [0.0, 0.0]), "degenerate", 0, 1),
    *(
        Point(f"definite, in units of {u:g}", lambda u=u: quadratic(UP, units=u), "minimum", 0, 0)
        for u in (1e-20, 1e-9, 1e-8, 1e8, 1e9)
    ),
    *(
        Point(f"indefinite, in units of {u:g}", lambda u=u: quadratic([-1e-3, *UP], units=u), "strict saddle", 1, 0)
        for u in (1e-9, 1e9)
    ),
    *(
        Point(f"a slope, in units of {u:g}", lambda u=u: quadratic(UP, at=np.full(20, 1e-3), units=u), "not critical", 0, 0)
        for u in (1e-9, 1e9)
    ),
    *(
        Point(
            f"off a valley's floor, theta times {c:g}",
            lambda c=c, far=far: function(lambda x: ((x - c) ** 2).sum(), np.full(3, c * far)),
            kind,
        )
        for c in (1e-6, 1.0, 1e6)
        for far, kind in ((1 + 1e-8, "minimum"), (1 + 1e-3, "not critical"))
    ),
    Point("(ab - 1)^2 at the origin", lambda: product(0, 0), "strict saddle", 1, 0),
    Point("(ab - 1)^2 in its valley", lambda: product(2, 0.5), "degenerate", 0, 1),
    Point("(ab - 1)^2 at (1, 1)", lambda: product(1, 1), "degenerate", 0, 1),
    Point("(ab - 1)^2 in its valley, tiny", lambda: product(2, 0.5, 1e-8), "degenerate", 0, 1),
    Point("(ab - 1)^2 in its valley, huge", lambda: product(2, 0.5, 1e8), "degenerate", 0, 1),
    Point("(ab - 1)^2 on the slope", lambda: product(1, 0.5), "not critical"),
    Point("two linear layers at the origin", lambda: linear_net(2), "strict saddle", 9, 0),
    Point("three linear layers at the origin", lambda: linear_net(3), "degenerate", 0, 27),
    Point("softmax regression", softmax_regression, "degenerate", 0, 3),
    Point("softmax regression, tiny", lambda: softmax_regression(1e-8), "degenerate", 0, 3),
    Point("softmax regression, huge", lambda: softmax_regression(1e8), "degenerate", 0, 3),
    Point("dead units", dead_net, "degenerate", 0, 20),
    Point("BatchNorm", batchnorm_net, "degenerate", 0),
]


def cards(result) -> dict[str, Any]:
    return {item.name: item for item in landscape_core.reading(result)}


def coherent(result, found) -> None:
    """What the cards of signs say of one another."""
    negative, zero, positive = (int(n) for n in result["signs"])
    texts = [f"{name} {item.value} {item.words} {item.formula}" for name, item in found.items()]
    everything = " ".join(texts)
    assert not re.search(r"\bnan\b|[−-]0(?![.\d])", everything)
    none_below = "No eigenvalue lies below zero" in everything or "none found" in found["Negative eigenvalues"].value
    assert not (negative and none_below)
    assert ("The most negative is −" in everything) <= (negative > 0)
    assert ("no eigenvalue is negative" in everything) <= (negative == 0)
    if bool(result["signs_known"]):
        assert negative + zero + positive == result["parameters"]
        assert found["Negative eigenvalues"].value.startswith(f"{negative:,} of")
        assert found["Zero eigenvalues"].value.startswith(f"{zero:,} of")
        assert float(result["negative_share"]) == pytest.approx(negative / result["parameters"])
        assert float(result["nullity"]) == zero


@pytest.mark.parametrize("at", POINTS, ids=lambda at: at.name)
def test_the_exact_matrix_knows_the_kind_of_point(at):
    result = landscape_core.compute("spectrum", at.make())
    assert str(result["classification"]) == at.kind
    if at.negative is not None:
        assert int(result["signs"][0]) == at.negative
    if at.zero is not None:
        assert int(result["signs"][1]) == at.zero
    found = cards(result)
    coherent(result, found)
    item = found["Kind of point"]
    assert item.value == at.kind
    assert all(words in item.words for words in MUST[at.kind]), item.words
    assert not any(words in item.words for words in NEVER[at.kind]), item.words


@pytest.mark.parametrize("at", POINTS, ids=lambda at: at.name)
def test_lanczos_claims_what_it_found_and_nothing_else(at):
    objective = at.make()
    options = LANCZOS | ({"k": 1, "k_bottom": 1} if objective.space.size < 6 else {})
    result = landscape_core.compute("spectrum", objective, **options)
    kind = str(result["classification"])
    proven = at.kind in ("not critical", "strict saddle")
    assert kind == (at.kind if proven else "unresolved")
    found = cards(result)
    coherent(result, found)
    words = found["Kind of point"].words
    assert all(part in words for part in MUST[kind]), words
    assert not any(part in words for part in NEVER[kind]), words
    if kind == "unresolved" and at.kind in ("maximum", "degenerate, downhill"):
        assert "no minimum" in words
    elif kind == "unresolved":
        assert "no negative eigenvalue was found down to" in words


@pytest.mark.parametrize("at", POINTS[::6], ids=lambda at: at.name)
@pytest.mark.parametrize("method", ["dense", "lanczos"])
def test_without_the_smallest_eigenvalues_no_class_is_given(at, method):
    result = landscape_core.compute("spectrum", at.make(), **(LANCZOS | {"method": method, "k": 1, "k_bottom": 0}))
    assert str(result["classification"]) in ("unresolved", "not critical")
    assert "A minimum" not in cards(result)["Kind of point"].words


NETS = {
    "dead units": dead_net,
    "BatchNorm": batchnorm_net,
    "softmax": softmax_regression,
    "linear": lambda: linear_net(2),
    "a maximum": lambda: net(Bent(), torch.tensor([[1.0], [-1.0]]), torch.tensor([[3.0], [-3.0]])),
}


class Bent(nn.Module):
    """y = a + x a^2, of which squared error at 0 has a maximum that no Gauss-Newton matrix shows."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.a + x * self.a**2


@pytest.mark.parametrize("method", ["dense", "lanczos"])
@pytest.mark.parametrize("operator", ["ggn", "fisher", "empirical_fisher"])
@pytest.mark.parametrize("name", NETS)
def test_no_other_matrix_has_a_kind_of_point(name, operator, method):
    objective = NETS[name]()
    if operator != "ggn" and name == "BatchNorm":
        return  # single samples have no gradient of their own there
    small = {"k": 1, "k_bottom": 1 if objective.space.size > 1 else 0}
    result = landscape_core.compute("spectrum", objective, **(LANCZOS | small | {"operator": operator, "method": method}))
    assert str(result["classification"]) == "none"
    found = cards(result)
    assert "Kind of point" not in found
    assert "positive semi-definite" in found["What this matrix can show"].words
    assert "shows no saddle" in found["What this matrix can show"].words
    everything = " ".join(item.words for item in found.values())
    assert not re.search(r"[Aa] minimum|[Aa] maximum|is the index", everything)


def test_a_gauss_newton_matrix_of_a_loss_that_is_not_convex_is_not_called_definite():
    objective = function(lambda x: -(x**2).sum(), np.zeros(3))
    item = cards(landscape_core.compute("spectrum", objective, operator="ggn"))["What this matrix can show"]
    assert "semi-definite" not in item.words
    assert "not convex in the outputs" in item.words


class Apart(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in range(2))

    def forward(self, x):
        return torch.cat([self.a, self.b])[None] + 0 * x[:, :1]


@pytest.mark.parametrize("method", ["dense", "lanczos"])
@pytest.mark.parametrize("layers", [("a",), ("b",)])
def test_a_block_has_no_kind_of_point(layers, method):
    one = torch.zeros(1, 1, dtype=torch.float64)
    signs = torch.tensor([1.0, 2.0, -1.0, -2.0], dtype=torch.float64)
    objective = Objective(Apart(), lambda o, t: (signs * o[0] ** 2).sum(), [(one, one)])
    small = {"k": 1, "k_bottom": 1, "method": method, "probes": 2, "lanczos_steps": 2}
    result = landscape_core.compute("spectrum", objective, layers=layers, **small)
    assert str(result["classification"]) == "none"
    words = cards(result)["What this matrix can show"].words
    assert "hides what lies between blocks" in words
    assert "semi-definite" not in words
    whole = landscape_core.compute("spectrum", objective, layers=("a", "b"), **small)
    assert str(whole["classification"]) == "strict saddle"  # naming every layer leaves nothing out


def test_the_learned_words_of_a_zero_matrix_are_no_silly_numbers():
    result = landscape_core.compute("spectrum", quadratic(np.zeros(6)))
    assert float(np.max(result["residuals_top"])) == 0
    assert float(np.max(result["residuals_bottom"])) == 0
    estimate = landscape_core.compute("spectrum", quadratic(np.zeros(30)), **LANCZOS)
    assert float(np.max(estimate["residuals_top"])) == 0
    assert "the Hessian is zero" in cards(result)["Kind of point"].words


# -- the rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gradient", "counts", "kind"),
    [
        (0.0, (0, 0, 3), "minimum"),
        (0.0, (3, 0, 0), "maximum"),
        (0.0, (1, 0, 2), "strict saddle"),
        (0.0, (1, 5, 2), "strict saddle"),
        (0.0, (0, 1, 2), "degenerate"),
        (0.0, (2, 1, 0), "degenerate, downhill"),
        (0.0, (0, 3, 0), "degenerate"),
        (1e-6, (0, 0, 3), "minimum"),
        (1e-3, (0, 0, 3), "not critical"),
        (math.nan, (0, 0, 3), "not critical"),
        (math.inf, (0, 3, 0), "not critical"),
    ],
)
def test_the_classes(gradient, counts, kind):
    assert classify(gradient, Signs(*counts, known=True), tolerance=1e-6) == kind
    assert classify(gradient, Signs(*counts, known=True), tolerance=1e-6, whole=False) == "none"
    some = classify(gradient, Signs(*counts, known=False), tolerance=1e-6)
    assert some == (kind if kind in ("strict saddle", "not critical") else "unresolved")
    assert classify(gradient, Signs(*counts, known=True), tolerance=1e-6, bottom=False) in ("unresolved", "not critical")


def test_a_gradient_is_small_or_not_whatever_the_units():
    assert relative_gradient(2.0, 4.0, 0.5) == 1
    assert relative_gradient(2.0, 4.0, 0.0) == 0.5
    assert relative_gradient(0.0, 0.0, 1.0) == 0
    assert relative_gradient(1e-300, 0.0, 1.0) == math.inf
    assert math.isnan(relative_gradient(math.nan, 1.0, 1.0))


@pytest.mark.parametrize("units", [1e-9, 1.0, 1e9])
def test_zero_and_small_are_the_same_in_both_methods(units):
    values = np.linspace(-1, 1, 50) ** 3
    at = 0.3 * np.ones(50)
    exact, estimate = (
        landscape_core.compute("spectrum", quadratic(values, at, units, turned=True), method=method, k=2, k_bottom=2)
        for method in ("dense", "lanczos")
    )
    for name in ("zero_threshold", "gradient_relative", "norm"):
        assert float(estimate[name]) == pytest.approx(float(exact[name]), rel=1e-3)
    assert float(exact["zero_threshold"]) == pytest.approx(1e-6 * units)


@pytest.mark.parametrize("method", ["dense", "lanczos"])
def test_rounding_is_spelled_as_zero(method):
    found = cards(landscape_core.compute("spectrum", quadratic([0, 0, -2, -3], turned=True), method=method))
    assert found["Sharpness"].value == "0"
    flat = cards(landscape_core.compute("spectrum", quadratic([-1, -1, 1, 1], turned=True), method=method, k=2, k_bottom=2))
    assert method == "lanczos" or flat["Trace"].value == "0"  # an estimate is as good as its error
    everything = " ".join(f"{item.value} {item.words}" for item in (*found.values(), *flat.values()) if item.name != "Accuracy")
    assert not re.search(r"e−1[0-9]", everything), everything


def test_frozen_parameters_are_no_directions():
    model = nn.Linear(3, 1)
    model.bias.requires_grad_(False)
    x = inputs()
    result = landscape_core.compute("spectrum", net(model, x, x @ model.weight.detach().double().T + model.bias.detach()))
    assert str(result["classification"]) == "minimum"
    assert "1 parameter is frozen" in cards(result)["Note"].words


class Picky(nn.Module):
    """A model that knows only weights near its own."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 2)
        self.at = self.a.weight.detach().clone()

    def forward(self, x):
        if float((self.a.weight.detach().to(self.at) - self.at).abs().max()) > 1e-3:
            raise KeyError("these are not my weights")
        return torch.sin(self.a(x))


def test_a_model_that_fails_elsewhere_costs_the_causes_alone(monkeypatch):
    monkeypatch.delenv("LANDSCAPE_STRICT", raising=False)
    result = landscape_core.compute("spectrum", net(Picky(), inputs(), torch.zeros(12, 2)))
    assert int(result["nullity_counted"]) == int(result["nullity_predicted"]) == 0
    assert str(result["classification"]) == "not critical"
