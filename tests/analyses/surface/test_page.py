"""The Surface page in a real browser: computing, partial pictures, cancel, reload, two tabs, links, views, downloads."""

import csv
import io
import json
import re
import shlex
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from landscape_core.checkpoints.runs import RunStore
from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.store import JobStore
from landscape_core.specs import Result

from ...serving import Server
from ..page import AnalysisTests, wait_for

SLOW = "resolution=401&dtype=float64"  # takes longer than any test waits for


PAGE = AnalysisTests("surface", "points")
cached, plots, caption, run_button = PAGE.cached, PAGE.plots, PAGE.caption, PAGE.run_button
status, press_run, job_of = PAGE.status, PAGE.press_run, PAGE.job_of


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from PAGE.serve(trained, tmp_path_factory)


def workers(server: Server) -> set[int]:
    """The processes of jobs: children of the server's fork server."""
    found = set()
    for process in psutil.Process(server.process.pid).children(recursive=True):
        try:
            parent = process.parent()
            if parent and "forkserver" in " ".join(parent.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def cancel_all(server: Server) -> None:
    store = JobStore(server.home)
    for view in store.active():
        store.cancel(view.key)
    wait_for(lambda: not store.active())


def test_compute_fills_in_and_finishes(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/surface?on=first@last&seed=1&resolution=301&v.kind=heatmap")
    expect(page.locator("#surface-empty")).to_contain_text("Press Compute")
    started = time.perf_counter()
    press_run(page)
    expect(caption(page)).to_contain_text("Approximate")
    print(f"first partial picture after {time.perf_counter() - started:.2f} s")
    expect(caption(page)).not_to_contain_text("Approximate", timeout=300_000)
    expect(page.locator("#surface-reading")).to_contain_text("Gradient in the picture")
    expect(page.locator("#surface-provenance")).to_contain_text("just now")
    expect(run_button(page)).to_have_text("Computed")
    expect(page.locator("#jobs-count")).to_have_text("Idle")
    view = job_of(server, seed=1)
    assert (view.state, view.attempts) == ("done", 1)
    result = ResultCache(server.home).get(view.key)
    assert result is not None
    assert result["loss"].shape == (301, 301)


def test_what_is_typed_right_before_compute_is_computed(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/surface?on=first@last&seed=91&resolution=9&v.kind=heatmap")
    expect(page.locator("#surface-cost")).to_contain_text("about")
    expect(run_button(page)).to_be_enabled()
    page.get_by_role("textbox", name="Resolution").select_text()
    page.keyboard.type("11")
    page.evaluate("document.querySelector('#surface-run').click()")  # no wait, no leaving of the field
    expect(caption(page)).to_contain_text("11 × 11 points")
    expect(run_button(page)).to_have_text("Computed")
    assert job_of(server, seed=91).values["resolution"] == 11


def test_cancel_leaves_no_process_and_resume_goes_on(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/surface?on=first@last&seed=2&{SLOW}&v.kind=heatmap")
    expect(page.locator("#surface-cost")).to_contain_text("about")
    wait_for(lambda: not workers(server))  # the measurement is over
    press_run(page)
    expect(caption(page)).to_contain_text("Approximate")
    assert workers(server)
    status(page).get_by_role("button", name="Cancel").click()
    expect(status(page)).to_contain_text("cancelled at")
    wait_for(lambda: not workers(server))
    expect(plots(page)).to_have_count(1)  # what is known stays on the screen
    reached = job_of(server, seed=2).done
    assert reached > 0
    expect(run_button(page)).to_have_text("Resume")
    run_button(page).click()
    wait_for(lambda: job_of(server, seed=2).state == "running" and job_of(server, seed=2).done >= reached)
    assert job_of(server, seed=2).attempts == 2
    cancel_all(server)


def test_a_reload_in_mid_job_finds_the_same_job(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/surface?on=first@last&seed=3&{SLOW}&v.kind=heatmap")
    press_run(page)
    expect(caption(page)).to_contain_text("Approximate")
    page.reload()
    expect(status(page).get_by_role("button", name="Cancel")).to_be_visible()
    expect(caption(page)).to_contain_text("Approximate")
    expect(run_button(page)).to_be_disabled()
    assert job_of(server, seed=3).attempts == 1
    status(page).get_by_role("button", name="Cancel").click()
    expect(status(page)).to_contain_text("cancelled at")


def test_two_tabs_one_computation(server: Server, open_page: Callable[..., Page]) -> None:
    pages = [open_page(f"{server.address}/surface?on=second@last&seed=4&resolution=81&v.kind=heatmap") for _ in range(2)]
    for page in pages:
        expect(run_button(page)).to_be_enabled()
    for page in pages:  # at once: a tab that hears of the other's job has nothing left to press
        page.evaluate("document.querySelector('#surface-run').click()")
    for page in pages:
        expect(page.locator("#surface-provenance")).to_contain_text("just now")
        expect(caption(page)).not_to_contain_text("Approximate")
    assert job_of(server, seed=4).attempts == 1


def test_a_deep_link_shows_what_it_says_without_a_launch(server: Server, open_page: Callable[..., Page]) -> None:
    cached(server, "first@60", dimensions=1, repeats=5, resolution=21, split="test")
    before = {view.key for view in JobStore(server.home).views() if view.kind == "surface"}
    query = "on=first@60&dimensions=1&repeats=5&resolution=21&split=test&v.kind=line&v.log=1"
    page = open_page(f"{server.address}/surface?{query}")
    expect(plots(page).locator(".scatterlayer .trace").first).to_be_visible()
    expect(plots(page)).to_contain_text("5 random directions")
    expect(plots(page)).to_contain_text("loss (log)")
    expect(page.locator("#surface-reading")).to_contain_text("test samples")
    expect(page.get_by_role("textbox", name="Resolution")).to_have_value("21")
    expect(run_button(page)).to_have_text("Computed")
    # Another view of it is another address, and the back button is the way back.
    page.get_by_role("link", name="Home").click()
    expect(page.locator("#surface-graphs")).to_have_count(0)
    page.go_back()
    expect(plots(page)).to_contain_text("5 random directions")
    expect(page).to_have_url(re.compile(r"v\.log="))
    assert {view.key for view in JobStore(server.home).views() if view.kind == "surface"} == before


def test_a_cached_heat_map_shows_without_a_launch(server: Server, open_page: Callable[..., Page]) -> None:
    cached(server, "first@last", seed=6)
    page = open_page(f"{server.address}/surface?on=first@last&v.kind=heatmap&resolution=5")
    expect(page.locator("#surface-empty")).to_contain_text("Not computed yet")
    jobs = len(JobStore(server.home).views())
    page.goto(f"{server.address}/surface?on=first@last&v.kind=heatmap&seed=6")
    started = time.perf_counter()
    expect(plots(page).locator(".heatmaplayer image")).to_be_visible()
    print(f"cached heat map {time.perf_counter() - started:.2f} s after the page's document")
    expect(page.locator("#surface-provenance")).to_contain_text("from the cache")
    assert len(JobStore(server.home).views()) == jobs


def test_kinds_quantities_and_scales_switch_at_once(server: Server, open_page: Callable[..., Page]) -> None:
    cached(server, "first@last", directions="pca", resolution=15, test=True)
    page = open_page(f"{server.address}/surface?on=first@last&directions=pca&resolution=15&test=true&v.kind=heatmap")
    expect(plots(page).locator(".heatmaplayer image").first).to_be_visible()
    page.get_by_text("Contour", exact=True).click()
    expect(plots(page).locator(".contourlayer .contourfill").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"v\.kind=contour"))
    page.get_by_text("Line", exact=True).click()
    expect(plots(page)).to_contain_text("along β")
    page.get_by_text("Heat map", exact=True).click()
    page.get_by_role("textbox", name="Quantity").click()
    page.get_by_role("option", name="Accuracy (test)").click()
    expect(plots(page).locator(".infolayer")).to_contain_text("accuracy")
    expect(plots(page).locator(".infolayer")).to_contain_text("360 samples")
    page.get_by_role("switch", name="Arrows").click()
    expect(caption(page)).to_contain_text("downhill in the plane")
    page.get_by_text("3-D", exact=True).click()
    expect(plots(page).locator(".gl-container canvas").first).to_be_visible()
    colours = Image.open(io.BytesIO(plots(page).screenshot())).convert("RGB").getcolors(10**6)
    assert colours is not None
    assert len(colours) > 500


def test_light_and_dark_pictures_follow_the_theme(server: Server, open_page: Callable[..., Page]) -> None:
    cached(server, "first@last", resolution=11)
    page = open_page(f"{server.address}/surface?on=first@last&resolution=11", color_scheme="light")
    ground = plots(page).locator(".main-svg").first
    expect(ground).to_have_css("background-color", "rgb(255, 255, 255)")
    page.get_by_role("button", name="Light or dark").click()
    expect(ground).to_have_css("background-color", "rgb(36, 36, 36)")
    assert page.evaluate("document.querySelector('#surface-graphs .js-plotly-plot').layout.scene.bgcolor") == "#242424"
    page.reload()
    expect(ground).to_have_css("background-color", "rgb(36, 36, 36)")


def test_a_difference_is_of_two(server: Server, open_page: Callable[..., Page]) -> None:
    cached(server, "first@60", "second@60", resolution=11)
    page = open_page(f"{server.address}/surface?on=first@60&resolution=11&v.kind=heatmap")
    switch = page.get_by_role("switch", name="Difference")
    expect(plots(page)).to_have_count(1)
    expect(switch).to_be_hidden()
    page.goto(f"{server.address}/surface?on=first@60,second@60&resolution=11&v.kind=heatmap")
    expect(plots(page)).to_have_count(2)
    switch.click()
    expect(plots(page)).to_have_count(1)
    expect(plots(page)).to_contain_text("second @ 60 minus first @ 60")
    expect(caption(page)).to_contain_text("Blue: second @ 60 is lower")


def test_a_point_is_read_and_centred(server: Server, open_page: Callable[..., Page]) -> None:
    key = cached(server, "first@last", resolution=11, seed=7)[0]
    page = open_page(f"{server.address}/surface?on=first@last&resolution=11&seed=7&v.kind=heatmap")
    map_ = plots(page).locator(".nsewdrag")
    expect(map_).to_be_visible()
    box = map_.bounding_box()
    assert box is not None
    # Cells are 1/11 of the map; the middle of the eighth from the left, the third from above: α = 0.4, β = 0.6.
    x, y = box["x"] + box["width"] * 7.5 / 11, box["y"] + box["height"] * 2.5 / 11
    page.mouse.move(x, y)
    page.mouse.click(x, y)
    point = page.locator("#surface-point")
    expect(point).to_contain_text("At α 0.4, β 0.6")
    result = ResultCache(server.home).get(key)
    assert result is not None
    expect(point).to_contain_text(f"loss {result['loss'][7, 8]:.4g}")
    expect(point).to_contain_text(f"accuracy {100 * result['accuracy'][7, 8]:.4g} %")
    page.get_by_role("button", name="Shift the extent").click()
    expect(page.get_by_role("textbox", name="Extent")).to_have_value("[[-0.6,1.4],[-0.4,1.6]]")
    expect(page).to_have_url(re.compile(re.escape("extent=[[-0.6,1.4],[-0.4,1.6]]")))
    expect(run_button(page)).to_be_enabled()
    expect(point).to_be_empty()


def test_every_download_opens(server: Server, open_page: Callable[..., Page], tmp_path: Path) -> None:
    key = cached(server, "first@last", resolution=9, seed=8)[0]
    result = ResultCache(server.home).get(key)
    assert result is not None
    page = open_page(f"{server.address}/surface?on=first@last&resolution=9&seed=8&v.kind=contour")
    expect(plots(page).locator(".contourlayer .contourfill").first).to_be_visible()

    def download(name: str) -> Path:
        with page.expect_download() as started:
            page.get_by_label(name, exact=True).click()
        file = tmp_path / started.value.suggested_filename
        started.value.save_as(file)
        return file

    label = "first @ 60"
    npz = Result.from_bytes(download(f"Download {label} as NPZ").read_bytes())
    assert (npz["loss"] == result["loss"]).all()
    assert npz.spec["seed"] == 8
    assert npz.provenance["fingerprint"] == result.provenance["fingerprint"]
    rows = list(csv.DictReader(download(f"Download {label} as CSV").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == result["loss"].reshape(-1).tolist()
    vtk = download(f"Download {label} as VTK").read_text().splitlines()
    assert vtk[3:5] == ["DATASET STRUCTURED_GRID", "DIMENSIONS 9 9 1"]
    picture = Image.open(download("Download the picture as PNG"))
    picture.load()
    assert picture.width > 800
    svg = ElementTree.parse(download("Download the picture as SVG")).getroot()
    assert svg.tag.endswith("svg")
    alone = open_page(download(f"Download {label} as HTML").as_uri())
    expect(alone.locator(".contourlayer .contourfill").first).to_be_visible()
    assert alone.evaluate("performance.getEntriesByType('resource').length") == 0


def test_what_is_copied_computes_the_same(
    server: Server,
    open_page: Callable[..., Page],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    key = cached(server, "first@60", resolution=[9, 7], directions="difference", through=["second@60"])[0]
    address = (
        f'{server.address}/surface?on=first@60&resolution=[9,7]&directions=difference&through=["second@60"]&v.kind=heatmap'
    )
    page = open_page(address, permissions=["clipboard-read", "clipboard-write"])
    expect(plots(page).locator(".heatmaplayer image").first).to_be_visible()

    def copied(what: str) -> str:
        page.get_by_role("button", name=f"Copy {what}").click()
        expect(page.locator("#surface-copied")).to_have_text(f"{what.capitalize()} copied")
        return str(page.evaluate("navigator.clipboard.readText()"))

    monkeypatch.setenv("LANDSCAPE_HOME", "/nowhere")  # the texts name the home themselves
    known = ResultCache(server.home).get(key)
    assert known is not None
    python = copied("Python")
    scope: dict[str, Any] = {}
    assert "landscape_core.figure(result, kind='heatmap').show()" in python
    exec("\n".join(line for line in python.splitlines() if ".show()" not in line), scope)
    assert (scope["result"]["loss"] == known["loss"]).all()
    words = shlex.split(copied("command"))
    assert words[1:4] == [sys.executable, "-m", "landscape_core"]
    assert words[words.index("--view") :][:2] == ["--view", "kind=heatmap"]
    from landscape_core.__main__ import main

    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    assert main([*words[4:], "--json"]) == 0
    assert (tmp_path / "surface-first-60.html").exists()
    assert json.loads(capsys.readouterr().out)["loss"] == known["loss"].tolist()
    again = open_page(copied("link"))
    expect(plots(again).locator(".heatmaplayer image").first).to_be_visible()


def test_what_cannot_be_asked_is_named_under_the_form(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/surface?on=first@last&resolution=1000000")
    expect(page.locator("#surface-validation")).to_contain_text("resolution must be between 3 and 501")
    expect(run_button(page)).to_be_disabled()
    page.get_by_role("textbox", name="Resolution").fill("21")
    expect(page.locator("#surface-validation")).to_be_empty()
    expect(run_button(page)).to_be_enabled()
    page.goto(f"{server.address}/surface?on=first@last,absent@3&nonsense=1&v.kind=pie")
    expect(page.locator("#surface-problems")).to_contain_text("unknown field 'nonsense'")
    expect(page.locator("#surface-empty")).to_contain_text("there is no run 'absent'")


def test_weights_that_cannot_be_read_fail_in_one_line(trained_server: Server, open_page: Callable[..., Page]) -> None:
    runs = RunStore(trained_server.home)
    record, checkpoint = runs.resolve("second@0")
    file = runs.folder(record.name) / checkpoint.file
    file.write_bytes(file.read_bytes()[:200])
    page = open_page(f"{trained_server.address}/surface?on=second@0&resolution=9")
    expect(run_button(page)).to_be_enabled()
    run_button(page).click()
    expect(status(page)).to_contain_text("failed: ")
    expect(status(page)).to_contain_text(file.name)
    expect(status(page).get_by_role("button", name="Run again")).to_be_visible()
    assert "Traceback" not in page.content()


def test_stepping_and_playing_along_the_path(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/surface?on=first@last&directions=pca&resolution=9&v.kind=heatmap&v.walk=true")
    expect(page.locator("#surface-stepper")).to_be_hidden()
    press_run(page)
    expect(run_button(page)).to_have_text("Computed")
    expect(caption(page)).to_contain_text("Dotted: a random walk")
    words = page.locator("#surface-step-words")
    expect(words).to_have_text("step 0")
    expect(page.locator("#surface-step-about")).to_contain_text("loss of the checkpoint")
    page.get_by_role("slider", name="Checkpoint of the path").press("ArrowRight")
    expect(words).not_to_have_text("step 0")
    marked = "graph => graph.data.filter(trace => trace.meta && trace.meta.step).map(trace => trace.x[0])"
    placed = plots(page).first.evaluate(marked)
    assert len(placed) == 1
    assert placed[0] is not None
    page.locator("#surface-step-play").click()
    expect(words).to_have_text("step 60")  # the last
    expect(page.locator("#surface-step-play")).to_have_text("Play")
    assert plots(page).first.evaluate(marked) != placed
    page.get_by_role("slider", name="Checkpoint of the path").press("Home")
    expect(words).to_have_text("step 0")
    page.locator("#surface-step-go").click()
    expect(page.locator("#chips")).to_contain_text("first @ 0")
