"""The table of faults says what the tests do."""

from ..faults import FILE, faults, text


def test_the_table_is_what_the_tests_say():
    assert FILE.read_text() == text(), "python -m tests.faults writes it"
    assert len({item.fault for item in faults()}) == len(faults()) >= 25
