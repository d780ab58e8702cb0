"""The queue as people see it: who waits, what is refused, and that pages answer whatever it holds."""

import re
import shutil
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from landscape_core.jobs import records, waiting
from landscape_core.jobs.queue import enqueue
from landscape_core.jobs.requests import Request
from landscape_core.jobs.store import JobStore
from landscape_core.jobs.waiting import Waiting

from ..jobs.fakes import wait_for
from ..jobs.test_price import measured
from ..serving import Server

LONG = Request("train", None, {"task": "digits-mlp", "run": "long", "steps": 1_000_000})
MANY = 10_000
SOON = 3.0  # seconds; longer is a hang
OTHER = "0" * 32

Start = Callable[..., Server]
Open = Callable[..., Page]


def answer_time(address: str) -> float:
    start = time.monotonic()
    assert urllib.request.urlopen(address, timeout=30).status == 200
    return time.monotonic() - start


def fill(home: Path, count: int, asker: str) -> None:
    """So many jobs wait for somebody, all at once."""
    store = JobStore(home)
    request = Request("surface", "first@60", {"resolution": 9})
    items = [Waiting(10**6 + n, f"{asker[:8]}{n:024x}", asker) for n in range(count)]
    with store.shared.take() as held:
        for item in items:
            records.write(held, item.key, records.new(None, request, None, item.ticket) | {"asker": asker})
        waiting._set(held, asker, items)
        waiting._turned(held, count=count)


@pytest.mark.fault(
    "PyTorch takes long to be imported", sees="waiting; pages answer at once", lost="Nothing", on="The job begins when it can"
)
def test_before_anything_can_be_computed_pages_answer_and_launches_wait(
    trained: Path, tmp_path: Path, start_server: Start, open_page: Open
) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(
        "import sys, time\nif 'forkserver' in ' '.join(sys.orig_argv): time.sleep(12)\n"  # as torch on a slow disk
    )
    shutil.copytree(trained, tmp_path / "home")
    server = start_server(tmp_path / "home", PYTHONPATH=str(slow))
    page = open_page(f"{server.address}/surface?on=first@last&resolution=5&flow=0")
    page.locator("#surface-run").click()
    expect(page.locator("#surface-status")).to_contain_text("waiting")
    expect(page.locator("#jobs-count")).to_contain_text("waiting")
    assert answer_time(f"{server.address}/health") < SOON
    page.goto(f"{server.address}/")
    expect(page.locator("#content .card").first).to_be_visible()
    store = JobStore(server.home)
    assert {view.state for view in store.views() if view.kind == "surface"} == {"queued"}
    wait_for(lambda: not store.active(), 60)
    assert {(view.state, view.attempts) for view in store.views()} == {("done", 1)}


@pytest.mark.fault(
    "Ten thousand jobs wait",
    sees="How many run and wait; the first of them listed",
    lost="Nothing",
    on="Pages answer as before, and a newcomer is next",
)
def test_ten_thousand_wait_and_pages_answer(trained: Path, tmp_path: Path, start_server: Start, open_page: Open) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained, home)
    enqueue([LONG], home, OTHER)
    server = start_server(home)
    store = JobStore(home)
    wait_for(lambda: any(view.state == "running" for view in store.active()), 60)
    fill(home, MANY, OTHER)
    page = open_page(f"{server.address}/")
    expect(page.locator("#jobs-count")).to_have_text("1 running, 10,000 waiting")
    page.get_by_role("button", name="Jobs: show").click()
    expect(page.locator("#jobs-list .job-queued")).to_have_count(20)
    expect(page.locator("#jobs-list")).to_contain_text("9,980 more wait")
    times = [answer_time(f"{server.address}{path}") for path in ("/", "/health", "/surface?on=first@60", "/_dash-layout") * 3]
    assert max(times) < SOON
    # A person who comes now is next, not ten thousandth; and what is known to be short runs beside the long job.
    page.goto(f"{server.address}/surface?on=second@last&resolution=7&flow=0")
    expect(page.locator("#surface-cost .cost-price")).to_contain_text("about")
    page.locator("#surface-run").click()
    expect(page.locator("#surface-run")).to_have_text("Computed")
    assert len(store.turns()) == MANY
    # One who has so many gets no more, and is told.
    theirs = open_page(f"{server.address}/surface?on=first@last&resolution=11&flow=0", extra_http_headers={})
    theirs.context.add_cookies([{"name": "landscape_browser", "value": OTHER, "url": server.address}])
    theirs.reload()
    theirs.locator("#surface-run").click()
    expect(theirs.locator("#refused")).to_contain_text("too many jobs are waiting (10,000 of yours): cancel some")
    expect(theirs.locator("#surface-run")).to_have_text(re.compile("^Compute"))
    assert store.unlisted() == set()


@pytest.mark.fault(
    "Somebody else has asked for a hundred jobs", sees="One's own is next", lost="Nothing", on="Turns go round by browser"
)
def test_somebody_elses_hundred_jobs_do_not_hold_up_one_click(
    trained: Path, tmp_path: Path, start_server: Start, open_page: Open
) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained, home)
    for seed in range(100):
        enqueue([Request("surface", "first@60", {"resolution": 31, "flow": 0, "seed": seed})], home, OTHER)
    server = start_server(home)
    page = open_page(f"{server.address}/surface?on=second@last&resolution=7&flow=0")
    page.locator("#surface-run").click()
    expect(page.locator("#surface-run")).to_have_text("Computed")
    store = JobStore(home)
    assert len(store.turns()) > 50
    store.cancel(store.turns()[0].key)


def test_what_takes_hours_says_so_on_the_button_and_what_takes_days_is_refused(
    trained: Path, tmp_path: Path, start_server: Start, open_page: Open
) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained, home)
    measured(home, Request("surface", "first@60", {}), 60.0)
    server = start_server(home)
    page = open_page(f"{server.address}/surface?on=first@last&resolution=21&flow=0")
    expect(page.locator("#surface-run")).to_have_text(re.compile(r"^Compute \(about \d+ h"))
    page.goto(f"{server.address}/surface?on=first@last&resolution=201&flow=0")
    expect(page.locator("#surface-run")).to_have_text(re.compile(r"^Compute \(about \d+ h"))
    page.locator("#surface-run").click()
    expect(page.locator("#surface-status .job-failed")).to_contain_text("hours, and at most 24 are allowed (LANDSCAPE_HOURS)")
