"""Points, losses, networks and runs that are not as one expects, each made in a moment and the same at every call."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape_core import Objective
from landscape_core.checkpoints.runs import RunStore
from landscape_core.checkpoints.weights import load_weights, save_weights
from landscape_core.jobs.execute import start
from landscape_core.specs import RunRecord, task_spec
from landscape_core.specs.training import training_spec
from landscape_core.tasks.importing import import_weights
from landscape_core.tasks.task import load_task

DOUBLE = torch.float64
Record = Callable[[Path, str], RunRecord]  # (home, name): a run of this name under a home


# -- points whose Hessian is known ---------------------------------------------------------------------------------------------


class Point(nn.Module):
    """Its outputs are its parameters, whatever goes in."""

    def __init__(self, *values: float, dtype: torch.dtype = DOUBLE):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(values, dtype=dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.x + 0 * inputs[:, :1]


class Pair(nn.Module):
    """Two named scalars."""

    def __init__(self, a: float, b: float):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([a], dtype=DOUBLE))
        self.b = nn.Parameter(torch.tensor([b], dtype=DOUBLE))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.a, self.b]) + 0 * inputs[:, :1]


def nothing(count: int = 2, dtype: torch.dtype = DOUBLE) -> list[tuple[Tensor, Tensor]]:
    return [(torch.zeros(count, 1, dtype=dtype), torch.zeros(count, dtype=dtype))]


def toy(f: Callable[[Tensor], Tensor], *at: float, dtype: torch.dtype = DOUBLE) -> Objective:
    """The function f of x (n, p), summed over p by f itself, at this point."""
    return Objective(Point(*at, dtype=dtype), lambda x, _: f(x).mean(), nothing(dtype=dtype))


def quadratic(*curvatures: float, scale: float = 1.0, at: tuple[float, ...] = ()) -> Objective:
    """scale/2 sum c_i x_i^2, at its stationary point unless `at` says where."""
    c = torch.tensor(curvatures, dtype=DOUBLE)
    return toy(lambda x: scale * 0.5 * (c * x**2).sum(-1), *(at or [0.0] * len(curvatures)))


def wide(low: float, count: int = 400) -> Objective:
    """A diagonal of curvatures from 1e-3 to 1, the first one replaced by `low`."""
    c = torch.linspace(1e-3, 1, count, dtype=DOUBLE)
    c[0] = low
    return toy(lambda x: 0.5 * (c * x**2).sum(-1), *[0.0] * count)


# -- networks -------------------------------------------------------------------------------------------------------------


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU, extra: Callable[[int], nn.Module] | None = None) -> nn.Sequential:
    """As torch.manual_seed(0) initialises it, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), *([extra(b)] if extra else []), activation()]
        return nn.Sequential(*layers[: -2 if extra else -1]).double()


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def labels(count: int, classes: int, seed: int = 2) -> Tensor:
    return torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(seed))


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).mean()


def classifier(model: nn.Module, count: int = 24, features: int = 4, classes: int = 3, **options: Any) -> Objective:
    return Objective(model, F.cross_entropy, [(normal(count, features), labels(count, classes))], **options)


def regression(model: nn.Module, count: int = 24, features: int = 4, scale: float = 1.0, **options: Any) -> Objective:
    x = normal(count, features)
    y = x[:, :1] - 0.5 * x[:, 1:2] ** 2 + 0.1 * normal(count, 1, seed=3)
    return Objective(model, lambda o, t: scale * squared(o, t), [(x, y)], **options)


def least_squares() -> Objective:
    """Linear regression at its solution: the Hessian 2/N X'X is positive definite."""
    x, y = normal(24, 4), normal(24, 1, seed=3)
    design = torch.cat([x, torch.ones(24, 1, dtype=DOUBLE)], 1)
    found = torch.linalg.lstsq(design, y).solution
    model = nn.Linear(4, 1).double()
    with torch.no_grad():
        model.weight.copy_(found[:4].T)
        model.bias.copy_(found[4])
    return Objective(model, squared, [(x, y)])


def softmax_at_zero() -> Objective:
    """Linear softmax with all weights zero: (1/N) sum (diag p - pp') (x) xx' with p uniform, positive semi-definite."""
    model = nn.Linear(4, 3).double()
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    return classifier(model)


