"""What every ± and every pair of bounds holds: whole analyses with many seeds on networks whose dense spectrum is known.

Each analysis runs as it does for a person, by Lanczos, with the Hessian and the Gauss-Newton matrix of a trained network in
dense float64 in the place of its products, so that 200 seeds of it take a minute or two and the truth is known. Of each
number with a standard error: how often two of it hold, the mean of it over the deviation of the estimates themselves, and the
bias over that deviation; of bounds, how often both hold. Numbers that are not given (NaN) count in a column of their own.

    python benchmarks/coverage.py [--networks relu,early,...] [--seeds 200]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))  # the program runs from its checkout
from landscape_core.analyses.high_dimensions.compute import _shares
from landscape_core.analyses.high_dimensions.spec import HighDimensionsSpec
from landscape_core.analyses.spectrum.compute import KNEE, run
from landscape_core.analyses.spectrum.spec import SpectrumSpec
from landscape_core.analyses.surface.probes import standard_error
from landscape_core.analyses.surface.whole_hessian import spectrum_card
from landscape_core.linalg import Quadrature, estimated_trace, function_of, share_bounds
from landscape_core.measuring.context import Context
from landscape_core.objective import Objective

HOLD, HOLD_EACH, BOUNDS_HOLD = 0.90, 0.86, 0.95  # of two standard errors over all networks and in each; of bounds
RATIO, BIAS = (0.8, 1.5), 0.5
MANY = 100  # seeds from which the bands are taken as they are
FEWEST = 8  # seeds that must give a number for anything to be said of it
SAMPLES = 400
DRAWN = 200  # samples of a loss whose standard error is asked

# -- networks ------------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """One block of a transformer over the rows of a digit, with LayerNorm before both its parts."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.embed, self.mix, self.out = nn.Linear(8, width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down, self.head = nn.Linear(width, 16), nn.Linear(16, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.reshape(-1, 8, 8))
        q, k, v = self.mix(self.first(x)).chunk(3, -1)
        x = x + self.out(torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v)
        return self.head((x + self.down(F.gelu(self.up(self.second(x))))).mean(1))


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.two(F.silu(self.one(x.reshape(-1, 1, 8, 8))))).flatten(1))


def perceptron(*widths: int, activation: type[nn.Module]) -> nn.Module:
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(x))
    inputs = torch.tensor(x[order] / 16)
    return (inputs - inputs.mean()) / inputs.std(), torch.tensor(y[order])


def waves() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(1500, 6, generator=generator, dtype=torch.float64)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3]
    return x, y + 0.1 * torch.randn(len(x), 1, generator=generator, dtype=torch.float64)


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).mean()


@dataclass(frozen=True)
class Case:
    """A network and how long it is trained, by SGD."""

    title: str
    build: Callable[[], nn.Module]
    steps: int
    lr: float
    data: Callable[[], tuple[Tensor, Tensor]] = digits
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy


CASES = {
    "relu": Case("ReLU MLP, nine outliers", lambda: perceptron(64, 10, 10, activation=nn.ReLU), 200, 0.1),
    "early": Case("tanh MLP of two layers, early", lambda: perceptron(64, 12, 12, 10, activation=nn.Tanh), 30, 0.3),
    "conv": Case("convolutions", Convolution, 200, 0.1),
    "attention": Case("attention with LayerNorm", Attention, 600, 0.1),
    "regression": Case(
        "tanh MLP, regression", lambda: perceptron(6, 24, 16, 1, activation=nn.Tanh), 600, 0.05, waves, squares
    ),
}  # fmt: skip


class Dense:
    """A matrix as an operator of the program."""

    notes = ()

    def __init__(self, matrix: Tensor):
        self.matrix = matrix
        self.shape, self.dtype, self.device = matrix.shape, matrix.dtype, matrix.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        return self.matrix @ vectors.to(self.matrix)


class Known:
    """An Objective whose Hessian and Gauss-Newton matrix at its weights were computed once, with what they are."""

    def __init__(self, name: str):
        self.case = case = CASES[name]
        torch.manual_seed(3)
        model = case.build().double()
        x, y = case.data()
        optimizer, generator = torch.optim.SGD(model.parameters(), case.lr), torch.Generator().manual_seed(0)
        for _ in range(case.steps):
            drawn = torch.randperm(SAMPLES, generator=generator)[:64]
            optimizer.zero_grad()
            case.loss(model(x[drawn]), y[drawn]).backward()
            optimizer.step()
        self.objective = Objective(model, case.loss, [(x[:SAMPLES], y[:SAMPLES])], dtype=torch.float64)
        matrices = [found.dense() for found in (self.objective.hessian(), self.objective.gauss_newton())]
        self.dense, self.ggn = (Dense((matrix + matrix.T) / 2) for matrix in matrices)
        self.values, self.vectors = torch.linalg.eigh(self.dense.matrix)
        with torch.no_grad():
            each = [case.loss(model(x[i : i + 1]), y[i : i + 1]) for i in range(SAMPLES)]
        self.losses = torch.stack(each).numpy()  # of the training samples, as many as a mean is drawn of

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    def hessian(self, *_: Any, **__: Any) -> Dense:
        return self.dense

    def gauss_newton(self, *_: Any, **__: Any) -> Dense:
        return self.ggn


