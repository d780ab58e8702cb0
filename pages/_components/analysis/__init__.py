"""The page of an analysis, made from what the analysis declares: form, views, cost, jobs, pictures, readings, tables, files.

A module of `pages` that has more to show calls `add(name, extra=..., below=...)` and registers callbacks of its own; every
other listed analysis gets its page from `add_rest()`. Ids begin with its name; graphs are `{"graph": name, "index": i}`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from dash.development.base_component import Component

from landscape_core.analyses import ANALYSES

from ... import Page, register
from .callbacks import register_callbacks
from .layout import broken_layout, layout

log = logging.getLogger("landscape.pages")
Parts = Callable[[], Sequence[Component]]


def add(name: str, *, extra: Parts = tuple, below: Parts = tuple) -> None:
    """Register the page of an analysis and its callbacks, once. `extra` are components of its own under the pictures,
    `below` such that are there without a picture.
    """
    item = ANALYSES[name]
    build = partial(broken_layout, item) if item.problem else partial(layout, item, extra, below)
    if item.problem:
        log.warning("the analysis %s cannot be used: %s", name, item.problem)
    else:
        register_callbacks(item)
    register(Page(item.path, item.title, build, item.order, item.icon, item.question))


def add_rest(known: Sequence[str]) -> None:
    """The pages of all listed analyses but those at the `known` paths."""
    for item in ANALYSES.values():
        if item.listed and item.path not in known:
            add(item.name)
