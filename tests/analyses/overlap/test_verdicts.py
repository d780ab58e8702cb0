"""Every verdict of the overlap against chance, over many seeds, and against the clear case; which loss a sentence is of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import beta
from torch import Tensor, nn

from landscape_core.analyses.overlap.figure import figure as overlap_figure
from landscape_core.analyses.overlap.spec import OverlapSpec
from landscape_core.drawing.statement import Reading
from landscape_core.measuring.context import Context, Trajectory
from landscape_core.measuring.top_space import chance_bounds, common, common_by_chance
from landscape_core.objective import Objective
from landscape_core.presenting import reading

from ..running import analysed
from ..surface.results import changed
from . import results as overlaps

Effort = Callable[[int, int], int]
FALSE = 0.05  # of the draws by chance may be called more than that


class Slope(nn.Module):
    """½ θᵀAθ + bᵀθ: a curvature, and a slope that need not have to do with it."""

    def __init__(self, curvature: Tensor, slope: Tensor):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros_like(slope))
        self.curvature, self.slope = curvature, slope

    def forward(self, x: Tensor) -> Tensor:
        value = 0.5 * self.theta @ self.curvature @ self.theta + self.slope @ self.theta
        return value * torch.ones_like(x)


def of_slope(seed: int, slope: Tensor | None = None, p: int = 40, count: int = 6) -> Any:
    """The overlap over a path whose gradients are near a slope, a random one unless it is given, in a random curvature."""
    source = torch.Generator().manual_seed(seed)
    draw = torch.randn(p, p, generator=source, dtype=torch.float64)
    curvature = draw @ torch.diag(torch.logspace(1, -2, p, dtype=torch.float64)) @ draw.T / p
    found = torch.randn(p, generator=source, dtype=torch.float64) if slope is None else slope
    if slope is not None:
        found = torch.linalg.eigh(curvature)[1][:, -3:].sum(1)
    objective = Objective(
        Slope(curvature, found), lambda z, _: z.mean(), (torch.zeros(4, 1), torch.zeros(4, 1)), dtype=torch.float64
    )
    steps = 1e-4 * torch.randn(count, p, generator=source, dtype=torch.float64).cumsum(0)
    path = Trajectory(tuple(range(0, 10 * count, 10)), steps)
    given = Context(objective, own_path=lambda: path)
    return analysed("overlap", OverlapSpec(k=3, minibatches=0, method="dense"), given, None, None)


def row(result: Any, name: str) -> Reading:
    return next(item for item in reading(result) if item.name == name)


@pytest.mark.long
def test_random_gradients_are_credited_with_nothing(effort: Effort) -> None:
    count = effort(100, 1000)
    shares, ways = 0, 0
    for seed in range(count):
        result = of_slope(seed)
        shares += "a random direction would have such a share" not in row(result, "Gradient in the top space").words
        ways += "no more of the way lies there" not in row(result, "Way made inside it").words
    assert shares <= FALSE * count
    assert ways <= FALSE * count
    clear = of_slope(0, torch.ones(1))
    assert "Verdict: it holds here" in row(clear, "Gradient in the top space").words


@pytest.mark.long
@pytest.mark.parametrize("memory", [0.0, 0.9, 1.0])
@pytest.mark.parametrize(("k", "p"), [(1, 30), (10, 1510)])
def test_no_verdict_is_drawn_from_shares_of_chance_however_they_hang_together(
    memory: float, k: int, p: int, effort: Effort
) -> None:
    """Shares with the law of a random direction's at nine checkpoints, independent, with a memory, or all the same."""
    rng, count = np.random.default_rng(k), effort(300, 3000)
    steady = {"baseline": k / p, "baseline_bounds": np.array(chance_bounds(k, p)), "k": k, "parameters": p}
    wrong = {"Gradient in the top space": 0, "Mini-batch gradients": 0, "Way made inside it": 0}
    said = ("a random direction would have such a share", "no more than by chance", "no more of the way lies there")
    for _ in range(count):
        normal = rng.standard_normal((9, p))
        for i in range(1, 9):
            normal[i] = memory * normal[i - 1] + (1 - memory**2) ** 0.5 * normal[i]
        share = np.square(normal[:, :k]).sum(1) / np.square(normal).sum(1)
        names = ("gradient_share", "gradient_share_k_minus_1", "gradient_share_minibatch", "displacement_share")
        given = changed(overlaps.overlap(), **steady, **dict.fromkeys(names, share))
        for name, words in zip(wrong, said, strict=True):
            wrong[name] += words not in row(given, name).words
    assert all(number <= FALSE * count for number in wrong.values()), wrong


