"""Work over threads: one core each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

Each = Callable[[Callable[..., Any], Iterable[Any]], list[Any]]


@contextmanager
def workers(device: torch.device, tasks: int) -> Iterator[tuple[Each, int]]:
    """(each, n): `each(function, items)` is the list of function(item), worked on by n threads without gradients.

    n is PyTorch's thread count on a CPU, at most `tasks`, else 1; with n = 1 PyTorch keeps its own threads.
    """
    threads = torch.get_num_threads()
    n = max(1, min(threads, tasks)) if device.type == "cpu" else 1

    def inference(function: Callable[..., Any], item: Any) -> Any:
        with torch.inference_mode():  # thread-local, so entered inside the thread
            return function(item)

    if n == 1:
        yield (lambda function, items: [inference(function, item) for item in items]), 1
        return
    with ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield (lambda function, items: list(pool.map(lambda item: inference(function, item), items))), n
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
