"""Many points fast, for any module: data in cache-sized chunks, points over threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .batches import Batch

if TYPE_CHECKING:
    from .network import Network
    from .objective import Objective, Split

Fill = Callable[[int, Tensor], Any]
CACHE_BYTES = 2 << 20  # what one layer's input and output should fit into: about the second-level cache of one core
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}  # |chunked - plain| / max(1, |plain|) that rounding explains


class Sweep:
    """Evaluates an Objective at many points. Held to the plain path: chunks are used only where they change nothing.

    Samples of one batch must not see each other for chunks to be right (a loss weighted over the batch, BatchNorm on the
    batch's statistics); that is checked once against the plain evaluation, and without it the batches stay whole.
    """

    def __init__(self, objective: Objective):
        self.objective = objective
        self._chunks: dict[str, tuple[Batch, ...]] = {}
        self._networks: list[Network] = []

    def run(self, fill: Fill, count: int, split: Split = "train") -> dict[str, np.ndarray]:
        """Values at `count` points; `fill(i, out)` writes point i into the flat buffer `(p,)`. Arrays `(count,)` float64."""
        objective = self.objective
        batches, size = self.batches(split), objective.size(split)
        found: list[dict[str, float]] = [{}] * count

        def work(network: Network, points: range) -> None:
            for i in points:
                fill(i, network.buffer)
                values = objective.measure(network, batches, size)
                found[i] = {name: float(value) for name, value in values.items()}

        with workers(objective.device, count) as (pool, n):
            networks = [objective.network, *self.networks(n - 1)]
            for future in [pool(work, networks[w], range(w, count, n)) for w in range(n)]:
                future()
        objective.counts["forwards"] += count
        return {name: np.array([values[name] for values in found]) for name in found[0]} if count else {}

    def networks(self, count: int) -> list[Network]:
        """`count` private copies of the model, made once."""
        while len(self._networks) < count:
            self._networks.append(self.objective.replica())
        return self._networks[:count]

    def batches(self, split: Split) -> tuple[Batch, ...]:
        """The batches of a split in cache-sized chunks, if that changes nothing."""
        if split not in self._chunks:
            self._chunks[split] = self._checked(split)
        return self._chunks[split]

    def _checked(self, split: Split) -> tuple[Batch, ...]:
        objective = self.objective
        whole = objective.batches(split)
        if objective.batchnorm == "batch" and _has_batchnorm(objective.network.model):
            return whole
        rows = chunk_rows(objective.network, whole[0])
        chunks = tuple(chunk for batch in whole for chunk in batch.chunks(rows))
        if len(chunks) == len(whole):
            return whole
        objective.network.set(objective.theta)
        with torch.inference_mode():
            plain, chunked = (objective.measure(objective.network, b, objective.size(split)) for b in (whole, chunks))
        objective.counts["forwards"] += 2
        deviation = abs(float(chunked["loss"]) - float(plain["loss"])) / max(1.0, abs(float(plain["loss"])))
        return chunks if deviation <= TOLERANCE[objective.dtype] or not np.isfinite(deviation) else whole


def chunk_rows(network: Network, batch: Batch) -> int:
    """Rows of a batch so that the widest layer's input and output stay in the cache: a power of two from 16 to 1024."""
    widest = 1
    hooks = []

    def record(_module: Any, inputs: Any, output: Any) -> None:
        nonlocal widest
        tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
        widest = max(widest, sum(t.numel() * t.element_size() for t in tensors))

    one = next(batch.chunks(1))
    if one.rows != 1:
        return batch.rows
    for module in network.model.modules():
        if not list(module.children()):
            hooks.append(module.register_forward_hook(record))
    try:
        with torch.inference_mode():
            network(one.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return min(1024, max(16, 1 << (max(1, CACHE_BYTES // widest).bit_length() - 1)))


@contextmanager
def workers(device: torch.device, points: int) -> Iterator[tuple[Callable[..., Callable[[], Any]], int]]:
    """(submit, n): run functions on n threads of one core each; n is PyTorch's thread count on a CPU, else 1."""
    threads = torch.get_num_threads()
    n = max(1, min(threads, points)) if device.type == "cpu" else 1

    def inference(function: Callable[..., Any], *args: Any) -> Any:
        with torch.inference_mode():  # thread-local, so entered inside the thread
            return function(*args)

    if n == 1:
        yield (lambda function, *args: lambda: inference(function, *args)), 1
        return
    with ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield (lambda function, *args: pool.submit(inference, function, *args).result), n
        finally:
            torch.set_num_threads(threads)


def _has_batchnorm(model: torch.nn.Module) -> bool:
    return any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
