"""How long a person waits: for the first picture of a new surface, and for one that is already computed.

Starts the server over a new home with a trained digits run and looks at it in Chromium. Times are taken in the page, from
the click to the frame that shows the picture: medians, and the first of the session, when workers and scripts are cold.

    python benchmarks/waiting.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))  # the program runs from its checkout
from landscape_core.jobs.requests import Request
from landscape_core.jobs.runner import run_all

ROOT = Path(__file__).parents[1]
RUN = "bench"
PATIENCE = 120_000  # milliseconds
PICTURE = "#surface-graphs .cell:not([hidden]) .heatmaplayer image"
CLICK = """([button, picture]) => new Promise(done => {
    const started = performance.now();
    document.querySelector(button).click();
    const look = () => document.querySelector(picture) ? done(performance.now() - started) : requestAnimationFrame(look);
    look();
})"""
FOLLOW = """([address, picture]) => new Promise(done => {
    const started = performance.now();
    history.pushState({}, "", address);  // what a click on a link of the page does
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
    const look = () => document.querySelector(picture) ? done(performance.now() - started) : requestAnimationFrame(look);
    look();
})"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("this benchmark needs Chromium (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        run_all([Request("train", None, {"task": "digits-mlp", "run": RUN, "steps": 500})], home)
        with server(home) as address:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.set_default_timeout(PATIENCE)
            report("first partial picture of a new job", [new_job(page, address, seed) for seed in range(rounds)])
            page.goto(f"{address}/")
            report("cached heat map", [cached(page, seed % rounds) for seed in range(2 * rounds)])
            browser.close()


def new_job(page: Page, address: str, seed: int) -> float:
    """Seconds from the click on Compute to the first cells of the heat map; waits for the rest."""
    page.goto(f"{address}{surface(seed)}")
    button = page.locator("#surface-run")
    expect(page.locator("#surface-cost")).to_contain_text("points", timeout=PATIENCE)
    expect(button).to_be_enabled(timeout=PATIENCE)
    waited = page.evaluate(CLICK, ["#surface-run", PICTURE]) / 1000
    expect(button).to_have_text("Computed", timeout=PATIENCE)
    return waited


def cached(page: Page, seed: int) -> float:
    """Seconds from a click on Home to the heat map of a surface computed before."""
    waited = page.evaluate(FOLLOW, [surface(seed), PICTURE]) / 1000
    page.evaluate(FOLLOW, ["/", "#home-cards"])
    expect(page.locator(PICTURE)).to_have_count(0, timeout=PATIENCE)
    return waited


def surface(seed: int) -> str:
    return f"/surface?on={RUN}@last&seed={seed}&v.kind=heatmap"


def report(what: str, seconds: list[float]) -> None:
    median = statistics.median(seconds)
    print(f"{what:40s} median {median:.2f} s   first {seconds[0]:.2f} s   slowest {max(seconds):.2f} s", flush=True)


@contextmanager
def server(home: Path) -> Iterator[str]:
    """The address of `app.py` running over a home."""
    environment = {**os.environ, "LANDSCAPE_HOME": str(home)}
    command = [sys.executable, "app.py", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    main()
