import itertools
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from landscape_core.checkpoints.runs import RunStore
from landscape_core.checkpoints.weights import load_weights
from landscape_core.specs import InputError, training_spec
from landscape_core.tasks import Task, train, training
from landscape_core.tasks.optimisation import BatchOrder, learning_rate

METRICS = {"train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr", "theta_norm"}


def run(spec, home):
    """The record that training returns, and all it yielded on the way."""
    items, generator = [], train(spec, home)
    while True:
        try:
            items.append(next(generator))
        except StopIteration as end:
            return end.value, items


def spec(name="r", task="digits-mlp", **values):
    return training_spec(task, name, **{"widths": [20], "steps": 60, **values})


def weights(home, record, index=-1):
    item = record.checkpoints[index]
    return load_weights(RunStore(home).folder(record.name) / item.file, item.fingerprint)


# -- what a run records -----------------------------------------------------------------------------------------------


def test_a_run_grows_on_disk_and_says_how_far_it_is(tmp_path):
    generator = train(spec(record=[0, 10, 30]), tmp_path)
    store, seen = RunStore(tmp_path), []
    try:
        while True:
            item = next(generator)
            found = store.read("r")
            assert found.state == "training"
            assert item.total == 60
            assert item.message.startswith(f"step {item.done} of 60, loss ")
            if item.partial is not None:
                assert item.partial["steps"].tolist() == [c.step for c in found.checkpoints]
                assert np.isfinite(item.partial["train_loss"]).all()
                seen.append(item.done)
    except StopIteration as end:
        record = end.value
    assert seen == [0, 10, 30, 60]
    assert record == store.read("r")
    assert (record.state, record.message, record.parameters, record.dtype) == ("done", "", 1510, "float32")
    assert record.sizes == {"train": 1437, "test": 360}
    assert record.data == Task(spec().task, tmp_path).data.fingerprints()
    assert record.arguments == {"widths": [20]}
    assert training_spec(record.task, "r", **record.arguments, **record.training) == spec(record=[0, 10, 30])
    assert [set(c.metrics) for c in record.checkpoints] == [METRICS] * 4
    assert not (store.folder("r") / "resume.safetensors").exists()
    assert not list(tmp_path.rglob("*.tmp"))


def test_metrics_are_those_of_the_recorded_weights(tmp_path):
    record, _ = run(spec(), tmp_path)
    task = Task(spec().task, tmp_path)
    for index in (0, 5, -1):
        metrics, state = record.checkpoints[index].metrics, weights(tmp_path, record, index)
        objective = task.objective(state, device="cpu", test=True)
        assert metrics["train_loss"] == pytest.approx(float(objective.loss(objective.theta)), rel=1e-5)
        assert metrics["theta_norm"] == pytest.approx(float(objective.theta.norm()), rel=1e-5)
        model = task.model(0)
        model.load_state_dict(state)
        x, y = task.data.split("test")
        assert metrics["test_accuracy"] == pytest.approx(float((model(x).argmax(1) == y).double().mean()))
    fresh = task.model(0).state_dict()
    assert all(torch.equal(fresh[name], value) for name, value in weights(tmp_path, record, 0).items())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_norm_of_the_parameters_grows_as_it_should(tmp_path, seed):
    deep, _ = run(spec("deep", widths=[64, 64], steps=2000, record=[], seed=seed), tmp_path)
    assert deep.checkpoints[0].metrics["theta_norm"] == pytest.approx(6.8, abs=0.3)
    assert deep.checkpoints[-1].metrics["theta_norm"] == pytest.approx(10.9, abs=1)
    small, _ = run(spec("small", steps=2000, record=[200], seed=seed), tmp_path)
    norms = [item.metrics["theta_norm"] for item in small.checkpoints]
    assert norms[0] == pytest.approx((1280 / 192 + 20 / 192 + 210 / 60) ** 0.5, abs=0.2)
    assert norms[-1] == pytest.approx(9.8, abs=0.5)
    assert small.checkpoints[1].metrics["train_loss"] == pytest.approx(0.17, abs=0.02)
    assert small.checkpoints[1].metrics["test_accuracy"] == pytest.approx(0.95, abs=0.015)


def test_training_is_the_plain_loop_step_by_step(tmp_path):
    """The reference: default init, randperm from a generator with the same seed, drop-last."""
    record, _ = run(spec(steps=50, lr=0.2, momentum=0.9, weight_decay=1e-3, batch_size=100, seed=5, dtype="float64"), tmp_path)
    task = Task(spec().task, tmp_path, torch.float64)
    model, generator = task.model(5), torch.Generator().manual_seed(5)
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    x, y = task.data.split("train")
    step = 0
    while step < 50:
        order = torch.randperm(len(y), generator=generator)
        for kept in order.split(100)[: len(y) // 100]:
            if step == 50:
                break
            loss = torch.nn.functional.cross_entropy(model(x[kept]), y[kept])
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, g, v in zip(model.parameters(), gradients, velocity, strict=True):
                    v.mul_(0.9).add_(g + 1e-3 * p)
                    p.sub_(0.2 * v)
            step += 1
    for name, value in weights(tmp_path, record).items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-9, atol=1e-11)