# -- what is measured ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A number with a standard error, or several of one kind, and what is true."""

    name: str
    value: Any
    error: Any
    truth: Any


@dataclass(frozen=True)
class Bounds:
    """Two ends, and what lies between them."""

    name: str
    low: Any
    high: Any
    truth: Any


Measured = Number | Bounds


def finished(running: Any) -> dict[str, Any]:
    """What a running analysis comes to."""
    while True:
        try:
            next(running)
        except StopIteration as end:
            return dict(end.value)


def spectrum(known: Known, seed: int) -> Iterator[Measured]:
    """The spectrum analysis by Lanczos with its defaults."""
    e = known.values.numpy()
    spec = SpectrumSpec(method="lanczos", seed=seed, dtype="float64")
    found = finished(run(spec, Context(known)))  # type: ignore[arg-type]
    p, zero = len(e), float(found["zero_threshold"])
    effective, sizes = float((np.maximum(e, 0) / (np.maximum(e, 0) + spec.damping)).sum()), np.abs(e)
    yield Number("trace", found["trace"], found["trace_standard_error"], e.sum())
    diagonal = known.dense.matrix.diagonal().split([entry.size for entry in known.space.entries])
    layers = [float(part.sum()) for part in diagonal]
    yield Number("traces of the layers", found["trace_layers"], found["trace_layers_standard_error"], layers)
    top = np.sort(e)[::-1][: spec.k].sum()
    share, relative = top / found["trace"], found["trace_standard_error"] / found["trace"]
    yield Number("trace share of the top k", share, share * relative, top / e.sum())
    yield Number("effective dimension", found["effective_dimension"], found["effective_dimension_error"], effective)
    yield Bounds("effective dimension, bounds", *found["effective_dimension_bounds"], effective)
    yield Number("participation", found["participation"], found["participation_error"], sizes.sum() ** 2 / (e**2).sum())
    yield Number("negative share", found["negative_share"], found["negative_share_error"], (e < -zero).mean())
    yield Bounds("negative share, bounds", *found["negative_share_bounds"], (e < -zero).mean())
    yield Number("nullity", found["nullity"], found["nullity_error"], (sizes <= zero).sum())
    yield Bounds("nullity, bounds", *found["nullity_bounds"], (sizes <= zero).sum())
    grid, width = found["density_grid"], float(found["density_width"])
    exact = np.exp(-0.5 * ((grid - e[:, None]) / width) ** 2).mean(0) / (width * (2 * np.pi) ** 0.5)
    seen = exact * p * width * (2 * np.pi) ** 0.5 >= 0.5
    places = np.where(seen, 1.0, np.nan)
    yield Number("density", found["density"] * places, found["density_error"] * places, exact)
    reach = found["residuals_top"] * np.abs(found["eigenvalues_top"])
    value = found["eigenvalues_top"]
    yield Bounds("largest eigenvalues, to within", value - reach, value + reach, np.sort(e)[::-1][: len(value)])
    decrement = found["newton_decrement"]
    g = (known.vectors.T @ known.objective.gradient()).numpy()
    truth = 0.5 * float((g[sizes > zero] ** 2 / sizes[sizes > zero]).sum())
    yield Bounds("Newton decrement, about", 0.9 * decrement, 1.1 * decrement, truth)


def smaller_dampings(known: Known, seed: int) -> Iterator[Measured]:
    """Effective dimensions at c below the default, as the analysis has them: mostly bounds."""
    e = known.values.numpy()
    ends = torch.cat([known.vectors[:, -10:], known.vectors[:, :5]], 1)
    quadrature = ran(Quadrature(known.dense, 2, 165, known=ends, block=2, seed=seed))
    measure = quadrature.measure(np.r_[e[-10:], e[:5]])
    for c in (1e-3, 1e-4):
        curved = lambda t, c=c: np.maximum(t, 0) / (np.maximum(t, 0) + c)  # noqa: E731
        found, truth = measure.total(curved), curved(e).sum()
        yield Number(f"effective dimension, c = {c:g}", found.value if found.within(KNEE) else np.nan, found.error, truth)
        yield Bounds(f"the same, bounds, c = {c:g}", *found.bounds, truth)


