import pytest
import torch

from landscape_core.specs import InputError, task_spec
from landscape_core.tasks import Task, cross_entropy, squared_error, torch_device


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
