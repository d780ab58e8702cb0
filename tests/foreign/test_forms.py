"""Forms in which people have foreign networks and data: loaders, half precision, a module that its trainer holds."""

import copy
from typing import Any

import lightning
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader as GraphLoader

import landscape_core
from landscape_core import InputError, Objective

from .networks import CASES, Digits, bert, classes, edges, gcn, graphs, lightning_data, llama, named, normal, tokens
from .plain import Plain


class Texts(Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return 11

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": tokens(1, 8, 50 + i)[0], "labels": int(classes(1, 3, 70 + i))}


def test_a_loader_of_dicts() -> None:
    """The loader that transformers' own trainer takes: labels lie among the inputs."""
    model = bert().model
    loader = DataLoader(Texts(), batch_size=4)

    def loss(outputs: Any, y: Any) -> Any:
        return F.cross_entropy(outputs.logits, y)

    pairs = [({"input_ids": batch["input_ids"]}, batch["labels"]) for batch in loader]
    expected = Plain(model, loss, pairs, (4, 4, 3), named)
    for batches in (loader, list(loader), pairs):
        objective = Objective(model, loss, batches)
        assert objective.loss() == pytest.approx(expected.loss(expected.theta), rel=1e-5)
        assert objective.size() == 11


def test_a_loader_of_graphs_is_one_line() -> None:
    data = [Data(x=normal(5, 5, seed=i), edge_index=edges(5, 6, i), y=normal(1, seed=i)) for i in range(4)]
    with pytest.raises(InputError) as refused:
        Objective(graphs().model, F.mse_loss, GraphLoader(data, batch_size=2))
    assert "\n" not in str(refused.value)
    assert "pair" in str(refused.value)


def test_weights_in_half_precision_are_asked_for_an_arithmetic() -> None:
    case = llama()
    model = copy.deepcopy(case.model).to(torch.bfloat16)
    with pytest.raises(InputError, match=r"dtype=torch\.float32"):
        Objective(model, case.loss, list(case.batches))
    objective = Objective(model, case.loss, list(case.batches), dtype=torch.float32)
    expected = Plain(model.float(), case.loss, case.batches, case.weights, case.call)
    assert objective.loss() == pytest.approx(expected.loss(expected.theta), rel=1e-5)


def test_a_module_that_its_trainer_holds() -> None:
    module, (batches, weights) = Digits(), lightning_data()
    trainer = lightning.Trainer(
        max_steps=10, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(*batches[0]), batch_size=8))
    assert module.trainer is trainer
    expected = Plain(module, F.cross_entropy, batches, weights, lambda model, x: model(x))
    objective = Objective(module, F.cross_entropy, batches)
    assert objective.loss() == pytest.approx(expected.loss(expected.theta), rel=1e-5)
    found = landscape_core.compute("spectrum", objective, k=3, k_bottom=1, method="lanczos")["eigenvalues_top"]
    assert found == pytest.approx(expected.top(expected.theta, 3), rel=1e-3)
    assert module.trainer is trainer


def test_a_graph_is_one_batch_whole() -> None:
    """Its nodes cannot be drawn or cut out: a mask of them is a loss of its own."""
    case = gcn()
    mask = torch.arange(30) < 12

    def loss(outputs: Any, y: Any) -> Any:
        return F.cross_entropy(outputs[mask], y[mask])

    objective = Objective(case.model, loss, list(case.batches))
    expected = Plain(case.model, loss, case.batches, case.weights, case.call)
    assert objective.loss() == pytest.approx(expected.loss(expected.theta), rel=1e-5)
    found = landscape_core.compute("spectrum", objective, k=3, method="dense")["eigenvalues_top"]
    assert found == pytest.approx(expected.top(expected.theta, 3), rel=1e-4)
    surface = landscape_core.compute("surface", objective, resolution=5, flow=3)
    there = expected.theta + float(surface["alphas"][-1]) * torch.from_numpy(surface["direction_0"]).double()
    assert surface["loss"][-1, 2] == pytest.approx(expected.loss(there), rel=1e-5)


@pytest.mark.parametrize("name", ["MobileNetV3", "ResNet-18"])
def test_statistics_of_the_batch(name: str) -> None:
    """BatchNorm as in training: the statistics are a function of the weights."""
    torch.manual_seed(0)
    case = CASES[name]()
    reference = Plain(case.model, case.loss, case.batches, case.weights, case.call)
    for module in reference.model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean = module.running_var = None
    objective = Objective(case.model, case.loss, list(case.batches), batchnorm="batch")
    assert objective.loss() == pytest.approx(reference.loss(reference.theta), rel=1e-5)
    gradient, expected = objective.gradient().double(), reference.gradient(reference.theta)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-4


def test_a_model_that_returns_its_loss_alone_is_known_by_the_line() -> None:
    """Without labels T5 asks for decoder inputs: what a model raises is one line."""
    model = CASES["T5"]().model
    ids = tokens(4, 6, 80)
    with pytest.raises(InputError) as refused:
        Objective(model, lambda outputs, y: outputs.loss, [({"input_ids": ids}, ids)]).loss()
    assert "\n" not in str(refused.value)
    assert isinstance(model, transformers.T5ForConditionalGeneration)
