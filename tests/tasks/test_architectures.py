import math

import pytest
import torch
from torch import fx

from landscape_core.specs import TASKS, InputError, task_spec
from landscape_core.tasks import Task, build_model, parameter_count

NETWORKS = [
    ("digits-mlp", {}),
    ("digits-mlp", {"widths": [20, 20], "activation": "tanh", "norm": "batch"}),
    ("digits-mlp", {"widths": [16], "depth": 5, "skip": True, "init": "he", "norm": "layer"}),
    ("digits-mlp", {"widths": []}),
    ("digits-lenet", {}),
    ("digits-resnet", {"depth": 8, "width": 4}),
    ("digits-resnet", {"depth": 14, "width": 4, "skip": False}),
    ("digits-resnet", {"depth": 8, "width": 4, "norm": None}),
    ("digits-vit", {"dim": 16, "layers": 2}),
]


@pytest.mark.parametrize(("name", "arguments"), NETWORKS)
def test_networks_trace_and_differentiate_twice(tmp_path, name, arguments):
    task = Task(task_spec(name, **arguments), tmp_path, torch.float64)
    model = task.model(seed=0).eval()
    x, y = task.sample("train", 12)
    traced = fx.symbolic_trace(model)
    torch.testing.assert_close(traced(x), model(x), rtol=0, atol=0)
    assert model(x).shape == (12, 10)

    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        gradients = torch.autograd.grad(task.loss(model(x), y), parameters, create_graph=True)
        v = [torch.randn_like(p) for p in parameters]
        u = [torch.randn_like(p) for p in parameters]
        inner = sum((g * a).sum() for g, a in zip(gradients, v, strict=True))
        hv = torch.autograd.grad(inner, parameters, retain_graph=True, materialize_grads=True)
        inner = sum((g * a).sum() for g, a in zip(gradients, u, strict=True))
        hu = torch.autograd.grad(inner, parameters, materialize_grads=True)
    left, right = (float(sum((a * b).sum() for a, b in zip(p, q, strict=True))) for p, q in ((u, hv), (v, hu)))
    assert left == pytest.approx(right, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        ("digits-mlp", {"widths": [20]}, 1510),
        ("digits-mlp", {"widths": [64, 64]}, 8970),
        ("digits-mlp", {"widths": [32], "depth": 20}, 23530),
        ("mnist-mlp", {"widths": [512, 512]}, 669_706),
        ("mnist-lenet", {}, 61_706),
        ("cifar10-lenet", {}, 62_006),
        ("cifar10-resnet", {}, 272_474),
        ("cifar10-resnet", {"depth": 56, "skip": False}, 853_018),
        ("npz-mlp", {}, None),
    ],
)
def test_parameter_counts(name, arguments, count):
    assert parameter_count(task_spec(name, **arguments)) == count


def test_every_task_without_a_file_has_a_count(tmp_path):
    for name in TASKS:
        assert (parameter_count(task_spec(name)) is None) == name.startswith("npz")
    assert Task(task_spec("digits-vit"), tmp_path).parameters == parameter_count(task_spec("digits-vit"))


@pytest.mark.parametrize("architecture", ["lenet", "resnet", "vit"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 12, 12)])
def test_image_networks_take_every_usual_size(architecture, shape):
    small = {"resnet": {"depth": 8, "width": 2}}.get(architecture, {})
    model = build_model(task_spec(f"npz-{architecture}", **small).architecture, shape, 7)
    assert model(torch.randn(2, *shape)).shape == (2, 7)


def test_initialisation_is_pytorchs_own_after_the_seed(tmp_path):
    task = Task(task_spec("digits-mlp", widths=[20]), tmp_path)
    state = torch.random.get_rng_state()
    model = task.model(seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(3)
    first, last = torch.nn.Linear(64, 20), torch.nn.Linear(20, 10)
    expected = [first.weight, first.bias, last.weight, last.bias]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected, strict=True))
    double = Task(task.spec, tmp_path, torch.float64).model(seed=3)
    assert all(torch.equal(a.double(), b) for a, b in zip(expected, double.parameters(), strict=True))


def test_he_initialisation_and_the_scale_of_skips(tmp_path):
    arguments = {"widths": [32], "depth": 100, "init": "he"}
    plain, skip = (
        [
            m
            for m in Task(task_spec("digits-mlp", skip=s, **arguments), tmp_path).model(seed=0).modules()
            if isinstance(m, torch.nn.Linear)
        ]
        for s in (False, True)
    )
    assert len(plain) == len(skip) == 102
    assert all(float(m.bias.detach().abs().max()) == 0 for m in plain)
    deviation = math.sqrt(sum(float(m.weight.detach().var()) for m in plain[1:-1]) / 100)
    assert deviation == pytest.approx(math.sqrt(2 / 32), rel=0.02)
    assert all(torch.allclose(a.weight / 10, b.weight) for a, b in zip(plain[1:-1], skip[1:-1], strict=True))
    assert all(torch.equal(plain[i].weight, skip[i].weight) for i in (0, -1))


@pytest.mark.parametrize(
    ("depth", "skip", "norm"), [(56, True, "batch"), (56, False, "batch"), (56, True, None), (20, False, None)]
)
def test_deep_networks_start_stable(depth, skip, norm, tmp_path):
    model = Task(task_spec("digits-resnet", width=8, depth=depth, skip=skip, norm=norm), tmp_path).model(seed=0).train()
    outputs = model(torch.randn(16, 1, 8, 8))
    assert 1e-2 < float(outputs.detach().std()) < 10


@pytest.mark.parametrize(
    ("name", "arguments", "fault"),
    [
        ("digits-mlp", {"widths": [0]}, "field 'widths'"),
        ("digits-mlp", {"widths": [-3]}, "field 'widths'"),
        ("digits-mlp", {"widths": [10**9]}, "field .widths."),
        ("digits-mlp", {"widths": [10**5, 10**5]}, "more than 500,000,000 parameters"),
        ("digits-mlp", {"widths": [], "depth": 3}, "field 'widths'"),
        ("digits-mlp", {"widths": [20], "skip": True}, "field 'skip'"),
        ("digits-resnet", {"depth": 21}, "6n\\+2"),
        ("digits-vit", {"patch": 3}, "field 'patch'"),
        ("digits-vit", {"patch": 16}, "field 'patch'"),
        ("digits-vit", {"heads": 5}, "field 'heads'"),
    ],
)
def test_impossible_networks_are_one_line(tmp_path, name, arguments, fault):
    with pytest.raises(InputError, match=fault):
        Task(task_spec(name, **arguments), tmp_path).model()


def test_images_are_needed_where_they_are(tmp_path):
    with pytest.raises(InputError, match="needs square images"):
        build_model(task_spec("digits-vit").architecture, (64,), 10)
