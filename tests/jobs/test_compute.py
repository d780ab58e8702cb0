"""`compute`: what the pages and the command line would give, asked once, with every field of every Spec."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from landscape_core import InputError, Objective, compute
from landscape_core.analyses import ANALYSES
from landscape_core.checkpoints.runs import RunStore
from landscape_core.jobs import compute as module
from landscape_core.jobs.requests import Request
from landscape_core.jobs.runner import run_all
from landscape_core.specs import Spec

SPEC = {"resolution": 5, "flow": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    place = tmp_path_factory.mktemp("home")
    values = {"task": "blobs-mlp", "run": "run", "features": 2, "widths": [3], "steps": 4, "record": [0, 4], "device": "cpu"}
    run_all([Request("train", None, values)], place)
    return place


@pytest.fixture
def counted(monkeypatch):
    """How often a Spec of surfaces is parsed, a key made and run.json read."""
    counts = {"parses": 0, "keys": 0, "reads": 0}

    def count(owner, name, what, of=lambda _: True):
        real = getattr(owner, name)
        inner = getattr(real, "__func__", real)

        def counting(self, *args, **kwargs):
            counts[what] += of(self)
            return inner(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, classmethod(counting) if inner is not real else counting)

    count(Spec, "parse", "parses", lambda kind: kind is ANALYSES["surface"].spec)
    count(Request, "resolve", "keys")
    count(RunStore, "read", "reads")
    return counts


def test_a_request_is_resolved_once_and_looked_at_again_before_its_result_is_kept(home, counted):
    assert not compute("surface", "run@last", home=home, **SPEC).provenance["cached"]
    assert counted["parses"] <= 2
    assert counted["keys"] <= 3  # with the one of the measurement that tells its price
    assert counted["reads"] <= 3


def test_the_steps_of_a_path_belong_to_the_key_of_an_objective(tmp_path):
    torch.manual_seed(0)
    x, y = torch.randn(20, 2), torch.randint(0, 2, (20,))
    objective = Objective(torch.nn.Linear(2, 2), torch.nn.functional.cross_entropy, (x, y))
    thetas = objective.theta + torch.randn(4, 6)
    options = {"home": tmp_path, "cache_key": "mine", "directions": "pca", **SPEC}
    del options["device"]
    first, again, other = (
        compute("surface", objective, path=(steps, thetas), **options) for steps in ((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 300))
    )
    assert [found.provenance["cached"] for found in (first, again, other)] == [False, True, False]
    assert other["trajectory_steps"].tolist() == [0, 1, 2, 300]


def test_what_is_known_is_resolved_once(home, counted):
    compute("surface", "run@last", home=home, seed=1, **SPEC)
    counted.update(dict.fromkeys(counted, 0))
    assert compute("surface", "run@last", home=home, seed=1, **SPEC).provenance["cached"]
    assert counted == {"parses": 1, "keys": 1, "reads": 1}


@pytest.mark.parametrize("kind", ANALYSES)
def test_no_keyword_of_compute_hides_a_field(kind, tmp_path, monkeypatch):
    class Seen(Exception):
        pass

    def parse(values):
        raise Seen(values)

    fields = ANALYSES[kind].spec().model_dump()
    monkeypatch.setattr(module, "analysis", lambda _: SimpleNamespace(spec=SimpleNamespace(parse=parse)))
    with pytest.raises(Seen) as caught:
        compute(kind, "run@last", home=tmp_path, **fields)
    assert caught.value.args[0] == fields


def test_eigenvectors_are_kept_where_they_are_asked_for(home):
    found = compute("spectrum", "run@last", home=home, k=2, vectors=True, device="cpu")
    assert found["eigenvectors"].shape[1] == 2
    assert "eigenvectors" not in compute("spectrum", ["run@last"], home=home, k=2, vectors=False, device="cpu")[0]


def test_of_an_objective_a_plain_value_is_the_field_and_tensors_are_axes(tmp_path):
    torch.manual_seed(0)
    model, batch = torch.nn.Linear(2, 2), (torch.randn(8, 2), torch.randint(2, (8,)))
    objective = Objective(model, torch.nn.functional.cross_entropy, batch)
    found = compute("spectrum", objective, home=tmp_path, k=2, vectors=True)
    assert found["eigenvectors"].shape == (6, 2)
    axes = [torch.eye(6)[0], torch.eye(6)[1]]
    line = compute("surface", objective, home=tmp_path, directions="given", vectors=axes, resolution=5, flow=0)
    assert np.array_equal(line["direction_0"], axes[0].numpy())
    with pytest.raises(InputError, match="unknown field 'vectors'"):
        compute("surface", objective, home=tmp_path, vectors=True)


@pytest.mark.parametrize("vectors", ["many", 7])
def test_a_value_that_the_field_cannot_take_is_named(home, vectors):
    with pytest.raises(InputError, match="field 'vectors'"):
        compute("spectrum", "run@last", home=home, vectors=vectors)
    with pytest.raises(InputError, match="belong to an Objective"):
        compute("surface", "run@last", home=home, vectors=[torch.zeros(3)])