def test_metrics_of_large_sets_rest_on_a_fixed_sample(tmp_path):
    asked = training_spec("blobs-mlp", "r", samples=5000, steps=5)
    record, _ = run(asked, tmp_path)
    objective = Task(asked.task, tmp_path).objective(weights(tmp_path, record), samples=training.EVALUATED, device="cpu")
    assert record.checkpoints[-1].metrics["train_loss"] == pytest.approx(float(objective.loss(objective.theta)), rel=1e-5)
    assert record.sizes["train"] == 5000


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("batch_size", [0, 64, 5000])
def test_every_optimizer_learns(tmp_path, optimizer, batch_size):
    lr = 0.1 if optimizer == "sgd" else 0.01
    record, _ = run(spec(optimizer=optimizer, lr=lr, batch_size=batch_size, weight_decay=1e-4, steps=100), tmp_path)
    first, last = record.checkpoints[0].metrics["train_loss"], record.checkpoints[-1].metrics["train_loss"]
    assert last < 0.75 * first


def test_full_batch_descent_on_a_stable_step_never_rises(tmp_path):
    record, _ = run(spec(batch_size=0, lr=0.05, steps=40, record=list(range(41))), tmp_path)
    losses = [item.metrics["train_loss"] for item in record.checkpoints]
    assert all(b < a for a, b in itertools.pairwise(losses))


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("digits-lenet", {}),
        ("digits-resnet", {"depth": 8, "width": 4}),
        ("digits-vit", {"dim": 16}),
        ("moons-mlp", {"loss": "squared-error"}),
        ("spirals-mlp", {"norm": "batch"}),
        ("blobs-mlp", {"label_noise": 0.1}),
    ],
)
def test_every_task_trains(tmp_path, task, values):
    record, _ = run(training_spec(task, "r", steps=12, **values), tmp_path)
    assert record.state == "done"
    assert record.checkpoints[-1].metrics["train_loss"] < record.checkpoints[0].metrics["train_loss"]


def test_schedules():
    steps = [0, 25, 50, 75, 100]
    rates = {
        name: [learning_rate(spec(steps=100, lr=1.0, schedule=name), t) for t in steps]
        for name in ("constant", "cosine", "step")
    }
    assert rates["constant"] == [1] * 5
    assert rates["cosine"] == pytest.approx([1, 0.8535534, 0.5, 0.1464466, 0])
    assert rates["step"] == pytest.approx([1, 1, 0.1, 0.01, 0.01])


