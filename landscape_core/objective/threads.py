"""Work over threads: one core each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Each = Callable[[Callable[..., Any], Iterable[Any]], list[Any]]


SMALL = 2e9  # operations of a pass below which a second thread gains little, and loses much on a busy machine
_spared = 1  # threads that `one_thread` took from PyTorch


def operations(model: Callable[[Any], Any], inputs: Any) -> int:
    """Floating-point operations of a forward pass, counted and not timed: the same wherever it is asked."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    return counter.get_total_flops()


def is_short(passes: int) -> bool:
    """Whether a forward pass of so many operations, with the backward pass that costs two, is too short for several threads."""
    return 3 * passes < SMALL


@contextmanager
def one_thread(*, where: bool) -> Iterator[None]:
    """PyTorch on one thread inside, if `where`: short operations spread over threads mostly wait for each other.

    `workers` still spread whole points over all threads.
    """
    global _spared
    before, spared = torch.get_num_threads(), _spared
    if where and before > 1:
        _spared = before
        torch.set_num_threads(1)
    try:
        yield
    finally:
        _spared = spared
        torch.set_num_threads(before)


@contextmanager
def workers(device: torch.device, tasks: int) -> Iterator[tuple[Each, int]]:
    """(each, n): `each(function, items)` is the list of function(item), worked on by n threads without gradients.

    n is PyTorch's thread count on a CPU (or what `one_thread` took from it), at most `tasks`, else 1; with n = 1 PyTorch
    keeps its own threads.
    """
    threads = torch.get_num_threads()
    n = max(1, min(max(threads, _spared), tasks)) if device.type == "cpu" else 1

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
