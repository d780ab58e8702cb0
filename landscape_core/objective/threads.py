"""Points over threads: one core each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch


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
