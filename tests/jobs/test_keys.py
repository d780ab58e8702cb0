"""Keys never change silently: what people have computed would be computed again. The list is written down, not made here."""

import pytest

from landscape_core.checkpoints.runs import RunStore
from landscape_core.jobs.requests import Request
from landscape_core.specs import CheckpointRecord, RunRecord

TRAINING = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "batch_size": 64, "steps": 2000, "seed": 3}
# A key changes with the version of its analysis, and with a new field of its Spec: then its line is written anew, on purpose.
KEYS = [
    (("surface", "fixed@last", {}), "0c9a7b7521b1ab6bc7c7f3ac9871b58b"),
    (
        ("surface", "fixed@0", {"resolution": [11, 21], "extent": 0.5, "ignore": "none", "flow": 0}),
        "cf9f342fa675832e976d4fb407bc1ff4",
    ),
    (("surface", "fixed", {"dimensions": 1, "repeats": 3, "seed": 7, "test": True}), "e44a8a00f83f86e7eacc64e080d6d9e4"),
    (("surface", "fixed@2000", {"directions": "pca"}), "bb929b43d288a862c765b83965d553f7"),
    (("surface", "fixed@2000", {"directions": "difference", "through": ["other@5"]}), "242e1b69a9b33a25e828162a69ee053d"),
    (
        ("surface", "fixed@2000", {"directions": "through", "through": ["other@5", "fixed@0"], "trajectory": "other"}),
        "51e52a079df14c3f9dd400206c2d72f8",
    ),
    (("surface", "fixed@2000", {"directions": "given", "given": "axes.npz"}), "b99fb3d3461c84e348f8309a1c1d985c"),
    (("surface", "other@5", {"batchnorm": "batch", "dtype": "float64", "samples": 100}), "474458c7f7adb88da1bd79fdd4f50930"),
    (("spectrum", "fixed@last", {}), "2af0e69222229bde31d259ec0c37f37a"),
    (
        ("spectrum", "fixed@100", {"operator": "ggn", "k": 3, "vectors": True, "split": "test"}),
        "7f0c228a55a915450cf09753a50ec1cd",
    ),
    (("spectrum", "fixed", {"over": "run", "weight_decay": True}), "aa362d845ac6a2940be3489876b8546d"),
    (("spectrum", "other@5", {"weight_decay": True, "layers": ["layers.0"]}), "62889b36fea715f264d8b25d9c399fff"),
    (("overlap", "fixed@0", {}), "c28e63648bdc012a00d08ffd3caaebdd"),
    (("overlap", "other", {"k": 4, "reference": "last", "device": "cpu"}), "c6d41ea0dec4a3f7c0f02dda284ab693"),
    (("counterfactual", "fixed@0", {}), "8b10e9dddbc6e70ef899d1da68dbccbf"),
    (("counterfactual", "fixed@100", {"steps": 50, "optimizer": "adam", "lr": 0.01}), "bbc99cd506b1b9a00d9f9b948ae7c9d3"),
    (("high_dimensions", "fixed@last", {}), "750b325dab5573a64bba6248548a0cb6"),
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