@pytest.mark.long
@pytest.mark.parametrize(("k", "p"), [(1, 20), (3, 57), (10, 400), (10, 15)])
def test_random_spaces_have_in_common_what_their_law_says(k: int, p: int, effort: Effort) -> None:
    source, count = torch.Generator().manual_seed(p), effort(1000, 10_000)
    draws = torch.linalg.qr(torch.randn(count, 2, p, k, generator=source, dtype=torch.float64))[0]
    found = np.array([common(a, b) for a, b in draws])
    assert found.mean() == pytest.approx(k / p, rel=0.1)
    assert (found <= common_by_chance(k, p)).mean() == pytest.approx(0.995, abs=0.006)
    bound, told = common_by_chance(k, p), overlaps.overlap()
    for value, words in ((0.99 * bound, "random spaces may have as much"), (min(0.999, 1.5 * bound), "it ")):
        at = np.full(9, value)
        given = changed(told, persistence_reference=at, persistence_chance=bound, baseline=k / p)
        assert f"Verdict: {words}" in row(given, "Persistence").words


def test_the_bounds_of_chance_are_those_of_the_beta_law() -> None:
    assert chance_bounds(10, 1510) == pytest.approx(beta(5, 750).ppf([0.005, 0.995]))


def test_a_space_is_judged_soon_after_the_start_or_not_at_all() -> None:
    few = changed(overlaps.overlap(), steps=np.array([0, 1500, 1600, 1700, 1800, 1850, 1900, 1950, 2000]))
    assert "open, no checkpoint was recorded shortly after the start" in row(few, "Persistence").words


# -- which loss --------------------------------------------------------------------------------------------------------------


def trained(decay: float = 0.05, optimizer: str = "sgd", **fields: Any) -> tuple[Context, Any]:
    """A small regression over a path, said to be trained with weight decay."""
    source = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    data = torch.randn(40, 4, generator=source), torch.randn(40, 2, generator=source)
    objective = Objective(model, F.mse_loss, data, dtype=torch.float64)
    thetas = torch.stack([objective.theta * scale for scale in (1.0, 0.9, 0.8, 0.7)])
    training = {"optimizer": optimizer, "lr": 0.1, "batch_size": 0, "weight_decay": decay, "train_samples": 40}
    given = Context(objective, own_path=lambda: Trajectory((0, 10, 20, 30), thetas), training=training | fields)
    spec = OverlapSpec(k=2, minibatch_size=8, minibatches=3, method="dense")
    return given, analysed("overlap", spec, given, None, None)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_loss_that_is_trained_stands_beside_the_plain_one(optimizer: str) -> None:
    given, result = trained(optimizer=optimizer)
    objective = given.objective
    for i, theta in enumerate(given.path(None).thetas):
        vectors = torch.linalg.eigh(objective.hessian(theta).dense())[1][:, -2:]
        plain = objective.gradient(theta)
        for end, g in (("", plain), ("_trained", plain + 0.05 * theta)):
            parts = (vectors.T @ g).square() / g.square().sum()
            assert result[f"gradient_share{end}"][i] == pytest.approx(float(parts.sum()))
            assert result[f"contributions{end}"][i] == pytest.approx(parts.flip(0).numpy())
            assert result[f"gradient_norm{end}"][i] == pytest.approx(float(g.norm()))
        assert result["loss_trained"][i] == pytest.approx(objective.loss(theta) + 0.025 * float(theta @ theta))
    words = row(result, "Gradient in the top space").words
    assert "the gradient of the loss that is trained, weight decay included," in words
    assert row(result, "Gradient in the top space").value != row(result, "Plain gradient in it").value
    curves = {trace.name for trace in overlap_figure(result).data}
    assert {"full gradient, with weight decay", "full gradient of the plain loss", "plain loss"} <= curves
    assert "with weight decay" in overlap_figure(result).layout.title.subtitle.text


@pytest.mark.parametrize(("decay", "optimizer"), [(0.0, "sgd"), (0.0, "adam"), (0.05, "adamw")])
def test_without_a_decay_in_the_loss_there_is_one_loss(decay: float, optimizer: str) -> None:
    _, result = trained(decay, optimizer)
    assert not [name for name in result if name.endswith("_trained")]
    rows = {item.name: item.words for item in reading(result)}
    assert "Plain gradient in it" not in rows
    assert "loss that is trained" not in "".join(rows.values())
    assert ("is in neither gradient nor Hessian" in rows["Loss"]) == bool(decay)


def test_a_regression_has_no_softmax_and_full_batches_no_noise() -> None:
    _, result = trained(0.0)
    assert result["classes"] == 0
    words = "".join(item.words for item in reading(result))
    assert "softmax" not in words
    limit = row(result, "Limit of stability")
    assert limit.verdict == "ok"
    assert "Mini-batches" not in limit.words
    asked = changed(result, classes=2)  # of a classifier it would be asked, had k not been given
    assert "softmax" not in row(asked, "k − 1 directions").words


