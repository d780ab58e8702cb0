import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from landscape_core.checkpoints.home import home_directory, write_atomically
from landscape_core.checkpoints.runs import RunStore, metric_columns
from landscape_core.checkpoints.weights import fingerprint, load_weights, match_state, save_weights
from landscape_core.specs import CheckpointRecord, InputError, RunRecord


def record(name="a", created="2024-01-01T00:00:00+00:00", steps=(0, 10)):
    items = tuple(
        CheckpointRecord(
            step=s, file=f"checkpoints/{s:08d}.safetensors", fingerprint="f", metrics={"train_loss": 1.0 / (s + 1)}
        )
        for s in steps
    )
    return RunRecord(
        name=name, task="digits-mlp", arguments={}, training=None, created=created, parameters=3,
        data={"train": "x", "test": "y"}, sizes={"train": 2, "test": 1}, checkpoints=items,
    )  # fmt: skip


# -- home -------------------------------------------------------------------------------------------------------------


def test_home_is_made_private_and_follows_argument_then_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LANDSCAPE_HOME", str(tmp_path / "env"))
    assert home_directory() == tmp_path / "env"
    made = home_directory(tmp_path / "deep" / "own")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    monkeypatch.delenv("LANDSCAPE_HOME")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="LANDSCAPE_HOME"):
        home_directory(tmp_path / "file")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    file = tmp_path / "a"
    write_atomically(file, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*a: No space left on device"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_home_and_runs_never_import_torch():
    code = (
        "import sys; import landscape_core.checkpoints.home, landscape_core.checkpoints.runs; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- runs -------------------------------------------------------------------------------------------------------------


def test_runs_are_listed_oldest_first_and_resolved(tmp_path):
    store = RunStore(tmp_path)
    assert store.names() == []
    store.write(record("new", "2024-02-02T00:00:00+00:00"))
    store.write(record("old", "2024-01-01T00:00:00+00:00"))
    assert store.names() == ["old", "new"]
    assert store.exists("old")
    assert not store.exists("other")
    assert store.read("old") == record("old")
    assert [store.resolve(text)[1].step for text in ("old", "old@last", "old@0", "old@10")] == [10, 10, 0, 10]
    with pytest.raises(InputError, match="no checkpoint at step 3; the nearest is 0, the last 10"):
        store.resolve("old@3")


def test_a_growing_run_is_read_afresh(tmp_path):
    store = RunStore(tmp_path)
    for n in range(1, 30):
        store.write(record(steps=range(n)))
        assert len(RunStore(tmp_path).read("a").checkpoints) == n
    assert metric_columns(store.read("a"))["train_loss"][1] == 0.5


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".hidden", "a@1", "x" * 65, "a\n"])
def test_names_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(InputError):
        RunStore(tmp_path).folder(name)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"format": 2}'])
def test_a_damaged_run_is_one_line_and_does_not_hide_others(tmp_path, content):
    store = RunStore(tmp_path)
    store.write(record("good"))
    store.write(record("bad"))
    (store.folder("bad") / "run.json").write_bytes(content)
    with pytest.raises(InputError, match="run 'bad' is damaged") as error:
        store.read("bad")
    assert "\n" not in str(error.value)
    assert sorted(store.names()) == ["bad", "good"]
    store.delete("bad")
    assert store.names() == ["good"]


def test_delete_removes_all_and_refuses_a_run_being_written(tmp_path):
    store = RunStore(tmp_path)
    with pytest.raises(InputError, match="there is no run 'a'; there is no run yet"):
        store.delete("a")
    store.write(record())
    with store.take("a"), pytest.raises(InputError, match="being written by another process"):
        RunStore(tmp_path).delete("a")
    store.delete("a")
    assert not store.folder("a").exists()


# -- weights ----------------------------------------------------------------------------------------------------------


def test_weights_round_trip_with_a_fingerprint_of_their_own(tmp_path):
    tensors = {"b": torch.randn(3, 4), "a": torch.tensor(7), "h": torch.ones(2, dtype=torch.bfloat16), "e": torch.zeros(0, 3)}
    tensors["tied"] = tensors["b"]
    tensors["turned"] = torch.randn(3, 5).T
    mark = save_weights(tmp_path / "w.safetensors", tensors)
    back = load_weights(tmp_path / "w.safetensors", mark)
    assert list(back) == sorted(tensors)
    assert all(torch.equal(back[name], value) for name, value in tensors.items())
    assert fingerprint(dict(reversed(tensors.items()))) == mark == fingerprint(back)
    for other in (
        {**tensors, "b": tensors["b"] + 1e-6},
        {**tensors, "b": tensors["b"].double()},
        {**tensors, "b": tensors["b"].reshape(4, 3)},
        {("c" if name == "b" else name): value for name, value in tensors.items()},
    ):
        assert fingerprint(other) != mark


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_truncated_weights_are_refused_in_one_line(tmp_path, keep):
    file = tmp_path / "w.safetensors"
    save_weights(file, {"a": torch.randn(50)})
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"w.safetensors is truncated or not a safetensors file") as error:
        load_weights(file)
    assert "\n" not in str(error.value)


def test_changed_and_missing_weights_are_refused(tmp_path):
    file = tmp_path / "w.safetensors"
    mark = save_weights(file, {"a": torch.zeros(50)})
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match="not what was recorded"):
        load_weights(file, mark)
    with pytest.raises(InputError, match="No such file"):
        load_weights(tmp_path / "none")


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "model._orig_mod.", "module.model."])
def test_prefixes_are_understood(prefix):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    given = {prefix + name: value for name, value in model.state_dict().items() if "num_batches" not in name}
    assert list(match_state(given, model, "f")) == list(model.state_dict())


def test_all_that_does_not_fit_is_listed_in_one_line():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    state = model.state_dict()
    given = {"0.weight": torch.zeros(5, 5), "1.weight": state["1.weight"], "1.bias": state["1.bias"], "extra": torch.zeros(1)}
    with pytest.raises(InputError) as error:
        match_state(given, model, Path("w.pt"))
    assert str(error.value) == (
        "w.pt does not fit the network: missing 0.bias; unexpected extra; mis-shaped 0.weight (5, 5) instead of (3, 2)"
    )
    with pytest.raises(InputError, match="both stand for"):
        match_state({**state, "module.0.bias": state["0.bias"]}, model, "f")
    many = {f"k{i}": torch.zeros(1) for i in range(20)}
    with pytest.raises(InputError, match="and 14 more"):
        match_state(many, model, "f")