def dead() -> Objective:
    """Every ReLU is off for every sample: only the last bias moves the outputs."""
    model = mlp(4, 5, 3)
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    return classifier(model)


def dead_at_rest() -> Objective:
    """Every ReLU is off, and the outputs' biases are the best: critical, and nearly everything is flat."""
    model = mlp(4, 5, 3)
    y = labels(24, 3)
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
        model[2].bias.copy_((torch.bincount(y, minlength=3).double() / 24).log())
    return Objective(model, F.cross_entropy, [(normal(24, 4), y)])


def factorisation() -> Objective:
    """|W3 W2 W1 x - y|^2 at zero: gradient and Hessian vanish, though it is no minimum."""
    model = nn.Sequential(*[nn.Linear(2, 2, bias=False) for _ in range(3)]).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return Objective(model, squared, [(normal(8, 2), normal(8, 2, seed=3))])


def factors_of_two() -> Objective:
    """|W2 W1 x - y|^2 at zero: a strict saddle, eigenvalues in pairs of either sign."""
    model = nn.Sequential(*[nn.Linear(2, 2, bias=False) for _ in range(2)]).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return Objective(model, squared, [(normal(8, 2), normal(8, 2, seed=3))])


def contrastive() -> Objective:
    """InfoNCE over the batch: every sample's loss holds all the others."""

    def loss(outputs: Tensor, _: Tensor) -> Tensor:
        left, right = (F.normalize(part, dim=1) for part in outputs.chunk(2, 1))
        return F.cross_entropy(left @ right.T / 0.5, torch.arange(len(left)))

    return Objective(mlp(4, 5, 6, activation=nn.Tanh), loss, [(normal(12, 4), torch.zeros(12, dtype=DOUBLE))])


class Language(nn.Module):
    """Next tokens: outputs (N, T, V)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.mix(self.embed(tokens).cumsum(1))))


def language() -> Objective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Language().double()
    tokens = torch.randint(0, 7, (6, 5), generator=torch.Generator().manual_seed(4))

    def loss(outputs: Tensor, tokens: Tensor) -> Tensor:
        return F.cross_entropy(outputs[:, :-1].reshape(-1, 7), tokens[:, 1:].reshape(-1))

    return Objective(model, loss, [(tokens, tokens)])


class Skip(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.body(x))


def skipping() -> Objective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), Skip(5), Skip(5), nn.Linear(5, 3)).double()
    return classifier(model)


def convolutional() -> Objective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.SiLU(), nn.Flatten(), nn.Linear(3 * 4, 3)).double()
    return Objective(model, F.cross_entropy, [(normal(12, 1, 4, 4), labels(12, 3))])


def batchnorm(mode: Literal["stored", "batch"]) -> Objective:
    return classifier(mlp(4, 5, 3, extra=nn.BatchNorm1d), batchnorm=mode)


def frozen() -> Objective:
    model = mlp(4, 5, 5, 3, activation=nn.Tanh)
    model[0].requires_grad_(False)
    model[2].requires_grad_(False)
    return classifier(model)


def binary() -> Objective:
    """One logit, two classes."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs[:, 0], targets)

    return Objective(mlp(4, 5, 1), loss, [(normal(24, 4), labels(24, 2).double())])


def one_class() -> Objective:
    """Cross-entropy over a single class: exactly 0 everywhere."""
    return classifier(mlp(4, 5, 1), classes=1)


def imbalanced() -> Objective:
    y = torch.zeros(60, dtype=torch.long)
    y[:2] = 1
    return Objective(mlp(4, 5, 2), F.cross_entropy, [(normal(60, 4), y)])


def perfect() -> Objective:
    """Logits so far apart that the loss is 0 in float64, and with it gradient and Hessian."""
    x = torch.cat([normal(12, 4) + 4, normal(12, 4, seed=5) - 4])
    y = torch.tensor([0] * 12 + [1] * 12)
    model = nn.Linear(4, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[500.0] * 4, [-500.0] * 4]))
    return Objective(model, F.cross_entropy, [(x, y)])


