"""What a person's visit asks of the server: the requests of a real browser, written down in the order in which it made them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

PATIENCE = 120_000  # milliseconds
LOOK = 5_000  # for which each page is looked at
CALLBACK = "/_dash-update-component"
FOLLOW = """address => {
    history.pushState({}, "", address);  // what a click on a link of the page does
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
}"""
GROWING = "/surface?on=wide@0,wide@last&resolution=151&flow=0"  # hours of work: it goes on while everything is measured


@dataclass
class Asked:
    """One request. `after` are the places, in its action, of those that had been answered when the browser made it."""

    method: str
    path: str
    body: dict[str, Any] | None
    after: list[int] = field(default_factory=list)
    kind: str = ""  # page, asset, pulse, draw, callback: known once it has been answered
    size: int = 0  # of the answer, in bytes
    pictures: int = 0  # in the answer

    @property
    def output(self) -> str:
        return str(self.body["output"]) if self.body else ""

    @property
    def changed(self) -> list[str]:
        return list(self.body["changedPropIds"]) if self.body else []

    @property
    def is_pulse(self) -> bool:
        return self.output.startswith("..pulse.data")

    @property
    def launches(self) -> bool:
        return '"launcher"' in self.output and '"keys"' in self.output

    @property
    def of_growth(self) -> bool:
        """Whether it draws what a job that runs has so far."""
        return any(value and value.get("running") for value in self._inputs("-want"))

    @property
    def follows_pulse(self) -> bool:
        return self.changed == ["pulse.data"]

    def _inputs(self, ending: str) -> list[Any]:
        found = [item for item in (self.body or {}).get("inputs", ()) if isinstance(item, dict)]
        return [item.get("value") for item in found if isinstance(item["id"], str) and item["id"].endswith(ending)]


@dataclass
class Action:
    """What a person does, what the browser asks for at once, and what it asks for as long as that page is looked at."""

    name: str
    asked: list[Asked]
    pulse: Asked
    followers: list[Asked]  # when the pulse brings something new
    growth: list[Asked]  # when it brings a new version of a picture that grows


@dataclass
class Visit:
    actions: list[Action]
    launches: list[Asked]  # how the page has its two jobs done


def recorded(address: str) -> Visit:
    """A visit by Chromium. It leaves two jobs running, which the visit looks at among other things."""
    with _chromium() as browser:
        # The jobs are begun first: what is recorded afterwards holds what follows from their news.
        made, _ = _listen(page := browser.new_page(), address)
        _compute(page, address)
        launches = [asked for asked in made if asked.launches and "calibration" not in asked.output]
        page.close()
        actions = []
        made, answered = _listen(page := browser.new_page(viewport={"width": 1280, "height": 720}), address)
        for name, act in ACTIONS.items():
            made.clear()
            answered.clear()
            act(page, address)
            page.wait_for_timeout(LOOK)
            while not _whole(made, answered):
                page.wait_for_timeout(100)
            actions.append(_action(name, list(made)))
    return Visit(actions, launches)


def _whole(made: list[Asked], answered: set[int]) -> bool:
    """Whether the page has polled and shown what was new, and waits for nothing."""
    return any(asked.is_pulse for asked in made) and any(asked.follows_pulse for asked in made) and len(answered) == len(made)


def _listen(page: Page, address: str) -> tuple[list[Asked], set[int]]:
    """What the page will have asked for, and the places of what has been answered."""
    made: list[Asked] = []
    answered: set[int] = set()
    asking: dict[Request, Asked] = {}

    def begun(request: Request) -> None:
        url = urlsplit(request.url)
        if not request.url.startswith(address) or "cacheKey=" in url.query:
            return  # waiting for the answer of a launch
        path = url.path if url.path == CALLBACK else f"{url.path}?{url.query}".removesuffix("?")
        body = json.loads(request.post_data) if request.post_data else None
        asking[request] = Asked(request.method, path, body, sorted(answered))
        made.append(asking[request])

    def ended(request: Request) -> None:
        asked = asking.pop(request, None)
        places = [place for place, other in enumerate(made) if other is asked]
        answered.update(places)

    page.set_default_timeout(PATIENCE)
    page.on("request", begun)
    page.on("requestfinished", ended)
    page.on("requestfailed", ended)
    return made, answered


def _action(name: str, made: list[Asked]) -> Action:
    pulses = [asked for asked in made if asked.is_pulse]
    # Launches are not repeated: two jobs run, whoever looks at them.
    live = [
        place for place, asked in enumerate(made) if asked.is_pulse or asked.launches or asked.follows_pulse or asked.of_growth
    ]
    kept = [place for place in range(len(made)) if place not in live]
    for place in kept:
        made[place].after = [kept.index(before) for before in made[place].after if before in kept]
    by_output = {asked.output: asked for asked in made if "pulse.data" in asked.changed}
    growth = {asked.output: asked for asked in made if asked.of_growth}
    return Action(name, [made[place] for place in kept], pulses[-1], list(by_output.values()), list(growth.values()))


def _follow(path: str, there: str) -> Callable[[Page, str], None]:
    def act(page: Page, address: str) -> None:
        del address
        page.evaluate(FOLLOW, path)
        expect(page.locator(there).first).to_be_visible(timeout=PATIENCE)

    return act


def _open(page: Page, address: str) -> None:
    page.goto(f"{address}/")
    expect(page.locator("#home-cards .card-thumbnail .main-svg").first).to_be_visible(timeout=PATIENCE)


def _compute(page: Page, address: str) -> None:
    page.goto(address + GROWING)
    expect(page.locator("#surface-run")).to_be_enabled(timeout=PATIENCE)
    page.locator("#surface-run").click()
    expect(page.locator("#surface-graphs .cell:not([hidden])")).to_have_count(2, timeout=PATIENCE)


def _contours(page: Page, _: str) -> None:
    page.get_by_text("Contour", exact=True).click()
    expect(page.locator("#surface-graphs .contourlayer").first).to_be_visible(timeout=PATIENCE)


def _resolution(page: Page, _: str) -> None:
    page.get_by_role("textbox", name="Resolution (points)").fill("21")
    expect(page.locator("#surface-run")).to_have_text("Computed", timeout=PATIENCE)


def _second(page: Page, _: str) -> None:
    page.get_by_role("button", name="Add a checkpoint to the selection").click()
    page.locator(".offer", has_text="second").click()
    expect(page.locator("#surface-graphs .cell:not([hidden])")).to_have_count(2, timeout=PATIENCE)


def _law(page: Page, _: str) -> None:
    page.get_by_role("slider", name="Dimensions, as a power of ten").press("ArrowRight")


PLOT = ".cell:not([hidden]) .js-plotly-plot"
ACTIONS: dict[str, Callable[[Page, str], None]] = {
    "open Home": _open,
    "look at two jobs": _follow(GROWING, PLOT),
    "surface": _follow("/surface?on=first@last", PLOT),
    "surface as contours": _contours,
    "another resolution": _resolution,
    "add a checkpoint": _second,
    "spectrum": _follow("/spectrum?on=first@last", PLOT),
    "overlap": _follow("/overlap?on=first@last", PLOT),
    "high dimensions": _follow("/high-dimensions?on=first@last&curvature=0", PLOT),
    "move the slider of a law": _law,
    "Home": _follow("/", "#home-cards .card-thumbnail"),
}


@contextmanager
def _chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("this benchmark needs Chromium (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
