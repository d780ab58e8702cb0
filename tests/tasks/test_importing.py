import os
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from landscape_core.checkpoints.runs import RunStore
from landscape_core.checkpoints.weights import load_weights, read_foreign
from landscape_core.specs import InputError, task_spec, training_spec
from landscape_core.tasks import Task, import_weights, train
from landscape_core.tasks.importing import run_of_file

TASK = task_spec("digits-mlp", widths=[20])


@pytest.fixture
def state(tmp_path):
    return Task(TASK, tmp_path).model(seed=4).state_dict()


def refused(file, home, words, task=TASK):
    """The import fails with one line that names the file, and leaves no run behind."""
    with pytest.raises(InputError, match=words) as error:
        import_weights(file, task, "r", 0, home)
    assert "\n" not in str(error.value)
    assert str(file) in str(error.value)
    assert RunStore(home).names() == []


class Trap:
    """A pickle that leaves a mark when it is run."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


# -- what is understood -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".pth", ".ckpt"])
@pytest.mark.parametrize("nested", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_weights_arrive_with_their_metrics(tmp_path, state, ending, nested, prefix):
    file = tmp_path / f"w{ending}"
    given = {prefix + name: value for name, value in state.items()}
    if ending == ".safetensors":
        save_file(given, file)
    else:
        torch.save(given if nested is None else {nested: given, "epoch": 3, "optimizer": {"lr": 0.1}}, file)
    record = import_weights(file, TASK, "r", 7, tmp_path)
    assert record == RunStore(tmp_path).read("r")
    assert (record.training, record.state, record.task, record.arguments) == (None, "done", "digits-mlp", {"widths": [20]})
    (item,) = record.checkpoints
    assert item.step == 7
    back = load_weights(RunStore(tmp_path).folder("r") / item.file, item.fingerprint)
    assert all(torch.equal(back[name], value) for name, value in state.items())
    objective = Task(TASK, tmp_path).objective(back, device="cpu")
    assert item.metrics["train_loss"] == pytest.approx(float(objective.loss(objective.theta)), rel=1e-5)
    assert item.metrics["theta_norm"] == pytest.approx(float(objective.theta.norm()), rel=1e-5)


@pytest.mark.parametrize(("given", "stored"), [("float16", "float32"), ("bfloat16", "float32"), ("float64", "float64")])
def test_precision(tmp_path, state, given, stored):
    torch.save({name: value.to(getattr(torch, given)) for name, value in state.items()}, tmp_path / "w.pt")
    record = import_weights(tmp_path / "w.pt", TASK, "r", 0, tmp_path)
    assert record.dtype == stored
    back = load_weights(RunStore(tmp_path).folder("r") / record.checkpoints[0].file)
    assert {value.dtype for value in back.values()} == {getattr(torch, stored)}


def test_checkpoints_join_one_run_in_order_and_none_is_replaced(tmp_path, state):
    other = Task(TASK, tmp_path).model(seed=5).state_dict()
    torch.save(state, tmp_path / "a.pt")
    torch.save(other, tmp_path / "b.pt")
    import_weights(tmp_path / "a.pt", TASK, "r", 100, tmp_path)
    import_weights(tmp_path / "b.pt", TASK, "r", 5, tmp_path)
    record = import_weights(tmp_path / "b.pt", TASK, "r", 5, tmp_path)
    assert [item.step for item in record.checkpoints] == [5, 100]
    with pytest.raises(InputError, match="run 'r' has other weights at step 5"):
        import_weights(tmp_path / "a.pt", TASK, "r", 5, tmp_path)
    torch.save(Task(task_spec("digits-mlp"), tmp_path).model(0).state_dict(), tmp_path / "c.pt")
    with pytest.raises(InputError, match="run 'r' exists with other settings"):
        import_weights(tmp_path / "c.pt", task_spec("digits-mlp"), "r", 6, tmp_path)
    assert RunStore(tmp_path).read("r") == record


def test_a_trained_run_is_never_added_to(tmp_path, state):
    for _ in train(training_spec("digits-mlp", "r", widths=[20], steps=5), tmp_path):
        pass
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InputError, match="run 'r' exists with other settings"):
        import_weights(tmp_path / "w.pt", TASK, "r", 9, tmp_path)


@pytest.mark.parametrize("step", [-1, 10**8])
def test_impossible_steps_and_names(tmp_path, state, step):
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InputError, match="step must lie between"):
        import_weights(tmp_path / "w.pt", TASK, "r", step, tmp_path)
    with pytest.raises(InputError, match="not a name of a run"):
        import_weights(tmp_path / "w.pt", TASK, "../r", 0, tmp_path)


def test_old_files_without_batch_counters_are_understood(tmp_path):
    task = task_spec("digits-resnet", depth=8, width=4)
    state = Task(task, tmp_path).model(seed=0).state_dict()
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path / "w.pt")
    assert import_weights(tmp_path / "w.pt", task, "r", 0, tmp_path).checkpoints


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("where", ["top", "among weights", "under state_dict"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, state, where, legacy):
    mark, file = tmp_path / "ran", tmp_path / "w.pt"
    trap = Trap(mark)
    content = {"top": trap, "among weights": {**state, "x": trap}, "under state_dict": {"state_dict": state, "hyper": trap}}[
        where
    ]
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    refused(file, tmp_path, r"asks for 'posix.mkdir', which could run code; save the weights alone")
    assert not mark.exists()


def test_bare_pickles_and_whole_modules_are_refused(tmp_path):
    mark, file = tmp_path / "ran", tmp_path / "w.pth"
    file.write_bytes(pickle.dumps(Trap(mark)))
    refused(file, tmp_path, "refused|damaged")
    file.write_bytes(pickle.dumps({"a": Trap(mark)}, protocol=0))
    refused(file, tmp_path, "refused|damaged")
    assert not mark.exists()
    torch.save(Network(), file)
    refused(file, tmp_path, r"asks for 'tests.tasks.test_importing.Network'")
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    refused(file, tmp_path, "TorchScript archive; save the weights alone")


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
@pytest.mark.parametrize("fault", ["empty", "text", "truncated", "flipped", "zeros", "deep", "zip"])
def test_damaged_files_are_one_line(tmp_path, state, ending, fault):
    file = tmp_path / f"w{ending}"
    if ending == ".pt":
        torch.save(state, file)
    else:
        save_file(state, file)
    whole = file.read_bytes()
    if fault == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", b"not a pickle")
    else:
        content = {
            "empty": b"",
            "text": b"<html>not found</html>",
            "truncated": whole[: len(whole) // 2],
            "flipped": bytes(b ^ 255 for b in whole[:300]) + whole[300:],
            "zeros": b"\0" * 1000,
            "deep": b"\x80\x02" + b"]" * 100_000,
        }
        file.write_bytes(content[fault])
    refused(file, tmp_path, r"damaged|truncated|not a")


def test_lying_safetensors_headers_are_one_line(tmp_path):
    file = tmp_path / "w.safetensors"
    for length, header in (
        (2**63, b"{}"),
        (2, b"[]"),
        (60, b'{"a":{"dtype":"F32","shape":[99999999],"data_offsets":[0,4]}}'),
        (62, b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,999999999]}}'),
    ):
        file.write_bytes(struct.pack("<Q", length) + header + b"\0\0\0\0")
        refused(file, tmp_path, "truncated or not a safetensors file")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path, state, value):
    state["0.weight"][3, 4] = value
    torch.save(state, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", tmp_path, r"'0.weight' has NaN or infinite values \(1 of 1280\); nothing was imported")


def test_whole_numbers_are_not_weights(tmp_path, state):
    torch.save({**state, "0.bias": torch.full((20,), 7)}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", tmp_path, "'0.bias' holds int64")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 3}, "holds no weights"),
        ([1, 2], "holds no weights"),
        (torch.zeros(3), "holds no weights"),
        ({"a": torch.zeros(3).to_sparse()}, "not a plain real tensor"),
        ({"a": torch.zeros(3, dtype=torch.complex64)}, "not a plain real tensor"),
        ({"a": torch.zeros(3, device="meta")}, "not a plain real tensor"),
        ({"0.weight": torch.zeros(1).expand(10**6, 10**6)}, "would become 3,814,697 MB, from 0.0 MB.*save a clone"),
        ({"wrong": torch.zeros(3)}, "missing 0.weight, 0.bias, 2.weight, 2.bias; unexpected wrong"),
    ],
)
def test_what_is_not_a_state_dict_of_this_network_is_refused(tmp_path, content, words):
    torch.save(content, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", tmp_path, words)


def test_a_checkpoint_of_another_architecture_lists_what_differs(tmp_path):
    torch.save(Task(task_spec("digits-mlp", widths=[30]), tmp_path).model(0).state_dict(), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", tmp_path, r"mis-shaped 0.weight \(30, 64\) instead of \(20, 64\)")
    torch.save(Task(task_spec("digits-lenet"), tmp_path).model(0).state_dict(), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", tmp_path, "missing 0.weight.*unexpected conv1.weight")


def test_missing_files_and_unknown_endings(tmp_path):
    refused(tmp_path / "none.pt", tmp_path, "No such file")
    refused(tmp_path / "none.safetensors", tmp_path, "No such file")
    refused(tmp_path / "w.h5", tmp_path, "unknown ending '.h5'; weights are read from .safetensors, .pt")
    (tmp_path / "folder.pt").mkdir()
    refused(tmp_path / "folder.pt", tmp_path, "cannot read|damaged")


def test_foreign_tensors_do_not_drag_gradients_along(tmp_path):
    torch.save({"a": nn.Parameter(torch.ones(2))}, tmp_path / "w.pt")
    assert not read_foreign(tmp_path / "w.pt")["a"].requires_grad


def test_a_file_as_a_source_becomes_one_run_named_after_its_contents(tmp_path, state):
    file = tmp_path / "my weights.pt"
    torch.save(state, file)
    name = run_of_file(file, TASK, tmp_path)
    assert name.startswith("my-weights-")
    assert run_of_file(file, TASK, tmp_path) == name
    state["0.bias"] += 1
    torch.save(state, file)
    assert run_of_file(file, TASK, tmp_path) != name
    assert len(RunStore(tmp_path).names()) == 2