def test_a_batch_whose_samples_see_each_other_is_said_to_have_another_loss() -> None:
    given, result = trained(0.0)
    assert "see each other" not in str(result["notes"])
    x = torch.cat([batch.inputs for batch in given.objective.batches()])
    contrast = Objective(
        nn.Linear(4, 3), lambda z, _: torch.logsumexp(z @ z.T, 1).mean(), (x, torch.zeros(40)), dtype=torch.float64
    )
    path = Trajectory((0, 1), torch.stack([contrast.theta, 0.9 * contrast.theta]))
    other = dataclasses.replace(given, objective=contrast, own_path=lambda: path)
    spec = OverlapSpec(k=2, minibatch_size=8, minibatches=2, method="dense")
    told = analysed("overlap", spec, other, None, None)
    assert any("see each other" in item.words for item in reading(told) if item.name == "Note")
    assert row(told, "Loss").value == "40 train samples"
    assert row(result, "Loss").value == "mean over 40 train samples"
    summed = Objective(nn.Linear(4, 3), lambda z, _: z.sin().sum(), (x, torch.zeros(40)), dtype=torch.float64, reduction="sum")
    path = Trajectory((0, 1), torch.stack([summed.theta, 0.9 * summed.theta]))
    told = analysed("overlap", spec, dataclasses.replace(given, objective=summed, own_path=lambda: path), None, None)
    assert row(told, "Loss").value == "sum over 40 train samples"


@pytest.mark.parametrize("far", [float("nan"), 1e200])
def test_weights_without_a_loss_tell_nothing_of_samples_that_see_each_other(far: float) -> None:
    given, _ = trained(0.0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    batch = next(iter(given.objective.batches()))
    first = Objective(net, F.mse_loss, (batch.inputs, batch.targets), dtype=torch.float64).theta
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(far)
    objective = Objective(net, F.mse_loss, (batch.inputs, batch.targets), dtype=torch.float64)
    path = Trajectory((0, 1), torch.stack([first, first * far]))
    spec = OverlapSpec(k=2, minibatch_size=8, minibatches=2, method="dense")
    told = analysed("overlap", spec, dataclasses.replace(given, objective=objective, own_path=lambda: path), None, None)
    notes = "; ".join(item.words for item in reading(told) if item.name == "Note")
    assert "see each other" not in notes
    assert ("the weights are not finite there" in notes, "overflows" in notes) == (far != far, far == far)
    assert np.isfinite(told["loss"]).tolist() == [True, False]


@pytest.mark.parametrize("softmax", [True, False])
def test_one_direction_less_than_classes_is_a_matter_of_softmax(softmax: bool) -> None:
    given, _ = trained(0.0)
    x = next(iter(given.objective.batches())).inputs
    y = torch.arange(len(x)) % 3
    loss = F.cross_entropy if softmax else lambda z, y: F.mse_loss(z, F.one_hot(y, 3).to(z))
    accuracy = {"accuracy": lambda z, y: (z.argmax(1) == y).double().mean()}
    objective = Objective(nn.Linear(4, 3), loss, (x, y), dtype=torch.float64, metrics=accuracy)
    path = Trajectory((0, 1), torch.stack([objective.theta, 0.9 * objective.theta]))
    spec = OverlapSpec(minibatch_size=8, minibatches=2, method="dense")
    told = analysed("overlap", spec, dataclasses.replace(given, objective=objective, own_path=lambda: path), None, None)
    assert (int(told["classes"]), int(told["k"])) == (3, 3)
    assert ("softmax" in row(told, "k − 1 directions").words) == softmax


@pytest.mark.foreign
def test_a_graph_has_no_mini_batches_and_an_overlap_all_the_same() -> None:
    class Net(nn.Linear):
        def forward(self, nodes: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
            own = super().forward(nodes)
            return own.index_add(0, edges[0], torch.tanh(own)[edges[1]])

    given, _ = trained(0.0)
    edges, nodes = torch.stack([torch.arange(40), torch.arange(40).roll(7)]), torch.randn(40, 4)
    graph = Objective(Net(4, 3), F.cross_entropy, ((nodes, edges), torch.arange(40) % 3), dtype=torch.float64)
    path = Trajectory((0, 1), torch.stack([graph.theta, 0.9 * graph.theta]))
    other = dataclasses.replace(given, objective=graph, own_path=lambda: path)
    told = analysed("overlap", OverlapSpec(k=2, minibatch_size=8, minibatches=2, method="dense"), other, None, None)
    assert any("left out" in item.words for item in reading(told) if item.name == "Note")
    assert int(told["minibatch_size"]) == 0
    assert np.isfinite(told["gradient_share"]).all()
    assert np.isnan(told["gradient_share_minibatch"]).all()


def test_what_was_not_measured_is_named_as_what_a_paper_found() -> None:
    words = row(overlaps.overlap(), "What this picture does not show").words
    assert "Song, Ahn & Yun found in theirs" in words
    assert "is not measured by this picture" in words


def test_where_nothing_is_curved_no_space_persists() -> None:
    flat = changed(overlaps.overlap(), eigenvalues=np.zeros((9, 10)), persistence_reference=np.ones(9))
    assert "Persistence" not in {item.name for item in reading(flat)}
