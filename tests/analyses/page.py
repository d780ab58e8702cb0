"""An analysis page as a person handles it, for the tests of every such page."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from landscape_core.jobs.requests import Request
from landscape_core.jobs.runner import run_all
from landscape_core.jobs.store import JobStore, JobView

from ..jobs import fakes
from ..serving import PATIENCE, Server


class AnalysisTests:
    """What the tests of the page of one analysis share; `counted` is what its cost line counts."""

    def __init__(self, name: str, counted: str):
        self.name, self.counted = name, counted

    def serve(self, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        """One server for all tests; they keep apart by asking different questions."""
        home = tmp_path_factory.mktemp(self.name) / "home"
        shutil.copytree(trained, home)
        server = Server(home)
        yield server
        server.stop()
        assert server.complaints() == []

    def cached(self, server: Server, *sources: str, **values: Any) -> list[str]:
        """Have results computed beforehand; their keys."""
        requests = [Request(self.name, source, values) for source in sources]
        run_all(requests, server.home)
        return [request.key(server.home) for request in requests]

    def plots(self, page: Page) -> Locator:
        return page.locator(f"#{self.name}-graphs .cell:not([hidden]) .js-plotly-plot")

    def caption(self, page: Page) -> Locator:
        """The line under the title of the first picture: it says whether the picture is finished."""
        return self.plots(page).first.locator(".g-gtitle")

    def run_button(self, page: Page) -> Locator:
        return page.locator(f"#{self.name}-run")

    def status(self, page: Page) -> Locator:
        return page.locator(f"#{self.name}-status .job").first

    def press_run(self, page: Page) -> None:
        expect(page.locator(f"#{self.name}-cost")).to_contain_text(self.counted)
        expect(self.run_button(page)).to_be_enabled()
        self.run_button(page).click()

    def job_of(self, server: Server, **values: Any) -> JobView:
        """The one job with these values."""
        views = JobStore(server.home).views()
        found = [view for view in views if view.kind == self.name and values.items() <= view.values.items()]
        assert len(found) == 1, found
        return found[0]


def wait_for(condition: Callable[[], Any]) -> None:
    fakes.wait_for(condition, PATIENCE / 1000)
