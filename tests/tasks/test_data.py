import gzip
import struct

import numpy as np
import pytest
import torch

from landscape_core.specs import InputError, task_spec
from landscape_core.tasks import Task, load_data


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
    with pytest.raises(InputError, match=r"t10k-images.*(truncated or not a gzip file|get it again if it is not whole)"):
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
