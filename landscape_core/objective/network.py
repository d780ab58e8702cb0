"""A private copy of a model whose trainable parameters are views of one flat buffer: the caller's model is never touched."""

from __future__ import annotations

import copy
import inspect
import types
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..specs import InputError
from .derivatives import TrueDerivatives
from .kept import INSIDE
from .reasons import of_model
from .space import ParameterSpace
from .still import Still
from .trees import map_tensors, tensors

BatchNorm = Literal["stored", "batch"]


class Network:
    """The model as a function of theta: `set(theta)`, then call it with a batch's inputs.

    Always in evaluation mode (dropout off). `batchnorm="batch"` makes every BatchNorm normalise each batch by that batch's
    own mean and biased variance, as in training, without touching the stored statistics. A model that still draws random
    numbers, updates what it keeps or writes into its inputs is made a function (`Still`), and what PyTorch derives otherwise
    than by the loss is rewritten (`TrueDerivatives`).
    """

    def __init__(
        self, model: nn.Module, space: ParameterSpace, *, batchnorm: BatchNorm, dtype: torch.dtype, device: torch.device
    ):
        self.space = space
        self.model = _private_copy(model).to(device)
        self.model = (self.model.double() if dtype == torch.float64 else self.model.float()).eval()  # complex buffers stay
        for module in self.model.modules():
            _settle(module, batchnorm)
            _cast_attributes(module, dtype, device)
        parameters = dict(self.model.named_parameters())
        self.buffer = space.flatten(parameters)
        self._apart: list[tuple[Tensor, Tensor]] = []
        for name, view in space.split(self.buffer).items():
            # A pair of numbers can be seen as a complex one at even places alone.
            pairs = view.dim() and view.shape[-1] == 2 and view.storage_offset() % 2
            parameters[name].data = view.clone() if pairs else view
            parameters[name].grad = None
            if pairs:
                self._apart.append((parameters[name], view))
        self.parameters = [parameters[e.name] for e in space.entries]
        self._signature = _signature(self.model)
        self.loss: Still | None = None  # bound to this copy, where a loss reads the model
        own = weakref.proxy(self)  # no cycle
        self.call = Still(lambda inputs: own.apply(inputs), [self.model], device)
        self._rewritten = False  # whether it calls what is rewritten for its derivatives

    def set(self, theta: Tensor) -> None:
        """Make theta `(p,)` the parameters, in place. Raises InputError for another shape."""
        if theta.shape != self.buffer.shape:
            raise InputError(f"theta must have shape ({len(self.buffer)},) (got {tuple(theta.shape)})")
        with torch.no_grad():
            self.buffer.copy_(theta)

    def exactly(self) -> AbstractContextManager[Any]:
        """A context without the caller's autocast, which would round in the middle of a model or of its derivative."""
        device = self.buffer.device.type
        return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()

    def gradient(self, value: Tensor, vector: Tensor | None = None, **options: bool) -> Tensor:
        """Derivative by theta `(p,)` of a number, or of a vector weighted by `vector`; zero where nothing depends on theta."""
        if not value.requires_grad:
            return torch.zeros_like(self.buffer)
        parts = torch.autograd.grad(value, self.parameters, vector, allow_unused=True, materialize_grads=True, **options)
        return torch.cat([part.reshape(-1) for part in parts])

    def __call__(self, inputs: Any) -> Any:
        """The model's outputs. A tuple or dict is spread over the arguments of `forward` where they fit, else passed whole."""
        try:
            with self.exactly(), TrueDerivatives() if self._rewritten else nullcontext():
                return self.call(inputs) if self.call.watched else self._first(inputs)
        except ValueError as error:
            if "more than 1 value per channel" in str(error):
                raise InputError(
                    "BatchNorm on the batch's statistics needs more than one sample in a batch: join small ones"
                ) from None
            raise of_model(error, inputs) from error
        except Exception as error:
            raise of_model(error, inputs) from error

    @property
    def pure(self) -> bool:
        """Whether the calls so far showed a function: nothing drawn, updated or written into."""
        return self.call.steady

    def apply(self, inputs: Any) -> Any:
        """The model's outputs, as it computes them by itself."""
        for own, view in self._apart:
            own.data.copy_(view)
        if isinstance(inputs, dict) and self.takes((), inputs):
            return self.model(**inputs)
        if isinstance(inputs, (tuple, list)) and self.takes(tuple(inputs), {}):
            return self.model(*inputs)
        return self.model(inputs)

    def _first(self, inputs: Any) -> Any:
        """The first call finds out what care the model needs."""
        with TrueDerivatives() as watch:
            outputs = self.call(inputs)
        self._rewritten = watch.used
        return outputs

    def takes(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether `forward` can be called with such arguments, as far as its signature says."""
        if self._signature is None:
            return True
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError:
            return False
        return True


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DataParallel, DistributedDataParallel and torch.compile, whose parameters have their own names."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def _private_copy(model: nn.Module) -> nn.Module:
    # deepcopy refuses results of a computation, which weight_norm, pruning and cached activations leave on a module.
    results = {id(t): t.detach().clone() for m in model.modules() for t in tensors(vars(m)) if not t.is_leaf}
    try:
        own = copy.deepcopy(model, results)
    except Exception as error:
        line = " ".join(str(error).split())
        raise InputError(
            f"the model cannot be copied ({type(error).__name__}: {line}); give one that copy.deepcopy accepts"
        ) from None
    for (name, module), copied in zip(model.named_modules(), own.modules(), strict=True):
        forward = vars(module).get("forward")
        if isinstance(forward, types.FunctionType) and vars(copied).get("forward") is forward:
            where = name or "the model"
            raise InputError(f"forward of {where} was replaced on the instance, so a copy would run the original: subclass it")
    return own


def _settle(module: nn.Module, batchnorm: BatchNorm) -> None:
    """Make a module of the private copy compute the same function with and without gradients, and BatchNorm as asked."""
    if isinstance(module, nn.TransformerEncoder):
        module.use_nested_tensor = False  # the fast path without gradients would zero the padded positions
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):  # theta is dense, and its derivative that of the loss
        module.sparse = module.scale_grad_by_freq = False
    if isinstance(module, nn.Embedding):
        module.padding_idx = None
    if isinstance(module, nn.RNNBase):
        module.dropout = 0.0  # cuDNN differentiates recurrent layers in training mode only
        module.train()
    if isinstance(module, _WeightNorm):
        vars(module)["forward"] = types.MethodType(_weight_norm, module)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            vars(hook)["compute_weight"] = types.MethodType(_hooked_weight_norm, hook)
    if batchnorm == "batch":
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            # Without stored statistics PyTorch uses those of the batch, in evaluation mode too.
            module.running_mean = module.running_var = None
        elif isinstance(module, torch.jit.ScriptModule) and getattr(module, "running_mean", None) is not None:
            raise InputError("batchnorm='batch' cannot reach into a TorchScript model: give the Python model")


def _cast_attributes(module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Tensors that a module keeps as plain attributes follow its parameters."""
    for key, value in vars(module).items():
        held = [] if key in INSIDE else [*tensors(value)]
        if held and not any(isinstance(t, nn.Parameter) for t in held):
            vars(module)[key] = map_tensors(value, lambda t: t.detach().to(device, dtype if t.is_floating_point() else t.dtype))


def _weight_norm(module: Any, g: Tensor, v: Tensor) -> Tensor:
    """W = g v / |v|: PyTorch's fused operation has a wrong second derivative (2.13, CPU) without saying so."""
    return v * (g / torch.norm_except_dim(v, 2, module.dim))


def _hooked_weight_norm(hook: Any, module: nn.Module) -> Tensor:
    return _weight_norm(hook, getattr(module, hook.name + "_g"), getattr(module, hook.name + "_v"))


def _signature(model: nn.Module) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None
