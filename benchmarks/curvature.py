"""Speed of curvature: peers and us on the same Hessians, interleaved in one run, with what they find held to float64.

Hessian-vector products in gradients of the same process; the top ten eigenpairs to 1e-3, with the residual that a referee in
float64 finds afterwards; spectral densities of equally many products; the trace to 1 %. Contenders take turns, each library
in a worker process of its own; ratios are medians over rounds of CPU time (one thread) or wall time (more threads).
Products are counted: they do not depend on the machine. Memory is the peak beyond what the network, its data and one gradient
took. `--cases large` finds five eigenpairs of 10^7 parameters in bounded memory.

    python benchmarks/curvature.py [--cases digits,mlp,...] [--tasks products,pairs,density,trace] [--rounds 3] [--threads 1]
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from curvature_contenders import (
    PAIRS,
    SAMPLES,
    STRICT_TOLERANCE,
    TRACE,
    Curvlinops,
    Library,
    Ours,
    PyHessian,
    available,
    deviation,
    residual,
)
from large import large
from models import CASES, NETWORKS, TRAINING_STEPS
from torch import Tensor
from workers import Contenders, Row, Worker, headline, ratio, serve, take_turns

TASKS = ("products", "pairs", "density", "trace")
REPEATS = {"digits": 30}  # of a product, so that a round can be timed
RUNS = {"digits": 5}  # of pairs or a density, in a round: one alone is mostly the caches it found
PROBES = {"digits": (8, 40), "mlp": (4, 20), "lenet": (4, 20), "resnet": (2, 10), "transformer": (2, 20)}  # and steps
TRACED = {"digits": 200, "mlp": TRAINING_STEPS}  # after so many steps of training
DENSE = ("digits",)  # small enough for the whole matrix
STRICT = ("digits",)  # where PyHessian is also run until its residuals are as small as the others'
SEEDS = 5
SAMPLED = 50  # probes that give the spread of a plain mean
LADDER = (24, 36, 48, 72, 96, 144, 192)  # products, where a method does not stop by itself

CURVLINOPS, PYHESSIAN, EIGENTHINGS = "curvlinops 3.0.1", "PyHessian 0.1", "eigenthings 1.0.0a5"
STRICTER = f"{PYHESSIAN}, tol {STRICT_TOLERANCE:g}"
TUNED = "ours, host tuning"
# What must be reached: (where MKL is slow and oneDNN takes its place, elsewhere) where they differ.
PRODUCT = {"mlp": 1.6, "resnet": 2.8, "transformer": 2.8}  # gradients
BLOCKS = {"digits": 0.7}  # gradients a vector, 16 at a time
PAIRS_BY = {
    CURVLINOPS: {
        **{"digits": (0.35, 0.5), "mlp": (0.35, 0.5), "lenet": (0.35, 0.6)},
        **{"transformer": (0.45, 0.7), "resnet": (0.65, 0.7)},
    },
    PYHESSIAN: {"digits": 1 / 6, "mlp": 1 / 6, "lenet": 1 / 6, "transformer": 1 / 6, "resnet": 1 / 3},
    EIGENTHINGS: {"digits": 0.6, "mlp": 0.6, "lenet": 0.6, "transformer": 0.6, "resnet": 0.7},
}  # fmt: skip
DENSITY_BY = {"digits": 1 / 4, "lenet": 1 / 2.5, "mlp": 1 / 1.5}  # of PyHessian's time
STRICTLY = 1 / 20  # of PyHessian's products at equal residual
COUNTED = 1.1  # products by ARPACK's
TRACED_IN = 50  # products


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", default=",".join((*CASES, "large")), help=f"some of {','.join((*CASES, 'large'))}")
    options.add_argument("--tasks", default=",".join(TASKS), help=f"some of {','.join(TASKS)}")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--worker", nargs=3, metavar=("CASE", "LIBRARY", "THREADS"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.worker:
        case, library, threads = given.worker
        serve(int(threads), large if case == "large" else functools.partial(contenders, case, library))
        return
    print(headline())
    with tempfile.TemporaryDirectory() as folder:
        os.environ[NETWORKS] = folder
        for name in given.cases.split(","):
            if name == "large":
                bounded(given.threads)
            else:
                Comparison(name, given.threads, given.rounds).run(given.tasks.split(","))


# -- what a worker runs --------------------------------------------------------------------------------------------------


def contenders(case: str, name: str) -> Contenders:
    library = available()[name](case)
    library.gradient()
    kept: dict[str, Callable[[Tensor], Tensor]] = {}
    asked: set[Callable] = set()
    last: list = []

    def gradient() -> dict[str, object]:
        for _ in range(REPEATS.get(case, 1)):
            library.gradient()
        return {}

    def product(what: str, count: int = 1) -> dict[str, object]:
        if what not in kept:
            more = library.others() if isinstance(library, Ours) else {}
            kept.update({"product": library.operator()} | more)
        v = torch.randn(library.p, count, generator=torch.Generator().manual_seed(0))
        v = (v / v.norm(dim=0))[:, 0 if count == 1 else slice(None)].contiguous()
        for _ in range(repeats(case, count)):
            kept[what](v)
        return {}

    def error() -> dict[str, object]:
        v = torch.randn(library.p, generator=torch.Generator().manual_seed(0))
        exact = library.double() @ v.double()
        return {"error": float((kept["product"](v).double() - exact).norm() / exact.norm())}

    def drop() -> dict[str, object]:
        kept.clear()
        return {}

    def run(find: Callable[[], tuple]) -> None:
        """Once at first, when memory is read, then as often as a round is timed for."""
        for _ in range(RUNS.get(case, 1) if find in asked else 1):
            last[:] = find()
        asked.add(find)

    def eigenpairs(find: Callable[[], tuple[Tensor, Tensor]]) -> dict[str, object]:
        run(find)
        values = sorted(last[0].tolist(), reverse=True)
        return {"products": library.products, "largest": values[0], "smallest": values[-1]}

    def density() -> dict[str, object]:
        run(probed)
        return {"products": library.products}

    def probed() -> tuple[np.ndarray, np.ndarray]:
        return library.density(*PROBES[case])

    def truth() -> np.ndarray:
        return torch.linalg.eigvalsh(library.exact()).numpy()

    def trace() -> dict[str, object]:
        later = available()[name](case, TRACED[case])
        return traced(later, float(later.exact().trace()) if case in DENSE else None)

    return {
        "gradient": gradient,
        "product": lambda: product("product"),
        "block 4": lambda: product("product", 4),
        "block 16": lambda: product("product", 16),
        "double backward": lambda: product("double backward"),
        "Gauss-Newton": lambda: product("Gauss-Newton"),
        "empirical Fisher": lambda: product("empirical Fisher"),
        "error": error,
        "drop": drop,
        "pairs": lambda: eigenpairs(library.eigenpairs),
        "strict pairs": lambda: eigenpairs(getattr(library, "strict", library.eigenpairs)),
        "residual": lambda: {"residual": residual(library, *last)},
        "density": density,
        "deviation": lambda: {"deviation": deviation(*last, truth())},
        "trace": trace,
    }


def repeats(case: str, count: int = 1) -> int:
    return max(1, REPEATS.get(case, 1) // count)


def traced(library: Library, exact: float | None) -> dict[str, object]:
    """Every method of a library: products, relative error (root of the mean square over seeds, or the standard error where
    the truth is too large to have) and CPU seconds of one run.
    """
    found = []
    if isinstance(library, Ours):
        found.append(_seeds("top ten, then probes", library.trace, library, exact))
        found.append(_seeds("the same, Gauss-Newton", library.convex_trace, library, exact))
    elif isinstance(library, PyHessian):
        started = time.process_time()
        samples = library.samples(SAMPLED)
        seconds = (time.process_time() - started) / len(samples)
        spread = statistics.stdev(samples) / abs(statistics.mean(samples) if exact is None else exact)
        needed = math.ceil((spread / TRACE) ** 2)
        found.append({"method": "Hutchinson, from its spread", "products": needed, "error": TRACE, "seconds": seconds * needed})
        if exact is not None:
            found.append(_seeds("Hutchinson, its own stop", lambda seed: (library.stock(seed), math.nan), library, exact))
    elif exact is not None:
        methods = {"Hutch++": library.hutchpp} | ({"XTrace": library.xtrace} if isinstance(library, Curvlinops) else {})
        for label, method in methods.items():
            for budget in LADDER:

                def run(seed: int, method: Callable = method, budget: int = budget) -> tuple[float, float]:
                    library.products = budget
                    return method(budget, seed), math.nan

                row = _seeds(label, run, library, exact, budget)
                if row["error"] <= TRACE:
                    break
            found.append(row)
    return {"methods": found}


def _seeds(
    label: str, run: Callable[[int], tuple[float, float]], library: Library, exact: float | None, budget: int | None = None
) -> dict:
    errors, counts = [], []
    seeds = SEEDS if exact is not None else 2
    started = time.process_time()
    for seed in range(seeds):
        estimate, error = run(seed)
        errors.append(error / abs(estimate) if exact is None else estimate / exact - 1)
        counts.append(library.products if budget is None else budget)
    seconds = (time.process_time() - started) / seeds
    rms = math.sqrt(statistics.mean(e * e for e in errors))
    return {"method": label, "products": round(statistics.mean(counts)), "error": rms, "seconds": seconds}


# -- tables --------------------------------------------------------------------------------------------------------------


class Comparison:
    """One case: its workers, and a table for each task."""

    def __init__(self, name: str, threads: int, rounds: int):
        self.name, self.threads, self.rounds = name, threads, rounds

    def run(self, tasks: list[str]) -> None:
        case = CASES[self.name]
        self.workers = {label: Worker(__file__, self.name, label, threads=self.threads, tuning=False) for label in available()}
        try:
            tuned = Worker(__file__, self.name, "ours", threads=self.threads, tuning=True)
            self.slow_mkl = tuned.facts["onednn_products"]
            if any(tuned.facts.values()):
                self.workers[TUNED] = tuned
            else:
                tuned.close()
            self.best = TUNED if TUNED in self.workers else "ours"
            samples = f", the first {SAMPLES[self.name]} samples" if self.name in SAMPLES else ""
            print(f"\n{case.title}{samples}; {self.threads} thread{'s' * (self.threads > 1)}")
            for task in tasks:
                if task != "trace" or self.name in TRACED:
                    getattr(self, f"_{task}")()
                for worker in self.workers.values():
                    worker.ask("drop")
        finally:
            for worker in self.workers.values():
                worker.close()

    def _products(self) -> None:
        base = {label: Row(worker, "gradient") for label, worker in self.workers.items()}
        rows = {label: Row(worker, "product") for label, worker in self.workers.items()}
        ours = {label: worker for label, worker in self.workers.items() if label in ("ours", TUNED)}
        more = ["double backward", "Gauss-Newton", "empirical Fisher", "block 4"] + ["block 16"] * (self.name != "resnet")
        rows |= {f"{label}, {what}": Row(worker, what) for label, worker in ours.items() for what in more}
        take_turns([*base.values(), *rows.values()], self.rounds)
        print(f"  {'a product':38s}{'ms a vector':>12s}{'gradients':>11s}{'error':>10s}{'MiB':>8s}")
        ratios = {}
        for label, row in rows.items():
            width = int(row.contender.split()[1]) if row.contender.startswith("block") else 1
            own = next(base[who] for who, worker in self.workers.items() if worker is row.worker)
            each = repeats(self.name, width) * width
            ratios[label] = ratio(row, own, self.threads) * repeats(self.name) / each
            error = f"{row.worker.ask('error')['error']:.0e}" if row.contender == "product" else ""
            memory = f"{row.first['peak'] - row.worker.resident:.0f}" if row.contender == "product" else ""
            seconds = statistics.median(row.times(self.threads)) / each
            print(f"  {label:38s}{1e3 * seconds:12.3f}{ratios[label]:11.2f}{error:>10s}{memory:>8s}")
        for label in ours:
            _verdict(f"{label}: gradients a product", ratios[label], PRODUCT.get(self.name))
            _verdict(f"{label}: gradients a vector of 16", ratios.get(f"{label}, block 16"), BLOCKS.get(self.name))

    def _pairs(self) -> None:
        rows = {label: Row(worker, "pairs") for label, worker in self.workers.items()}
        if self.name in STRICT and PYHESSIAN in rows:
            rows[STRICTER] = Row(self.workers[PYHESSIAN], "strict pairs")
        take_turns(rows.values(), self.rounds, warm=self.name in REPEATS)
        for row in rows.values():
            if len([other for other in rows.values() if other.worker is row.worker]) > 1:
                row.worker.ask(row.contender)  # what it found last may be another row's
            row.first["residual"] = row.worker.ask("residual")["residual"]
        ours = rows[self.best]
        print(
            f"  {f'top {PAIRS} pairs':28s}{'products':>9s}{'residual':>10s}{'s':>9s}{'of ours':>9s}{'MiB':>7s}{'values':>18s}"
        )
        for label, row in rows.items():
            seconds, first = statistics.median(row.times(self.threads)) / RUNS.get(self.name, 1), row.first
            times = ratio(row, ours, self.threads)
            print(
                f"  {label:28s}{first['products']:9d}{first['residual']:10.1e}{seconds:9.3f}{times:8.1f}x"
                f"{first['peak'] - row.worker.resident:7.0f}{first['largest']:9.3f} ..{first['smallest']:6.3f}"
            )
        for peer, goals in PAIRS_BY.items():
            if peer in rows:
                goal = goals[self.name]
                must = goal if isinstance(goal, float) else goal[not self.slow_mkl]
                _verdict(f"time by that of {peer}", ratio(ours, rows[peer], self.threads), must)
        if CURVLINOPS in rows:
            _verdict("products by those of ARPACK", ours.first["products"] / rows[CURVLINOPS].first["products"], COUNTED)
        strict = rows.get(STRICTER)
        if strict is not None:
            _verdict("products by PyHessian's, equal residual", ours.first["products"] / strict.first["products"], STRICTLY)

    def _density(self) -> None:
        probes, steps = PROBES[self.name]
        rows = {label: Row(worker, "density") for label, worker in self.workers.items()}
        take_turns(rows.values(), self.rounds, warm=self.name in REPEATS)
        ours = rows[self.best]
        title = f"density, {probes} probes of {steps} steps"
        print(f"  {title:38s}{'products':>9s}{'s':>9s}{'of ours':>9s}{'MiB':>7s}{'off by':>9s}")
        for label, row in rows.items():
            off = ""
            if self.name in DENSE:
                row.worker.ask("density")
                off = f"{row.worker.ask('deviation')['deviation']:.3f}"
            seconds, by, memory = (
                statistics.median(row.times(self.threads)) / RUNS.get(self.name, 1),
                ratio(row, ours, self.threads),
                row.first["peak"] - row.worker.resident,
            )
            print(f"  {label:38s}{probes * steps:9d}{seconds:9.3f}{by:8.1f}x{memory:7.0f}{off:>9s}")
        if PYHESSIAN in rows:
            _verdict("time by that of PyHessian", ratio(ours, rows[PYHESSIAN], self.threads), DENSITY_BY.get(self.name))

    def _trace(self) -> None:
        title = f"trace to 1 %, after {TRACED[self.name]} steps of training"
        print(f"  {title:48s}{'products':>9s}{'error':>9s}{'s':>9s}")
        for label, worker in self.workers.items():
            for row in worker.ask("trace")["methods"]:
                what = f"{label}, {row['method']}"
                print(f"  {what:48s}{row['products']:9d}{row['error']:9.2%}{row['seconds']:9.3f}")
                if label == self.best:
                    ours = row
        if self.name in DENSE:
            _verdict("products, the top ten among them", ours["products"], TRACED_IN)


def bounded(threads: int) -> None:
    """Five eigenpairs of 10^7 parameters in bounded memory."""
    worker = Worker(__file__, "large", "ours", threads=threads, tuning=True)
    try:
        said = worker.ask("estimate")
        print(f"\n{said['title']}; top {said['pairs']} pairs, {threads} thread{'s' * (threads > 1)}")
        print(f"  bound {said['bound']:,.0f} MiB beyond the network, its data and one gradient")
        low, high = said["seconds"]
        print(
            f"  said before: at most {said['memory']:,.0f} MiB (basis of {said['rows']} vectors), "
            f"{said['least']}-{said['most']} products of {said['each']:.2f} s: {low:.0f}-{high:.0f} s"
        )
        reply = worker.ask("pairs")
        took = reply["peak"] - worker.resident
        print(
            f"  found: {took:,.0f} MiB, {reply['products']} products, {reply['wall']:.0f} s, "
            f"residual {worker.ask('residual')['residual']:.1e}, values {', '.join(f'{v:.4g}' for v in reply['values'])}"
        )
        _verdict("MiB", took, said["bound"])
    finally:
        worker.close()


def _verdict(what: str, value: float | None, goal: float | None) -> None:
    if value is not None and goal is not None:
        print(f"    {what}: {value:.3g}, must be <= {goal:.3g}: {'met' if value <= goal else 'MISSED'}", flush=True)


if __name__ == "__main__":
    main()
