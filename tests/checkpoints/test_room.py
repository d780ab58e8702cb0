"""What does not fit is refused before it starts, with what to make smaller."""

import collections

import pytest

from landscape_core.checkpoints import room
from landscape_core.checkpoints.runs import RunStore
from landscape_core.specs import InputError, training_spec
from landscape_core.tasks import train

Disk = collections.namedtuple("Disk", "total used free")  # as shutil has it


def begin(home, **values):
    next(train(training_spec("digits-mlp", "r", widths=[100], **values), home))


@pytest.mark.fault(
    "Checkpoints are asked for that do not fit the disk",
    sees="failed: so many checkpoints need so many GB, and so many are free",
    lost="Nothing",
    on="Record fewer",
)
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 2000, "record": list(range(2000))}, "2,001 checkpoints of 7,510 parameters need 60 MB, and 45 MB are free"),
        ({"steps": 2000, "record": list(range(2000)), "dtype": "float64"}, "need 120 MB"),
    ],
)
def test_checkpoints_that_do_not_fit_the_disk(tmp_path, monkeypatch, values, words):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: Disk(10**9, 10**9 - 5 * 10**7, 5 * 10**7))
    with pytest.raises(InputError, match=f"{words}.*record fewer"):
        begin(tmp_path, **values)
    assert RunStore(tmp_path).names() == []
    begin(tmp_path, steps=2000)  # about 40


@pytest.mark.parametrize(("optimizer", "needs"), [("sgd", "90 kB"), ("adam", "150 kB")])
def test_weights_that_do_not_fit_the_memory(tmp_path, monkeypatch, optimizer, needs):
    monkeypatch.setattr(room, "free_memory", lambda: 80_000)
    with pytest.raises(InputError, match=f"7,510 parameters need {needs} of memory to be trained, and 72 kB are free"):
        begin(tmp_path, optimizer=optimizer, steps=2)
    assert RunStore(tmp_path).names() == []
    monkeypatch.setattr(room, "free_memory", lambda: 10**9)
    begin(tmp_path, optimizer=optimizer, steps=2)


def test_a_container_has_less_than_its_machine(tmp_path, monkeypatch):
    alone = room.free_memory()
    assert alone > 0
    monkeypatch.setattr(room, "GROUPS", tmp_path)
    whole = room.free_memory()
    for limit, used, files, free in (("1000", "400", "100", 700), ("max", "400", "100", None), ("1000", "1500", "0", 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
        (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {files}\n")
        assert room.free_memory() == (free if free is not None else pytest.approx(whole, rel=0.2))


@pytest.mark.parametrize("widths", [[0], [-5], [10**12], [64, 0]])
def test_widths_are_bounded_where_they_are_typed(widths):
    with pytest.raises(InputError, match="field 'widths': must be"):
        training_spec("digits-mlp", "r", widths=widths)
