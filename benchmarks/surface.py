"""Speed of loss surfaces: peers and us on the same grids, interleaved in one run, with exactness and the machine's peak.

Contenders take turns, in reverse order every other round, each in a worker process that stays alive; what depends on the
host is switched on in a second worker. Ratios are medians over rounds of CPU time (one thread) or wall time (more threads)
against loss-landscapes of the same round. Deviations are |loss - loss64| / max(1, |loss64|) against plain float64.

    python benchmarks/surface.py [--cases digits,mlp,...] [--rounds 3] [--threads 1,2]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from contenders import OURS, Bench, available
from models import CASES

BASELINE = "loss-landscapes 3.0.6"
TUNED = "ours, plane, host tuning"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", default=",".join(CASES), help=f"some of {','.join(CASES)}")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", default="1,2", help="thread counts to measure, one table each")
    options.add_argument("--worker", nargs=2, metavar=("CASE", "THREADS"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.worker:
        serve(given.worker[0], int(given.worker[1]))
        return
    print(f"torch {torch.__version__}, {processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    for name in given.cases.split(","):
        for threads in given.threads.split(","):
            compare(name, int(threads), given.rounds)


# -- one table -----------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """The rounds of one contender."""

    worker: Worker
    contender: str
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    deviation: float = float("nan")


def compare(name: str, threads: int, rounds: int) -> None:
    """Measure and print one case with one number of threads."""
    case = CASES[name]
    plain, tuned = Worker(name, threads, tuning=False), Worker(name, threads, tuning=True)
    try:
        rows = {contender: Row(plain, contender) for contender in (*available(), *OURS)}
        if any(tuned.facts.values()):
            rows[TUNED] = Row(tuned, "ours, plane")
        # Each process trains its own network, and rounding makes them differ.
        references = {worker: np.array(worker.ask("reference")["losses"]) for worker in {row.worker for row in rows.values()}}
        for number in range(rounds + 1):
            for row in list(rows.values())[:: 1 if number % 2 else -1]:
                reply = row.worker.ask(row.contender)
                if number == 0:  # the round that warms up also shows the numbers
                    found, reference = np.array(reply["losses"])[:: case.every_reference], references[row.worker]
                    if len(found):
                        row.deviation = float(np.max(np.abs(found - reference) / np.maximum(1, np.abs(reference))))
                    continue
                row.wall.append(reply["wall"])
                row.cpu.append(reply["cpu"])
        peaks = {worker: worker.ask("peak")["gflops"] for worker in references}
        report(
            f"{case.title}, {case.grid}x{case.grid} points, {threads} thread{'s' * (threads > 1)}", case.grid**2, rows, threads
        )
        used = ", ".join(name for name, on in tuned.facts.items() if on)
        more = f"; with host tuning ({used}) {peaks[tuned]:.0f}" if used else "; there is nothing to tune on this host"
        print(f"  peak of matrix products {peaks[plain]:.0f} GFLOP/s{more}\n", flush=True)
    finally:
        plain.close()
        tuned.close()


def report(title: str, points: int, rows: dict[str, Row], threads: int) -> None:
    print(title)
    print(f"  {'':32s}{'ms a point':>12s}{'CPU ms':>10s}{'ratio':>8s}{'deviation':>12s}")
    baseline = rows.get(BASELINE)
    for label, row in rows.items():
        ratio = ""
        if baseline is not None:
            pairs = zip(baseline.cpu, row.cpu, strict=True) if threads == 1 else zip(baseline.wall, row.wall, strict=True)
            ratio = f"{statistics.median(a / b for a, b in pairs):.2f}x"
        wall, cpu = (1e3 * statistics.median(times) / points for times in (row.wall, row.cpu))
        deviation = "own axes" if np.isnan(row.deviation) else f"{row.deviation:.1e}"
        print(f"  {label:32s}{wall:12.3f}{cpu:10.3f}{ratio:>8s}{deviation:>12s}")


# -- the processes -------------------------------------------------------------------------------------------------------


class Worker:
    """A process with one case ready; `ask` runs one contender in it."""

    def __init__(self, case: str, threads: int, *, tuning: bool):
        environment = os.environ | {"LANDSCAPE_HOST_TUNING": str(int(tuning)), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--worker", case, str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.facts = self._reply()

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


def serve(case: str, threads: int) -> None:
    """Run the contenders named on standard input, until it closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what peers print goes to standard error
    torch.set_num_threads(threads)
    bench, contenders = Bench(CASES[case]), available() | OURS | {"reference": Bench.reference}

    def answer(**reply: object) -> None:
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    answer(**host_facts())
    for line in sys.stdin:
        what = line.strip()
        if what == "peak":
            answer(gflops=peak())
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        losses = contenders[what](bench)
        answer(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu, losses=losses.tolist())


def host_facts() -> dict[str, object]:
    from landscape_core.objective import host

    return host.facts()


def peak() -> float:
    """GFLOP/s of float32 products of 2048 x 512 by 512 x 512, as PyTorch does them in this process, host tuning included."""
    from landscape_core.objective import host

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


if __name__ == "__main__":
    main()
