"""Traces, of blocks as well, with errors that can be believed."""

import numpy as np
import pytest
import torch

from landscape_core.linalg import Trace, dense_eigenpairs, estimated_trace
from landscape_core.specs import InputError

from .test_lanczos import Counted, rotated, tailed


def ran(operator, **options):
    found = Trace(operator, **options)
    for _ in found:
        pass
    return found


MATRIX = rotated(tailed(300))
TRACE = float(MATRIX.trace())
KNOWN = dense_eigenpairs(MATRIX, 9)[0]
WAYS = {
    "hutchinson": {"method": "hutchinson"},
    "deflated": {"method": "hutchinson", "known": (KNOWN.top, KNOWN.top_vectors)},
    "hutch++": {"method": "hutch++"},
    "xtrace": {"method": "xtrace"},
}


def test_the_variance_of_a_probe_is_hutchinsons():
    """2 sum_{i != j} H_ij^2."""
    found = ran(MATRIX, relative=0, max_products=2000, block=100)
    off = MATRIX - torch.diag(MATRIX.diagonal())
    assert found._samples.sum(1).var() == pytest.approx(2 * float(off.square().sum()), rel=0.15)


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_errors_are_as_stated(way, effort):
    """Over seeds: the root mean square of what it misses is the standard error, and no bias is left."""
    misses, stated, seeds = [], [], effort(40, 1000)
    for seed in range(seeds):
        found = ran(MATRIX, relative=0, max_products=48, seed=seed, **WAYS[way])
        assert found.products == 48
        misses.append(found.estimate - TRACE)
        stated.append(found.standard_error)
    spread = np.sqrt(np.mean(np.square(misses)))
    assert 0.5 * np.mean(stated) < spread < 1.8 * np.mean(stated)
    assert abs(np.mean(misses)) < 4 * np.std(misses) / seeds**0.5


@pytest.mark.parametrize(("way", "gain"), [("deflated", 4), ("hutch++", 2.5), ("xtrace", 3)])
def test_deflation_and_sketches_beat_plain_probes(way, gain):
    """At 60 products: 6.5, 3.5 and 4.4 times over many seeds. The plain spread is that of the formula."""
    off = MATRIX - torch.diag(MATRIX.diagonal())
    plain = (2 * float(off.square().sum()) / 60) ** 0.5
    found = [ran(MATRIX, relative=0, max_products=60, seed=seed, **WAYS[way]).estimate for seed in range(24)]
    assert np.sqrt(np.mean((np.array(found) - TRACE) ** 2)) < plain / gain


def test_it_stops_on_the_error_and_not_on_luck():
    """On a multiple of the identity two probes agree exactly: still min_probes are taken. Otherwise the error decides."""
    lucky = ran(torch.eye(50, dtype=torch.float64), relative=0.01, min_probes=8)
    assert (lucky.products, lucky.estimate, lucky.converged) == (8, 50.0, True)
    loose, tight = (ran(MATRIX, relative=r, max_products=5000, block=20) for r in (0.1, 0.03))
    assert loose.converged
    assert tight.converged
    assert tight.standard_error <= 0.03 * tight.estimate
    assert tight.products > 4 * loose.products
    short = ran(MATRIX, relative=1e-4, max_products=20)
    assert (short.converged, short.products) == (False, 20)


