"""Every verdict on a path's geometry against chance, over many seeds, and against the clear case."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape_core.analyses.high_dimensions import laws
from landscape_core.analyses.high_dimensions.claim import FAILS, HOLDS, LAW, OPEN, START, Claim
from landscape_core.analyses.high_dimensions.compute import depth_deviation, depth_law
from landscape_core.analyses.high_dimensions.reading import claims, reading
from landscape_core.analyses.high_dimensions.spec import HighDimensionsSpec
from landscape_core.measuring.context import Context, Trajectory
from landscape_core.objective import Objective

from ..overlap.test_verdicts import Slope
from ..running import analysed
from ..surface.results import changed

Effort = Callable[[int, int], int]
FALSE = 0.05  # of the draws by chance may be called more than that
ANGLES = (
    "The gradient is almost perpendicular to the position",
    "The gradient is almost perpendicular to the way that matters",
    "Descent has forgotten where it came from",
    "One step is as good as random to the next",
)
WALK, SHELL, APART = (
    "Training wanders like a random walk",
    "The weights stay in a thin shell",
    "All points are about equally far apart",
)
PLANE, AXES = "A random plane holds next to nothing of the gradient", "Two principal axes show where training goes"
DEPTH, INDEX = "Vanishing gradients are geometry, not just depth", "The higher the loss, the more directions bend down"
FLAT, TOP = "The loss is flat in most directions", "A few directions hold most of the curvature"


def of(thetas: Tensor, slope: Tensor, steps: tuple[int, ...], bend: Tensor | None = None, **values: Any) -> Any:
    """The result of a path over a loss with this slope everywhere, or with this curvature besides."""
    p = len(slope)
    matrix = torch.zeros(p, p, dtype=torch.float64) if bend is None else bend
    data = torch.zeros(4, 1), torch.zeros(4, 1)
    objective = Objective(Slope(matrix, slope), lambda z, _: z.mean(), data, dtype=torch.float64)
    given = Context(objective, source=f"r@{steps[-1]}", own_path=lambda: Trajectory(steps, thetas))
    return analysed("high_dimensions", HighDimensionsSpec(**{"curvature": 0, **values}), given, None, None)


def said(result: Any) -> dict[str, Claim]:
    return {claim.hypothesis: claim for claim in claims(result)}


def walk(seed: int, p: int, steps: np.ndarray) -> tuple[Tensor, Tensor]:
    """Checkpoints of a random walk far from the origin, and a random slope."""
    source = torch.Generator().manual_seed(seed)
    moves = (
        torch.randn(len(steps), p, generator=source, dtype=torch.float64)
        * torch.tensor(np.diff(steps, prepend=0)).sqrt()[:, None]
    )
    slope = torch.randn(p, generator=source, dtype=torch.float64)
    return 1e-3 * moves.cumsum(0) + torch.randn(p, generator=source, dtype=torch.float64), slope


@pytest.mark.long
@pytest.mark.parametrize("p", [120, 900])
@pytest.mark.parametrize("steps", [tuple(range(0, 80, 10)), (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)])
def test_a_random_walk_over_a_random_slope_is_nothing_but_chance(p: int, steps: tuple[int, ...], effort: Effort) -> None:
    count, wrong, held = effort(60, 600), Counter[str](), Counter[str]()
    for seed in range(count):
        found = said(of(*walk(seed, p, np.array(steps)), steps))
        for name in (*ANGLES, WALK, SHELL):
            wrong[name] += found[name].verdict in (FAILS, START)
            held[name] += found[name].verdict == HOLDS
        wrong[PLANE] += found[PLANE].verdict == FAILS
        wrong[AXES] += found[AXES].verdict == HOLDS or "no better than that of a random walk" not in found[AXES].words
    assert all(number <= FALSE * count for number in wrong.values()), wrong
    # And it is recognised: not all that is right is left open.
    assert min(held[name] for name in (*ANGLES, WALK)) >= 0.7 * count, held


@pytest.mark.parametrize("p", [120, 900])
def test_a_straight_way_downhill_is_none_of_it(p: int) -> None:
    torch.manual_seed(0)
    slope = torch.randn(p, dtype=torch.float64)
    steps = tuple(range(0, 110, 10))
    thetas = -torch.tensor(steps)[:, None] * slope + 0.01 * torch.randn(11, p, dtype=torch.float64)
    found = said(of(thetas, slope, steps))
    assert all(found[name].verdict == FAILS for name in (*ANGLES[1:], WALK, APART)), found
    assert found[ANGLES[0]].verdict in (FAILS, START)
    assert found[AXES].verdict == HOLDS
    assert "random walk" not in found[AXES].words


def test_a_cloud_of_points_is_equally_far_apart_and_growing_weights_leave_the_shell(effort: Effort) -> None:
    steps = tuple(range(12))
    for seed in range(20):
        source = torch.Generator().manual_seed(seed)
        points = torch.randn(12, 900, generator=source, dtype=torch.float64)
        found = said(of(points, torch.ones(900, dtype=torch.float64), steps))
        assert found[APART].verdict == HOLDS
        assert found[SHELL].verdict != FAILS
        assert found[WALK].verdict == FAILS  # the way to all is the same
    grown = said(of(points * torch.linspace(1, 2, 12)[:, None], torch.ones(900, dtype=torch.float64), steps))
    assert grown[SHELL].verdict == FAILS


@pytest.mark.parametrize("p", [30, 200, 3000])
@pytest.mark.parametrize("steps", [np.arange(1, 41), np.unique(np.geomspace(1, 2000, 40).round())])
def test_the_power_of_a_walk_deviates_as_its_law_says(p: int, steps: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    slopes = []
    for _ in range(200):
        squares = np.zeros(len(steps))
        at = np.zeros(p)
        for i, move in enumerate(np.diff(steps, prepend=0)):
            at = at + np.sqrt(move) * rng.standard_normal(p)
            squares[i] = at @ at
        slopes.append(np.polyfit(np.log(steps), 0.5 * np.log(squares), 1)[0])
    expected = laws.walk_slope_deviation(steps, p)
    assert np.std(slopes) == pytest.approx(expected, rel=0.2)
    assert np.mean(slopes) == pytest.approx(0.5, abs=0.6 * expected)


# -- order ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain() -> Any:
    steps = (0, 1, 2)
    return of(*walk(0, 20, np.array(steps)), steps, torch.eye(20, dtype=torch.float64), curvature=3)


@pytest.mark.long
@pytest.mark.parametrize("n", [5, 7, 8, 12, 30])
@pytest.mark.parametrize("memory", [False, True])
def test_a_share_that_drifts_by_chance_does_not_follow_the_loss(n: int, memory: bool, plain: Any, effort: Effort) -> None:
    rng, count = np.random.default_rng(1), effort(600, 6000)
    wrong = 0
    for _ in range(count):
        noise = rng.standard_normal(n)
        share = 0.3 + 1e-3 * (noise.cumsum() if memory else noise)
        wrong += index(plain, np.geomspace(2, 0.1, n), share).verdict != OPEN
    assert wrong <= FALSE * count
    if n >= laws.FEWEST:
        assert index(plain, np.geomspace(2, 0.1, n), np.linspace(0.4, 0.1, n)).verdict == HOLDS
        assert index(plain, np.geomspace(2, 0.1, n), np.linspace(0.1, 0.4, n)).verdict == FAILS
    assert index(plain, np.geomspace(2, 0.1, n), np.full(n, 0.2)).verdict == OPEN


def index(plain: Any, loss: np.ndarray, share: np.ndarray) -> Claim:
    n = len(loss)
    given = {"steps": np.arange(n), "loss": loss, "negative_share": share, "negative_share_error": np.zeros(n)}
    empty = dict.fromkeys(("flat_share", "flat_share_error", "top_absolute_share", "top_trace_share"), np.full(n, np.nan))
    series = dict.fromkeys(("theta_norm", "displacement"), np.ones(n))
    return said(changed(plain, **given, **empty, **series, distances=np.ones((n, n))))[INDEX]


# -- eigenvalues ---------------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(("p", "k"), [(12, 1), (40, 2), (80, 9)])
@pytest.mark.parametrize("method", ["dense", "lanczos"])
def test_a_random_matrix_is_neither_flat_nor_held_by_a_few_directions(p: int, k: int, method: Any, effort: Effort) -> None:
    count, wrong = effort(20, 200), Counter[str]()
    for seed in range(count):
        draw = torch.randn(p, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        result = of(*walk(seed, p, np.array([0, 1])), (0, 1), draw + draw.T, curvature=1, k=k, method=method)
        found = said(result)
        wrong[FLAT] += found[FLAT].verdict == HOLDS
        if TOP in found:
            wrong[TOP] += found[TOP].verdict == HOLDS
    assert all(number <= FALSE * count for number in wrong.values()), wrong


def test_a_few_large_eigenvalues_among_small_ones_are_seen() -> None:
    values = torch.cat([torch.tensor([10.0, 8.0, 5.0]), torch.full((97,), 1e-5)]).double()
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(100, 100, dtype=torch.float64))[0]
    result = of(*walk(0, 100, np.array([0, 1])), (0, 1), turn @ torch.diag(values) @ turn.T, curvature=1, k=3)
    found = said(result)
    assert found[FLAT].verdict == found[TOP].verdict == HOLDS
    assert "softmax" not in found[TOP].words  # no classifier
    half = torch.diag(torch.cat([torch.full((3,), 8.0), torch.full((3,), -8.0), torch.zeros(94)]).double())
    even = of(*walk(0, 100, np.array([0, 1])), (0, 1), turn @ half @ turn.T, curvature=1, k=3)
    assert said(even)[TOP].verdict == FAILS  # as much bends down
    down = of(*walk(0, 100, np.array([0, 1])), (0, 1), turn @ torch.diag(-values) @ turn.T, curvature=1, k=3)
    assert said(down)[TOP].verdict == HOLDS  # the few may bend down as well
    many = torch.diag(torch.cat([torch.tensor([10.0, 8.0, 5.0]), torch.full((60,), -0.3), torch.zeros(37)]).double())
    most = said(of(*walk(0, 100, np.array([0, 1])), (0, 1), turn @ many @ turn.T, curvature=1, k=3))[TOP]
    assert "can hold more than all of it" in most.words
    assert "460 % of the trace" in most.measured


# -- depth ---------------------------------------------------------------------------------------------------------------------


def chain(seed: int, depth: int, width: int, change: Callable[[nn.Sequential], None] = lambda _: None) -> Any:
    torch.manual_seed(seed)
    sizes = [8, *[width] * depth]
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 3))
    with torch.no_grad():
        change(model)
    x = torch.randn(60, 8)
    objective = Objective(model, F.cross_entropy, (x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()), dtype=torch.float64)
    path = Trajectory((0, 1), torch.stack([objective.theta, 1.01 * objective.theta]))
    given = Context(objective, source="r@1", own_path=lambda: path)
    return analysed("high_dimensions", HighDimensionsSpec(curvature=0, seed=seed), given, None, None)


@pytest.mark.long
@pytest.mark.parametrize(("depth", "width"), [(1, 20), (4, 16), (10, 24)])
def test_random_layers_are_as_their_law_says(depth: int, width: int, effort: Effort) -> None:
    count = effort(40, 400)
    verdicts = Counter(said(chain(seed, depth, width))[DEPTH].verdict for seed in range(count))
    assert verdicts[FAILS] <= FALSE * count, verdicts
    assert verdicts[LAW] >= 0.9 * count


def blind(model: nn.Sequential) -> None:
    """The second layer looks at units of the first that are dead: its size says nothing of what it carries."""
    first, second = model[0], model[2]
    first.weight[:12], first.bias[:12] = 0.0, -1e-3
    second.weight[:, :12] *= 5
    second.weight[:, 12:] *= 1e-3


def test_layers_that_are_not_random_are_not_as_the_law_says() -> None:
    ordered = said(chain(0, 4, 24, blind))[DEPTH]
    assert ordered.verdict == FAILS
    assert "mostly within a factor of" in ordered.baseline


def test_a_network_of_other_layers_has_no_law_and_no_word_of_relu_layers() -> None:
    model = nn.Sequential(nn.Linear(8, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3))
    objective = Objective(model, F.cross_entropy, (torch.randn(20, 8), torch.zeros(20).long()), dtype=torch.float64)
    law = depth_law(objective, objective.theta)
    assert np.isnan(depth_deviation(objective, objective.theta, law, 0))
    path = Trajectory((0, 1), torch.stack([objective.theta, 1.01 * objective.theta]))
    given = Context(objective, source="r@1", own_path=lambda: path)
    result = analysed("high_dimensions", HighDimensionsSpec(curvature=0), given, None, None)
    claim = said(result)[DEPTH]
    assert claim.verdict == OPEN
    assert "ReLU" not in claim.words + claim.formula


def test_no_line_has_a_number_that_is_none(plain: Any) -> None:
    lost = {name: np.full(3, np.nan) for name in ("plane_share_path", "plane_share_random", "cosine_steps")}
    for result in (plain, changed(plain, **lost), changed(plain, layer_gradient_norms=np.full((3, 1), np.nan))):
        for row in reading(result, HighDimensionsSpec()):
            assert not any(word in f"{row.value} {row.words}" for word in ("nan", "not a number", "unknown", "−0 ", " to cos"))
