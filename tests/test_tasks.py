import gzip
import math
import struct

import numpy as np
import pytest
import torch
from torch import fx

from landscape_core.specs import TASKS, InputError, task_spec
from landscape_core.tasks import Task, build_model, cross_entropy, load_data, parameter_count, squared_error, torch_device

# -- data -------------------------------------------------------------------------------------------------------------


def data(name, home, dtype=torch.float64, **arguments):
    return load_data(task_spec(name, **arguments).data, home, dtype)


def idx(array, kind=8):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(folder, n=(30, 20), side=28, gz=False, seed=0):
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for part, count in zip(("train", "t10k"), n, strict=True):
        images, labels = random.integers(0, 256, (count, side, side)), np.arange(count) % 10
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            content = idx(array)
            (folder / (name + ".gz" * gz)).write_bytes(gzip.compress(content) if gz else content)
        written[part] = images, labels
    return written


def write_cifar(folder, n=20):
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    records = {}
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        record = random.integers(0, 256, (n, 3073), dtype=np.uint8)
        record[:, 0] = np.arange(n) % 10
        (folder / f"{name}.bin").write_bytes(record.tobytes())
        records[name] = record
    return records


def test_digits_are_split_and_scaled_as_stated(tmp_path):
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    a, b, ya, yb = train_test_split(x / 16, y, test_size=0.2, random_state=0, stratify=y)
    got = data("digits-mlp", tmp_path).flat()
    assert got.sizes == {"train": 1437, "test": 360}
    np.testing.assert_allclose(got.x_train.numpy(), (a - a.mean()) / a.std(), atol=1e-12)
    np.testing.assert_allclose(got.x_test.numpy(), (b - a.mean()) / a.std(), atol=1e-12)
    assert got.y_train.tolist() == ya.tolist()
    assert got.y_test.tolist() == yb.tolist()
    assert data("digits-mlp", tmp_path).shape == (1, 8, 8)
    assert Task(task_spec("digits-mlp"), tmp_path).data.shape == (64,)
    assert Task(task_spec("digits-lenet"), tmp_path).data.shape == (1, 8, 8)


@pytest.mark.parametrize("name", ["digits-mlp", "moons-mlp", "spirals-mlp", "blobs-mlp"])
def test_samples_and_label_noise_change_the_training_part_only(tmp_path, name):
    full = data(name, tmp_path)
    again = data(name, tmp_path)
    few = data(name, tmp_path, samples=100)
    noisy = data(name, tmp_path, label_noise=0.3)
    other = data(name, tmp_path, split_seed=1)
    assert full.fingerprints() == again.fingerprints()
    assert few.sizes["train"] == 100
    assert few.fingerprints()["test"] == noisy.fingerprints()["test"] == full.fingerprints()["test"]
    assert other.fingerprints()["train"] != full.fingerprints()["train"]
    assert torch.equal(noisy.x_train, full.x_train)
    assert (noisy.y_train != full.y_train).double().mean() == pytest.approx(0.3, abs=1e-3)
    assert noisy.y_train.max() < noisy.classes
    assert full.y_train.unique().numel() == full.classes


def test_more_samples_than_there_are_is_one_line(tmp_path):
    with pytest.raises(InputError, match="only 1437 training samples"):
        data("digits-mlp", tmp_path, samples=1438)
    with pytest.raises(InputError, match="at most 20000 samples"):
        data("blobs-mlp", tmp_path, samples=20_001, features=10_000)


@pytest.mark.parametrize("gz", [False, True])
def test_idx_files_are_read_from_the_home_and_scaled(tmp_path, gz):
    written = write_mnist(tmp_path / "data" / "mnist", gz=gz)
    got = data("mnist-lenet", tmp_path)
    images, labels = written["train"]
    assert got.x_train.shape == (30, 1, 28, 28)
    assert got.classes == 10
    np.testing.assert_allclose(got.x_train[:, 0].numpy(), (images - images.mean()) / images.std(), atol=1e-10)
    np.testing.assert_allclose(got.x_test[:, 0].numpy(), (written["t10k"][0] - images.mean()) / images.std(), atol=1e-10)
    assert got.y_train.tolist() == labels.tolist()
    elsewhere = data("mnist-lenet", tmp_path / "other", path=str(tmp_path / "data" / "mnist"))
    assert elsewhere.fingerprints() == got.fingerprints()


def damaged(content):
    return {
        "empty": b"",
        "truncated header": content[:10],
        "truncated": content[:-1],
        "too long": content + b"\0",
        "other magic": b"\1" + content[1:],
        "other type": content[:2] + b"\x0d" + content[3:],
        "other dimensions": content[:3] + b"\1" + content[4:],
        "sizes beyond memory": content[:4] + b"\xff" * 12 + content[16:],
    }


