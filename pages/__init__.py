"""The pages: Home, and one for every listed analysis, made from its declaration; what they share is in `_components`.

A module here registers itself at import: Home, and what the page of an analysis has besides. `load()` imports them all.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dash.development.base_component import Component

if TYPE_CHECKING:  # components know the pages, so pages know of components no more than the type
    from ._components.shell.address import Query


@dataclass(frozen=True)
class Page:
    """One page: `layout(query)` builds it from what the address says."""

    path: str
    title: str
    layout: Callable[[Query], Component]
    order: int = 100
    icon: str = "page"  # a file of assets/icons, without its ending
    question: str = ""


PAGES: dict[str, Page] = {}


def register(page: Page) -> Page:
    """Make the page known under its path."""
    PAGES[page.path] = page
    return page


def load() -> list[Page]:
    """Import every page module and give the pages back in the order of the navigation."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    from ._components.analysis import add_rest

    add_rest(list(PAGES))
    return ordered()


def ordered() -> list[Page]:
    """The registered pages in the order of the navigation."""
    return sorted(PAGES.values(), key=lambda page: (page.order, page.path))
