"""Convolutions whose derivatives cost what they must, as often as they are derived.

PyTorch's second derivative of a convolution also derives by inputs that are data, and writes derivatives by weights as
convolutions with kernels as large as images; batch normalisation with fixed statistics takes several passes more over every
activation. `lean_convolutions` gives both the forms below. They differ by rounding alone, unless a model asks for the place in
the graph of what a norm reads: so `checks` compares products on a few samples before the forms are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

CONVOLUTIONS: dict[Callable[..., Tensor], int] = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}  # and their dimensions


class lean_convolutions(TorchFunctionMode):
    """Inside, a convolution's derivatives are three bilinear maps that derive into each other, and batch normalisation with
    fixed statistics right after one is part of it: s (W x + b - mean) + beta = (s W) x + s (b - mean) + beta with
    s = gamma / sqrt(var + eps). What is no plain convolution stays PyTorch's own. `used` says whether there was one.
    """

    used = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs, found = kwargs or {}, None
        if func in CONVOLUTIONS:
            found = _convolved(CONVOLUTIONS[func], *args, **kwargs)
        elif func is F.batch_norm:
            found = _normalised(*args, **kwargs)
        self.used |= found is not None
        return func(*args, **kwargs) if found is None else found


class _Settings(NamedTuple):
    """Of a convolution; a number for each dimension where there are several."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        zeros = [0] * len(self.stride)
        return torch.convolution(x, weight, bias, self.stride, self.padding, self.dilation, False, zeros, self.groups)

    def derive(self, x: Tensor, weight: Tensor, output: Tensor, wanted: Sequence[bool]) -> tuple[Tensor | None, ...]:
        """The derivatives of <output, convolve(x, weight, bias)> by x, weight and bias, those wanted."""
        zeros = [0] * len(self.stride)
        return torch.ops.aten.convolution_backward(
            output, x, weight, weight.shape[:1], self.stride, self.padding, self.dilation, False, zeros, self.groups, wanted
        )


class _Known:
    """What an output was computed from."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings):
        self.parts = x, weight, bias, settings
        self._state = self._now()

    def _now(self) -> list[tuple[int, bool]]:
        return [(t._version, t.requires_grad) for t in self.parts[:3] if t is not None]

    def unchanged(self) -> bool:
        """Whether none of it has been written to since, or taken out of the graph."""
        return self._state == self._now()


class _Convolution(Function):
    """weight * x + bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings = settings
        return settings.convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, output: Tensor) -> tuple[Tensor | None, ...]:
        return (*_Derivatives.apply(*ctx.saved_tensors, output, ctx.needs_input_grad[:3], ctx.settings), None)


class _Derivatives(Function):
    """The derivatives of <output, weight * x + bias> by x, weight and bias, those wanted."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, output: Tensor, wanted: Sequence[bool], settings: _Settings
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(x, weight, output)
        ctx.set_materialize_grads(False)
        ctx.settings = settings
        return settings.derive(x, weight, output, wanted)

    @staticmethod
    def backward(ctx: Any, by_x: Tensor | None, by_weight: Tensor | None, by_bias: Tensor | None) -> tuple[Tensor | None, ...]:
        # The trilinear <output, weight * by_x + by_weight * x + by_bias> by x, weight and output.
        x, weight, output = ctx.saved_tensors
        for_x, for_weight, for_output = ctx.needs_input_grad[:3]
        found_x = found_weight = found_output = None
        if by_weight is not None and for_x:
            found_x = _Derivatives.apply(x, by_weight, output, (True, False, False), ctx.settings)[0]
        if by_x is not None and for_weight:
            found_weight = _Derivatives.apply(by_x, weight, output, (False, True, False), ctx.settings)[1]
        if for_output:
            for pair in ((by_x, weight), (x, by_weight)):
                if pair[0] is not None and pair[1] is not None:
                    more = _Convolution.apply(*pair, by_bias, ctx.settings)
                    found_output, by_bias = more if found_output is None else found_output + more, None
            if by_bias is not None:
                found_output = by_bias.view(-1, *[1] * (output.dim() - 2)).expand_as(output)
        return found_x, found_weight, found_output, None, None


# -- what is recognised, or None ------------------------------------------------------------------------------------------


def _convolved(
    dimensions: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor | None:
    derived = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
    rounded = torch.is_autocast_enabled(input.device.type)
    if input.dim() != dimensions + 2 or not derived or rounded or input.is_complex():
        return None

    def each(setting: int | Sequence[int]) -> list[int]:
        found = [setting] if isinstance(setting, int) else [*setting]
        return found * dimensions if len(found) == 1 else found

    dilations = each(dilation)
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilations, weight.shape[2:], strict=True)]
        if any(t % 2 for t in total):  # more on one side than on the other
            return None
        padding = [t // 2 for t in total]
    settings = _Settings(each(stride), each(padding), dilations, groups)
    found = _Convolution.apply(input, weight, bias, settings)
    found._convolution = _Known(input, weight, bias, settings)
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
    known = getattr(input, "_convolution", None)
    if not isinstance(known, _Known) or training or running_mean is None or running_var is None:
        return None
    if input._version or input._backward_hooks or not known.unchanged():
        return None
    x, kernel, shift, settings = known.parts
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else weight * scale
    shift = (-running_mean if shift is None else shift - running_mean) * scale
    shift = shift if bias is None else bias + shift
    return _Convolution.apply(x, kernel * scale.view(-1, *[1] * (kernel.dim() - 1)), shift, settings)
