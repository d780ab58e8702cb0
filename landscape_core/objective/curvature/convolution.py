"""Convolutions whose products with the Hessian cost what they must.

PyTorch's second derivative of a convolution also derives by inputs that are data, and writes derivatives by weights as
convolutions with kernels as large as images; batch normalisation with fixed statistics is several passes more over every
activation. Inside `lean_convolutions` both take the forms below, which differ by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


class lean_convolutions(TorchFunctionMode):  # noqa: N801 a context manager
    """Inside, convolutions are built for two derivatives, and batch normalisation with fixed statistics after one is folded
    into its weight: s * (W x + b - mean) + beta = (s W) x + s (b - mean) + beta, s = gamma / sqrt(var + eps).
    """

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in CONVOLUTIONS:
            found = _convolved(CONVOLUTIONS[func], *args, **(kwargs or {}))
        elif func is F.batch_norm:
            found = _normalised(*args, **(kwargs or {}))
        else:
            found = None
        return func(*args, **(kwargs or {})) if found is None else found


class _Settings:
    """Stride, padding and dilation, one number a dimension, and groups."""

    def __init__(self, stride: list[int], padding: list[int], dilation: list[int], groups: int):
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        zeros = [0] * len(self.stride)
        return torch.convolution(x, weight, bias, self.stride, self.padding, self.dilation, False, zeros, self.groups)

    def backward(self, x: Tensor, weight: Tensor, output: Tensor, wanted: Sequence[bool]) -> tuple[Tensor | None, ...]:
        """The derivatives of <output, conv(x, weight, bias)> by x, weight, bias, where wanted."""
        zeros, sizes = [0] * len(self.stride), [weight.shape[0]]
        return torch.ops.aten.convolution_backward(
            output, x, weight, sizes, self.stride, self.padding, self.dilation, False, zeros, self.groups, list(wanted)
        )


class _Convolution(Function):
    """conv(x, weight) + bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings = settings
        return settings.forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return (*_Derivatives.apply(x, weight, output, ctx.needs_input_grad[:3], ctx.settings), None)


class _Derivatives(Function):
    """The derivatives of <output, conv(x, weight) + bias> by x, weight and bias: linear in each of x, weight and output."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, output: Tensor, wanted: Sequence[bool], settings: _Settings
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(x, weight, output)
        ctx.set_materialize_grads(False)
        ctx.settings = settings
        return settings.backward(x, weight, output, wanted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_x: Tensor | None, by_weight: Tensor | None, by_bias: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, output = ctx.saved_tensors
        settings = ctx.settings
        wants_x, wants_weight, wants_output = ctx.needs_input_grad[:3]
        found_x = found_weight = found_output = None
        if by_x is not None:
            if wants_output:
                found_output = settings.forward(by_x, weight, by_bias)
                by_bias = None
            if wants_weight:
                found_weight = settings.backward(by_x, weight, output, (False, True, False))[1]
        if by_weight is not None:
            if wants_output:
                more = settings.forward(x, by_weight, by_bias)
                found_output = more if found_output is None else found_output.add_(more)
                by_bias = None
            if wants_x:
                found_x = settings.backward(x, by_weight, output, (True, False, False))[0]
        if by_bias is not None and wants_output:
            found_output = by_bias.view(-1, *[1] * (output.dim() - 2)).expand_as(output)
        return found_x, found_weight, found_output, None, None


def _convolved(
    dimensions: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """The convolution, or None where PyTorch's own must do."""
    if input.dim() != dimensions + 2 or input.is_complex() or not weight.requires_grad:
        return None

    def each(setting: Any) -> list[int]:
        found = [setting] if isinstance(setting, int) else [*setting]
        return found * dimensions if len(found) == 1 else found

    steps = each(dilation)
    if isinstance(padding, str):
        around = [d * (k - 1) * (padding == "same") for d, k in zip(steps, weight.shape[2:], strict=True)]
        if any(a % 2 for a in around):
            return None
        padding = [a // 2 for a in around]
    settings = _Settings(each(stride), each(padding), steps, groups)
    found = _Convolution.apply(input, weight, bias, settings)
    found.convolved = input, weight, bias, settings, input._version
    return found


def _normalised(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001 of statistics that stay as they are
    eps: float = 1e-5,
) -> Tensor | None:
    """The folded convolution, or None where there is none to fold into."""
    if training or running_mean is None or running_var is None or input._version or not hasattr(input, "convolved"):
        return None
    x, kernel, shift, settings, version = input.convolved
    if x._version != version:
        return None
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else weight * scale
    shift = -running_mean if shift is None else shift - running_mean
    shift = shift * scale if bias is None else bias + shift * scale
    return _Convolution.apply(x, kernel * scale.view(-1, *[1] * (kernel.dim() - 1)), shift, settings)