def scaled_weights(factor: float) -> Objective:
    """A classifier whose weights are times a factor: 1e200 overflows, nan is nan."""
    model = mlp(4, 5, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return classifier(model)


def noise_floor() -> Objective:
    """In float32, around a loss of 3, curvatures far below what its rounding resolves."""
    c = torch.tensor([1e-9, 2e-9, 3e-9])
    return toy(lambda x: 3 + 0.5 * (c * x**2).sum(-1), 0.3, 0.2, 0.1, dtype=torch.float32)


def single_parameter_maximum() -> Objective:
    """(a + a^2 i - t)^2 at a = 0 with i = 1, -1 and t = 3, -3: H = -10, though every Gauss-Newton matrix is >= 0."""

    class Curve(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.zeros((), dtype=DOUBLE))

        def forward(self, i: Tensor) -> Tensor:
            return self.a + i * self.a**2

    i, t = (torch.tensor([[v], [-v]], dtype=DOUBLE) for v in (1.0, 3.0))
    return Objective(Curve(), squared, [(i, t)])


def past(objective: Objective, count: int = 6) -> tuple[tuple[int, ...], Tensor]:
    """A path that ends at the Objective's point: steps of descent traced back, a tenth of the gradient each."""
    thetas = [objective.theta.clone()]
    for _ in range(count - 1):
        g = objective.gradient(thetas[-1])
        size = max(float(g.norm()), 1e-300)
        thetas.append(thetas[-1] + 0.1 * min(1.0, 1 / size) * g)
    return tuple(range(0, 5 * count, 5)), torch.stack(thetas[::-1])


# -- runs -------------------------------------------------------------------------------------------------------------------

BLOBS = {"widths": [4], "classes": 3, "features": 5, "samples": 60}
SHORT = {"steps": 60, "record": [0, 2, 5, 10, 20, 30, 40, 50, 60], "dtype": "float64", "batch_size": 20, "lr": 0.1}


def trained(task: str = "blobs-mlp", **values: Any) -> Record:
    """A run recorded by training."""

    def record(home: Path, name: str) -> RunRecord:
        network = BLOBS if task == "blobs-mlp" else {}
        wanted = {**SHORT, **network, **values}
        if "steps" in values and "record" not in values:
            wanted["record"] = sorted({0, values["steps"], *np.linspace(0, values["steps"], 8).astype(int).tolist()})
        run = start("train", None, training_spec(task, name, **wanted), home)
        while True:
            try:
                next(run)
            except StopIteration:
                return RunStore(home).read(name)

    return record


def changed(base: Record, change: Callable[[Path, RunRecord], RunRecord]) -> Record:
    """A run made from another one."""

    def record(home: Path, name: str) -> RunRecord:
        made = change(home, base(home, name))
        RunStore(home).write(made)
        return made

    return record


def last_only(_: Path, run: RunRecord) -> RunRecord:
    return run.model_copy(update={"checkpoints": run.checkpoints[-1:]})


def two_only(_: Path, run: RunRecord) -> RunRecord:
    return run.model_copy(update={"checkpoints": (run.checkpoints[0], run.checkpoints[-1])})


def last_times(factor: float) -> Callable[[Path, RunRecord], RunRecord]:
    def change(home: Path, run: RunRecord) -> RunRecord:
        *early, last = run.checkpoints
        file = RunStore(home).folder(run.name) / last.file
        weights = {key: value * factor for key, value in load_weights(file, last.fingerprint).items()}
        lost = last.model_copy(update={"fingerprint": save_weights(file, weights), "metrics": dict.fromkeys(last.metrics)})
        return run.model_copy(update={"checkpoints": (*early, lost)})

    return change


def imported(home: Path, name: str) -> RunRecord:
    """Weights that were brought in: one checkpoint, and nobody knows how it was trained."""
    task = load_task(task_spec("blobs-mlp", **BLOBS), home, DOUBLE)
    file = home / f"{name}.safetensors"
    save_weights(file, task.model(3).state_dict())
    import_weights(file, task_spec("blobs-mlp", **BLOBS), name, 0, home)
    return RunStore(home).read(name)


def of_file(home: Path, name: str) -> RunRecord:
    """Imbalanced classes out of a file: 57 of one, 3 of the other."""
    x = np.random.default_rng(0).standard_normal((60, 3)).astype("float32")
    y = np.zeros(60, int)
    y[:3] = 1
    x[:3] += 1
    np.savez(home / "rare.npz", x=x, y=y, x_test=x, y_test=y)
    return trained("npz-mlp", path=str(home / "rare.npz"), widths=[4])(home, name)
