import pytest

from landscape_core.checkpoints.runs import RunStore, metric_columns
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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"format": 1}', b'{"format": "x"}'])
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


def test_a_run_of_a_newer_version_is_said_to_be_newer(tmp_path):
    store = RunStore(tmp_path)
    store.write(record("other"))
    (tmp_path / "runs" / "later").mkdir()
    (tmp_path / "runs" / "later" / "run.json").write_text('{"format": 7, "name": "later", "layers": []}')
    with pytest.raises(
        InputError, match=r"run 'later' was written by a newer version .*\(format 7\): update the program"
    ) as error:
        store.read("later")
    assert "delete" not in str(error.value)
    assert sorted(store.names()) == ["later", "other"]
