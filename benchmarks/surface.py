"""Speed of loss surfaces: peers and us on the same grids, interleaved in one run, with exactness and the machine's peak.

Contenders take turns, in reverse order every other round, each in a worker process that stays alive; what depends on the
host is switched on in a second worker. Ratios are medians over rounds of CPU time (one thread) or wall time (more threads)
against loss-landscapes of the same round. Deviations are |loss - loss64| / max(1, |loss64|) against plain float64.

    python benchmarks/surface.py [--cases digits,mlp,...] [--rounds 3] [--threads 1,2]
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable

import numpy as np
from contenders import OURS, Bench, available
from models import CASES
from workers import Contenders, Row, Worker, headline, ratio, serve, take_turns

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
        serve(int(given.worker[1]), functools.partial(contenders, given.worker[0]))
        return
    print(headline())
    for name in given.cases.split(","):
        for threads in given.threads.split(","):
            compare(name, int(threads), given.rounds)


# -- one table -----------------------------------------------------------------------------------------------------------


def compare(name: str, threads: int, rounds: int) -> None:
    """Measure and print one case with one number of threads."""
    case = CASES[name]
    plain, tuned = (Worker(__file__, name, threads=threads, tuning=tuning) for tuning in (False, True))
    try:
        rows = {contender: Row(plain, contender) for contender in (*available(), *OURS)}
        if any(tuned.facts.values()):
            rows[TUNED] = Row(tuned, "ours, plane")
        # Each process trains its own network, and rounding makes them differ.
        references = {worker: np.array(worker.ask("reference")["losses"]) for worker in {row.worker for row in rows.values()}}
        take_turns(rows.values(), rounds)
        deviations = {label: deviation(row, references[row.worker], case.every_reference) for label, row in rows.items()}
        peaks = {worker: worker.ask("gflops")["gflops"] for worker in references}
        title = f"{case.title}, {case.grid}x{case.grid} points, {threads} thread{'s' * (threads > 1)}"
        report(title, case.grid**2, rows, deviations, threads)
        used = ", ".join(name for name, on in tuned.facts.items() if on)
        more = f"; with host tuning ({used}) {peaks[tuned]:.0f}" if used else "; there is nothing to tune on this host"
        print(f"  peak of matrix products {peaks[plain]:.0f} GFLOP/s{more}\n", flush=True)
    finally:
        plain.close()
        tuned.close()


def deviation(row: Row, reference: np.ndarray, every: int) -> float:
    """Largest |loss - loss64| / max(1, |loss64|); NaN for a contender that draws its own axes."""
    found = np.array(row.first["losses"])[::every]
    return float(np.max(np.abs(found - reference) / np.maximum(1, np.abs(reference)))) if len(found) else float("nan")


def report(title: str, points: int, rows: dict[str, Row], deviations: dict[str, float], threads: int) -> None:
    print(title)
    print(f"  {'':32s}{'ms a point':>12s}{'CPU ms':>10s}{'ratio':>8s}{'deviation':>12s}")
    baseline = rows.get(BASELINE)
    for label, row in rows.items():
        gain = "" if baseline is None else f"{ratio(baseline, row, threads):.2f}x"
        wall, cpu = (1e3 * statistics.median(times) / points for times in (row.wall, row.cpu))
        off = "own axes" if np.isnan(deviations[label]) else f"{deviations[label]:.1e}"
        print(f"  {label:32s}{wall:12.3f}{cpu:10.3f}{gain:>8s}{off:>12s}")


def contenders(name: str) -> Contenders:
    """What a worker of one case runs."""
    bench, every = Bench(CASES[name]), available() | OURS | {"reference": Bench.reference}
    return {label: functools.partial(_losses, bench, run) for label, run in every.items()}


def _losses(bench: Bench, run: Callable[[Bench], np.ndarray]) -> dict[str, object]:
    return {"losses": run(bench).tolist()}


if __name__ == "__main__":
    main()
