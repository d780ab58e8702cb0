"""One speller for all numbers that people read."""

import numpy as np
import pytest

from landscape_core.drawing.known import scalar
from landscape_core.drawing.numbers import counted, number, percent, percents, plus_minus


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (150.0, "150"),
        (0.0123456, "0.0123"),
        (0.00012345, "0.000123"),
        (99.97, "100"),
        (0.1, "0.1"),
        (2.6e9, "2.6e9"),
        (1.23456e6, "1.23e6"),
        (1e-6, "1e−6"),
        (1e-7, "1e−7"),
        (-2.5e-7, "−2.5e−7"),
        (1999.6, "2,000"),
        (12345.6, "12,346"),
        (-250000.0, "−250,000"),
        (1681, "1,681"),
        (1234567, "1,234,567"),
        (175_000_000_000, "175,000,000,000"),
        (np.int64(-3), "−3"),
        (float("inf"), "∞"),
        (-float("inf"), "−∞"),
        (float("nan"), "not a number"),
    ],
)
def test_numbers_for_people(value, text):
    assert number(value) == text


def test_more_digits_of_a_number_are_spelled_alike():
    assert [number(1234.5678, digits) for digits in (2, 4, 6)] == ["1,235", "1,235", "1,234.57"]
    assert [number(0.123456, digits) for digits in (1, 4)] == ["0.1", "0.1235"]
    assert number(12345.6, 4) == number(12345.6)  # the table and the reading


def test_a_count_of_a_result_stays_a_count():
    assert number(scalar({"products": np.array(1234567)}, "products") or 0) == "1,234,567"
    assert scalar({"loss": np.array(np.nan)}, "loss") is None
    assert scalar({"loss": np.zeros(2)}, "loss") is None


def test_rounding_is_no_number_of_a_share():
    spelled = [percent(share) for share in (0.1234, 3.7e-16, -1e-17, 2e-9, 1.0, -0.5, float("nan"))]
    assert spelled == ["12.3 %", "0 %", "0 %", "2e−7 %", "100 %", "−50 %", "unknown"]
    assert percents(0.9999999, 1.0) == "100 %"
    assert percents(0.2, 0.3) == "20 % to 30 %"
    assert [counted(1, "sample"), counted(1437, "sample")] == ["1 sample", "1,437 samples"]


def test_an_error_of_rounding_size_is_not_spelled():
    assert plus_minus(0.25, 3) == " ± 0.25"
    assert [plus_minus(error, 100.0) for error in (None, 0.0, 3.7e-14, float("nan"), float("inf"))] == [""] * 5
