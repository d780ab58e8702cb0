"""A Task: data, architecture and loss function, and the Objective that they make of some weights."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..checkpoints.weights import match_state
from ..objective import Objective
from ..specs import TaskSpec
from ..specs.tasks import MLPArchitecture, task_entry
from .architectures import build_model
from .data import Data, known_shape, load_data
from .devices import torch_device
from .losses import LOSSES, Loss, class_accuracy

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Task:
    """What turns weights into a loss. Data are loaded once, on first use, under `home`."""

    spec: TaskSpec
    home: Path
    dtype: torch.dtype = torch.float32  # of `data` and `model`

    @functools.cached_property
    def data(self) -> Data:
        """The samples in `dtype`; features (N, d) for an MLP, images (N, C, H, W) otherwise. Raises InputError."""
        data = load_data(self.spec.data, self.home, self.dtype)
        return data.flat() if isinstance(self.spec.architecture, MLPArchitecture) else data

    @property
    def loss(self) -> Loss:
        """`loss(outputs (N, C), targets (N,)) -> scalar`, the mean over the batch."""
        return LOSSES[self.spec.loss]

    def model(self, seed: int | None = None) -> nn.Module:
        """A fresh network as `torch.manual_seed(seed)` initialises it; the global generator is left as it was.

        Drawn in float32 and then converted, so that both dtypes start from the same function.
        """
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.manual_seed(seed)
            return build_model(self.spec.architecture, self.data.shape, self.data.classes).to(self.dtype)

    @functools.cached_property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        with torch.device("meta"):
            return _count(build_model(self.spec.architecture, self.data.shape, self.data.classes))

    def objective(
        self,
        state: Mapping[str, Tensor] | None = None,
        *,
        split: Split = "train",
        samples: int | None = None,
        test: bool = False,
        batchnorm: Literal["stored", "batch"] = "stored",
        dtype: torch.dtype | None = None,
        device: str = "auto",
    ) -> Objective:
        """The loss of this task as a function of the parameters, at the weights `state` (None: as seed 0 initialises).

        The sample is `split`, or `samples` of it drawn without replacement by a generator seeded 0, the same for every
        checkpoint; `test` adds the test part (cut the same way) as the objective's test samples. `dtype` None takes that
        of the weights. Raises InputError if the weights do not fit the network.
        """
        first = None if state is None else next((v for v in state.values() if v.is_floating_point()), None)
        chosen = dtype or (self.dtype if first is None else first.dtype)
        task = self if chosen == self.dtype else Task(self.spec, self.home, chosen)
        model = task.model(seed=0)
        if state is not None:
            model.load_state_dict(match_state(state, model, "the checkpoint"))
        return Objective(
            model,
            task.loss,
            [task.sample(split, samples)],
            # Cross-entropy is seen to be a loss of classes; that of other losses is said.
            metrics=None if task.spec.loss == "cross-entropy" else {"accuracy": class_accuracy},
            test_batches=[task.sample("test", samples)] if test else None,
            batchnorm=batchnorm,
            dtype=chosen,
            device=torch_device(device),
        )

    def sample(self, split: Split, samples: int | None = None) -> tuple[Tensor, Tensor]:
        """The samples (x, y) of a split, or `samples` of them drawn without replacement by a generator seeded 0."""
        x, y = self.data.split(split)
        if samples is None or samples >= len(y):
            return x, y
        kept = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:samples]
        return x[kept], y[kept]


def load_task(spec: TaskSpec, home: Path, dtype: torch.dtype = torch.float32) -> Task:
    """The Task of `spec`, made by the loader that its entry in the registry names."""
    module, function = task_entry(spec.name).loader.split(":")
    task: Task = getattr(importlib.import_module(module), function)(spec, home, dtype)
    return task


def parameter_count(spec: TaskSpec) -> int | None:
    """Number of trainable parameters, without reading data or allocating; None where only the file tells the sizes.

    Raises InputError if architecture and data do not go together.
    """
    shape, classes = known_shape(spec.data)
    if not classes:
        return None
    with torch.device("meta"):
        return _count(build_model(spec.architecture, shape, classes))


def _count(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters() if value.requires_grad)
