"""Products with the Hessian, Gauss-Newton matrix and Fisher information against the Objective's own gradient.

    OMP_NUM_THREADS=1 python -m benchmarks.products [--case digits mlp lenet resnet transformer] [--rounds 5]

CPU time, interleaved, the order reversed every other round, the least of the rounds. What an operator keeps is made before.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from landscape_core.objective import Objective
from landscape_core.objective.curvature import HessianOperator

from .models import CASES, trained

SAMPLES = {"resnet": 128}  # as PERFORMANCE's tables: graphs of a ResNet are large
GOALS = {"mlp": 1.6, "resnet": 2.8, "transformer": 2.8}  # one product in own gradients
BLOCK_GOALS = {"digits": 0.7}  # a block of 16, per vector


def measure(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least CPU seconds of each contender."""
    for run in contenders.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in [*contenders] if number % 2 == 0 else [*contenders][::-1]:
            start = time.process_time()
            contenders[name]()
            found[name].append(time.process_time() - start)
    return {name: min(times) for name, times in found.items()}


def run(name: str, rounds: int) -> None:
    model, inputs, targets = trained(CASES[name])
    inputs, targets = inputs[: SAMPLES.get(name)], targets[: SAMPLES.get(name)]
    objective = Objective(model, F.cross_entropy, [(inputs, targets)])
    plain, hessian = HessianOperator(objective, objective.theta), objective.hessian()
    ggn, empirical = objective.gauss_newton(), objective.empirical_fisher()
    v = torch.randn(objective.space.size, 16, generator=torch.Generator().manual_seed(0))
    v /= v.norm(dim=0)
    one = v[:, 0].contiguous()
    start = time.process_time()
    found = hessian @ one
    first = time.process_time() - start
    exact = HessianOperator(double := objective.to(torch.float64), double.theta) @ one.double()
    contenders: dict[str, Callable[[], object]] = {
        "gradient": objective.gradient,
        "double backward": lambda: plain @ one,
        "hessian": lambda: hessian @ one,
        "hessian, block 4": lambda: hessian @ v[:, :4],
        "hessian, block 16": lambda: hessian @ v,
        "ggn": lambda: ggn @ one,
        "empirical fisher": lambda: empirical @ one,
    }
    if name == "resnet":
        del contenders["hessian, block 16"]
    times = measure(contenders, rounds)
    error = float((found.double() - exact).norm() / exact.norm())
    print(
        f"{CASES[name].title}, {len(inputs)} samples: method {hessian.method}, first product {first:.2f} s, error {error:.1e}"
    )
    for label, seconds in times.items():
        width = int(label.split()[-1]) if "block" in label else 1
        ratio = seconds / width / times["gradient"]
        goal = BLOCK_GOALS.get(name) if label == "hessian, block 16" else GOALS.get(name) if label == "hessian" else None
        verdict = "" if goal is None else f"  goal {goal}: {'met' if ratio <= goal else 'MISSED'}"
        print(f"  {label:20s} {seconds / width * 1e3:9.2f} ms a vector {ratio:6.2f} gradients{verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs="+", default=[*CASES], choices=[*CASES])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for name in arguments.case:
        run(name, arguments.rounds)


if __name__ == "__main__":
    main()
