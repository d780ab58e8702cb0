"""Model x loss x uneven batches: what every operator of an Objective is held to. Everything is built in float64."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape_core.specs.tasks import LeNetArchitecture, MLPArchitecture, ResNetArchitecture, ViTArchitecture
from landscape_core.tasks.architectures import build_model
from landscape_core.tasks.losses import class_accuracy, cross_entropy, squared_error

Batches = list[tuple[Any, Any]]


@dataclass(frozen=True)
class Case:
    name: str
    model: Callable[[], nn.Module]
    loss: Callable[[Any, Any], Tensor]
    batches: Callable[[], Batches]
    options: dict[str, Any] = field(default_factory=dict)  # of the Objective: reduction, batchnorm
    curvature: bool = True  # small enough for a dense Hessian
    accuracy: bool = True  # a classification
    mixes: bool = False  # samples of a batch see each other, so a sample has no loss by itself
    call: Callable[[nn.Module, Any], Any] = lambda model, inputs: model(inputs)  # how inputs enter the model
    plain: Callable[[nn.Module], None] = lambda model: None  # the referee's model written out, where PyTorch itself errs

    def build(self, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Any, Batches]:
        """The same model, loss and batches at every call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            model = self.model()
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):  # as after training: nothing at its default
                    if module.track_running_stats:
                        module.running_mean.normal_(0, 0.5)
                        module.running_var.uniform_(0.5, 2)
                    if module.affine:
                        module.weight.data.uniform_(0.5, 1.5)
            return model.to(dtype), self.loss, self.batches()


# -- models -----------------------------------------------------------------------------------------------------------


def mlp(*widths: int, activation: type[nn.Module] = nn.Tanh, extra: Callable[[int], nn.Module] | None = None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), *([extra(b)] if extra else []), activation()]
    return nn.Sequential(*layers[: -2 if extra else -1])


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


class Block(nn.Module):
    """Pre-norm attention by scaled_dot_product_attention, and an MLP."""

    def __init__(self, width: int = 4, heads: int = 2, causal: bool = False):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.body = nn.Sequential(nn.Linear(width, 3), nn.GELU(), nn.Dropout(0.3), nn.Linear(3, width))
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.body(self.norms[1](x))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block, self.head = nn.Linear(3, 4), Block(), nn.Linear(4, 3)
        self.position = nn.Parameter(0.1 * torch.randn(1, 5, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x) + self.position).mean(1))


class Language(nn.Module):
    """Next-token model whose output layer is its embedding; its outputs are an object with `.logits`."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.block = nn.Embedding(5, 4), Block(causal=True)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor, scale: Tensor | None = None) -> SimpleNamespace:
        hidden = self.block(self.embedding(input_ids))
        return SimpleNamespace(logits=self.head(hidden if scale is None else hidden * scale[:, None, None]))


class Two(nn.Module):
    """Two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.tanh(self.left(a) * self.right(b)))


