import math

import pytest
import torch

from landscape_core.checkpoints.recording import Recording
from landscape_core.checkpoints.runs import RunStore
from landscape_core.checkpoints.weights import load_weights
from landscape_core.specs import InputError

SETTINGS = {"task": "digits-mlp", "arguments": {"widths": [3]}, "training": {"lr": 0.1}}
FACTS = {"parameters": 2, "data": {"train": "x"}, "sizes": {"train": 5}}


def weights(value):
    return {"w": torch.full((2,), float(value))}


def test_checkpoints_stand_in_order_with_null_where_not_finite(tmp_path):
    store = RunStore(tmp_path)
    with Recording(store, "r", **SETTINGS) as recording:
        assert recording.found is None
        recording.begin(**FACTS)
        for step in (10, 0, 5):
            recording.checkpoint(step, weights(step), {"train_loss": 1.0 / step if step else math.inf})
        assert not store.exists("r")
        recording.write("training", "half way")
    record = store.read("r")
    assert record == recording.record
    assert (record.task, record.arguments, record.training, record.sizes) == (*SETTINGS.values(), {"train": 5})
    assert (record.state, record.message, record.created[:2]) == ("training", "half way", "20")
    assert [(item.step, item.metrics["train_loss"]) for item in record.checkpoints] == [(0, None), (5, 0.2), (10, 0.1)]
    for item in record.checkpoints:
        assert float(load_weights(store.folder("r") / item.file, item.fingerprint)["w"][0]) == item.step


def test_a_run_is_gone_on_with_and_a_step_is_written_again(tmp_path):
    store = RunStore(tmp_path)
    for values in ((1, 2, 3), (7,)):
        with Recording(store, "r", **SETTINGS) as recording:
            recording.begin(**FACTS)
            recording.forget(after=2)
            for value in values:
                recording.checkpoint(value % 5, weights(value), {})
            recording.write()
    record = store.read("r")
    assert [item.step for item in record.checkpoints] == [1, 2]
    values = [float(load_weights(store.folder("r") / item.file, item.fingerprint)["w"][0]) for item in record.checkpoints]
    assert values == [1, 7]


def test_a_run_has_one_writer_and_keeps_its_settings(tmp_path):
    store = RunStore(tmp_path)
    first = Recording(store, "r", **SETTINGS)
    with pytest.raises(InputError, match="being written by another process"):
        Recording(RunStore(tmp_path), "r", **SETTINGS)
    first.begin(**FACTS)
    first.write()
    first.close()
    for _ in range(2):  # a refusal lets go of the lock
        with pytest.raises(InputError, match="run 'r' exists with other settings; choose another name or delete it"):
            Recording(store, "r", **{**SETTINGS, "training": {"lr": 0.2}})
    store.delete("r")
