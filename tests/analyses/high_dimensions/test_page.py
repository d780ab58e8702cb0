"""The High dimensions page in a real browser: a run measured and read, the laws and the calculator without one."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from ...serving import Server
from ..page import AnalysisTests

PAGE = AnalysisTests("high_dimensions", "gradients")


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from PAGE.serve(trained, tmp_path_factory)


def test_a_run_is_measured_read_and_compared(server: Server, open_page: Callable[..., Page]) -> None:
    PAGE.cached(server, "second@60", curvature=2)
    page = open_page(f"{server.address}/high-dimensions?on=first@last&curvature=2")
    PAGE.press_run(page)
    expect(PAGE.run_button(page)).to_have_text("Computed")
    claims = page.locator("#high_dimensions-claims tbody")
    expect(claims).to_have_count(13)
    flat = claims.filter(has_text="The loss is flat in most directions")
    expect(flat).to_contain_text("Three-dimensional intuition: a landscape slopes or bends wherever one goes")
    expect(flat.locator("td").last).to_contain_text(re.compile("The claim (describes|does not describe) this run"))
    assert page.locator("#content").inner_text().count("almost perpendicular to the position") == 1  # each claim once
    expect(page.locator("#high_dimensions-reading")).to_contain_text("What this does not show")
    expect(PAGE.plots(page)).to_contain_text("gradient and position")
    page.goto(f"{server.address}/high-dimensions?on=first@last,second@last&curvature=2&v.kind=distances")
    expect(PAGE.plots(page)).to_have_count(2)
    expect(page.locator("#high_dimensions-claims thead th")).to_have_count(4)
    page.locator(".view-select input").first.click()
    page.get_by_role("option", name="Flat directions").click()
    expect(PAGE.plots(page).first).to_contain_text("negative eigenvalues")
    assert "v.kind=flat" in page.url


def test_laws_and_volumes_need_no_run(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/high-dimensions", color_scheme="dark")
    picture, volume = page.locator("#high_dimensions-law-picture"), page.locator("#high_dimensions-volume")
    expect(volume).to_contain_text("39,824,784")
    expect(volume).to_contain_text("418.33 km")
    expect(picture).to_contain_text("Angles in 1,000 dimensions")
    expect(picture.locator(".main-svg").first).to_have_css("background-color", "rgb(36, 36, 36)")
    slider = page.get_by_role("slider", name="Dimensions, as a power of ten")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(picture).to_contain_text("Angles in 3,162 dimensions")
    page.get_by_text("Corners", exact=True).click()
    expect(picture).to_contain_text("a corner")
    excess = page.get_by_role("textbox", name="Radius larger by the share")
    excess.fill("wide")
    expect(volume).to_contain_text("must be a number")
    excess.fill("1e-11")
    expect(volume).to_contain_text("5.7546")