class Nested(nn.Module):
    """One nested argument, and outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.two = Two()

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"logits": self.two(batch["a"], batch["rest"][0]) + batch["rest"][1]["shift"]}


class Odd(nn.Module):
    """Frozen, unused, tied, 0-d and non-contiguous parameters, and one tensor owned by two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.unused = nn.Linear(3, 2)
        self.gain = nn.Parameter(torch.tensor(1.3))
        self.turned = nn.Parameter(torch.randn(3, 4).t())
        self.empty = nn.Parameter(torch.zeros(0, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.second(torch.tanh(self.frozen(torch.tanh(self.first(x))))) @ self.turned


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell, self.head = cell(3, 2, num_layers=2, dropout=0.4, batch_first=True), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 3, dropout=0.2, batch_first=True)
    return nn.TransformerEncoder(layer, 1)


def parametrized() -> nn.Module:
    model = mlp(4, 5, 3)
    nn.utils.parametrizations.weight_norm(model[0])
    nn.utils.parametrizations.spectral_norm(model[2])
    return model


def hooked() -> nn.Module:
    """Old-style weight normalisation, left by a forward pass with a non-leaf weight."""
    model = mlp(4, 5, 3)
    nn.utils.weight_norm(model[0])
    model.double()(torch.zeros(2, 4, dtype=torch.float64))
    return model


def written_out(model: nn.Module) -> None:
    """Weight normalisation without the fused operation, whose second derivative is wrong in torch 2.13."""
    for hook in model[0]._forward_pre_hooks.values():
        hook.compute_weight = lambda m: m.weight_v * m.weight_g / m.weight_v.norm(dim=1, keepdim=True)
    if hasattr(model[0], "parametrizations"):
        model[0].parametrizations.weight[0].forward = lambda g, v: v * g / v.norm(dim=1, keepdim=True)


# -- data: batches of unequal size, drawn in float64 ------------------------------------------------------------------


def sizes_of(*shape: int, classes: int = 3, sizes: tuple[int, ...] = (5, 2, 4)) -> Callable[[], Batches]:
    def batches() -> Batches:
        g = torch.Generator().manual_seed(3)
        pairs = []
        for n in sizes:
            x = torch.randn(n, *shape, generator=g, dtype=torch.float64)
            pairs.append((x, torch.randint(0, classes, (n,), generator=g)))
        return pairs

    return batches


def regression() -> Batches:
    return [(x, torch.stack([x.sum(1).sin(), x[:, 0] * x[:, 1]], 1)) for x, _ in sizes_of(4)()]


def pictures() -> Batches:
    """Images with a class for every pixel, on a grid as tall as there are classes."""
    return [(x, (x[:, 0] > 0).long() + (x[:, 1] > 0)) for x, _ in sizes_of(2, 3, 3)()]


def pairs(sizes: tuple[int, ...] = (5, 2, 4)) -> Batches:
    return [((x[:, :3], x[:, 3:]), y) for x, y in sizes_of(5, sizes=sizes)()]


def nested() -> Batches:
    return [({"a": a, "rest": (b, {"shift": a[:, :1]})}, y) for (a, b), y in pairs()]


def tokens() -> Batches:
    g = torch.Generator().manual_seed(5)
    ids = [torch.randint(0, 5, (n, 6), generator=g) for n in (3, 1)]
    return [({"input_ids": i[:, :-1], "scale": 1 + i[:, 0] / 5}, i[:, 1:]) for i in ids]


def padded() -> Batches:
    found = []
    for x, y in sizes_of(5, 4, sizes=(5, 2))():
        mask = torch.arange(5)[None] >= torch.arange(2, 2 + len(x))[:, None]
        found.append(({"src": x, "src_key_padding_mask": mask}, y))
    return found


def tokens_loss(outputs: Any, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.logits.flatten(0, 1), targets.flatten())


def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 3.0, 0.5], dtype=outputs.dtype))


def by_keyword(model: nn.Module, inputs: dict[str, Any]) -> Any:
    return model(**inputs)


def task(spec: Any, *shape: int) -> Callable[[], nn.Module]:
    return lambda: build_model(spec, shape, 3)


relu_mlp = lambda: mlp(4, 6, 5, 3, activation=nn.ReLU)  # noqa: E731
tanh_mlp = lambda: mlp(4, 6, 3)  # noqa: E731

