"""Keys never change silently: what people have computed would be computed again. The list is written down, not made here."""

import pytest

from landscape_core.checkpoints.runs import RunStore
from landscape_core.jobs.requests import Request
from landscape_core.specs import CheckpointRecord, RunRecord

TRAINING = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "batch_size": 64, "steps": 2000, "seed": 3}
# A key changes with the version of its analysis, and with a new field of its Spec: then its line is written anew, on purpose.
KEYS = [
    (("surface", "fixed@last", {}), "27bcd710055c40eb96dd28d8c63a0dd3"),
    (
        ("surface", "fixed@0", {"resolution": [11, 21], "extent": 0.5, "ignore": "none", "flow": 0}),
        "fdf4766333416076f9cbd296d68c6b58",
    ),
    (("surface", "fixed", {"dimensions": 1, "repeats": 3, "seed": 7, "test": True}), "3f5b9db5688a45e6dcc22d09235741e9"),
    (("surface", "fixed@2000", {"directions": "pca"}), "a33f99ee714976d89e570077fb02f50e"),
    (("surface", "fixed@2000", {"directions": "difference", "through": ["other@5"]}), "7cb5f366ef93eadb8d3e3b153f568b17"),
    (
        ("surface", "fixed@2000", {"directions": "through", "through": ["other@5", "fixed@0"], "trajectory": "other"}),
        "09fcfe32be6a192cffc1be4c5f1419de",
    ),
    (("surface", "fixed@2000", {"directions": "given", "given": "axes.npz"}), "11b7165cb10c9ec9e10c1b6072c5a959"),
    (("surface", "other@5", {"batchnorm": "batch", "dtype": "float64", "samples": 100}), "48adde69c706b99a6eab559566cf5669"),
    (("spectrum", "fixed@last", {}), "9218e622a26eafe58e66744fe9e7a904"),
    (
        ("spectrum", "fixed@100", {"operator": "ggn", "k": 3, "vectors": True, "split": "test"}),
        "5917465086c2888cc145a7a26a61bdc1",
    ),
    (("spectrum", "fixed", {"over": "run", "weight_decay": True}), "b857ec1a6cbb7064e458da285bd64528"),
    (("spectrum", "other@5", {"weight_decay": True, "layers": ["layers.0"]}), "093af76919efdc2171ff654026930f35"),
    (("overlap", "fixed@0", {}), "b9d7901d279257f147081a09f7363c40"),
    (("overlap", "other", {"k": 4, "reference": "last", "device": "cpu"}), "f2e42eb2659cc096244af6d2908a2558"),
    (("counterfactual", "fixed@0", {}), "e2337b1863664a3fc789718ff3cb0bde"),
    (("counterfactual", "fixed@100", {"steps": 50, "optimizer": "adam", "lr": 0.01}), "7a7439825e71ba9bc854a72e13e49f34"),
    (("high_dimensions", "fixed@last", {}), "36e7748a34987d703585c61df0b0c5f1"),
    (("calibration", "fixed@0", {}), "2d1b5badb7154b5cf4e9e875c30de3ba"),
    (("calibration", "other@5", {"samples": 10, "dtype": "float64"}), "00a39e65353ea4f57a7d3dbc93db7d79"),
    (("train", None, {"task": "digits-mlp", "run": "fixed"}), "039b6078f7e9d78f2b41c9e1b56adfd8"),
    (
        (
            "train",
            None,
            {"task": "npz-resnet", "run": "a", "path": "data.npz", "depth": 8, "steps": 10, "loss": "squared-error"},
        ),
        "b26964ccc39aafd6b223a2e18d954694",
    ),
    (
        ("import", None, {"task": "digits-mlp", "run": "b", "step": 7, "widths": [20], "upload": "c" * 64 + ".pt"}),
        "0382292ae569d17c020f63b39d2b5220",
    ),
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Two runs with made-up fingerprints, so that no arithmetic decides them, and a file that is named relative to here."""
    for name, task, arguments, dtype, training, steps in (
        ("fixed", "digits-mlp", {"widths": [20]}, "float32", TRAINING, (0, 100, 2000)),
        ("other", "cifar10-resnet", {"depth": 8, "loss": "squared-error"}, "float64", None, (5,)),
    ):
        RunStore(tmp_path).write(
            RunRecord(
                name=name,
                task=task,
                arguments=arguments,
                training=training,
                created="2030-01-01T00:00:00Z",
                parameters=1510,
                dtype=dtype,
                data={"train": f"{name} train", "test": f"{name} test"},
                sizes={"train": 1437, "test": 360},
                checkpoints=tuple(
                    CheckpointRecord(step=step, file=f"{step}.safetensors", fingerprint=f"{name} {step}", metrics={"lr": 0.1})
                    for step in steps
                ),
            )
        )
    (tmp_path / "axes.npz").write_bytes(b"axes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("asked", "key"), KEYS, ids=[f"{item[0]}-{item[1]}" for item, _ in KEYS])
def test_a_key_is_what_it_always_was(home, asked, key):
    assert Request(*asked).key(home) == key