def test_batch_order_restores_anywhere():
    for taken in range(12):
        order = BatchOrder(10, 3, seed=1)
        seen = [next(order).tolist() for _ in range(taken)]
        again = BatchOrder(10, 3, seed=99)
        again.restore(order.state())
        follow = [next(order).tolist() for _ in range(7)]
        assert follow == [next(again).tolist() for _ in range(7)]
        for epoch in range(taken // 3):
            assert len({i for batch in seen[3 * epoch : 3 * epoch + 3] for i in batch}) == 9


# -- stopping, killing, continuing ------------------------------------------------------------------------------------

HARD = {"momentum": 0.9, "schedule": "cosine", "norm": "batch", "lr": 0.05, "steps": 1500, "batch_size": 50, "seed": 3}


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    whole, _ = run(spec("whole", **HARD), tmp_path)
    code = f"""
from pathlib import Path
from landscape_core.specs import training_spec
from landscape_core.tasks import train, training
training.SAVE_EVERY = training.PROGRESS_EVERY = 0.01
for item in train(training_spec("digits-mlp", "killed", widths=[20], **{HARD!r}), Path({str(tmp_path)!r})):
    print(item.done, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) > 700:
                process.send_signal(signal.SIGKILL)
                break
    store = RunStore(tmp_path)
    left = store.read("killed")
    assert left.state == "training"
    assert 0 < left.checkpoints[-1].step < 1500
    assert (store.folder("killed") / "resume.safetensors").exists()
    half = store.folder("killed") / "checkpoints" / ".half.tmp"
    half.write_bytes(b"half")

    resumed, items = run(spec("killed", **HARD), tmp_path)
    assert items[0].done > 0
    assert not half.exists()
    assert [(c.step, c.fingerprint) for c in resumed.checkpoints] == [(c.step, c.fingerprint) for c in whole.checkpoints]
    assert [c.metrics for c in resumed.checkpoints] == [c.metrics for c in whole.checkpoints]


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_stopped_training_says_so_and_goes_on_to_the_same_weights(tmp_path, optimizer):
    values = {"optimizer": optimizer, "lr": 0.01, "steps": 120, "record": [0, 30, 120]}
    whole, _ = run(spec("whole", **values), tmp_path)
    generator = train(spec("cut", **values), tmp_path)
    while next(generator).done < 30:
        pass
    generator.close()
    record = RunStore(tmp_path).read("cut")
    assert (record.state, record.message) == ("stopped", "stopped at step 30 of 120; train again to continue")
    resumed, items = run(spec("cut", **values), tmp_path)
    assert items[0].done == 30
    assert resumed.state == "done"
    assert resumed.message == ""
    assert resumed.checkpoints == whole.checkpoints


def test_a_damaged_state_starts_afresh(tmp_path):
    whole, _ = run(spec("whole"), tmp_path)
    generator = train(spec("cut"), tmp_path)
    while next(generator).done < 30:
        pass
    generator.close()
    file = RunStore(tmp_path).folder("cut") / "resume.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    resumed, items = run(spec("cut"), tmp_path)
    assert items[0].done == 0
    assert [c.fingerprint for c in resumed.checkpoints] == [c.fingerprint for c in whole.checkpoints]


def test_the_same_settings_give_the_run_at_once_and_others_are_refused(tmp_path):
    record, _ = run(spec(), tmp_path)
    again, items = run(spec(device="cpu"), tmp_path)
    assert again == record
    assert items == []
    for other in (spec(lr=0.2), spec(steps=70), spec(label_noise=0.1), spec(seed=1), spec(task="moons-mlp")):
        with pytest.raises(InputError, match="run 'r' exists with other settings; choose another name or delete it"):
            run(other, tmp_path)


def test_two_processes_never_write_one_run(tmp_path):
    generator = train(spec(), tmp_path)
    next(generator)
    with pytest.raises(InputError, match="being written by another process"):
        run(spec(), tmp_path)
    generator.close()
    assert run(spec(), tmp_path)[0].state == "done"


def test_changed_data_are_not_mixed(tmp_path):
    file = tmp_path / "d.npz"
    np.savez(file, x=np.random.default_rng(0).standard_normal((50, 3)), y=np.arange(50) % 2)
    asked = training_spec("npz-mlp", "r", path=str(file), steps=30)
    generator = train(asked, tmp_path)
    next(generator)
    generator.close()
    np.savez(file, x=np.random.default_rng(1).standard_normal((50, 3)), y=np.arange(50) % 2)
    with pytest.raises(InputError, match="data of run 'r' have changed"):
        run(asked, tmp_path)


@pytest.mark.parametrize("values", [{"lr": 1000}, {"lr": 50, "loss": "squared-error"}, {"lr": 1000, "record": list(range(61))}])
def test_divergence_ends_in_one_clear_line_and_keeps_what_is_finite(tmp_path, values):
    record, _ = run(spec(**values), tmp_path)
    assert record.state == "diverged"
    assert record.message.startswith("diverged: the loss was ")
    assert record.message.endswith("; lower lr")
    assert record.checkpoints
    for index, item in enumerate(record.checkpoints):
        assert item.metrics["train_loss"] is not None
        assert all(bool(value.isfinite().all()) for value in weights(tmp_path, record, index).values())
    again, items = run(spec(**values), tmp_path)
    assert again == record
    assert items == []


def test_batchnorm_needs_more_than_one_sample(tmp_path):
    with pytest.raises(InputError, match="field 'batch_size'"):
        run(spec(norm="batch", batch_size=1), tmp_path)
    assert not RunStore(tmp_path).exists("r")


def test_bad_data_leave_no_run_behind(tmp_path):
    with pytest.raises(InputError, match="there is no"):
        run(training_spec("mnist-mlp", "r"), tmp_path)
    assert RunStore(tmp_path).names() == []


def test_the_number_of_threads_comes_back(tmp_path):
    before = torch.get_num_threads()
    generator = train(spec(), tmp_path)
    next(generator)
    generator.close()
    assert torch.get_num_threads() == before


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tmp_path, monkeypatch):
    whole, _ = run(spec("whole"), tmp_path)
    generator = train(spec("full"), tmp_path)
    while next(generator).done < 20:
        pass
    from landscape_core.checkpoints import home

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(home.os, "fsync", full)
        with pytest.raises(InputError, match=r"the disk is full: free some space for .*, then run it again"):
            for _ in generator:
                pass
    resumed, _ = run(spec("full"), tmp_path)
    assert [c.fingerprint for c in resumed.checkpoints] == [c.fingerprint for c in whole.checkpoints]
