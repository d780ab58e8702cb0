"""How many samples at a time keep a network's values in the processor's cache."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from .batches import Batch
from .network import Network

CACHE_BYTES = 8 << 20  # what one layer's input and output should fit into; measured: 4 to 8 MiB are best on cores with 1 MiB
GPU_ROWS = 4096  # no cache to fit into, only memory


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
        if not list(module.children()) and not isinstance(module, torch.jit.ScriptModule):
            hooks.append(module.register_forward_hook(record))
    try:
        with nullcontext() if torch.is_grad_enabled() else torch.inference_mode():
            network(one.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return min(4096, max(16, 1 << (max(1, CACHE_BYTES // widest).bit_length() - 1)))
