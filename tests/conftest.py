"""What all tests share."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, sync_playwright

from .serving import open_page, server_of_trained, start_server, trained, trained_server

__all__ = ["open_page", "server_of_trained", "start_server", "trained", "trained_server"]  # fixtures
BROWSER = ("/test_page.py", "/test_forkserver.py")  # modules that open pages or start servers

# Small networks on two threads mostly wait for each other, above all beside browsers and job processes on two cores. Tests of
# threads set their number themselves.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A mistake in a fast form must not hide behind the plain path that serves instead.
os.environ.setdefault("LANDSCAPE_STRICT", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Over several processes a module stays together, and one process has all that needs the browser: two would starve."""
    from xdist.scheduler import LoadScopeScheduling

    class Shares(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return "browser" if module.endswith(BROWSER) or module.startswith("tests/pages/") else module

    return Shares(config, log)


# What hypothesis makes up: a hundred inputs in make test, a flood of them in make test-long.
LONG = bool(os.environ.get("LANDSCAPE_LONG"))
settings.register_profile("short", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("short"), max_examples=20_000)
settings.load_profile("long" if LONG else "short")


@pytest.fixture(scope="session")
def effort() -> Callable[[int, int], int]:
    """`effort(short, long)`: how often something is tried, by what is being run."""
    return lambda short, long: long if LONG else short


@pytest.fixture(autouse=True)
def lenient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests marked foreign pass over what their models and losses raise, as the program does."""
    if request.node.get_closest_marker("foreign"):
        monkeypatch.delenv("LANDSCAPE_STRICT")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("the browser tests need Chromium (Debian: apt-get install chromium)")
        pytest.skip("the browser tests need Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