@pytest.mark.long
def test_where_it_stops_the_error_is_what_was_asked(effort):
    """With few probes the standard error is itself uncertain, and one looks until it is small."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(200, 200, generator=generator, dtype=torch.float64)
    matrix = root @ root.T / 200
    stopped = [ran(matrix, relative=0.03, seed=seed) for seed in range(effort(200, 2000))]
    misses = np.array([found.estimate for found in stopped]) - float(matrix.trace())
    assert all(found.converged for found in stopped)
    assert np.sqrt(np.mean(misses**2)) <= 1.05 * 0.03 * float(matrix.trace())
    assert (np.abs(misses) < 2 * 0.03 * float(matrix.trace())).mean() >= 0.93


WITH_PARTS = {
    "hutchinson": WAYS["hutchinson"],
    "deflated": WAYS["deflated"],
    "deflated by any basis": {
        "known": torch.linalg.qr(torch.randn(300, 12, generator=torch.Generator().manual_seed(3)).double())[0]
    },
    "hutch++": WAYS["hutch++"],
}


@pytest.mark.parametrize("way", WITH_PARTS)
def test_blocks_and_diagonal_are_those_of_the_matrix(way):
    found = ran(MATRIX, relative=0, max_products=390, block=50, segments=[50, 200, 50], **WITH_PARTS[way])
    exact = [float(MATRIX.diagonal()[a:b].sum()) for a, b in ((0, 50), (50, 250), (250, 300))]
    assert (np.abs(found.segments - exact) < 4 * found.segments_standard_error).all()
    assert found.segments.sum() == pytest.approx(found.estimate)
    assert abs(found.estimate - TRACE) < 4 * found.standard_error
    mean, error = found.diagonal
    assert (np.abs(mean - MATRIX.diagonal().numpy()) < 6 * error + 1e-9).all()


@pytest.mark.parametrize("way", [*WITH_PARTS, "xtrace"])
def test_what_was_killed_goes_on_with_no_product_twice(way):
    options = {"relative": 0, "max_products": 45} | (WITH_PARTS | WAYS)[way]
    whole = Trace(MATRIX, **options)
    for after in range(len([*whole]) + 1):
        first = Trace(MATRIX, **options)
        for _ in zip(range(after), first, strict=False):
            pass
        counted = Counted(MATRIX)
        second = ran(counted, **options, state=first.state())
        assert second.estimate == pytest.approx(whole.estimate, rel=1e-12)
        assert second.standard_error == pytest.approx(whole.standard_error, rel=1e-9)
        assert counted.products == whole.products - first.products


def test_what_sees_the_whole_space_is_exact_and_done():
    matrix = rotated([3.0, 1.0, 0.5, -2.0, 0.0, 0.0])
    for options in ({"method": "xtrace"}, {"method": "hutch++"}, {"known": torch.eye(6, dtype=torch.float64)}):
        found = ran(matrix, relative=0, max_products=100, **options)
        assert found.estimate == pytest.approx(2.5)
        assert found.converged
        assert found.products <= 12


def test_a_product_that_is_not_finite_is_said():
    for method in ("hutchinson", "hutch++", "xtrace"):
        with pytest.raises(InputError, match="not finite"):
            ran(torch.full((9, 9), torch.nan, dtype=torch.float64), method=method)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "luck"}, "hutchinson, hutch"),
        ({"segments": [3, 4]}, "add up to p = 300"),
        ({"method": "xtrace", "segments": [300]}, "segments go with"),
        ({"known": torch.eye(3)}, "known vectors must have shape"),
        ({"min_probes": 1}, "at least 2 probes"),
        ({"method": "xtrace", "known": (KNOWN.top, KNOWN.top_vectors)}, "known eigenpairs go with"),
    ],
)
def test_what_cannot_be_done_is_said(options, words):
    with pytest.raises(InputError, match=words):
        Trace(MATRIX, **options)


@pytest.mark.parametrize("way", WAYS)
def test_one_call_gives_the_trace(way):
    options = {"relative": 0.02, "max_products": 400, "seed": 3, **WAYS[way]}
    found = estimated_trace(MATRIX, **options)
    assert found.converged
    assert 0 < found.standard_error <= 0.02 * abs(found.estimate)
    assert abs(found.estimate - TRACE) <= 4 * found.standard_error
    assert found.products <= 400
    by_hand = ran(MATRIX, **options)
    assert (found.estimate, found.standard_error, found.products) == (
        by_hand.estimate,
        by_hand.standard_error,
        by_hand.products,
    )


def test_one_call_says_when_products_run_out():
    found = estimated_trace(MATRIX, relative=1e-9, max_products=5)
    assert (found.converged, found.products) == (False, 5)
    with pytest.raises(InputError, match="at least 2 probes"):
        estimated_trace(MATRIX, max_products=1)
