"""Many points fast, for any module: data in cache-sized chunks, points over threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .batches import Batch
from .host import tuned
from .plans import Plan, Program, build
from .threads import workers

if TYPE_CHECKING:
    from .network import Network
    from .objective import Objective, Split

Fill = Callable[[int, Tensor], Any]
CACHE_BYTES = 8 << 20  # what one layer's input and output should fit into; measured: 4 to 8 MiB are best on cores with 1 MiB
CHAIN_ROWS = 512  # samples in one product of a chain of Linear layers
GPU_ROWS = 4096  # no cache to fit into, only memory
ROUNDING = {torch.float32: 5e-6, torch.float64: 1e-11}  # |fast - plain| / max(1, |plain|) that rounding explains


class Sweep:
    """Evaluates an Objective at many points. Held to the plain path: whatever is faster is used only where it changes nothing.

    Samples of one batch must not see each other for chunks to be right (a loss weighted over the batch, BatchNorm on the
    batch's statistics); that is checked once against the plain evaluation, and without it the batches stay whole.
    """

    def __init__(self, objective: Objective):
        self.objective = objective
        self._chunks: dict[str, tuple[Batch, ...]] = {}
        self._cached_rows: dict[str, int] = {}
        self._separate: dict[str, bool] = {}  # by split: whether samples do not see each other
        self._networks: list[Network] = []
        self._program: Program | None = None
        self._sound: dict[str, bool] = {}  # by split: whether plans give what the plain path gives

    def run(self, fill: Fill, count: int, split: Split = "train") -> dict[str, np.ndarray]:
        """Values at `count` points; `fill(i, out)` writes point i into the flat buffer `(p,)`. Arrays `(count,)` float64."""
        objective = self.objective
        batches, size = self.batches(split), objective.size(split)
        found: list[dict[str, float]] = [{}] * count
        with tuned(objective.dtype, objective.device), workers(objective.device, count) as (each, n):
            networks = [objective.network, *self.networks(n - 1)]

            def work(number: int) -> None:
                network = networks[number]
                for i in range(number, count, n):
                    fill(i, network.buffer)
                    values = objective.measure(network, batches, size)
                    found[i] = {name: float(value) for name, value in values.items()}

            each(work, range(n))
        objective.counts["forwards"] += count
        return {name: np.array([values[name] for values in found]) for name in found[0]} if count else {}

    def networks(self, count: int) -> list[Network]:
        """`count` private copies of the model, made once."""
        while len(self._networks) < count:
            self._networks.append(self.objective.replica())
        return self._networks[:count]

    # -- cache-sized chunks -----------------------------------------------------------------------------------------

    def batches(self, split: Split) -> tuple[Batch, ...]:
        """The batches of a split in cache-sized chunks, if that changes nothing."""
        if split not in self._chunks:
            self._chunks[split] = self._cut(split, self._rows(split))
        return self._chunks[split]

    def _cut(self, split: Split, rows: int) -> tuple[Batch, ...]:
        """The batches of a split in pieces of at most `rows` rows, or whole if a piece is not what it is in its batch."""
        objective = self.objective
        whole = objective.batches(split)
        if objective.batchnorm == "batch" and _has_batchnorm(objective.network.model):
            return whole
        pieces = tuple(piece for batch in whole for piece in batch.chunks(rows))
        if len(pieces) == len(whole):
            return whole
        if split not in self._separate:
            self._separate[split] = self._same(whole, pieces, split)
        return pieces if self._separate[split] else whole

    def _same(self, whole: tuple[Batch, ...], pieces: tuple[Batch, ...], split: Split) -> bool:
        """Whether pieces give the loss of the whole.

        Tried beside the given weights: a silent last layer would hide what samples do to each other, and NaN everything.
        """
        objective = self.objective
        noise = torch.randn(len(objective.theta), generator=torch.Generator().manual_seed(0)).to(objective.theta)
        objective.network.set(objective.theta.nan_to_num(0.0, 0.0, 0.0) + 0.02 * noise)
        try:
            with torch.inference_mode():
                plain, found = (objective.measure(objective.network, b, objective.size(split)) for b in (whole, pieces))
        except Exception:  # a model that takes whole batches only
            return False
        objective.counts["forwards"] += 2
        return _deviation(float(found["loss"]), float(plain["loss"])) <= ROUNDING[objective.dtype]

    def _rows(self, split: Split) -> int:
        if split not in self._cached_rows:
            batches = self.objective.batches(split)
            try:
                self._cached_rows[split] = chunk_rows(self.objective.network, batches[0])
            except Exception:  # a model that takes whole batches only
                self._cached_rows[split] = max(batch.rows for batch in batches)
        return self._cached_rows[split]

    # -- plans ------------------------------------------------------------------------------------------------------

    def plan(self, split: Split, base: Tensor, points: np.ndarray) -> Plan | None:
        """A plan for the slice of base `(1 + k, p)`, held once a split to the plain path at one of `points`; None without."""
        if self._sound.get(split) is False or not base.isfinite().all():
            return None
        try:
            if self._program is None:
                self._program = build(self.objective.replica(), self.objective.batches(split)[0])
            rows = CHAIN_ROWS if self._program.is_chain and base.device.type == "cpu" else self._rows(split)
            plan = Plan(self.objective, self._program, base, self._cut(split, rows))
            if split not in self._sound:
                self._sound[split] = self._holds(plan, split, base, points)
        except Exception:  # whatever a rewritten program trips over, the plain path does not
            self._sound[split] = False
        return plan if self._sound[split] else None

    def _holds(self, plan: Plan, split: Split, base: Tensor, points: np.ndarray) -> bool:
        """Whether a plan gives the plain values at the last of `points`, or nearer to the origin if not finite there."""
        objective = self.objective
        for shrink in (1.0, 0.1, 0.0):
            point = shrink * points[-1:]
            objective.network.set(base[0] + torch.from_numpy(point[0]).to(base) @ base[1:])
            with torch.inference_mode():
                plain = objective.measure(objective.network, self.batches(split), objective.size(split))
            objective.counts["forwards"] += 1
            loss = float(plain["loss"])
            if np.isfinite(loss):
                found = plan.run(np.repeat(point, 2, 0))
                same = found.keys() == plain.keys() and _deviation(found["loss"][0], loss) <= ROUNDING[objective.dtype]
                # A score that two classes share may fall either way.
                return same and all(
                    abs(found["accuracy"][0] - float(value)) <= 2 / objective.size(split)
                    for name, value in plain.items()
                    if name == "accuracy"
                )
        return False


def _deviation(found: float, plain: float) -> float:
    return abs(found - plain) / max(1.0, abs(plain))


def chunk_rows(network: Network, batch: Batch) -> int:
    """Rows of a batch so that the widest layer's input and output stay in the cache: a power of two from 16 to 4096."""
    if network.buffer.is_cuda:
        return GPU_ROWS
    one = next(batch.chunks(1))
    if one.rows != 1:
        return batch.rows
    widest = 1
    hooks = []

    def record(_module: Any, inputs: Any, output: Any) -> None:
        nonlocal widest
        tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
        widest = max(widest, sum(t.numel() * t.element_size() for t in tensors))

    for module in network.model.modules():
        if not list(module.children()):
            hooks.append(module.register_forward_hook(record))
    try:
        with torch.inference_mode():
            network(one.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return min(4096, max(16, 1 << (max(1, CACHE_BYTES // widest).bit_length() - 1)))


def _has_batchnorm(model: torch.nn.Module) -> bool:
    return any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
