"""Networks of other packages: `make test-long` runs these with .venv-foreign, where all of the packages must be there."""

import importlib.util
import os

import pytest
import torch

PACKAGES = ("facenet_pytorch", "lightning", "peft", "timm", "torch_geometric", "torchvision", "transformers")

# Elsewhere only where the packages happen to be. With LANDSCAPE_FOREIGN a missing one fails.
if not os.environ.get("LANDSCAPE_FOREIGN") and not all(importlib.util.find_spec(name) for name in PACKAGES):
    collect_ignore_glob = ["test_*.py"]
else:
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        # Its operations are built for one build of PyTorch, and it asks for the names of two. No network here uses them.
        _operations = torch.library.Library("torchvision", "DEF")
        for _name in ("nms", "qnms"):
            _operations.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a person runs it: fast forms step aside for what foreign code raises."""
    monkeypatch.delenv("LANDSCAPE_STRICT", raising=False)
    torch.manual_seed(0)
    torch.set_num_threads(1)
