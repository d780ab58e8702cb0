"""Things that are made once and shown to many."""

import pytest

from pages._components.kept import Kept


def test_a_thing_is_made_once_and_the_one_longest_unused_is_dropped() -> None:
    kept, made = Kept[str](2), []

    def get(name: str) -> str:
        return kept.get(name, lambda: made.append(name) or name.upper())

    assert [get(name) for name in "abab"] == list("ABAB")
    assert made == ["a", "b"]
    get("c")
    get("b")
    assert made == ["a", "b", "c"]
    get("a")
    assert made == ["a", "b", "c", "a"]


def test_what_could_not_be_made_is_tried_again() -> None:
    kept = Kept[int](2)
    with pytest.raises(ZeroDivisionError):
        kept.get("x", lambda: 1 // 0)
    assert kept.get("x", lambda: 1) == 1
