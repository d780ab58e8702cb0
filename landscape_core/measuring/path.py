"""The path of a run through the space of its weights, and which of its checkpoints are looked at."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import nn

from ..objective import Objective
from ..specs import AnalysisSpec
from .context import Context


def evenly(items: Iterable[int], count: int, keep: int) -> list[int]:
    """At most `count` of the sorted items, spread over their order, with the first, the last and `keep` if it is among them."""
    every = list(items)
    if len(every) <= count:
        return every
    places = np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))
    chosen = [every[i] for i in places]
    if keep in every and keep not in chosen:
        inner = range(1, len(chosen) - 1) or range(len(chosen))
        nearest = min(inner, key=lambda i: abs(chosen[i] - keep))
        chosen[nearest] = keep
    return sorted(chosen)


def own_step(context: Context) -> int | None:
    """The step of the source, None for a bare Objective."""
    text = context.source.rpartition("@")[2]
    return int(text) if text.isdigit() else None


def rate_of(context: Context, step: int | None) -> float | None:
    """The learning rate of the update that follows the checkpoint at `step`, as far as it is known."""
    found = None if step is None else context.rates.get(step)
    return found if found is not None else context.training.get("lr")


def normalised(objective: Objective) -> bool:
    """Whether the network keeps statistics of batches, as BatchNorm does."""
    return any(getattr(module, "running_mean", None) is not None for module in objective.network.model.modules())


def drops(objective: Objective) -> bool:
    """Whether the network has dropout, which is off in every analysis."""
    return any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in objective.network.model.modules())


def stored_statistics(spec: AnalysisSpec, objective: Objective) -> list[str]:
    """What must be said of a path whose BatchNorm statistics are not its own."""
    stored = spec.batchnorm == "stored" and normalised(objective)
    return ["the statistics of BatchNorm are those of the last checkpoint at every step"] if stored else []


def not_trained_on(spec: AnalysisSpec, objective: Objective) -> str:
    """Why the loss over the sample of the Spec is not the one that the run was trained on; empty where it is."""
    if spec.split != "train":
        return f"this is the loss over {spec.split} samples, not over those that were trained on"
    if spec.samples is not None:
        return "this is the loss over a part of the training samples"
    if normalised(objective) and spec.batchnorm == "stored":
        return "BatchNorm takes stored statistics here and those of each batch in training"
    return "dropout is off here and on in training" if drops(objective) else ""
