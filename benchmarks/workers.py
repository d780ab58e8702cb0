"""Contenders in processes of their own that take turns, so that no one's round is quieter than another's."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))  # the program runs from its checkout
from landscape_core.objective import host

Contenders = Mapping[str, Callable[[], dict[str, object]]]


class Worker:
    """A process of `script` with everything ready; `ask` runs one contender in it."""

    def __init__(self, script: str, *arguments: str, threads: int, tuning: bool):
        environment = os.environ | {"LANDSCAPE_HOST_TUNING": str(int(tuning)), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, script, "--worker", *arguments, str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        first = self._reply()
        self.facts: dict[str, bool] = first["facts"]  # what it uses of the host
        self.resident: float = first["peak"]  # MiB at most while it got ready

    def ask(self, what: str) -> dict:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a benchmark process ended early; its message is above")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(threads: int, prepare: Callable[[], Contenders]) -> None:
    """Run what standard input names, until it closes; a reply holds its wall and CPU seconds and its peak in MiB."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what peers print goes to standard error
    torch.set_num_threads(threads)

    def answer(**reply: object) -> None:
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    contenders = {"gflops": lambda: {"gflops": gflops()}} | dict(prepare())
    answer(facts=host.facts(), peak=peak())
    seen: set[str] = set()
    for line in sys.stdin:
        gc.collect()
        if line not in seen:  # a peak is read from a contender's first round; later ones find memory as work leaves it
            forget_peak()
            seen.add(line)
        wall, cpu = time.perf_counter(), time.process_time()
        reply = contenders[line.strip()]()
        answer(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu, peak=peak(), **reply)


# -- rounds --------------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """The rounds of one contender."""

    worker: Worker
    contender: str
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    first: dict = field(default_factory=dict)  # what it replied first

    def times(self, threads: int) -> list[float]:
        """CPU seconds where there is one thread, which other work on the machine does not lengthen; else wall seconds."""
        return self.cpu if threads == 1 else self.wall


def take_turns(rows: Iterable[Row], rounds: int, *, warm: bool = True) -> None:
    """Fill the rows, in reverse order every other round; with `warm` a round before the others is not timed."""
    order = list(rows)
    for number in range(rounds + warm):
        for row in order[:: -1 if number % 2 == 0 else 1]:
            reply = row.worker.ask(row.contender)
            row.first = row.first or reply
            if number or not warm:
                row.wall.append(reply["wall"])
                row.cpu.append(reply["cpu"])


def ratio(above: Row, below: Row, threads: int) -> float:
    """The median over rounds of one contender's time by another's."""
    return statistics.median(a / b for a, b in zip(above.times(threads), below.times(threads), strict=True))


# -- the machine ---------------------------------------------------------------------------------------------------------


def headline() -> str:
    return f"torch {torch.__version__}, {processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"


def gflops() -> float:
    """GFLOP/s of float32 products of 2048 x 512 by 512 x 512, as PyTorch does them in this process, host tuning included."""
    a, weight = torch.randn(2048, 512), torch.randn(512, 512)
    best = float("inf")
    with torch.inference_mode(), host.tuned(torch.float32, torch.device("cpu")):
        for _ in range(20):
            started = time.perf_counter()
            F.linear(a, weight)
            best = min(best, time.perf_counter() - started)
    return 2 * 2048 * 512 * 512 / best / 1e9


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak() -> float:
    """MiB that this process has held at most, since `forget_peak` where the system can forget."""
    try:
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**20 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Give back what is free, and measure the next peak from here (Linux)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except (AttributeError, OSError):  # another system: the peak is that of the process's life
        pass
