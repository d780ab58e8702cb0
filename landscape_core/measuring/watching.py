"""What a network does in a forward pass that a picture of its loss must speak of: normalisation by the batch, kinks."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..objective import Objective
from ..objective.foreign import pass_over

# Operations whose slope jumps, and what they are called.
KINKED = {
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "_prelu_kernel": "PReLU",
    "prelu": "PReLU",
    "hardtanh": "hard tanh",
    "hardswish": "hard swish",
    "hardsigmoid": "hard sigmoid",
    "threshold": "threshold",
    "rrelu_with_noise": "RReLU",
    "max_pool2d_with_indices": "max pooling",
    "max_pool3d_with_indices": "max pooling",
    "adaptive_max_pool2d": "max pooling",
    "maximum": "maximum",
    "minimum": "minimum",
    "abs": "absolute value",
}


class Watching(TorchDispatchMode):
    """Notes the name of each operation, without its overload and a trailing underscore."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func._schema.name.partition("::")[2].removesuffix("_"))
        return func(*args, **(kwargs or {}))


def network_card(objective: Objective) -> dict[str, Any]:
    """`has_batchnorm`, its statistics, and `kinks`: what in network and loss has a slope that jumps, by name.

    Nothing where a model hides what it does.
    """
    batch = objective.chunks()[0]
    watching = Watching()
    try:
        objective.network.set(objective.theta)
        with torch.no_grad(), watching:
            objective.term(objective.network(batch.inputs), batch)
    except Exception as error:  # a model that hides what it does
        pass_over(error)
        return {}
    kinks = dict.fromkeys(KINKED[name] for name in sorted(watching.seen) if name in KINKED)
    normalised = any("batch_norm" in name for name in watching.seen)
    return {"has_batchnorm": normalised, "batchnorm_statistics": objective.batchnorm, "kinks": ", ".join(kinks)}
