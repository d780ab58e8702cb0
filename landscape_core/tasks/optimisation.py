"""The moving parts of training: optimisers, learning rates over time, the order of batches, and evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..specs import TrainingSpec
from .losses import Loss

_CHUNK = 256  # keeps the activations of convolutions in the cache


def make_optimizer(spec: TrainingSpec, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """SGD (momentum: heavy-ball v <- m v + g, theta <- theta - lr v), Adam or AdamW.

    Weight decay is added to the gradient, and decoupled for AdamW.
    """
    if spec.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay)
    adam = torch.optim.Adam if spec.optimizer == "adam" else torch.optim.AdamW
    return adam(parameters, lr=spec.lr, weight_decay=spec.weight_decay, fused=True)


def learning_rate(spec: TrainingSpec, step: int) -> float:
    """The learning rate of the update that leads from `step` to `step + 1`."""
    if spec.schedule == "cosine":
        return spec.lr * 0.5 * (1 + math.cos(math.pi * step / spec.steps))
    if spec.schedule == "step":
        return spec.lr * 0.1 ** ((2 * step >= spec.steps) + (4 * step >= 3 * spec.steps))
    return spec.lr


class BatchOrder:
    """Which samples each step sees: `torch.randperm` from a generator with `seed`, anew each epoch, the rest dropped.

    With `size` 0 or at least `n` every step sees all samples in their own order.
    """

    def __init__(self, n: int, size: int, seed: int):
        self.n, self.size = n, size
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch_start = self.generator.get_state()
        self.order: Tensor | None = None
        self.place = 0

    def __next__(self) -> Tensor | None:
        """Indices (size,) of the next batch; None means all samples."""
        if not 0 < self.size < self.n:
            return None
        if self.order is None or self.place + self.size > self.n:
            self.epoch_start = self.generator.get_state()
            self.order = torch.randperm(self.n, generator=self.generator)
            self.place = 0
        self.place += self.size
        return self.order[self.place - self.size : self.place]

    def state(self) -> dict[str, Tensor]:
        """All that `restore` needs to go on with the next batch."""
        return {"epoch_start": self.epoch_start, "place": torch.tensor(-1 if self.order is None else self.place)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.generator.set_state(state["epoch_start"])
        self.order = None
        place = int(state["place"])
        if place >= 0:
            self.epoch_start = state["epoch_start"]
            self.order = torch.randperm(self.n, generator=self.generator)
            self.place = place


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's memory (momentum, moments, counters) as named tensors: `<parameter>.<name>`."""
    return {
        f"{index}.{name}": value
        for index, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give the optimiser the memory that `optimizer_tensors` read."""
    memory: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        memory.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": memory})


def evaluate(model: nn.Module, loss: Loss, samples: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """`<split>_loss` and `<split>_accuracy` on the given samples (x, y) of each split, BatchNorm as stored."""
    training = model.training
    model.eval()
    metrics = {}
    with torch.no_grad():
        for split, (x, y) in samples.items():
            total = correct = 0.0
            for a, b in zip(x.split(_CHUNK), y.split(_CHUNK), strict=True):
                outputs = model(a)
                total += float(loss(outputs, b)) * len(b)
                correct += int((outputs.argmax(1) == b).sum())
            metrics[f"{split}_loss"] = total / len(y)
            metrics[f"{split}_accuracy"] = correct / len(y)
    model.train(training)
    return metrics


def parameter_norm(model: nn.Module) -> float:
    """The L2 norm of all trainable parameters together, in float64."""
    squares = [value.detach().double().square().sum() for value in model.parameters() if value.requires_grad]
    return math.sqrt(float(sum(squares)))
