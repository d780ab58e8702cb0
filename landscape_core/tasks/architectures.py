"""The networks: MLP, LeNet-5, ResNet for small images, a small vision transformer.

All are plain modules that torch.fx can trace and that can be differentiated twice. Initialisation is PyTorch's default
from the global generator, in the order of construction, except where a class says otherwise.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..specs import InputError
from ..specs.tasks import ArchitectureSpec, LeNetArchitecture, MLPArchitecture, ResNetArchitecture, ViTArchitecture

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}
MAX_PARAMETERS = 500_000_000


def build_model(spec: ArchitectureSpec, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network of `spec` for inputs of `shape` (without the batch) and `classes` outputs, in float32.

    Raises InputError, naming the field, where they do not go together.
    """
    if isinstance(spec, MLPArchitecture):
        return mlp(spec, shape, classes)
    if len(shape) != 3 or shape[1] != shape[2]:
        raise InputError(f"this architecture needs square images (channels, side, side); the data has samples of shape {shape}")
    channels, side = shape[0], shape[1]
    if isinstance(spec, LeNetArchitecture):
        return lenet(channels, side, classes)
    if isinstance(spec, ResNetArchitecture):
        return ResNet(spec, channels, classes)
    if isinstance(spec, ViTArchitecture):
        return VisionTransformer(spec, channels, side, classes)
    raise InputError(f"unknown architecture {type(spec).__name__}")


# -- fully connected --------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def mlp(spec: MLPArchitecture, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Linear, (norm,) activation for each hidden layer, then a Linear to the classes; images are flattened first.

    `depth=d`: an input layer and then d hidden layers, all of width widths[0]. `skip`: every hidden layer between equal
    widths becomes h + act(W h + b) with W scaled by 1/sqrt(their number) at initialisation, so that the variance stays
    bounded at any depth. `init="he"`: W ~ N(0, 2 / fan-in) everywhere, biases zero.
    """
    if spec.depth is not None and not spec.widths:
        raise InputError("field 'widths': depth needs the width of its layers as widths[0]")
    widths = spec.widths if spec.depth is None else (spec.widths[0],) * (spec.depth + 1)
    if any(width < 1 for width in widths):
        raise InputError(f"field 'widths': every width must be at least 1 (got {list(spec.widths)})")
    sizes = (math.prod(shape), *widths, classes)
    if sum((a + 1) * b for a, b in pairwise(sizes)) > MAX_PARAMETERS:
        raise InputError(f"field 'widths': the network would have more than {MAX_PARAMETERS:,} parameters")
    skipped = [spec.skip and 0 < i < len(sizes) - 2 and sizes[i] == sizes[i + 1] for i in range(len(sizes) - 1)]
    if spec.skip and not any(skipped):
        raise InputError("field 'skip': needs two hidden layers of equal width in a row; set depth, or widths such as [32, 32]")

    modules: list[nn.Module] = [] if len(shape) == 1 else [nn.Flatten()]
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        linear = nn.Linear(inputs, outputs)
        if spec.init == "he":
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
        if i == len(sizes) - 2:
            modules.append(linear)
            break
        layer = [linear, *_normalisation(spec.norm, outputs), ACTIVATIONS[spec.activation]()]
        if skipped[i]:
            with torch.no_grad():
                linear.weight.mul_(sum(skipped) ** -0.5)
            modules.append(Residual(nn.Sequential(*layer)))
        else:
            modules += layer
    return nn.Sequential(*modules)


def _normalisation(norm: str | None, width: int) -> list[nn.Module]:
    return [] if norm is None else [nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width)]


# -- convolutional ----------------------------------------------------------------------------------------------------


def lenet(channels: int, side: int, classes: int) -> nn.Sequential:
    """LeNet-5 with ReLU and max pooling: conv 6 (5x5), pool, conv 16 (5x5), pool, fully connected 120, 84, classes.

    Images below 32 are padded by 2 before the first convolution, as LeCun et al. padded 28 to 32; where less than 5 pixels
    are left for the second convolution (8x8 digits), it is padded by 2 as well.
    """
    first = 0 if side >= 32 else 2
    pooled = (side + 2 * first - 4) // 2
    second = 0 if pooled >= 6 else 2
    left = (pooled + 2 * second - 4) // 2
    if left < 1:
        raise InputError(f"LeNet needs images of at least 4x4 pixels (the data has {side}x{side})")
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=first),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5, padding=second),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(16 * left * left, 120),
            relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            fc3=nn.Linear(84, classes),
        )
    )


class Block(nn.Module):
    """Two 3x3 convolutions with normalisation and ReLU; with `skip` the input is added before the last ReLU.

    Where the shape changes the shortcut is a 1x1 convolution with normalisation (option B of He et al. 2016).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, skip: bool, norm: bool):
        super().__init__()
        self.skip = skip
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=not norm)
        self.norm1 = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=not norm)
        self.norm2 = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if skip and (stride != 1 or inputs != outputs):
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=not norm)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs)) if norm else projection

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x)) if self.skip else F.relu(y)


class ResNet(nn.Module):
    """ResNet of depth 6n+2 for small images: a 3x3 convolution, three stages of n blocks, global mean, Linear.

    Stages have width, 2 width and 4 width channels; the second and third halve the image. Convolutions are He-normal with zero
    biases. Without normalisation but with skips the last convolution of a block is scaled by 1/sqrt(3n), which keeps
    the variance bounded as BatchNorm would.
    """

    def __init__(self, spec: ResNetArchitecture, channels: int, classes: int):
        super().__init__()
        n, rest = divmod(spec.depth - 2, 6)
        if rest:
            raise InputError(f"field 'depth': must be 6n+2, such as 8, 14, 20, 32, 56 (got {spec.depth})")
        norm = spec.norm is not None
        width = spec.width
        self.conv = nn.Conv2d(channels, width, 3, 1, 1, bias=not norm)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        blocks: list[nn.Module] = []
        inputs = width
        for stage in range(3):
            outputs = width * 2**stage
            for i in range(n):
                stride = 2 if stage and i == 0 else 1
                blocks.append(Block(inputs, outputs, stride, skip=spec.skip, norm=norm))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if spec.skip and not norm:
            with torch.no_grad():
                for block in blocks:
                    block.conv2.weight.mul_((3 * n) ** -0.5)  # type: ignore[union-attr,operator]

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.conv(x))))
        return self.head(x.mean((2, 3)))


# -- vision transformer -----------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head self-attention over (N, T, dim)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.split = (3, heads, dim // heads)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, self.split).permute(2, 0, 3, 1, 4)  # (3, N, heads, T, dim / heads)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.out(mixed.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) with a hidden width of 4 dim and GELU."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patches embedded by a convolution, learned positions (N(0, 0.02^2)), pre-norm blocks, mean over tokens, Linear."""

    def __init__(self, spec: ViTArchitecture, channels: int, side: int, classes: int):
        super().__init__()
        patch = max(1, side // 4) if spec.patch is None else spec.patch
        if patch > side or side % patch:
            raise InputError(f"field 'patch': must divide the side of the image, {side} (got {patch})")
        if spec.dim % spec.heads:
            raise InputError(f"field 'heads': must divide dim={spec.dim} (got {spec.heads})")
        tokens = (side // patch) ** 2
        self.embed = nn.Conv2d(channels, spec.dim, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, spec.dim))
        self.blocks = nn.Sequential(*(TransformerBlock(spec.dim, spec.heads) for _ in range(spec.layers)))
        self.norm = nn.LayerNorm(spec.dim)
        self.head = nn.Linear(spec.dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))
