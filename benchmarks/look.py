"""The price of the first look at an Objective: is the loss one function, is its gradient the derivative, is the curvature?

Asked once an Objective, in float64 on the whole sample; printed in losses and gradients of the Objective's own arithmetic, as
medians over rounds of CPU time on one thread.

    python benchmarks/look.py [--cases digits,mlp,...] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from models import CASES, trained
from torch.nn import functional as F

from landscape_core.objective import Objective


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", default=",".join(CASES), help=f"some of {','.join(CASES)}")
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    torch.set_num_threads(1)
    print(f"{'':14}{'function':>12}{'slope':>12}{'curvature':>12}   in losses, gradients, gradients")
    for name in given.cases.split(","):
        rounds = [one(name) for _ in range(given.rounds)]
        times = [statistics.median(values) for values in zip(*(times for times, _ in rounds), strict=True)]
        print(f"{name:14}" + "".join(f"{value:12.2f}" for value in times) + f"   {rounds[0][1]}")


def one(name: str) -> tuple[list[float], str]:
    """What each part of the look costs, and how often it asked."""
    model, inputs, targets = trained(CASES[name])
    objective = Objective(model, F.cross_entropy, (inputs, targets))
    theta = objective.theta
    function = timed(objective.found)
    loss = timed(lambda: objective.loss(theta))
    slope = timed(objective.sloped)
    gradient = timed(lambda: objective.gradient(theta))
    v = torch.randn_like(theta)
    first = objective.hessian(theta)
    curvature = timed(lambda: first @ v) - timed(lambda: objective.hessian(theta) @ v)
    asked = [objective.counts[f"check_{what}"] for what in ("losses", "gradients", "products")]
    words = "asked: {} losses, {} gradients, {} products".format(*asked)
    return [function / loss, slope / gradient, max(0.0, curvature) / gradient], words


def timed(function: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    begun = time.process_time()
    function()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
