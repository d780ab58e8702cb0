"""The loss as it is sold to analyses and to people: plain values, many points at once, curvature operators."""

from __future__ import annotations

import weakref
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ..specs import InputError
from .curvature import EmpiricalFisher, Fisher, GaussNewton, Hessian
from .facts import Found, Slope
from .plain import PlainObjective
from .settled import settle
from .slice import Slice
from .slope import look
from .sweep import Sweep
from .taken import Split


class Objective(PlainObjective):
    """L(theta) = sum_b n_b loss(f_theta(x_b), y_b) / sum_b n_b over given batches, for any `nn.Module` and any data.

    Args:
        model: any module; a private copy is taken, so the caller's model, its mode, gradients and buffers stay untouched.
        loss: `loss(outputs, targets) -> scalar`, from these two alone; a loss that is a module is copied too.
        batches: a list of `(inputs, targets)` pairs of any sizes, one such pair, or a DataLoader. Inputs may be tensors, tuples
            (spread over the arguments of `forward`), dicts, or lists with an entry a sample. A batch that is one dict is the
            model's, and its labels (`labels`, `targets`, ...) also the loss's. What does not say its length ends within 5,000
            batches and 2 GiB.
        weights: n_b, a number a batch or a function of `(inputs, targets)`. Otherwise samples: the dimension that inputs and
            targets share and that differs between batches; among several the first of the targets, which `sample` says.
        metrics: `{"accuracy": f}`, f(outputs, targets) a mean over the batch. Without, accuracy is there where the loss behaves
            as cross-entropy or negative log-likelihood of integer labels.
        reduction: what `loss` does over a batch: "mean" (weights n_b as above) or "sum" (L is then the sum over batches). A
            loss that does the other is refused, but for a sum of the only batch, or a module that says so: then L is the sum.
        test_batches: samples of the "test" split, in the same form.
        batchnorm: "stored" uses the statistics in the model; "batch" those of each given batch at each theta, as in training.
        dtype, device: arithmetic; the model's own by default. float32 or float64.

    Deterministic: dropout is off and nothing is shuffled. NaN and infinity are values. Only trainable parameters enter theta,
    in the order of `named_parameters()`, matched by name. Raises InputError for a model or batches that cannot be used.
    """

    def _settled(self, split: Split) -> Found:
        return settle(self, split)

    def _sloped(self) -> Slope:
        return look(self)

    @cached_property
    def sweep(self) -> Sweep:
        """What the fast path keeps between calls."""
        return Sweep(weakref.proxy(self))  # no cycle: an Objective and its data go when the last reference goes

    # -- many points ------------------------------------------------------------------------------------------------

    def slice(self, origin: Tensor, directions: Tensor) -> Slice:
        """The loss on theta = origin + directions @ coordinates: origin `(p,)`, directions `(p, k)`. The fast path.

        Raises InputError for other shapes.
        """
        p = self.space.size
        if origin.shape != (p,) or directions.dim() != 2 or directions.shape[0] != p or not directions.shape[1]:
            shapes = f"{tuple(origin.shape)} and {tuple(directions.shape)}"
            raise InputError(f"a slice needs an origin (p,) and directions (p, k) with p = {p} (got {shapes})")
        return Slice(self, self.sweep, origin, directions)

    def losses(self, thetas: Tensor, split: Split = "train") -> Tensor:
        """L at each row of thetas `(n, p)`: `(n,)` float64. Points on a line or plane are faster through `slice`."""
        if thetas.dim() != 2 or thetas.shape[1] != self.space.size:
            raise InputError(f"thetas must have shape (n, p) with p = {self.space.size} (got {tuple(thetas.shape)})")
        if not len(thetas):
            return torch.zeros(0, dtype=torch.float64)
        values = self.sweep.run(lambda i, out: out.copy_(thetas[i]), len(thetas), split)
        return torch.from_numpy(values["loss"])

    # -- curvature ----------------------------------------------------------------------------------------------------

    def hessian(
        self,
        theta: Tensor | None = None,
        *,
        method: Literal["auto", "graph", "chain", "differences"] = "auto",
        memory: int | None = None,
    ) -> Hessian:
        """The Hessian at theta as a linear operator `(p, p)`; `memory` bounds the bytes kept between products."""
        return Hessian(self, self.theta if theta is None else theta, method=method, memory=memory)

    def gauss_newton(self, theta: Tensor | None = None, *, memory: int | None = None) -> GaussNewton:
        """The Gauss-Newton matrix at theta as a linear operator `(p, p)`: J' (d2 loss / d outputs2) J."""
        return GaussNewton(self, self.theta if theta is None else theta, memory=memory)

    def fisher(
        self,
        theta: Tensor | None = None,
        *,
        labels: Literal["exact", "sampled"] = "exact",
        seed: int = 0,
        memory: int | None = None,
    ) -> Fisher:
        """The Fisher information at theta as a linear operator `(p, p)`, over the model's own labels.

        Its first product raises InputError for a loss that is neither cross-entropy nor squared error.
        """
        return Fisher(self, self.theta if theta is None else theta, labels=labels, seed=seed, memory=memory)

    def empirical_fisher(self, theta: Tensor | None = None, *, memory: int | None = None) -> EmpiricalFisher:
        """(1/N) sum_i g_i g_i' of the samples' gradients at theta as a linear operator `(p, p)`."""
        return EmpiricalFisher(self, self.theta if theta is None else theta, memory=memory)
