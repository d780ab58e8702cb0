"""A private copy of a model whose trainable parameters are views of one flat buffer: the caller's model is never touched."""

from __future__ import annotations

import copy
import inspect
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..specs import InputError
from .space import ParameterSpace

BatchNorm = Literal["stored", "batch"]


class Network:
    """The model as a function of theta: `set(theta)`, then call it with a batch's inputs.

    Always in evaluation mode (dropout off). `batchnorm="batch"` makes every BatchNorm normalise each batch by that batch's
    own mean and biased variance, as in training, without touching the stored statistics.
    """

    def __init__(
        self, model: nn.Module, space: ParameterSpace, *, batchnorm: BatchNorm, dtype: torch.dtype, device: torch.device
    ):
        self.space = space
        self.model = _private_copy(model).to(device=device, dtype=dtype).eval()
        if batchnorm == "batch":
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    # Without stored statistics PyTorch uses those of the batch, in evaluation mode too.
                    module.running_mean = module.running_var = None
        parameters = dict(self.model.named_parameters())
        self.buffer = space.flatten(parameters)
        for name, view in space.split(self.buffer).items():
            parameters[name].data = view
            parameters[name].grad = None
        self.parameters = [parameters[e.name] for e in space.entries]
        self._signature = _signature(self.model)

    def set(self, theta: Tensor) -> None:
        """Make theta `(p,)` the parameters, in place."""
        with torch.no_grad():
            self.buffer.copy_(theta)

    def __call__(self, inputs: Any) -> Any:
        """The model's outputs. A tuple or dict is spread over the arguments of `forward` where they fit, else passed whole."""
        if isinstance(inputs, dict) and self._fits((), inputs):
            return self.model(**inputs)
        if isinstance(inputs, (tuple, list)) and self._fits(tuple(inputs), {}):
            return self.model(*inputs)
        return self.model(inputs)

    def _fits(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if self._signature is None:
            return True
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError:
            return False
        return True


def _private_copy(model: nn.Module) -> nn.Module:
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise InputError(
            f"the model cannot be copied ({type(error).__name__}: {error}); give one that copy.deepcopy accepts"
        ) from None


def _signature(model: nn.Module) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None
