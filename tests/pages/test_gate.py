"""What the browser asks to have drawn: `wanted` alone with states and pulses as the server sends them, and a job that ends
while the layout of its page is on its way.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Browser, Page, Route, expect

from ..analyses.page import AnalysisTests, wait_for
from ..serving import ROOT, Server

PAGE = AnalysisTests("surface", "points")
ASK = """([pulse, state, about, dark]) => {
    const want = dash_clientside.landscape.wanted(pulse, state, {}, dark, false, about);
    return want === dash_clientside.no_update ? null : want.versions;
}"""


@pytest.fixture
def asked(browser: Browser) -> Iterator[Callable[..., Any]]:
    """The versions that are asked for on one page: `asked({key: state of its job}, keys that the layout drew finished)`."""
    page = browser.new_page()
    page.evaluate("window.dash_clientside = {no_update: 'nothing', set_props() {}, landscape: {camera: () => null}}")
    for name in ("gate.js", "page.js"):
        page.add_script_tag(path=ROOT / "assets" / name)

    def ask(jobs: dict[str, str], done: tuple[str, ...] = (), keys: tuple[str, ...] = ("a",), dark: bool = False) -> Any:
        items = [{"text": key, "label": key, "key": key, "problem": ""} for key in keys]
        about = {"visit": "1", "name": "surface", "done": list(done), "dark": False, "present": False, "opened": "9"}
        pulse = {"jobs": {key: {"state": state, "version": 3} for key, state in jobs.items()}}
        return page.evaluate(ASK, [pulse, {"items": items, "error": ""}, about, dark])

    yield ask
    page.close()


def test_a_job_that_ended_after_the_layout_was_made_is_drawn(asked: Callable[..., Any]) -> None:
    assert asked({"a": "done"}) == ["done"]
    assert asked({"a": "done"}) is None  # once


def test_what_the_layout_drew_whole_is_not_drawn_again(asked: Callable[..., Any]) -> None:
    assert asked({}, done=("a",)) is None
    assert asked({"a": "done"}, done=("a",)) is None


def test_what_the_layout_knew_nothing_of_waits_for_the_poll(asked: Callable[..., Any]) -> None:
    assert asked({}) is None
    assert asked({"a": "done"}) == ["done"]


@pytest.mark.parametrize("state", ["running", "queued", "cancelled", "interrupted", "failed"])
def test_a_part_is_followed_to_its_end(state: str, asked: Callable[..., Any]) -> None:
    assert asked({"a": state}) == [3]
    assert asked({"a": "done"}) is None  # the first is still being drawn: asked for when its answer is there


def test_one_of_two_ends_after_the_layout(asked: Callable[..., Any]) -> None:
    assert asked({"a": "done", "b": "done"}, done=("a",), keys=("a", "b")) == ["done", "done"]


def test_one_of_two_is_not_in_the_poll(asked: Callable[..., Any]) -> None:
    assert asked({"b": "done"}, done=("a", "b"), keys=("a", "b")) is None
    assert asked({"b": "done"}, done=("a", "b"), keys=("a", "b"), dark=True) == ["done", "done"]


def test_one_of_two_that_the_poll_does_not_know_yet(asked: Callable[..., Any]) -> None:
    assert asked({"b": "done"}, done=("a",), keys=("a", "b")) == ["done", "done"]


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from PAGE.serve(trained, tmp_path_factory)


def test_a_job_ends_while_its_page_is_on_its_way(server: Server, open_page: Callable[..., Page]) -> None:
    """The poll knows the end when the layout, which knows a part, arrives."""
    page = open_page(f"{server.address}/surface?on=first@last&resolution=201&flow=0&v.kind=heatmap")
    PAGE.press_run(page)
    expect(PAGE.caption(page)).to_contain_text("Approximate")
    page.locator("a.rail-link", has_text="Home").click()
    expect(page.locator("#surface-page")).to_have_count(0)
    held: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        asked = json.loads(route.request.post_data or "{}")
        if asked.get("output", "").startswith("..content.children"):
            held.append((route, route.fetch()))
        else:
            route.continue_()

    page.route("**/_dash-update-component?*", hold)
    page.go_back()
    wait_for(lambda: page.wait_for_timeout(50) or held)
    route, layout = held[0]
    assert "Approximate" in layout.text()
    wait_for(lambda: PAGE.job_of(server, resolution=201).state == "done")
    expect(page.locator("#jobs-count")).to_have_text("Idle")
    route.fulfill(response=layout)
    expect(PAGE.run_button(page)).to_have_text("Computed")
    expect(PAGE.caption(page)).not_to_contain_text("Approximate")
    expect(page.locator("#surface-reading")).to_contain_text("Gradient in the picture")
    page.unroute_all(behavior="wait")
