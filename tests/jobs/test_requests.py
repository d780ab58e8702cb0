"""Keys: equal where the same numbers would come out, other wherever anything that decides them is."""

import dataclasses

import pytest

from landscape_core.analyses import ANALYSES
from landscape_core.checkpoints.runs import RunStore
from landscape_core.jobs.requests import Request
from landscape_core.specs import InputError

from .fakes import request, write_run


@pytest.fixture
def home(tmp_path):
    write_run(tmp_path)
    return tmp_path


def rewrite(home, **changes):
    runs = RunStore(home)
    runs.write(runs.read("digits").model_copy(update=changes))


def test_one_text_and_one_key_for_one_request(home):
    first = Request("surface", "digits@last", {"seed": 1, "resolution": 11})
    second = Request("surface", "digits@10", {"resolution": 11, "seed": 1, "extent": None})
    assert Request.from_json(first.to_json()) == first
    assert first.key(home) == second.key(home) == Request("surface", "digits", first.values).key(home)
    assert len(first.key(home)) == 32
    assert int(first.key(home), 16) >= 0


def test_a_field_or_a_checkpoint_that_differs_gives_another_key(home):
    others = [request(1), request(resolution=11), dataclasses.replace(request(), source="digits@0")]
    assert len({item.key(home) for item in [request(), *others]}) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": {"activation": "tanh"}},
        {"arguments": {"loss": "squared-error"}},
        {"dtype": "float64"},
        {"data": {"train": "c" * 64, "test": "b" * 64}},
    ],
)
def test_what_decides_the_loss_is_in_the_key_though_the_weights_are_the_same(home, changes):
    before = request().key(home)
    rewrite(home, **changes)
    assert request().key(home) != before


def test_only_the_samples_that_are_used_are_in_the_key(home):
    plain, tested, batch = request(), request(test=True), request(batchnorm="batch")
    before = [item.key(home) for item in (plain, tested, batch)]
    rewrite(home, data={"train": "a" * 64, "test": "c" * 64})
    after = [item.key(home) for item in (plain, tested, batch)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, False]


def test_a_raised_version_gives_another_key(home, monkeypatch):
    before = request().key(home)
    monkeypatch.setitem(ANALYSES, "surface", dataclasses.replace(ANALYSES["surface"], version=99))
    assert request().key(home) != before


def test_other_checkpoints_and_whole_runs_are_in_the_key(home):
    write_run(home, "other")
    apart = request(directions="difference", through=["other@0"])
    own, projected = request(directions="pca"), request(trajectory="other")
    plain = request(directions="gradient")
    before = [item.key(home) for item in (apart, own, projected, plain)]
    write_run(home, "other", (0, 10, 20))
    assert [a == b.key(home) for a, b in zip(before, (apart, own, projected, plain), strict=True)] == [True, True, False, True]
    record = RunStore(home).read("digits")
    first = record.checkpoints[0].model_copy(update={"fingerprint": "changed"})
    rewrite(home, checkpoints=(first, record.checkpoints[1]))
    assert own.key(home) != before[1]
    assert plain.key(home) == before[3]


def test_the_contents_of_a_named_file_are_in_the_key(home):
    file = home / "directions.npz"
    file.write_bytes(b"one")
    given = request(directions="given", given=str(file))
    before = given.key(home)
    file.write_bytes(b"two")
    assert given.key(home) != before
    file.unlink()
    with pytest.raises(InputError, match=r"field 'given': cannot read .*directions\.npz"):
        given.key(home)


def test_a_browser_cannot_name_files(home):
    text = request(directions="given", given="/etc/passwd").to_json()
    assert Request.from_json(text).spec()
    with pytest.raises(InputError, match="given"):
        Request.from_json(text, remote=True)
    with pytest.raises(InputError, match="path"):
        Request.from_json(Request("train", None, {"task": "npz-mlp", "run": "r", "path": "/etc"}).to_json(), remote=True)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (Request("surfaces", "digits", {}), "did you mean 'surface'"),
        (Request("surface", None, {}), "needs a checkpoint"),
        (Request("surface", "digts", {}), "did you mean 'digits'"),
        (Request("surface", "digits@3", {}), "no checkpoint at step 3"),
        (Request("surface", "digits", {"resolution": 10**6}), "resolution"),
        (Request("surface", "digits", {"trajectory": "none"}), "no run 'none'"),
        (Request("train", None, {"task": "digits-mlp"}), "field 'run'"),
        (Request("train", None, {"run": "a", "task": "digits"}), "unknown task"),
    ],
)
def test_bad_requests_are_refused_in_one_line(home, item, words):
    with pytest.raises(InputError, match=words) as caught:
        item.key(home)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": 1, "source": null, "values": {}}', '"a"'])
def test_a_damaged_text_is_no_request(text):
    with pytest.raises(InputError, match="a request is JSON"):
        Request.from_json(text)


def test_titles(home):
    assert request().pinned(home).title == "Loss surface of digits@10"
    assert Request("train", None, {"task": "digits-mlp", "run": "mine"}).title == "Train mine (digits-mlp)"
