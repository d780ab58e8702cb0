"""The frame and the analysis page in a real browser: the address, the selection, jobs in every state, themes, downloads."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from landscape_core.jobs.requests import Request
from landscape_core.jobs.runner import run_all
from landscape_core.jobs.store import JobStore

from ..serving import PATIENCE, Server

Open = Callable[..., Page]
SMALL = "resolution=9&flow=0"
LONG = "resolution=401&flow=0"
SEEN_FROM = (
    "graphs => graphs.map(graph => { const e = graph._fullLayout.scene._scene.getCamera().eye; return [e.x, e.y, e.z]; })"
)
EYES = "graphs => graphs.map(graph => JSON.stringify(graph._fullLayout.scene.camera.eye))"


def graphs(page: Page) -> Locator:
    return page.locator("#surface-graphs .cell:not([hidden]) .js-plotly-plot")


def compute(page: Page) -> None:
    button = page.locator("#surface-run")
    expect(button).to_be_enabled()
    button.click()


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE / 1000) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def turned_together(page: Page, before: list[str]) -> bool:
    """Whether all pictures are seen from one place, which is another than before; what is on the screen, mid-drag too."""
    eyes = np.array(graphs(page).evaluate_all(SEEN_FROM))
    start = json.loads(before[0])
    return bool(np.ptp(eyes, axis=0).max() < 0.02 and np.abs(eyes[0] - [start["x"], start["y"], start["z"]]).max() > 0.05)


def surface_done(server: Server) -> float:
    return next(view.done for view in JobStore(server.home).views() if view.kind == "surface")


def surface_jobs(server: Server) -> list[str]:
    return [view.state for view in JobStore(server.home).views() if view.kind == "surface"]


def workers(server: Server) -> list[psutil.Process]:
    """The processes that compute: children of the fork server."""
    root = psutil.Process(server.process.pid)
    return [
        process
        for process in root.children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and any("forkserver" in part for part in process.cmdline())
    ]


def test_a_surface_is_computed_drawn_and_explained(trained_server: Server, open_page: Open) -> None:
    page = open_page(f"{trained_server.address}/surface?on=first@last&{SMALL}")
    expect(page.locator("#surface-empty")).to_contain_text("Not computed yet")
    expect(page.locator("#surface-cost")).to_contain_text("samples")
    expect(page.locator("#surface-cost .cost-price")).to_contain_text("about")  # measured by a job of its own
    compute(page)
    expect(page.locator("#surface-run")).to_have_text("Computed")
    expect(graphs(page)).to_have_count(1)
    expect(page.locator("#surface-reading .reading-item").first).to_be_visible()
    expect(page.locator("#surface-provenance")).to_contain_text("just now")
    expect(page.locator("#surface-provenance")).to_contain_text("forward passes")
    page.get_by_role("button", name="Table of numbers").click()
    expect(page.locator("#surface-numbers")).to_contain_text("Gradient share")
    # Again from the address: drawn at once and from the cache, with no job.
    before = len(surface_jobs(trained_server))
    page.reload()
    expect(graphs(page)).to_have_count(1)
    expect(page.locator("#surface-provenance")).to_contain_text("from the cache")
    assert len(surface_jobs(trained_server)) == before
    page.locator("#surface-graphs .gl-container canvas").first.wait_for()
    page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(graphs(page).first.screenshot())).convert("RGB")
    assert len(set(picture.get_flattened_data())) > 500


def test_partial_pictures_cancel_and_resume(trained_server: Server, open_page: Open) -> None:
    page = open_page(f"{trained_server.address}/surface?on=first@last&{LONG}&v.kind=heatmap")
    compute(page)
    expect(page.locator("#surface-status .job-running")).to_contain_text(re.compile(r"of 16\d,\d{3} points"))
    expect(graphs(page)).to_have_count(1)  # before it is done
    expect(page.locator("#jobs-count")).to_contain_text("1 running")
    running = len(workers(trained_server))
    page.locator("#surface-status").get_by_role("button", name=re.compile("^Cancel")).click()
    expect(page.locator("#surface-status .job-cancelled")).to_contain_text("what is done is kept")
    wait_until(lambda: len(workers(trained_server)) < running)
    expect(page.locator("#jobs-count")).to_have_text("Idle")
    job = next(view for view in JobStore(trained_server.home).views() if view.kind == "surface")
    expect(page.locator("#surface-run")).to_have_text("Resume")
    page.locator("#surface-status").get_by_role("button", name=re.compile("^Resume")).click()
    expect(page.locator("#surface-status .job-running")).to_be_visible()
    wait_until(lambda: JobStore(trained_server.home).view(job.key).done > job.done)
    assert JobStore(trained_server.home).view(job.key).attempts == 2
    page.locator("#surface-status").get_by_role("button", name=re.compile("^Cancel")).click()
    expect(page.locator("#surface-status .job-cancelled")).to_be_visible()


@pytest.mark.fault(
    "A tab is closed or another browser wants to cancel the job",
    sees="The job goes on; the other browser is asked first",
    lost="Nothing",
    on="All who watch see the same job",
)
def test_a_reload_and_a_second_tab_see_the_same_job(trained_server: Server, open_page: Open) -> None:
    address = f"{trained_server.address}/surface?on=first@last&{LONG}&v.kind=heatmap"
    page = open_page(address)
    compute(page)
    expect(page.locator("#surface-status .job-running")).to_contain_text("points")
    other = open_page(address)
    expect(other.locator("#surface-status .job-running")).to_contain_text("points")
    expect(other.locator("#surface-run")).to_be_disabled()
    page.reload()
    expect(page.locator("#surface-status .job-running")).to_contain_text("points")
    expect(graphs(page)).to_have_count(1)
    assert surface_jobs(trained_server) == ["running"]
    page.context.close()  # a closed tab ends nothing
    other.wait_for_timeout(1000)
    assert surface_jobs(trained_server) == ["running"]
    other.locator("#surface-status").get_by_role("button", name=re.compile("^Cancel")).click()
    expect(other.get_by_text("Somebody else asked for this")).to_be_visible()  # another browser
    assert surface_jobs(trained_server) == ["running"]
    other.get_by_role("button", name="Cancel it for everybody").click()
    expect(other.locator("#surface-status .job-cancelled")).to_be_visible()
    assert JobStore(trained_server.home).views()[0].attempts == 1


def test_four_checkpoints_share_scale_and_camera(trained: Path, start_server: Callable[..., Server], open_page: Open) -> None:
    sources = ["first@60", "second@60", "first@0", "second@0"]
    run_all([Request("surface", source, {"resolution": 9, "flow": 0}) for source in sources], trained)
    server = start_server(trained)
    page = open_page(f"{server.address}/surface?on={','.join(sources)}&{SMALL}")
    expect(graphs(page)).to_have_count(4)
    expect(page.locator("#surface-graphs .gl-container canvas")).to_have_count(4)
    expect(page.locator("[data-linked]")).to_have_count(4)
    colors = page.locator(".chip .dot").evaluate_all("dots => dots.map(dot => dot.style.background)")
    assert len(set(colors)) == 4
    ranges = graphs(page).evaluate_all("all => all.map(graph => `${graph.data[0].cmin} ${graph.data[0].cmax}`)")
    assert len(set(ranges)) == 1
    assert "undefined" not in ranges[0]
    before = graphs(page).evaluate_all(EYES)
    assert len(set(before)) == 1
    box = page.locator("#surface-graphs .gl-container canvas").first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 6):
        page.mouse.move(x + 12 * step, y + 3 * step)
        page.wait_for_timeout(50)
    wait_until(lambda: turned_together(page, before))  # the others turn while one is dragged
    page.mouse.up()
    # (Not wait_for_function: it evaluates texts, which the page forbids.)
    wait_until(lambda: len(now := set(graphs(page).evaluate_all(EYES))) == 1 and now != set(before))
    # The camera stays when the picture changes.
    turned = graphs(page).evaluate_all(EYES)
    page.get_by_role("switch", name="Log").check()
    expect(page).to_have_url(re.compile("v.log=true"))
    page.wait_for_timeout(1500)
    assert graphs(page).evaluate_all(EYES) == turned


def test_the_address_is_the_state(trained_server: Server, open_page: Open) -> None:
    page = open_page(f"{trained_server.address}/surface?on=first@last,second@0&directions=pca&extent=[-1,2]&v.kind=contour")
    chips = page.locator(".chip-label")
    expect(chips).to_have_text(["first @ 60", "second @ 0"])
    expect(page.get_by_role("radio", name="Contour")).to_be_checked()
    expect(page.get_by_role("textbox", name="Extent (axis units)")).to_have_value("-1, 2")
    # A field, a view and the selection are written without laying the page out again.
    page.evaluate("window.mark = 1")
    page.get_by_role("textbox", name="Resolution (points)").fill("13")
    expect(page).to_have_url(re.compile("resolution=13"))
    page.get_by_text("Heat map", exact=True).click()
    expect(page).to_have_url(re.compile("v.kind=heatmap"))
    chips.first.click()
    page.get_by_role("button", name="Remove first @ 60 from the selection").click()
    expect(chips).to_have_text(["second @ 0"])
    expect(page).to_have_url(re.compile(r"on=second@0&"))
    page.go_back()
    expect(chips).to_have_text(["first @ 60", "second @ 0"])
    expect(page.get_by_role("radio", name="Heat map")).to_be_checked()
    page.go_forward()
    expect(chips).to_have_text(["second @ 0"])
    page.get_by_role("link", name="Home").click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Loss surface")
    expect(page).to_have_url(re.compile(r"/\?on=second@0$"))
    page.go_back()
    expect(page.get_by_role("textbox", name="Resolution (points)")).to_have_value("13")
    expect(page.get_by_role("radio", name="Heat map")).to_be_checked()
    assert page.evaluate("window.mark") == 1
    address = page.url
    page.reload()
    expect(chips).to_have_text(["second @ 0"])
    expect(page.get_by_role("textbox", name="Resolution (points)")).to_have_value("13")
    page.wait_for_timeout(500)
    assert page.url == address


def test_checkpoints_are_added_and_stepped_through(trained_server: Server, open_page: Open) -> None:
    page = open_page(f"{trained_server.address}/surface")
    expect(page.locator("#surface-empty")).to_contain_text("Choose a checkpoint")
    page.get_by_role("button", name="Add a checkpoint to the selection").click()
    page.locator(".offer", has_text="first").click()
    chips = page.locator(".chip-label")
    expect(chips).to_have_text(["first @ 60"])
    expect(page).to_have_url(re.compile("on=first@last"))
    chips.first.click()
    page.get_by_role("button", name="← earlier").click()
    expect(chips).not_to_have_text(["first @ 60"])
    expect(page).to_have_url(re.compile(r"on=first@\d+"))


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("?on=first@last&resolution=1000000", "resolution must be between 3 and 501"),
        ("?on=nobody@last", "there is no run 'nobody'"),
        ("?on=first@7777", "no checkpoint at step 7777"),
        ("?on=..%2F..%2Fetc", "is not a checkpoint"),
        ("?on=first@last&colour=red", "unknown field 'colour'"),
        ("?on=first@last&given=/etc/passwd", "'given' names a file"),
        ("?on=first@last&seed=many", "'seed': must be a number"),
        ("?on=first@last&v.mood=1", "no view option 'v.mood'"),
        ("?on=first@last&kind=heatmap", "write 'v.kind'"),
        ("?on=a@1,b@1,c@1,d@1,e@1", "at most 4"),
    ],
)
def test_what_is_wrong_in_an_address_is_one_line(server_of_trained: Server, open_page: Open, search: str, words: str) -> None:
    page = open_page(f"{server_of_trained.address}/surface{search}")
    expect(page.locator("#content")).to_contain_text(words)
    expect(page.get_by_role("heading", level=1)).to_have_text("Loss surface")
    expect(page.locator("body")).not_to_contain_text("Traceback")


def test_an_unknown_page_says_so(server_of_trained: Server, open_page: Open) -> None:
    page = open_page(f"{server_of_trained.address}/nowhere")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")


def test_the_theme_is_remembered_and_drawn(server_of_trained: Server, open_page: Open) -> None:
    page = open_page(f"{server_of_trained.address}/surface", color_scheme="light")
    root = page.locator("html")
    expect(root).to_have_attribute("data-mantine-color-scheme", "light")
    page.get_by_role("button", name="Light or dark").click()
    expect(root).to_have_attribute("data-mantine-color-scheme", "dark")
    page.reload(wait_until="commit")
    expect(root).to_have_attribute("data-mantine-color-scheme", "dark")
    page.locator("#surface-page").wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(27, 28, 31)"


def test_classroom_mode_hides_the_controls(server_of_trained: Server, open_page: Open) -> None:
    page = open_page(f"{server_of_trained.address}/surface?on=first@last&present=1")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator("#surface-run")).to_be_hidden()
    expect(page.get_by_role("navigation", name="Pages")).to_be_hidden()
    page.get_by_role("button", name="Classroom mode on or off").click()
    expect(page.locator("#surface-run")).to_be_visible()
    assert "present" not in page.url


def test_copies_and_downloads(tmp_path: Path, trained: Path, start_server: Callable[..., Server], open_page: Open) -> None:
    run_all([Request("surface", "first@60", {"resolution": 9, "flow": 0})], trained)
    server = start_server(trained)
    page = open_page(
        f"{server.address}/surface?on=first@60&{SMALL}&v.kind=contour", permissions=["clipboard-read", "clipboard-write"]
    )
    expect(graphs(page)).to_have_count(1)
    page.locator("#surface-graphs .contourlayer, #surface-graphs .plot").first.wait_for()
    for button, words in (
        ("Copy link", f"{server.address}/surface?on=first@60"),
        ("Copy Python", "compute("),
        ("Copy command", "python -m landscape_core compute surface first@60"),
    ):
        page.get_by_role("button", name=button).click()
        expect(page.locator("#surface-copied")).to_contain_text("copied")
        page.wait_for_timeout(200)
        assert words in page.evaluate("navigator.clipboard.readText()")
    begins = {"PNG": b"\x89PNG", "SVG": b"<svg", "HTML": b"<!doctype html>", "NPZ": b"PK", "CSV": b"", "VTK": b"# vtk DataFile"}
    for kind, start in begins.items():
        role = "button" if kind in ("PNG", "SVG") else "link"
        with page.expect_download() as waiting:
            page.get_by_role(role, name=re.compile(f"as {kind}$")).click()
        path = waiting.value.path()
        assert waiting.value.suggested_filename.endswith("." + kind.lower())
        assert path.read_bytes().lstrip().startswith(start), kind
        if kind == "NPZ":
            with np.load(path, allow_pickle=False) as file:
                assert file["loss"].shape == (9, 9)
                assert '"resolution": 9' in str(file["spec"])
        if kind == "HTML":
            waiting.value.save_as(tmp_path / "alone.html")
            alone = open_page((tmp_path / "alone.html").as_uri())
            expect(alone.locator(".js-plotly-plot .main-svg").first).to_be_visible()
            assert "cdn" not in alone.locator("script[src]").evaluate_all("all => all.map(s => s.src).join()")


@pytest.mark.fault(
    "The server is killed under an open page",
    sees="The server does not answer; then: interrupted, what is done is kept",
    lost="Nothing finished",
    on="Resume",
)
def test_the_server_comes_back_and_the_page_goes_on(trained_server: Server, open_page: Open) -> None:
    """Killed in mid-job: the page that was open shows what is left, and a click takes it up again."""
    page = open_page(f"{trained_server.address}/surface?on=first@last&{LONG}&v.kind=heatmap")
    compute(page)
    expect(page.locator("#surface-status .job-running")).to_contain_text("points")
    expect(graphs(page)).to_have_count(1)
    wait_until(lambda: surface_done(trained_server) > 0)
    page.goto("about:blank")  # a page that polls a dead server complains in its console
    for process in psutil.Process(trained_server.process.pid).children(recursive=True):
        process.kill()
    trained_server.process.kill()
    trained_server.process.wait()
    done = surface_done(trained_server)
    assert done > 0
    trained_server.start()
    page.goto(f"{trained_server.address}/surface?on=first@last&{LONG}&v.kind=heatmap")
    expect(page.locator("#surface-status .job-interrupted")).to_contain_text("what is done is kept")
    expect(graphs(page)).to_have_count(1)
    page.locator("#surface-status").get_by_role("button", name=re.compile("^Resume")).click()
    expect(page.locator("#surface-status .job-running")).to_be_visible()
    wait_until(lambda: surface_done(trained_server) > done)
    page.locator("#surface-status").get_by_role("button", name=re.compile("^Cancel")).click()
    expect(page.locator("#surface-status .job-cancelled")).to_be_visible()


def test_a_server_that_does_not_answer_is_told_and_forgotten_when_it_is_back(trained_server: Server, browser: Browser) -> None:
    page = browser.new_page()  # its console complains, as it should
    page.goto(f"{trained_server.address}/surface?on=first@last")
    expect(page.locator("#jobs-count")).to_have_text("Idle")
    expect(page.locator(".silence")).to_be_hidden()
    trained_server.process.kill()
    trained_server.process.wait()
    expect(page.locator(".silence")).to_contain_text("The server does not answer")
    expect(page.locator(".silence")).to_be_visible()
    trained_server.start(trained_server.address.rpartition(":")[2])
    expect(page.locator(".silence")).to_be_hidden()
    page.close()


@pytest.mark.fault(
    "The process that starts jobs is killed",
    sees="Nothing: what runs goes on and can be cancelled",
    lost="Nothing",
    on="Another is begun",
)
def test_the_process_that_starts_jobs_may_be_killed(trained_server: Server, open_page: Open) -> None:
    """What runs goes on and can be cancelled, and what is launched next runs."""
    page = open_page(f"{trained_server.address}/surface?on=first@last&{LONG}&v.kind=heatmap")
    compute(page)
    expect(page.locator("#surface-status .job-running")).to_contain_text("points")
    web = psutil.Process(trained_server.process.pid)
    (starter,) = [child for child in web.children() if "forkserver" in " ".join(child.cmdline())]
    starter.kill()
    before = surface_done(trained_server)
    wait_until(lambda: surface_done(trained_server) > before)
    page.locator("#surface-status").get_by_role("button", name=re.compile("^Cancel")).click()
    expect(page.locator("#surface-status .job-cancelled")).to_be_visible()
    page.goto(f"{trained_server.address}/surface?on=second@last&resolution=11&flow=0&v.kind=heatmap")
    compute(page)
    expect(graphs(page)).to_have_count(1)
    expect(page.locator("#surface-run")).to_have_text("Computed")
    assert "the process that starts jobs has died" in trained_server.log.read_text()
