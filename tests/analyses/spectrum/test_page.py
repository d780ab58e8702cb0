"""The spectrum page in a real browser: growing, cancel, resume, several checkpoints, links, views, downloads."""

import csv
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.store import JobStore
from landscape_core.specs import Result

from ...serving import Server
from ..page import AnalysisTests, wait_for

LONG = "method=lanczos&probes=200&lanczos_steps=300"  # takes longer than any test waits for


PAGE = AnalysisTests("spectrum", "products")
cached, plots, caption, run_button = PAGE.cached, PAGE.plots, PAGE.caption, PAGE.run_button
status, press_run, job_of = PAGE.status, PAGE.press_run, PAGE.job_of


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from PAGE.serve(trained, tmp_path_factory)


def test_the_exact_spectrum_is_computed_read_and_tabled(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/spectrum?on=first@last&seed=1")
    expect(page.locator("#spectrum-empty")).to_contain_text("Press Compute")
    press_run(page)
    expect(page.locator("#spectrum-reading")).to_contain_text("not critical")
    expect(page.locator("#spectrum-reading")).to_contain_text("Zero eigenvalues")
    expect(page.locator("#spectrum-provenance")).to_contain_text("just now")
    expect(caption(page)).to_contain_text("exact matrix")
    expect(run_button(page)).to_have_text("Computed")
    page.get_by_role("button", name="Table of eigenvalues").click()
    result = ResultCache(server.home).get(job_of(server, seed=1).key)
    assert result is not None
    expect(page.locator("#spectrum-eigenvalues tbody tr")).to_have_count(15)
    assert result["nullity"] >= result["nullity_predicted"] > 0


def test_it_grows_is_cancelled_keeps_its_picture_and_goes_on(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/spectrum?on=first@last&seed=2&{LONG}")
    press_run(page)
    expect(caption(page)).to_contain_text("probes so far")
    expect(status(page)).to_contain_text(re.compile(r"[\d,]+ of about [\d,]+ products"))
    page.reload()  # the same job, found again
    expect(caption(page)).to_contain_text("probes so far")
    expect(run_button(page)).to_be_disabled()
    status(page).get_by_role("button", name="Cancel").click()
    expect(status(page)).to_contain_text("cancelled at")
    expect(plots(page)).to_have_count(1)
    reached = job_of(server, seed=2).done
    assert reached > 0
    expect(run_button(page)).to_have_text("Resume")
    run_button(page).click()
    wait_for(lambda: job_of(server, seed=2).state == "running" and job_of(server, seed=2).done >= 0.9 * reached)
    assert job_of(server, seed=2).attempts == 2
    JobStore(server.home).cancel(job_of(server, seed=2).key)
    wait_for(lambda: not JobStore(server.home).active())


def test_eigenvalues_can_be_pointed_at_and_views_switch_at_once(server: Server, open_page: Callable[..., Page]) -> None:
    cached(server, "first@last", beside="ggn")
    page = open_page(f"{server.address}/spectrum?on=first@last&beside=ggn")
    expect(plots(page)).to_contain_text("Gauss-Newton, largest")
    # The rightmost mark is the largest eigenvalue.
    place = page.evaluate(
        """() => {const graph = document.querySelector('#spectrum-graphs .cell:not([hidden]) .js-plotly-plot');
        const marks = graph.calcdata.find((points) => points[0].trace.name === '10 largest eigenvalues');
        const box = graph.getBoundingClientRect(), {xaxis, yaxis} = graph._fullLayout;
        return [box.x + xaxis._offset + xaxis.d2p(marks[0].x), box.y + yaxis._offset + yaxis.d2p(marks[0].y)];}"""
    )
    page.mouse.move(place[0] - 40, place[1] - 40)
    page.mouse.move(*place)
    expect(plots(page).locator(".hoverlayer")).to_contain_text("λ₁")
    page.locator(".views").get_by_text("Eigenvalues", exact=True).click()
    expect(plots(page)).to_contain_text("smallest, as −λ")
    page.locator(".views").get_by_text("Layers", exact=True).click()
    expect(plots(page)).to_contain_text("0.weight")
    expect(page).to_have_url(re.compile(r"v\.kind=layers"))
    page.locator(".views").get_by_text("Density", exact=True).click()
    page.get_by_role("switch", name="Logarithmic axis").click()
    expect(plots(page)).to_contain_text("signed logarithm")


def test_two_checkpoints_stand_on_the_same_axes(server: Server, open_page: Callable[..., Page]) -> None:
    cached(server, "first@last", "second@0", k=6)
    page = open_page(f"{server.address}/spectrum?on=first@last,second@0&k=6", viewport={"width": 1600, "height": 900})
    expect(plots(page)).to_have_count(2)
    expect(plots(page).nth(1)).to_contain_text("eigenvalue")
    ranges = page.evaluate(
        """() => Array.from(document.querySelectorAll('#spectrum-graphs .cell:not([hidden]) .js-plotly-plot'))
        .map((graph) => JSON.stringify([graph.layout.xaxis.range, graph.layout.yaxis.range]))"""
    )
    assert ranges[0] == ranges[1]
    expect(page.locator("#spectrum-reading .reading-column")).to_have_count(2)


def test_over_training_with_the_limit_of_stability(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/spectrum?on=first@last&over=run&checkpoints=5&k=3")
    press_run(page)
    expect(page.locator("#spectrum-reading")).to_contain_text("Limit of stability")
    expect(plots(page)).to_contain_text("λ₁, the sharpness")
    expect(plots(page)).to_contain_text("for reference")  # of mini-batches


def test_a_deep_link_shows_what_it_says_without_a_launch(server: Server, open_page: Callable[..., Page]) -> None:
    cached(server, "first@60", operator="ggn", k=4, split="test")
    before = {view.key for view in JobStore(server.home).views() if view.kind == "spectrum"}
    page = open_page(
        f"{server.address}/spectrum?on=first@60&operator=ggn&k=4&split=test&v.kind=eigenvalues", color_scheme="dark"
    )
    expect(plots(page)).to_contain_text("rank")
    expect(caption(page)).to_contain_text("test samples")
    expect(plots(page).locator(".main-svg").first).to_have_css("background-color", "rgb(36, 36, 36)")
    expect(page.get_by_role("textbox", name="Largest")).to_have_value("4")
    expect(run_button(page)).to_have_text("Computed")
    page.get_by_role("link", name="Home").click()
    expect(page.locator("#spectrum-graphs")).to_have_count(0)
    page.go_back()
    expect(plots(page)).to_contain_text("rank")
    assert {view.key for view in JobStore(server.home).views() if view.kind == "spectrum"} == before


def test_downloads_and_copies_hold_the_same_numbers(
    server: Server,
    open_page: Callable[..., Page],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = cached(server, "first@last", k=5, seed=7)[0]
    result = ResultCache(server.home).get(key)
    assert result is not None
    page = open_page(f"{server.address}/spectrum?on=first@last&k=5&seed=7", permissions=["clipboard-read", "clipboard-write"])
    expect(plots(page)).to_contain_text("5 largest eigenvalues")

    def download(name: str) -> Path:
        with page.expect_download() as started:
            page.get_by_label(name, exact=True).click()
        file = tmp_path / started.value.suggested_filename
        started.value.save_as(file)
        return file

    label = "first @ 60"
    npz = Result.from_bytes(download(f"Download {label} as NPZ").read_bytes())
    assert (npz["eigenvalues_top"] == result["eigenvalues_top"]).all()
    rows = list(csv.DictReader(download(f"Download {label} as CSV").read_text().splitlines()))
    assert [float(row["value"]) for row in rows if row["part"] == "top"] == result["eigenvalues_top"].tolist()
    alone = open_page(download(f"Download {label} as HTML").as_uri())
    expect(alone.locator(".scatterlayer .trace").first).to_be_attached()
    page.get_by_role("button", name="Copy command").click()
    expect(page.locator("#spectrum-copied")).to_have_text("Command copied")
    words = shlex.split(str(page.evaluate("navigator.clipboard.readText()")))
    from landscape_core.__main__ import main

    monkeypatch.chdir(tmp_path)
    assert main([*words[4:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["eigenvalues_top"] == result["eigenvalues_top"].tolist()


def test_what_cannot_be_computed_is_named(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/spectrum?on=first@last&k=0")
    expect(page.locator("#spectrum-validation")).to_contain_text("'k'")
    expect(run_button(page)).to_be_disabled()
    page.goto(f"{server.address}/spectrum?on=first@last&layers=[%22head%22]")
    press_run(page)
    expect(status(page)).to_contain_text("failed: no layer or parameter is named 'head'")
    expect(status(page)).to_contain_text("0.weight")
