import dataclasses
import functools
from typing import Any

import pytest
import torch
from torch import nn

from landscape_core.checkpoints.runs import RunStore
from landscape_core.jobs.requests import Request
from landscape_core.jobs.runner import run_or_join
from landscape_core.specs import TASKS, InputError, task_spec
from landscape_core.specs.base import field
from landscape_core.specs.tasks import ArchitectureSpec, DataSpec, TaskEntry
from landscape_core.tasks import Data, Task, cross_entropy, squared_error, torch_device


def test_losses_are_what_their_names_say():
    outputs, targets = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    assert float(cross_entropy(outputs, targets)) == pytest.approx(float(-outputs.log_softmax(1)[range(6), targets].mean()))
    onehot = torch.eye(4, dtype=torch.float64)[targets]
    assert float(squared_error(outputs, targets)) == pytest.approx(float(torch.nn.functional.mse_loss(outputs, onehot)))


def test_objective_is_the_loss_of_the_task(tmp_path):
    task = Task(task_spec("digits-mlp", widths=[20]), tmp_path)
    model = task.model(seed=1)
    state = model.state_dict()
    whole = task.objective(state, test=True, device="cpu")
    x, y = task.data.split("train")
    assert float(whole.loss(whole.theta)) == pytest.approx(float(task.loss(model(x), y)), rel=1e-5)
    assert whole.theta.numel() == task.parameters == 1510

    double = Task(task.spec, tmp_path, torch.float64)
    exact = task.objective(state, dtype=torch.float64, device="cpu", split="test")
    reference = double.model(seed=0)
    reference.load_state_dict(state)
    assert float(exact.loss(exact.theta)) == pytest.approx(
        float(double.loss(reference(double.data.x_test), double.data.y_test)), rel=1e-12
    )


def test_sub_samples_are_the_same_for_every_checkpoint(tmp_path):
    task = Task(task_spec("digits-mlp"), tmp_path)
    x, y = task.sample("train", 50)
    again, _ = Task(task.spec, tmp_path).sample("train", 50)
    assert torch.equal(x, again)
    assert len(y) == 50
    assert len(x.unique(dim=0)) == 50
    assert len(task.sample("test", 10**6)[1]) == 360


def test_weights_of_another_network_are_refused(tmp_path):
    state = Task(task_spec("digits-mlp", widths=[30]), tmp_path).model(0).state_dict()
    with pytest.raises(InputError, match="the checkpoint does not fit the network"):
        Task(task_spec("digits-mlp", widths=[20]), tmp_path).objective(state)


def test_devices_that_are_not_there_are_one_line():
    assert torch_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="field 'device'"):
        torch_device(f"cuda:{torch.cuda.device_count()}")


# -- the registry -----------------------------------------------------------------------------------------------------


class SignsData(DataSpec):
    """Points on a line, and on which side of zero they are."""

    spread: float = field(1.0, "How far the points reach.", ge=0.1, le=10)


@dataclasses.dataclass(frozen=True)
class Signs(Task):
    """A task with data and a network of its own."""

    @functools.cached_property
    def data(self) -> Data:
        settings: Any = self.spec.data
        x = settings.spread * torch.linspace(-1, 1, 40, dtype=self.dtype)[:, None]
        y = (x[:, 0] > 0).long()
        return Data(x, y, x, y, 2)

    def model(self, seed: int | None = None) -> nn.Module:
        torch.manual_seed(seed or 0)
        return nn.Linear(1, 2).to(self.dtype)

    @functools.cached_property
    def parameters(self) -> int:
        return 4


def test_an_entry_brings_fields_and_a_loader_of_its_own(tmp_path, monkeypatch):
    loader = f"{__name__}:Signs"
    entry = TaskEntry("signs", "line", SignsData, ArchitectureSpec, "Own", "Signs of numbers", loader=loader)
    monkeypatch.setitem(TASKS, "signs", entry)
    assert task_spec("signs", spread=2).arguments == {"spread": 2.0}
    with pytest.raises(InputError, match="unknown field 'spred'; did you mean 'spread'"):
        task_spec("signs", spred=2)
    for request in (
        Request("train", None, {"task": "signs", "run": "r", "spread": 2, "steps": 20, "batch_size": 0}),
        Request("surface", "r@last", {"resolution": 3, "flow": 0}),
    ):
        assert run_or_join(request, tmp_path).state == "done"
    record = RunStore(tmp_path).read("r")
    assert (record.task, record.arguments, record.parameters) == ("signs", {"spread": 2.0}, 4)
    losses = [item.metrics["train_loss"] for item in record.checkpoints]
    assert losses[-1] < losses[0]


def test_what_is_built_in_is_named_after_data_and_network():
    assert all(task_spec(name).name == name == entry.name for name, entry in TASKS.items())
    assert TASKS["cifar10-resnet"].title == "CIFAR-10, ResNet"
    assert (TASKS["mnist-mlp"].folder, TASKS["digits-mlp"].folder) == ("mnist", None)
    assert task_spec("digits-vit").network == "vit"
