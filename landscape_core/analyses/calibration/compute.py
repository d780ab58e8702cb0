"""One measured evaluation: what every cost estimate rests on."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch

from ...measuring.context import Context
from ...specs import InputError, Progress
from .spec import CalibrationSpec

SHORT, MANY = 0.1, 64  # seconds, and times: over how much a short pass is averaged


def run(spec: CalibrationSpec, context: Context) -> Generator[Progress, None, dict[str, Any]]:
    """Seconds of one forward pass on a slice, one gradient and one Hessian-vector product over the sample; sizes and bytes."""
    objective = context.objective
    theta = objective.theta
    generator = torch.Generator().manual_seed(spec.seed)
    directions = torch.randn(len(theta), 2, generator=generator).to(theta) * 1e-3
    part = objective.slice(theta, directions)
    points = np.array([[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)])
    part.evaluate(points)  # what is prepared once does not count: as many points as a plan of the slice is made for
    yield Progress(1, 4, "forward pass")
    forward = _seconds(lambda: part.evaluate(points)) / len(points)
    points = np.tile(points, (int(min(SHORT / (forward * len(points) + 1e-9), MANY)), 1))
    if len(points):  # short passes share what a call costs, as they do in a grid
        forward = _seconds(lambda: part.evaluate(points)) / len(points)
    yield Progress(2, 4, "gradient")
    gradient = _seconds(lambda: objective.gradient(theta))
    yield Progress(3, 4, "Hessian-vector product")
    try:
        hessian = objective.hessian(theta)
        hessian @ directions[:, :1]  # what the products of one theta share counts once, and there are many
        product = _seconds(lambda: hessian @ directions[:, 1:])
    except InputError:
        product = float("nan")
    item = theta.element_size()
    return {
        "seconds_forward": forward,
        "seconds_gradient": gradient,
        "seconds_product": product,
        "parameters": len(theta),
        "sample_size": objective.size(),
        "bytes_parameters": len(theta) * item,
        "bytes_sample": sum(
            t.numel() * t.element_size() for b in objective.batches() for t in (b.inputs, b.targets) if torch.is_tensor(t)
        ),
    }


def _seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
