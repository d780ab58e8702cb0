"""Every number with an error holds what benchmarks/coverage.py asks of it: in short of one network, at length of all five."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

from tests.conftest import LONG

ROOT = Path(__file__).parents[3]


def loaded():
    given = importlib.util.spec_from_file_location("coverage_of_errors", ROOT / "benchmarks" / "coverage.py")
    module = sys.modules[given.name] = importlib.util.module_from_spec(given)
    given.loader.exec_module(module)
    return module


coverage = loaded()
SEEDS = 200 if LONG else 24
PARTS = coverage.PARTS if LONG else (coverage.spectrum, coverage.library)


@pytest.fixture(scope="module", params=list(coverage.CASES) if LONG else ["relu"])
def found(request):
    return coverage.collected(coverage.Known(request.param), SEEDS, PARTS)


@pytest.mark.long
def test_errors_and_bounds_hold(found):
    table = coverage.rows("network", found)
    assert {"trace", "effective dimension", "participation", "density", "nullity, bounds"} <= {one.name for one in table}
    assert [fault for one in table for fault in one.faults()] == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["trace", "effective dimension", "participation", "density", "traces of the layers"])
def test_errors_that_are_too_small_or_leave_a_bias_out_are_found(found, name):
    """So that the check above can fail: the same numbers with 2/5 of their errors, or moved by two deviations."""
    narrow = [dataclasses.replace(one, error=0.4 * one.error) for one in found[name]]
    assert coverage.row("network", name, narrow).faults()
    moved = [dataclasses.replace(one, value=one.value + 2 * one.error) for one in found[name]]
    assert coverage.row("network", name, moved).faults()


@pytest.mark.long
def test_bounds_that_do_not_hold_are_found(found):
    tight = [dataclasses.replace(one, low=one.high - 1e-3) for one in found["nullity, bounds"]]
    assert coverage.row("network", "nullity", tight).faults()
