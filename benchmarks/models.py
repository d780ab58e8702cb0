"""The networks and data that the benchmarks run on; every call builds the same ones."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))  # the program runs from its checkout
from landscape_core.specs.tasks import LeNetArchitecture, MLPArchitecture, ResNetArchitecture
from landscape_core.tasks.architectures import build_model

TRAINING_STEPS = 40
BATCH = 128
NETWORKS = "LANDSCAPE_BENCHMARK_NETWORKS"  # the environment's name of a folder that lives as long as one run


@dataclass(frozen=True)
class Case:
    """A network, `samples` of its data, and the grid that a surface of it is measured on."""

    name: str
    title: str
    build: Callable[[torch.Generator], tuple[nn.Module, Tensor, Tensor]]
    grid: int
    every_reference: int = 1  # every how many grid points are also evaluated in float64


def digits(generator: torch.Generator) -> tuple[nn.Module, Tensor, Tensor]:  # noqa: ARG001
    from sklearn.datasets import load_digits

    data = load_digits()
    inputs, targets = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    return build_model(MLPArchitecture(widths=(32,)), (64,), 10), inputs, targets


def mlp(generator: torch.Generator) -> tuple[nn.Module, Tensor, Tensor]:
    inputs, targets = blobs(2048, (784,), 0.15, generator)
    return build_model(MLPArchitecture(widths=(512, 512)), (784,), 10), inputs, targets


def lenet(generator: torch.Generator) -> tuple[nn.Module, Tensor, Tensor]:
    inputs, targets = blobs(2048, (1, 28, 28), 0.4, generator)
    return build_model(LeNetArchitecture(), (1, 28, 28), 10), inputs, targets


def resnet(generator: torch.Generator) -> tuple[nn.Module, Tensor, Tensor]:
    inputs, targets = blobs(1024, (3, 32, 32), 0.4, generator)
    return build_model(ResNetArchitecture(depth=20), (3, 32, 32), 10), inputs, targets


def transformer(generator: torch.Generator) -> tuple[nn.Module, Tensor, Tensor]:
    """Next tokens of arithmetic sequences modulo 64, 32 tokens a sample."""
    first, step = (torch.randint(low, high, (512, 1), generator=generator) for low, high in ((0, 64), (1, 8)))
    tokens = (first + step * torch.arange(33)) % 64
    return LanguageModel(), tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def blobs(count: int, shape: tuple[int, ...], distance: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ten noisy classes: `distance` times a random centre plus unit noise, one label in ten random."""
    centers = torch.randn(10, *shape, generator=generator)
    targets = torch.randint(0, 10, (count,), generator=generator)
    inputs = distance * centers[targets] + torch.randn(count, *shape, generator=generator)
    wrong = torch.rand(count, generator=generator) < 0.1
    targets[wrong] = torch.randint(0, 10, (int(wrong.sum()),), generator=generator)
    return inputs, targets


class LanguageModel(nn.Module):
    """Decoder-only transformer: embedding and learned positions, pre-norm blocks, scores `(N, tokens, T)`."""

    def __init__(self, tokens: int = 64, length: int = 32, width: int = 64, heads: int = 4, layers: int = 2):
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(DecoderBlock(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tokens)
        self.register_buffer("future", torch.triu(torch.ones(length, length, dtype=torch.bool), 1))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position
        for block in self.blocks:
            x = block(x, self.future)
        return self.head(self.norm(x)).transpose(1, 2)


class DecoderBlock(nn.Module):
    """Causal attention written out, and an MLP of four times the width."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, future: Tensor) -> Tensor:
        samples, length, width = x.shape
        query, key, value = self.qkv(self.norm1(x)).view(samples, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        mixed = scores.masked_fill(future, float("-inf")).softmax(-1) @ value
        x = x + self.out(mixed.transpose(1, 2).reshape(samples, length, width))
        return x + self.mlp(self.norm2(x))


CASES = {
    case.name: case
    for case in (
        Case("digits", "MLP 64-32-10, 1,797 digits", digits, 15),
        Case("mlp", "MLP 784-512-512-10, 2,048 samples", mlp, 9, every_reference=8),
        Case("lenet", "LeNet-5, 2,048 images 28x28", lenet, 5, every_reference=6),
        Case("resnet", "ResNet-20 with BatchNorm, 1,024 images 32x32", resnet, 3, every_reference=4),
        Case("transformer", "transformer d64 L2 T32, 512 sequences", transformer, 4, every_reference=5),
    )
}


def trained(case: Case, steps: int = TRAINING_STEPS) -> tuple[nn.Module, Tensor, Tensor]:
    """The case's network after a few steps of Adam, in evaluation mode, with its data: seeded, the same in every process.

    Data and batches are drawn from one generator and weights from another. Workers of one run train it once: the first leaves
    the weights in the folder that `NETWORKS` names.
    """
    generator = torch.Generator().manual_seed(0)
    kept = Path(os.environ[NETWORKS]) / f"{case.name}-{steps}.pt" if NETWORKS in os.environ else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, inputs, targets = case.build(generator)
        if kept and kept.exists():
            model.load_state_dict(torch.load(kept))
            return model.eval(), inputs, targets
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(steps):
            rows = torch.randint(0, len(inputs), (BATCH,), generator=generator)
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    if kept:
        torch.save(model.state_dict(), kept)
    return model.eval(), inputs, targets