@pytest.mark.parametrize("fault", damaged(b"\0" * 100))
def test_damaged_idx_files_are_one_line_naming_the_file(tmp_path, fault):
    folder = tmp_path / "data" / "mnist"
    write_mnist(folder)
    file = folder / "train-images-idx3-ubyte"
    file.write_bytes(damaged(file.read_bytes())[fault])
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte") as error:
        data("mnist-mlp", tmp_path)
    assert "\n" not in str(error.value)


def test_other_faults_of_idx_folders_are_one_line(tmp_path):
    folder = tmp_path / "data" / "mnist"
    with pytest.raises(InputError, match=r"there is no .*train-images-idx3-ubyte"):
        data("mnist-mlp", tmp_path)
    write_mnist(folder, gz=True)
    file = folder / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"t10k-images.*truncated or not a gzip file"):
        data("mnist-mlp", tmp_path)
    write_mnist(folder)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.full(30, 77)))
    with pytest.raises(InputError, match="has the label 77"):
        data("mnist-mlp", tmp_path)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(29)))
    with pytest.raises(InputError, match=r"30 images but .* 29 labels"):
        data("mnist-mlp", tmp_path)


def test_cifar_binary_is_read_and_scaled_by_channel(tmp_path):
    records = write_cifar(tmp_path / "data" / "cifar10")
    got = data("cifar10-resnet", tmp_path)
    pixels = np.concatenate([records["data_batch_1"], records["data_batch_2"]])[:, 1:].reshape(-1, 3, 32, 32).astype(float)
    expected = (pixels - pixels.mean((0, 2, 3), keepdims=True)) / pixels.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(got.x_train.numpy(), expected, atol=1e-10)
    assert got.sizes == {"train": 40, "test": 20}


@pytest.mark.parametrize("content", [b"", b"\0" * 3072, b"\x0a" + b"\0" * 3072])
def test_damaged_cifar_files_are_one_line(tmp_path, content):
    folder = tmp_path / "data" / "cifar10"
    write_cifar(folder)
    (folder / "data_batch_2.bin").write_bytes(content)
    with pytest.raises(InputError, match=r"data_batch_2.bin is (truncated or )?not CIFAR-10 binary"):
        data("cifar10-lenet", tmp_path)
    with pytest.raises(InputError, match=r"no data_batch_1.bin"):
        data("cifar10-lenet", tmp_path / "nowhere")


def test_npz_features_images_and_own_split(tmp_path):
    random = np.random.default_rng(0)
    file = tmp_path / "own.npz"
    x, y = random.standard_normal((50, 7)), np.arange(50) % 3
    np.savez(file, x=x, y=y)
    got = data("npz-mlp", tmp_path, path=str(file))
    assert got.sizes == {"train": 40, "test": 10}
    assert got.classes == 3
    assert sorted(torch.cat([got.x_train, got.x_test])[:, 0].tolist()) == sorted(x[:, 0])
    images = random.integers(0, 256, (50, 8, 8), dtype=np.uint8)
    (tmp_path / "data" / "npz").mkdir(parents=True)
    np.savez(tmp_path / "data" / "npz" / "set.npz", x=images, y=y, x_test=images[:5], y_test=y[:5])
    got = data("npz-lenet", tmp_path)
    assert got.x_train.shape == (50, 1, 8, 8)
    assert float(got.x_train.mean()) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"x": np.zeros((5, 2))}, "needs arrays x and y"),
        ({"x": np.zeros((5, 2)), "y": np.zeros(4, int)}, "one integer class for each of the 5"),
        ({"x": np.zeros((5, 2)), "y": np.zeros(5)}, "one integer class"),
        ({"x": np.zeros((5, 2)), "y": np.zeros(5, int)}, "two at least"),
        ({"x": np.zeros((5, 2)), "y": np.array([-1, 0, 1, 0, 1])}, "count from 0"),
        ({"x": np.full((5, 2), np.nan), "y": np.arange(5)}, "not finite"),
        ({"x": np.zeros(5), "y": np.arange(5)}, "shape"),
        ({"x": np.array([None] * 5, object), "y": np.arange(5)}, "could run code"),
        (
            {"x": np.zeros((5, 2)), "y": np.arange(5), "x_test": np.zeros((5, 3)), "y_test": np.arange(5)},
            "samples in x have shape",
        ),
    ],
)
def test_bad_npz_files_are_one_line(tmp_path, arrays, fault):
    file = tmp_path / "bad.npz"
    np.savez(file, **arrays)
    with pytest.raises(InputError, match=fault) as error:
        data("npz-mlp", tmp_path, path=str(file))
    assert "bad.npz" in str(error.value)
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(InputError, match=r"bad.npz is damaged"):
        data("npz-mlp", tmp_path, path=str(file))


# -- architectures ----------------------------------------------------------------------------------------------------

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
        ("digits-mlp", {"widths": [10**9]}, "more than 500,000,000 parameters"),
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


# -- losses and objectives --------------------------------------------------------------------------------------------


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
