"""Loss surfaces the ways they are computed today, and ours: each contender fills the same grid and returns its losses."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from models import BATCH, Case, trained
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from landscape_core.objective import Objective


@dataclass
class Bench:
    """One case ready to run: the network, its data, two filter-normalised random directions and the grid points."""

    case: Case
    model: nn.Module = field(init=False)
    inputs: Tensor = field(init=False)
    targets: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.model, self.inputs, self.targets = trained(self.case)
        generator = torch.Generator().manual_seed(1)
        self.directions = [[_direction(p, generator) for p in self.model.parameters()] for _ in range(2)]
        self.axis = np.linspace(-0.5, 0.5, self.case.grid)
        self.points = np.stack(np.meshgrid(self.axis, self.axis, indexing="ij"), -1).reshape(-1, 2)
        self.objective = Objective(self.model, F.cross_entropy, (self.inputs, self.targets))
        flat = [torch.cat([d.flatten() for d in direction]) for direction in self.directions]
        self.slice = self.objective.slice(self.objective.theta, torch.stack(flat, 1))

    def reference(self) -> np.ndarray:
        """The losses in float64, evaluated plainly at every so many points."""
        model, inputs = copy.deepcopy(self.model).double(), self.inputs
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        found = [float(self._loss(model, inputs)) for _ in self._moved(model, self.points[:: self.case.every_reference])]
        return np.array(found)

    # -- how it is done today ---------------------------------------------------------------------------------------

    def essay(self) -> np.ndarray:
        """The naive loop: set the parameters, evaluate all data at once, read the number."""
        model = copy.deepcopy(self.model)
        return np.array([self._loss(model, self.inputs).item() for _ in self._moved(model, self.points)])

    def loader(self) -> np.ndarray:
        """A loop over a DataLoader at each point, loss and accuracy added up batch by batch."""
        model = copy.deepcopy(self.model)
        batches = DataLoader(TensorDataset(self.inputs, self.targets), batch_size=BATCH)
        found = []
        for _ in self._moved(model, self.points):
            total, hits = 0.0, 0
            with torch.no_grad():
                for inputs, targets in batches:
                    outputs = model(inputs)
                    total += F.cross_entropy(outputs, targets).item() * len(inputs)
                    hits += (outputs.argmax(1) == targets).sum().item()
            found.append(total / len(self.inputs))
        return np.array(found)

    def loss_landscapes(self) -> np.ndarray:
        """loss-landscapes' `random_plane` with filter normalisation: as many points, on directions that it draws itself."""
        import loss_landscapes
        from loss_landscapes.metrics import Loss

        metric = Loss(nn.CrossEntropyLoss(), self.inputs, self.targets)
        loss_landscapes.random_plane(self.model, metric, 1, self.case.grid, normalization="filter", deepcopy_model=True)
        return np.array([])

    # -- ours ---------------------------------------------------------------------------------------------------------

    def sweep(self) -> np.ndarray:
        """Our path for any module: points given one by one, no structure used."""
        origin, axes = self.slice.origin, self.slice.directions
        rows = np.split(self.points, self.case.grid)
        return np.concatenate([self.objective.losses(origin + torch.from_numpy(row).to(origin) @ axes).numpy() for row in rows])

    def plan(self) -> np.ndarray:
        """Our path for a plane."""
        return self.slice.evaluate(self.points)["loss"]

    def _moved(self, model: nn.Module, points: np.ndarray) -> object:
        """Set the model to each point in turn, as the essay does."""
        start = [p.detach().clone() for p in model.parameters()]
        for a, b in points:
            for p, t, u, v in zip(model.parameters(), start, *self.directions, strict=True):
                p.data = t + a * u.to(t) + b * v.to(t)
            yield

    def _loss(self, model: nn.Module, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return F.cross_entropy(model(inputs), self.targets)


def _direction(parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Li et al.'s filter-normalised random direction; zero for biases and normalisation."""
    noise = torch.randn(parameter.shape, generator=generator)
    if parameter.dim() < 2:
        return torch.zeros_like(noise)
    kept, drawn = (t.detach().flatten(1).norm(dim=1) for t in (parameter, noise))
    return noise * (kept / (drawn + 1e-10)).view(-1, *[1] * (noise.dim() - 1))


PEERS: dict[str, Callable[[Bench], np.ndarray]] = {
    "loss-landscapes 3.0.6": Bench.loss_landscapes,
    "the essay's loop": Bench.essay,
    f"DataLoader loop, {BATCH} a batch": Bench.loader,
}
OURS: dict[str, Callable[[Bench], np.ndarray]] = {"ours, any module": Bench.sweep, "ours, plane": Bench.plan}


def available() -> dict[str, Callable[[Bench], np.ndarray]]:
    """The peers that are installed."""
    present = importlib.util.find_spec("loss_landscapes") is not None
    return {name: run for name, run in PEERS.items() if present or run is not Bench.loss_landscapes}
