"""The overlap page and the one of training on, in a real browser: growing, cancel, resume, two runs, views, downloads."""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.store import JobStore

from ...serving import Server
from ..page import AnalysisTests, wait_for

LONG = "minibatches=1000&minibatch_size=256&tolerance=1e-6&multiples=true"  # takes longer than any test waits for

PAGE, BRANCHES = AnalysisTests("overlap", "products"), AnalysisTests("counterfactual", "products")


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from PAGE.serve(trained, tmp_path_factory)


def test_a_run_is_computed_read_viewed_and_written(server: Server, open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page(f"{server.address}/overlap?on=first@last&checkpoints=6")
    expect(page.locator("#overlap-empty")).to_contain_text("Press Compute")
    PAGE.press_run(page)
    expect(page.locator("#overlap-reading")).to_contain_text("Verdict:")
    expect(page.locator("#overlap-reading")).to_contain_text("Gap below the space")
    expect(PAGE.run_button(page)).to_have_text("Computed")
    plots = PAGE.plots(page)
    expect(plots).to_contain_text("random: k/p")
    place = page.evaluate(
        """() => {const graph = document.querySelector('#overlap-graphs .cell:not([hidden]) .js-plotly-plot');
        const points = graph.calcdata.find((curve) => curve[0].trace.name === 'full gradient');
        const box = graph.getBoundingClientRect(), {xaxis, yaxis} = graph._fullLayout, first = points[0];
        return [box.x + xaxis._offset + xaxis.d2p(first.x), box.y + yaxis._offset + yaxis.d2p(first.y)];}"""
    )
    page.mouse.move(place[0] + 30, place[1] + 30)
    page.mouse.move(*place)
    expect(plots.locator(".hoverlayer")).to_contain_text("at step 0")
    page.mouse.click(*place)
    expect(page.locator("#overlap-step")).to_contain_text("Step 0 of first")
    expect(page.locator("#overlap-step").get_by_role("link", name="Surface")).to_have_attribute("href", "/surface?on=first@0")
    for view, words in (("By eigenvector", "by eigenvalue"), ("Persistence", "in common"), ("Eigenvalues", "at least")):
        page.locator(".views").get_by_text(view, exact=True).click()
        expect(plots).to_contain_text(words)
    expect(page).to_have_url(re.compile(r"v\.kind=eigenvalues"))
    with page.expect_download() as started:
        page.get_by_label("Download first @ 60 as CSV", exact=True).click()
    started.value.save_as(tmp_path / "first.csv")
    result = ResultCache(server.home).get(PAGE.job_of(server, checkpoints=6).key)
    assert result is not None
    rows = list(csv.DictReader((tmp_path / "first.csv").read_text().splitlines()))
    assert [float(row["gradient_share"]) for row in rows] == result["gradient_share"].tolist()


def test_it_grows_is_cancelled_keeps_its_curves_and_goes_on(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/overlap?on=first@last&seed=2&{LONG}")
    PAGE.press_run(page)
    expect(PAGE.caption(page)).to_contain_text("checkpoints.")
    expect(PAGE.status(page)).to_contain_text(re.compile(r"\d+ of \d+ checkpoints"))
    PAGE.status(page).get_by_role("button", name="Cancel").click()
    expect(PAGE.status(page)).to_contain_text("cancelled at")
    expect(PAGE.plots(page)).to_have_count(1)
    reached = PAGE.job_of(server, seed=2).done
    expect(PAGE.run_button(page)).to_have_text("Resume")
    PAGE.run_button(page).click()
    wait_for(lambda: PAGE.job_of(server, seed=2).state == "running" and PAGE.job_of(server, seed=2).done >= 0.8 * reached)
    JobStore(server.home).cancel(PAGE.job_of(server, seed=2).key)
    wait_for(lambda: not JobStore(server.home).active())


def test_two_runs_stand_side_by_side_and_another_step_asks_nothing_new(server: Server, open_page: Callable[..., Page]) -> None:
    PAGE.cached(server, "first@last", "second@last", k=3)
    before = len(JobStore(server.home).views())
    page = open_page(
        f"{server.address}/overlap?on=first@last,second@0&k=3", viewport={"width": 1600, "height": 900}, color_scheme="dark"
    )
    expect(PAGE.plots(page)).to_have_count(2)
    expect(PAGE.plots(page).nth(1)).to_contain_text("share in the top 3")
    expect(page.locator("#overlap-reading .reading-column")).to_have_count(2)
    expect(PAGE.run_button(page)).to_have_text("Computed")
    assert len(JobStore(server.home).views()) == before


def test_training_on_inside_and_outside_is_drawn_and_judged(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/counterfactual?on=first@last&steps=40&records=4&k=2")
    BRANCHES.press_run(page)
    expect(page.locator("#counterfactual-reading")).to_contain_text("Which part trains?")
    expect(BRANCHES.plots(page)).to_contain_text("outside the top 2")
    expect(BRANCHES.caption(page)).to_contain_text("the run's own")
    page.goto(f"{server.address}/counterfactual?on=first@last&steps=0")
    expect(page.locator("#counterfactual-validation")).to_contain_text("'steps'")
    expect(BRANCHES.run_button(page)).to_be_disabled()
