"""The loss as a function of a model's outputs: its slope, its curvature, and the likelihood that it stands for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ...specs import InputError
from ..accuracy import scores
from ..batches import Batch
from ..plain import PlainObjective
from ..recognised import EXACT, beside, noise, one_hot
from ..trees import all_tensors

MANY = 1 << 15  # numbers


class OutputLoss:
    """One chunk's part of L as a function of the outputs: `leaves`, the tensors in them that depend on theta, cut off.

    `slope` holds the derivative by each leaf, zero where the loss does not read it.
    """

    def __init__(self, objective: PlainObjective, outputs: Any, batch: Batch):
        self.tensors = depending(outputs)
        if not self.tensors:
            raise InputError("the model's outputs do not depend on its trainable parameters: is forward under no_grad?")
        self.leaves = [t.detach().requires_grad_() for t in self.tensors]
        # The loss gets copies, since leaves cannot be written into.
        cut = copy.deepcopy(outputs, {id(t): leaf.clone() for t, leaf in zip(self.tensors, self.leaves, strict=True)})
        value = objective.term(cut, batch) * objective.weight()
        self._first: list[Tensor | None] = [None] * len(self.leaves)
        if value.requires_grad:
            self._first = [*torch.autograd.grad(value, self.leaves, create_graph=True, allow_unused=True)]
        self.slope = [
            torch.zeros_like(leaf) if d is None else d.detach() for d, leaf in zip(self._first, self.leaves, strict=True)
        ]
        self._closed: tuple[str, Tensor, Tensor] | None = None
        self._recognise()

    def curvature(self, change: Sequence[Tensor]) -> list[Tensor]:
        """d2 L / d outputs2 times one change of each leaf."""
        if self._closed is not None:
            name, p, weighted = self._closed
            scaled = weighted * change[0]
            return [_centred(p, scaled) if name == "softmax" else scaled]
        return self._exactly(change)

    @property
    def spreads(self) -> bool:
        """Whether the curvature has a closed form, which takes many changes at once."""
        return self._closed is not None

    def curvature_of_many(self, changes: Tensor) -> Tensor:
        """`curvature` of changes `(n, k, classes)` of one leaf `(n, classes)`, in their place, where it has a closed form."""
        if self._closed is None:
            raise ValueError("no closed form")
        name, p, weighted = self._closed
        return _centred(p[:, None], changes.mul_(weighted[:, None])) if name == "softmax" else changes.mul_(weighted)

    def _exactly(self, change: Sequence[Tensor]) -> list[Tensor]:
        known = [(d, c) for d, c in zip(self._first, change, strict=True) if d is not None and d.requires_grad]
        if not known:
            return [torch.zeros_like(leaf) for leaf in self.leaves]
        return [
            *torch.autograd.grad(
                [d for d, _ in known],
                self.leaves,
                [c for _, c in known],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        ]

    def _recognise(self) -> None:
        """Take a closed form where it gives what autograd gives: w (diag p - pp') along the last dimension, or w times one."""
        if len(self.leaves) != 1 or self.leaves[0].dim() != 2:
            return
        z = self.leaves[0].detach()
        change = noise(z)
        exact = self._exactly([change])[0]
        p = z.softmax(1)
        for name, found in (("softmax", _centred(p, p * change)), ("constant", change)):
            norm = (found * found).sum()
            weight = (found * exact).sum() / norm
            if bool(norm > 0) and float((weight * found - exact).abs().max()) <= EXACT[z.dtype] * float(exact.abs().max()):
                self._closed = (name, p, weight * p if name == "softmax" else weight)
                self._first = [None]
                return


def _centred(p: Tensor, scaled: Tensor) -> Tensor:
    """Each row of a change times w (diag p - pp'), from p and the rows of w p times the change, which it takes the place of."""
    # A product with ones sums many short rows several times faster than `sum`.
    many = scaled.numel() > MANY
    total = scaled @ p.new_ones(p.shape[-1], 1) if many else scaled.sum(-1, keepdim=True)
    return scaled.addcmul_(p, total, value=-1)


def depending(outputs: Any) -> list[Tensor]:
    """Every tensor with a graph in a model's outputs."""
    return [t for t in all_tensors(outputs) if t.requires_grad]


class Likelihood:
    """The log-likelihood whose negative mean the loss is: found by comparing slopes at random outputs, not by name.

    `kind` is "categorical" (cross-entropy: classes along `dim` of the scores) or "gaussian" (squared error of variance
    `variance` in a mean over samples); `weight` is what a class label, or half a squared deviation, counts for in L.
    Raises InputError for other losses.
    """

    kind: Literal["categorical", "gaussian"]

    def __init__(self, objective: PlainObjective, outputs: Any, batch: Batch):
        z = scores(outputs)
        if not isinstance(z, Tensor) or not isinstance(batch.targets, Tensor) or z.numel() == 0:
            raise InputError(_UNKNOWN)
        leaf = beside(z).requires_grad_()
        loss = objective.term(copy.deepcopy(outputs, _memo(outputs, z, leaf)), batch) * objective.weight()
        slope = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
        if slope is None:
            raise InputError(_UNKNOWN)
        given, targets = leaf.detach(), batch.targets
        tolerance = 10 * EXACT[z.dtype] * float(slope.abs().max())
        for dim in {1, z.dim() - 1}:
            wanted = one_hot(targets, given, dim)
            if wanted is None:
                continue
            heard = wanted.sum(dim, keepdim=True)  # zero where a target is ignored
            for kind, c in (("categorical", (given.softmax(dim) - wanted) * heard), ("gaussian", given - wanted)):
                if self._fits(kind, c, slope, tolerance):
                    self.dim, self.heard = dim, heard if kind == "categorical" else torch.ones_like(heard)
                    return
        if (
            targets.is_floating_point()
            and targets.shape == z.shape
            and self._fits("gaussian", given - targets, slope, tolerance)
        ):
            self.dim, self.heard = z.dim() - 1, torch.ones_like(z[..., :1])
            return
        raise InputError(_UNKNOWN)

    def _fits(self, kind: str, c: Tensor, slope: Tensor, tolerance: float) -> bool:
        norm = (c * c).sum()
        self.weight = (c * slope).sum() / norm
        self.kind = "categorical" if kind == "categorical" else "gaussian"
        return bool(self.weight > 0) and float((self.weight * c - slope).abs().max()) <= tolerance

    def drawn(self, outputs: Any, generator: torch.Generator) -> Tensor:
        """The score d log p(y | z) / dz for labels y drawn from the model itself, times the square root of `weight`."""
        z = scores(outputs).detach()
        if self.kind == "gaussian":  # (y - z) / variance with the weight one over the variance
            return torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z) * self.weight.sqrt()
        p = z.softmax(self.dim)
        rows = p.movedim(self.dim, -1)
        # One draw of the distribution function a label, in float64 on the CPU: the labels depend on the seed alone.
        level = torch.rand(rows.shape[:-1], generator=generator, dtype=torch.float64)[..., None]
        steps = rows.double().cpu().cumsum(-1)
        label = (steps < level * steps[..., -1:]).sum(-1).clamp(max=rows.shape[-1] - 1)
        y = torch.nn.functional.one_hot(label, rows.shape[-1]).movedim(-1, self.dim).to(p)
        return (y - p) * self.heard * self.weight.sqrt()

    def units(self, products: Tensor) -> Tensor:
        """Entrywise products summed over what one drawn label spans, in a shape that broadcasts."""
        if self.kind == "categorical":
            return products.sum(self.dim, keepdim=True)
        return products.sum(tuple(range(1, products.dim())), keepdim=True)


_UNKNOWN = (
    "the Fisher information needs a loss that is a likelihood: cross-entropy of class labels, or squared error "
    "(gauss_newton takes any loss)"
)


def _memo(outputs: Any, replaced: Tensor, leaf: Tensor) -> dict[int, Tensor]:
    return {**{id(t): t.detach() for t in depending(outputs)}, id(replaced): leaf}
