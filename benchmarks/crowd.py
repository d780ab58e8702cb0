"""What a crowd of jobs costs: many launched at once, and very many that wait.

Starts the real server with an analysis of its own that takes a given time and no processor (the time of the work is then
known). Prints: the time that all jobs take together over the time of their work, and what lies before, in and between them;
attempts, processes, and what the server itself uses; how long /health took at worst; and with so many jobs waiting how long the
pages take.

    python benchmarks/crowd.py [--jobs 60] [--seconds 1] [--waiting 10000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the program runs from its checkout
NAP = {
    "__init__.py": """
        from landscape_core.specs import Analysis, AnalysisSpec, Variable, field

        class NapSpec(AnalysisSpec):
            seconds: float = field(1.0, "How long it takes.", ge=0, le=3600)

        ANALYSIS = Analysis("nap", "Nap", "How long?", NapSpec, arrays=(Variable("slept", "Seconds."),))
    """,
    "spec.py": "",
    "figure.py": "def figure(data, style, **options):\n    raise NotImplementedError\n",
    "reading.py": "def reading(result):\n    return []\n",
    "compute.py": """
        import time
        from landscape_core.specs import Progress

        def run(spec, context):
            for done in range(10):
                yield Progress(done, 10)
                time.sleep(spec.seconds / 10)
            return {"slept": spec.seconds}
    """,
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=60)
    options.add_argument("--seconds", type=float, default=1.0)
    options.add_argument("--waiting", type=int, default=10_000)
    given = options.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    with tempfile.TemporaryDirectory() as folder:
        home, own = Path(folder) / "home", Path(folder) / "analyses"
        for name, text in NAP.items():
            (own / "nap").mkdir(parents=True, exist_ok=True)
            (own / "nap" / name).write_text(textwrap.dedent(text))
        os.environ["LANDSCAPE_ANALYSES"] = str(own)
        home.mkdir(mode=0o700)
        train(home)
        with server(home) as (address, process):
            at_once(home, address, process, given.jobs, given.seconds)
            waiting(home, address, process, given.waiting)


def train(home: Path) -> None:
    from landscape_core.jobs.requests import Request
    from landscape_core.jobs.runner import run_or_join

    run_or_join(Request("train", None, {"task": "digits-mlp", "run": "bench", "widths": [8], "steps": 60}), home)


def at_once(home: Path, address: str, process: psutil.Process, count: int, seconds: float) -> None:
    from landscape_core.jobs.queue import enqueue
    from landscape_core.jobs.requests import Request
    from landscape_core.jobs.store import JobStore

    store, worst = JobStore(home), Worst(lambda: f"{address}/health")
    items = [Request("nap", "bench@last", {"seconds": seconds, "seed": seed}) for seed in range(count)]
    keys = [enqueue(items[:1], home, "0" * 32)]
    while store.active():  # the first waits for PyTorch
        time.sleep(0.05)
    with worst:
        since, spent = time.monotonic(), used(process)
        keys += [enqueue([item], home, f"{i % 5:032x}") for i, item in enumerate(items[1:])]
        put, most = time.monotonic() - since, 0
        while store.active():
            most = max(most, len(process.children(recursive=True)))
            time.sleep(0.2)
        taken, spent = time.monotonic() - since, used(process) - spent
    views = [store.view(str(key)) for key in keys]
    assert all(view is not None and view.state == "done" for view in views)
    work = seconds * (count - 1)
    ordered = sorted(view.started for view in views if view and view.started)
    steps = statistics.median(later - first for first, later in pairwise(ordered))
    walls = statistics.median(view.wall for view in views if view)
    print(f"\n{count - 1} launches of {seconds:g} s at once: put in {put:.2f} s, done in {taken / work:.3f} of their work")
    print(f"  each: {walls - seconds:.3f} s in the job besides its work, {steps - walls:.3f} s from its end to the next")
    print(f"  attempts {sorted({view.attempts for view in views if view})}, most processes below the server {most}")
    print(f"  the server itself used {spent / taken:.3f} cores; /health: {worst}")


def waiting(home: Path, address: str, process: psutil.Process, count: int) -> None:
    from landscape_core.jobs.queue import enqueue
    from landscape_core.jobs.requests import Request
    from landscape_core.jobs.store import JobStore

    store = JobStore(home)
    enqueue([Request("nap", "bench@last", {"seconds": 3600.0})], home, "0" * 32)
    since = time.monotonic()
    for seed in range(count):
        enqueue([Request("nap", "bench@last", {"seed": 1000 + seed})], home, f"{seed % 30:032x}")
    put = time.monotonic() - since
    idle, started = used(process), time.monotonic()
    time.sleep(10)
    idle = (used(process) - idle) / (time.monotonic() - started)
    print(
        f"\n{len(store.turns()):,} wait: put in {put:.1f} s; "
        f"the server uses {idle:.3f} cores, {process.memory_info().rss >> 20} MB"
    )
    for path in ("/health", "/", "/_dash-layout", "/surface?on=bench@last", "/assets/landscape.css"):
        times = sorted(answer(f"{address}{path}") for _ in range(20))
        print(f"  {path:<28} median {1000 * statistics.median(times):6.0f} ms, worst {1000 * times[-1]:6.0f} ms")
    times = []
    for seed in range(10):
        since = time.monotonic()
        enqueue([Request("nap", "bench@last", {"seed": 10**6 + seed})], home, "f" * 32)
        store.active()
        times.append(time.monotonic() - since)
    print(f"  one more launch, and the list of jobs anew: median {1000 * statistics.median(times):.0f} ms")


class Worst:
    """Asks an address all the time, and keeps the longest answer."""

    def __init__(self, address: Callable[[], str]):
        self.address, self.times, self.over = address, [0.0], threading.Event()

    def __enter__(self) -> None:
        self.thread = threading.Thread(target=self._ask)
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _ask(self) -> None:
        while not self.over.wait(0.1):
            self.times.append(answer(self.address()))

    def __str__(self) -> str:
        return (
            f"median {1000 * statistics.median(self.times):.0f} ms, worst {1000 * max(self.times):.0f} ms of {len(self.times)}"
        )


def answer(address: str) -> float:
    since = time.monotonic()
    with urllib.request.urlopen(address, timeout=60) as found:
        found.read()
    return time.monotonic() - since


def used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def server(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "app.py", "--port", "0", "--home", str(home)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()
