"""Many points fast, for any module: data in cache-sized chunks, points over threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .foreign import pass_over
from .host import tuned
from .network import Network
from .plain import PlainObjective, rounded
from .plans import Plan, Program
from .recognised import is_cross_entropy
from .taken import Split
from .threads import workers

Fill = Callable[[int, Tensor], Any]
CHAIN_ROWS = 512  # samples in one product of a chain of Linear layers


class Sweep:
    """Evaluates an Objective at many points, held to the plain path: what is faster is used only where it changes nothing."""

    def __init__(self, objective: PlainObjective):
        self.objective = objective
        self._networks: list[Network] = []
        self._program: Program | None = None
        self._cross_entropy: dict[str, bool] = {}  # by split: whether the loss is its mean over targets
        self._sound: dict[str, bool] = {}  # by split: whether plans give what the plain path gives

    def run(self, fill: Fill, count: int, split: Split = "train") -> dict[str, np.ndarray]:
        """Values at `count` points; `fill(i, out)` writes point i into the flat buffer `(p,)`. Arrays `(count,)` float64."""
        objective = self.objective
        batches, mass = objective.chunks(split), objective.mass(split)
        objective.nature  # noqa: B018 - known before threads ask for it
        found: list[dict[str, float]] = [{}] * count
        tasks = 1 if objective.found(split).alone else count
        with tuned(objective.dtype, objective.device), workers(objective.device, tasks) as (each, n):
            networks = [objective.network, *self.networks(n - 1)]

            def work(number: int) -> None:
                network = networks[number]
                for i in range(number, count, n):
                    fill(i, network.buffer)
                    values = objective.measure(network, batches, mass)
                    found[i] = {name: float(value) for name, value in values.items()}

            each(work, range(n))
        objective.counts["forwards"] += count
        return {name: np.array([values[name] for values in found]) for name in found[0]} if count else {}

    def networks(self, count: int) -> list[Network]:
        """`count` private copies of the model, made once."""
        while len(self._networks) < count:
            self._networks.append(self.objective.replica())
        return self._networks[:count]

    # -- plans ------------------------------------------------------------------------------------------------------

    def plan(self, split: Split, base: Tensor, points: np.ndarray) -> Plan | None:
        """A plan for the slice of base `(1 + k, p)`, held once a split to the plain path at one of `points`; None without."""
        if self._sound.get(split) is False or not base.isfinite().all():
            return None
        objective = self.objective
        known = objective.found(split)
        if known.entangled or known.derives:  # a program has the outputs alone
            return None
        try:
            if self._program is None:
                self._program = Program.of(objective.replica(), objective.batches(split)[0])
            rows = CHAIN_ROWS if self._program.is_chain and base.device.type == "cpu" else None
            if split not in self._cross_entropy:
                self._cross_entropy[split] = self._is_cross_entropy(self._program, split)
            chunks = objective.chunks(split, rows)
            plan = Plan(objective, self._program, base, chunks, cross_entropy=self._cross_entropy[split])
            if split not in self._sound:
                self._sound[split] = self._holds(plan, split, base, points)
        except Exception as error:  # whatever a rewritten program trips over, the plain path does not
            pass_over(error)
            self._sound[split] = False
        return plan if self._sound[split] else None

    def _is_cross_entropy(self, program: Program, split: Split) -> bool:
        objective = self.objective
        if program.outputs is None or objective.reduction != "mean":
            return False
        with objective.network.exactly():
            return is_cross_entropy(objective.asked, [b.targets for b in objective.batches(split)], program.outputs)

    def _holds(self, plan: Plan, split: Split, base: Tensor, points: np.ndarray) -> bool:
        """Whether a plan gives the plain values at the last of `points`, or nearer to the origin if not finite there."""
        objective = self.objective
        for shrink in (1.0, 0.1, 0.0):
            point = shrink * points[-1:]
            objective.network.set(base[0] + torch.from_numpy(point[0]).to(base) @ base[1:])
            with torch.inference_mode():
                plain = objective.measure(objective.network, objective.chunks(split), objective.mass(split))
            objective.counts["forwards"] += 1
            loss = float(plain["loss"])
            if np.isfinite(loss):
                found = plan.run(np.repeat(point, 2, 0))
                same = found.keys() == plain.keys() and rounded(found["loss"][0], loss, objective.dtype)
                # A score that two classes share may fall either way.
                return same and all(
                    abs(found["accuracy"][0] - float(value)) <= 2 / objective.size(split)
                    for name, value in plain.items()
                    if name == "accuracy"
                )
        return False
