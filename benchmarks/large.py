"""Eigenpairs of a network of 10^7 parameters in memory that is stated first."""

from __future__ import annotations

import time

import torch
from torch import nn
from workers import Contenders

from landscape_core.linalg import Lanczos
from landscape_core.objective import Objective
from landscape_core.objective.curvature import HessianOperator
from landscape_core.specs.tasks import MLPArchitecture
from landscape_core.tasks.architectures import build_model

WIDTHS, SAMPLES, PAIRS = (3072, 3072), 512, 5
BOUND = 1400 << 20  # bytes beyond the network, its data and one gradient
BASIS, GRAPHS = 900 << 20, 200 << 20  # of which the basis, and what products keep
VECTORS = 6  # of length p that a step holds besides
STEPS_A_PAIR = 4, 12  # products, seldom fewer or more in early training


def large() -> Contenders:
    torch.manual_seed(0)
    inputs, targets = torch.randn(SAMPLES, 256), torch.randint(0, 10, (SAMPLES,))
    model = build_model(MLPArchitecture(widths=WIDTHS), (256,), 10)
    objective = Objective(model, nn.CrossEntropyLoss(), [(inputs, targets)])
    objective.gradient()
    p = objective.space.size
    last: list[torch.Tensor] = []

    def solver() -> Lanczos:
        return Lanczos(objective.hessian(memory=GRAPHS), PAIRS, memory=BASIS)

    def estimate() -> dict[str, object]:
        """What it will take, from one product and the sizes of what is held."""
        operator, lanczos = objective.hessian(memory=GRAPHS), solver()
        v = torch.randn(p)
        operator @ v
        started = time.perf_counter()
        operator @ v
        each = time.perf_counter() - started
        least, most = (n * PAIRS for n in STEPS_A_PAIR)
        memory = (4 * p * (lanczos.rows + 1 + PAIRS + VECTORS) + GRAPHS) / 2**20
        return {
            "title": f"MLP 256-{'-'.join(map(str, WIDTHS))}-10, {p:,} parameters, {SAMPLES} samples",
            "pairs": PAIRS,
            "bound": BOUND / 2**20,
            "rows": lanczos.rows,
            "memory": memory,
            "least": least,
            "most": most,
            "each": each,
            "seconds": (least * each, 2 * most * each),  # the basis is swept at each: at most as much again
        }

    def pairs() -> dict[str, object]:
        lanczos = solver()
        for _ in lanczos:
            pass
        found = lanczos.pairs()
        last[:] = found.top, found.top_vectors
        return {"products": found.products, "values": found.top.tolist()}

    def residual() -> dict[str, object]:
        """The largest |Hv - lv| / |l|, by plain double backward."""
        products = HessianOperator(objective, objective.theta) @ last[1]
        return {"residual": float(((products - last[1] * last[0].float()).norm(dim=0) / last[0].abs()).max())}

    return {"estimate": estimate, "pairs": pairs, "residual": residual}
