"""One speller for all numbers that people read."""

import pytest

from landscape_core.drawing.numbers import number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (150.0, "150"),
        (0.0123456, "0.0123"),
        (2.6e9, "2.6e9"),
        (1e-6, "1e-6"),
        (1999.6, "2000"),
        (-250000, "−250,000"),
    ],
)
def test_numbers_for_people(value, text):
    assert number(value) == text
