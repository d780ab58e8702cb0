"""What a person asked for last is what stands on the screen, however late the answers before it come."""

import json
from collections.abc import Callable
from urllib.request import urlopen

from playwright.sync_api import Page, Route, expect

from tests.serving import PATIENCE, Server


def test_no_callback_of_the_server_fills_the_matches_of_a_pattern(server_of_trained: Server) -> None:
    """Dash keeps an older answer, still under way, of a callback that fills several matches: it would come out on top."""
    with urlopen(f"{server_of_trained.address}/_dash-dependencies") as answer:
        made = json.load(answer)
    assert len(made) > 50
    assert [entry["output"] for entry in made if "ALL" in entry["output"] and not entry["clientside_function"]] == []


class Held:
    """The first request for an output waits until it is let go."""

    def __init__(self, page: Page, output: str):
        self.output, self.first, self.asked = output, None, 0
        page.route(lambda address: "_dash-update-component" in address, self._handle)

    def _handle(self, route: Route) -> None:
        if self.output in json.loads(route.request.post_data or "{}").get("output", ""):
            self.asked += 1
            if self.asked == 1:
                self.first = route
                return
        route.continue_()

    def wait(self, page: Page, asked: int) -> None:
        for _ in range(PATIENCE // 50):
            if self.asked >= asked:
                return
            page.wait_for_timeout(50)
        raise AssertionError("it was not asked for")

    def let_go(self, page: Page) -> None:
        assert self.first is not None
        with page.expect_response(lambda answer: answer.request == self.first.request):
            self.first.continue_()
        page.wait_for_timeout(300)  # whatever it would bring about


def test_a_link_followed_before_the_first_page_is_there(server_of_trained: Server, open_page: Callable[..., Page]) -> None:
    page = open_page("about:blank")
    held = Held(page, "content.children")
    page.goto(f"{server_of_trained.address}/?on=first@last")
    link = page.get_by_role("link", name="Hessian spectrum")
    expect(link).to_have_attribute("href", "/spectrum?on=first@last")
    link.click()
    title = page.get_by_role("heading", name="Hessian spectrum")
    expect(title).to_be_visible()
    held.let_go(page)
    expect(title).to_be_visible()
    expect(page.locator(".rail-here")).to_have_text("Hessian spectrum")
    expect(page.locator("#chips")).to_contain_text("first")
    assert page.url.endswith("/spectrum?on=first@last")


def test_cards_that_were_dark_for_a_moment(server_of_trained: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(server_of_trained.address)
    colors = "graphs => graphs.map(graph => graph._fullLayout.font.color)"
    curves = page.locator("#home-cards .js-plotly-plot")
    expect(curves).to_have_count(2)
    before = curves.evaluate_all(colors)
    held = Held(page, "home-cards.children")
    toggle = page.get_by_role("button", name="Light or dark")
    toggle.click()
    held.wait(page, 1)
    toggle.click()
    held.wait(page, 2)
    held.let_go(page)
    assert curves.evaluate_all(colors) == before