def slice_card(known: Known, seed: int) -> Iterator[Measured]:
    """What the surface says of the whole Hessian."""
    e, p = known.values.numpy(), len(known.values)
    plane = torch.linalg.qr(torch.randn(p, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    held = float((plane * (known.dense @ plane)).sum())
    part = known.objective.slice(known.theta, plane)
    *_, card = spectrum_card(known, part, held, seed)  # type: ignore[arg-type]
    threshold = -1e-3 * np.abs(e).max()
    yield Number("slice: trace", card["hessian_trace"], card["hessian_trace_standard_error"], e.sum())
    yield Number("slice: share of the trace", card["trace_share"], card["trace_share_error"], held / e.sum())
    yield Number("slice: negative share", card["hessian_negative"], card["hessian_negative_error"], (e < threshold).mean())
    yield Bounds("slice: negative share, bounds", *card["hessian_negative_bounds"], (e < threshold).mean())


def run_shares(known: Known, seed: int) -> Iterator[Measured]:
    """Shares of flat and negative eigenvalues over a run."""
    e, spec = known.values.numpy(), HighDimensionsSpec(seed=seed)
    found = ran(Quadrature(known.dense, spec.probes, spec.lanczos_steps, block=spec.probes, seed=seed))
    shares = _shares(spec, found.nodes, found.weights, len(e), 9, False)
    flat, zero = (tolerance * np.abs(found.nodes).max() for tolerance in spec.tolerances(len(e)))
    truths = {"flat_share": (np.abs(e) < flat).mean(), "negative_share": (e < -zero).mean()}
    for name, truth in truths.items():
        value, error = shares[name], shares[f"{name}_error"]
        yield Bounds(f"run: {name.replace('_', ' ')}", value - error, value + error, truth)


def library(known: Known, seed: int) -> Iterator[Measured]:
    """What the library's functions give without knowing anything of the matrix: eight probes of 40 steps, few products."""
    e, p = known.values.numpy(), len(known.values)
    found = ran(Quadrature(known.dense, 8, 40, block=8, seed=seed))
    curved = lambda t: np.maximum(t, 0) / (np.maximum(t, 0) + 1e-2)  # noqa: E731
    value, error = function_of(found.nodes, found.weights, curved, p)
    yield Bounds("function_of, 8 x 40", value - 2 * error, value + 2 * error, curved(e).sum())
    value, error = function_of(found.nodes, found.weights, np.square, p)
    yield Number("function_of, second moment", value, error, (e**2).sum())
    for share in (1e-6, 1e-2):
        threshold = -share * float(np.abs(e).max())
        low, high = share_bounds(found.nodes, found.weights, threshold)
        yield Bounds(f"share_bounds at -{share:g} of the largest", low, high, (e < threshold).mean())
    ends = (known.values[-10:], known.vectors[:, -10:])
    for method, options in (
        ("hutchinson", {"max_products": 8}),
        ("hutchinson", {"max_products": 400, "relative": 0.02, "known": ends}),
        ("hutch++", {"max_products": 48}),
        ("xtrace", {"max_products": 16}),
        ("xtrace", {"max_products": 48}),
    ):
        products = options["max_products"]
        trace = estimated_trace(known.dense, method=method, seed=seed, block=4, **({"relative": 0.0} | options))  # type: ignore[arg-type]
        name = f"{method}, {products} products" if "known" not in options else f"{method}, deflated, to 2 %"
        yield Number(name, trace.estimate, trace.standard_error, e.sum())


def losses(known: Known, seed: int) -> Iterator[Measured]:
    """The mean loss over training samples that are drawn afresh.

    Of losses with one that is hundreds of times the mean (regression, samples not trained on) no standard error holds that
    comes from samples without it.
    """
    drawn = np.random.default_rng(seed).choice(known.losses, DRAWN)
    yield Number("mean loss of samples", drawn.mean(), standard_error(drawn, "mean"), known.losses.mean())


def ran(quadrature: Quadrature) -> Quadrature:
    for _ in quadrature:
        pass
    return quadrature


PARTS = (spectrum, smaller_dampings, slice_card, run_shares, library, losses)

# -- the table -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What one quantity holds in one network."""

    network: str
    name: str
    bounds: bool
    hold: float  # of two standard errors, or of both bounds
    ratio: float  # mean standard error over the deviation of the estimates; of bounds NaN
    bias: float  # over that deviation
    given: float  # share of seeds that gave a number
    count: int  # of those seeds

    def faults(self) -> list[str]:
        """What is outside the bands, widened by 1.5 / sqrt(seeds) where fewer than 100 gave a number."""
        slack, found = 1.5 / self.count**0.5 if self.count < MANY else 0.0, []
        least = BOUNDS_HOLD if self.bounds else HOLD_EACH
        if self.hold < least - slack * 2 * (least * (1 - least)) ** 0.5:
            found.append(f"holds in {self.hold:.2f}")
        if not self.bounds and not RATIO[0] * (1 - slack) <= self.ratio <= RATIO[1] * (1 + slack):
            found.append(f"error over deviation {self.ratio:.2f}")
        if not self.bounds and not self.bias <= BIAS + slack:
            found.append(f"bias over deviation {self.bias:.2f}")
        return [f"{self.network}: {self.name} {words}" for words in found]


def row(network: str, name: str, found: list[Measured]) -> Row | None:
    """The row of one quantity from its values by seed; None where no seed gave a number."""
    if isinstance(found[0], Bounds):
        low, high, truth = (np.array([getattr(one, part) for one in found], float) for part in ("low", "high", "truth"))
        known = np.isfinite(low) & np.isfinite(high)
        floor = 1e-9 * (1 + np.abs(truth))  # rounding
        hold = ((low <= truth + floor) & (truth <= high + floor))[known]
        return (
            Row(network, name, True, float(hold.mean()), np.nan, np.nan, float(known.mean()), int(known.sum()))
            if known.any()
            else None
        )
    value, error, truth = (np.array([getattr(one, part) for one in found], float) for part in ("value", "error", "truth"))
    value, error, truth = (part.reshape(len(found), -1) for part in np.broadcast_arrays(value, error, truth))
    known = np.isfinite(value)
    enough = known.sum(0) >= (FEWEST if value.shape[1] == 1 else len(found) / 2)  # places of a density that most seeds show
    if not enough.any():
        return None
    value, error, truth, known = (part[:, enough] for part in (value, error, truth, known))
    off = np.where(known, value - truth, np.nan)
    floor = 1e-9 * (1 + np.abs(truth))
    hold = (np.abs(off) <= 2 * error + floor)[known]
    deviation = np.nanstd(off, axis=0, ddof=1)
    moves = deviation > floor.max(0)
    size = float(np.sqrt(np.mean(deviation[moves] ** 2))) if moves.any() else np.nan
    ratio = float(np.sqrt(np.mean(np.nanmean(np.where(known, error, np.nan), axis=0)[moves] ** 2))) / size
    bias = float(np.sqrt(np.mean(np.nanmean(off, axis=0)[moves] ** 2))) / size
    return Row(network, name, False, float(hold.mean()), ratio, bias, float(known.any(1).mean()), int(known.any(1).sum()))


def collected(
    known: Known, seeds: int, parts: tuple[Callable[[Known, int], Iterator[Measured]], ...] = PARTS
) -> dict[str, list[Measured]]:
    """What each quantity was by seed."""
    found: dict[str, list[Measured]] = {}
    for seed in range(seeds):
        for part in parts:
            for one in part(known, seed):
                found.setdefault(one.name, []).append(one)
    return found


def rows(network: str, found: dict[str, list[Measured]]) -> list[Row]:
    """All quantities of one network that gave a number."""
    made = (row(network, name, values) for name, values in found.items())
    return [one for one in made if one is not None]


def pooled(table: list[Row]) -> list[str]:
    """Numbers whose two standard errors hold too seldom over all networks."""
    names = dict.fromkeys(one.name for one in table if not one.bounds)
    means = {}
    for name in names:
        each = [one for one in table if one.name == name]
        means[name] = float(np.average([one.hold for one in each], weights=[one.count for one in each]))
    return [f"all networks: {name} holds in {mean:.3f}" for name, mean in means.items() if mean < HOLD]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(CASES), help="of " + ", ".join(CASES))
    parser.add_argument("--seeds", type=int, default=200)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    table: list[Row] = []
    for network in options.networks.split(","):
        print(f"\n{network}: {CASES[network].title}, {options.seeds} seeds")
        print(f"{'':38}{'holds':>8}{'error / deviation':>20}{'bias / deviation':>19}{'given':>8}")
        for one in rows(network, collected(Known(network), options.seeds)):
            rest = " (bounds)" if one.bounds else f"{one.ratio:20.2f}{one.bias:19.2f}"
            print(f"{one.name:38}{one.hold:8.3f}{rest:39}{one.given:8.2f}", flush=True)
            table.append(one)
    faults = [fault for one in table for fault in one.faults()] + pooled(table)
    print("\n" + ("\n".join(["Outside the bands:", *faults]) if faults else "All within the bands."))
    return len(faults) > 0


if __name__ == "__main__":
    sys.exit(main())