CASES = [
    Case("linear-softmax", lambda: nn.Linear(4, 3), F.cross_entropy, sizes_of(4)),
    Case("linear-mse", lambda: nn.Linear(4, 2), F.mse_loss, regression, accuracy=False),
    Case("relu-mlp", relu_mlp, F.cross_entropy, sizes_of(4)),
    Case("tanh-mlp", tanh_mlp, F.cross_entropy, sizes_of(4)),
    Case("tanh-mlp-mse", lambda: mlp(4, 5, 2), F.mse_loss, regression, accuracy=False),
    Case(
        "tanh-mlp-sum",
        tanh_mlp,
        lambda o, t: F.cross_entropy(o, t, reduction="sum"),
        sizes_of(4),
        {"reduction": "sum"},
    ),
    Case("class-weights", relu_mlp, weighted, sizes_of(4), mixes=True),
    Case("class-weights-module", tanh_mlp, nn.CrossEntropyLoss(torch.tensor([1.0, 3, 0.5])), sizes_of(4), mixes=True),
    Case("dropout", lambda: mlp(4, 6, 3, extra=lambda _: nn.Dropout(0.5)), F.cross_entropy, sizes_of(4)),
    Case("batches-of-one", tanh_mlp, F.cross_entropy, sizes_of(4, sizes=(1, 3, 1))),
    Case("mlp-batchnorm", lambda: mlp(4, 5, 3, extra=nn.BatchNorm1d), F.cross_entropy, sizes_of(4)),
    Case(
        "mlp-batchnorm-batch",
        lambda: mlp(4, 5, 3, extra=nn.BatchNorm1d),
        F.cross_entropy,
        sizes_of(4),
        {"batchnorm": "batch"},
        mixes=True,
    ),
    Case("cnn-batchnorm", cnn, F.cross_entropy, sizes_of(2, 6, 6)),
    Case("cnn-batchnorm-batch", cnn, F.cross_entropy, sizes_of(2, 6, 6), {"batchnorm": "batch"}, mixes=True),
    Case(
        "segmentation",
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 1)),
        F.cross_entropy,
        pictures,
    ),
    Case("transformer", Transformer, F.cross_entropy, sizes_of(5, 3, sizes=(4, 1))),
    Case("language-model", Language, tokens_loss, tokens, call=by_keyword),
    Case("two-inputs", Two, F.cross_entropy, pairs, call=lambda model, inputs: model(*inputs)),
    Case("nested-inputs", Nested, lambda o, t: F.cross_entropy(o["logits"], t), nested),
    Case("odd-parameters", Odd, F.cross_entropy, sizes_of(4)),
    Case("parametrized", parametrized, F.cross_entropy, sizes_of(4), plain=written_out),
    Case("weight-norm-hook", hooked, F.cross_entropy, sizes_of(4), plain=written_out),
    Case("gru", lambda: Recurrent(nn.GRU), F.cross_entropy, sizes_of(4, 3)),
    Case("lstm", lambda: Recurrent(nn.LSTM), F.cross_entropy, sizes_of(4, 3), curvature=False),
    Case("padded-encoder", encoder, lambda o, t: F.cross_entropy(o.mean(1), t), padded, accuracy=False, call=by_keyword),
    Case(
        "task-mlp",
        task(MLPArchitecture(widths=(5, 5), skip=True, norm="layer"), 4),
        squared_error,
        sizes_of(4),
        {"metrics": {"accuracy": class_accuracy}},
    ),
    Case("task-lenet", task(LeNetArchitecture(), 1, 8, 8), cross_entropy, sizes_of(1, 8, 8), curvature=False),
    Case("task-resnet", task(ResNetArchitecture(depth=8, width=2), 3, 8, 8), cross_entropy, sizes_of(3, 8, 8), curvature=False),
    Case(
        "task-resnet-batch",
        task(ResNetArchitecture(depth=8, width=2), 3, 8, 8),
        cross_entropy,
        sizes_of(3, 8, 8),
        {"batchnorm": "batch"},
        curvature=False,
        mixes=True,
    ),
    Case(
        "task-vit", task(ViTArchitecture(dim=4, heads=2, layers=1), 1, 8, 8), cross_entropy, sizes_of(1, 8, 8), curvature=False
    ),
]


# -- the referee: plain torch.func in float64, nothing of ours --------------------------------------------------------


class Referee:
    """L(theta) in float64 by functional_call on an own copy of the model, for any number of derivatives."""

    def __init__(self, case: Case):
        model, loss, self.batches = case.build()
        self.case = case
        self.loss = copy.deepcopy(loss).double() if isinstance(loss, nn.Module) else loss
        self.model = model.eval()
        case.plain(self.model)
        if case.options.get("batchnorm") == "batch":
            torch.func.replace_all_batch_norm_modules_(self.model)
        self.names = [name for name, p in self.model.named_parameters() if p.requires_grad]
        parameters = dict(self.model.named_parameters())
        self.shapes = [parameters[name].shape for name in self.names]
        self.theta = torch.cat([parameters[name].detach().reshape(-1) for name in self.names])
        self.model.requires_grad_(False)

    def outputs(self, theta: Tensor, inputs: Any) -> Any:
        parts = theta.split([shape.numel() for shape in self.shapes])
        named = {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}
        wrapped = _Called(self.model, self.case.call)
        return torch.func.functional_call(wrapped, {f"model.{name}": value for name, value in named.items()}, (inputs,))

    def __call__(self, theta: Tensor) -> Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            values = [(self.loss(self.outputs(theta, x), y), len(y)) for x, y in self.batches]
        if self.case.options.get("reduction") == "sum":
            return sum(value for value, _ in values)
        return sum(value * n for value, n in values) / sum(n for _, n in values)

    def value(self, theta: Tensor) -> float:
        """L(theta), on the path that has gradients: PyTorch's fast path of an encoder leaves padded positions out."""
        return float(self(theta.clone().requires_grad_()).detach())

    def gradient(self, theta: Tensor) -> Tensor:
        return torch.func.grad(self)(theta)

    def hessian(self, theta: Tensor) -> Tensor:
        return torch.func.jacrev(torch.func.grad(self))(theta)


class _Called(nn.Module):
    def __init__(self, model: nn.Module, call: Callable[[nn.Module, Any], Any]):
        super().__init__()
        self.model, self.call = model, call

    def forward(self, inputs: Any) -> Any:
        return self.call(self.model, inputs)
