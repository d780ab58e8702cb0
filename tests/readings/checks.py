"""What is held of every odd situation; a module for each group, so that they may be shared out over processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .known import KNOWN, UNSTEADY
from .odd import GROUPS, Odd
from .rules import faults
from .texts import answer, kept, place, questions, steady


def situations(group: str) -> Any:
    """A test for each situation of the group."""
    return pytest.mark.parametrize("odd", [pytest.param(odd, id=odd.name) for odd in GROUPS[group]])


def found(odd: Odd) -> list[tuple[str, str]]:
    """(analysis, fault), for each fault of each answer."""
    return [(kind, fault) for kind, form in questions() for fault in faults(odd, kind, form, answer(odd.name, kind, form))]


def check_sentences(odd: Odd, group: str) -> None:
    """Nothing is said that is not so, and what must be said is."""
    known = KNOWN.get(group, set())
    wrong = [
        f"{kind}/{form}: {fault}"
        for kind, form in questions()
        for fault in faults(odd, kind, form, answer(odd.name, kind, form))
        if (kind, fault) not in known
    ]
    assert not wrong, "\n".join([odd.truth, *wrong])


def check_known(group: str) -> None:
    """A known fault that is mended leaves the list."""
    there = {item for odd in GROUPS[group] for item in found(odd)}
    assert KNOWN.get(group, set()) - UNSTEADY <= there


def check_text(odd: Odd) -> None:
    """The text that is kept is what is said, but for numbers. `python -m tests.readings.write` writes it anew."""
    for kind in dict.fromkeys(kind for kind, _ in questions()):
        now, then = (steady(text, odd.name, kind) for text in (kept(odd.name, kind), place(odd.name, kind).read_text()))
        assert now == then, kind


def of_group(group: str) -> tuple[Callable[[Odd], None], Callable[[Odd], None], Callable[[], None]]:
    """The tests of a group."""

    @situations(group)
    def sentences(odd: Odd) -> None:
        check_sentences(odd, group)

    @situations(group)
    def text(odd: Odd) -> None:
        check_text(odd)

    def known() -> None:
        check_known(group)

    return sentences, text, known
