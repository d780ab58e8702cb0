"""Traces, of blocks as well, with errors that can be believed."""

import numpy as np
import pytest
import torch

from landscape_core.linalg import Trace, dense_eigenpairs
from landscape_core.specs import InputError

from .test_linalg_lanczos import Counted, rotated, tailed


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


@pytest.mark.parametrize("way", WAYS)
def test_errors_are_as_stated(way):
    """Over seeds: the root mean square of what it misses is the standard error, and no bias is left."""
    misses, stated = [], []
    for seed in range(40):
        found = ran(MATRIX, relative=0, max_products=48, seed=seed, **WAYS[way])
        assert found.products == 48
        misses.append(found.estimate - TRACE)
        stated.append(found.standard_error)
    spread = np.sqrt(np.mean(np.square(misses)))
    assert 0.5 * np.mean(stated) < spread < 1.8 * np.mean(stated)
    assert abs(np.mean(misses)) < 4 * np.std(misses) / 40**0.5


def test_deflation_and_sketches_beat_plain_probes():
    def spread(way):
        found = [ran(MATRIX, relative=0, max_products=60, seed=seed, **WAYS[way]).estimate for seed in range(12)]
        return np.sqrt(np.mean((np.array(found) - TRACE) ** 2))

    plain = spread("hutchinson")
    assert all(spread(way) < plain / 3 for way in ("deflated", "hutch++", "xtrace"))


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


@pytest.mark.parametrize("way", ["hutchinson", "deflated"])
def test_blocks_and_diagonal_are_those_of_the_matrix(way):
    found = ran(MATRIX, relative=0, max_products=400, block=50, segments=[50, 200, 50], **WAYS[way])
    exact = [float(MATRIX.diagonal()[a:b].sum()) for a, b in ((0, 50), (50, 250), (250, 300))]
    assert (np.abs(found.segments - exact) < 4 * found.segments_standard_error).all()
    assert found.segments.sum() == pytest.approx(found.estimate)
    mean, error = found.diagonal
    assert (np.abs(mean - MATRIX.diagonal().numpy()) < 6 * error + 1e-9).all()


def test_what_was_killed_goes_on():
    whole = ran(MATRIX, relative=0, max_products=30)
    first = Trace(MATRIX, relative=0, max_products=30)
    for _, _ in zip(range(11), first, strict=False):
        pass
    counted = Counted(MATRIX)
    second = ran(counted, relative=0, max_products=30, state=first.state())
    assert second.estimate == pytest.approx(whole.estimate, rel=1e-12)
    assert counted.products == 19


def test_xtrace_may_see_the_whole_space():
    matrix = rotated([3.0, 1.0, 0.5, -2.0, 0.0, 0.0])
    assert ran(matrix, method="xtrace", relative=0, max_products=100).estimate == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "luck"}, "hutchinson, hutch"),
        ({"segments": [3, 4]}, "add up to p = 300"),
        ({"min_probes": 1}, "at least 2 probes"),
        ({"method": "xtrace", "known": (KNOWN.top, KNOWN.top_vectors)}, "known eigenpairs go with"),
    ],
)
def test_what_cannot_be_done_is_said(options, words):
    with pytest.raises(InputError, match=words):
        Trace(MATRIX, **options)
