"""Fisher information: over the model's own labels, exactly or by one draw a label, and over the labels in the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...specs import InputError
from ..accuracy import scores
from ..batches import Batch
from ..foreign import pass_over
from ..network import Network
from ..plain import PlainObjective
from ..recognised import EXACT
from .gauss_newton import GaussNewton, Middle
from .outputs import Likelihood, OutputLoss


class Fisher(GaussNewton):
    """F = E_x E_{y ~ p(y|x)} d log p d log p', scaled as the loss is (a mean, or a sum over samples).

    Cross-entropy: categorical labels, F is the Gauss-Newton matrix. Squared error c |z - y|^2 a sample: the Gaussian with
    variance 1 / 2c, so C / 2 for the mean over C outputs; again the Gauss-Newton matrix. `labels="sampled"` draws one label a
    sample (a token, a pixel: each class target; the outputs of a sample together for squared error) from `seed`, which is
    unbiased for F. Raises InputError at the first product if the loss is neither.
    """

    kind = "fisher"

    def __init__(
        self,
        objective: PlainObjective,
        theta: Tensor,
        *,
        labels: Literal["exact", "sampled"] = "exact",
        seed: int = 0,
        memory: int | None = None,
    ):
        if labels not in ("exact", "sampled"):
            raise InputError(f"labels must be 'exact' or 'sampled' (got {labels!r})")
        self.labels, self.seed = labels, seed
        super().__init__(objective, theta, memory=memory)

    def middle(self, network: Network, outputs: Any, loss: OutputLoss, batch: Batch, number: int) -> Middle:  # noqa: ARG002
        likelihood = Likelihood(self.objective, outputs, batch)
        z = scores(outputs)
        place = next((i for i, t in enumerate(loss.tensors) if t is z), None)
        if place is None:
            raise InputError("the model's scores do not depend on its trainable parameters")
        if self.labels == "exact":
            return loss.curvature
        drawn = likelihood.drawn(outputs, torch.Generator().manual_seed(self.seed * 1_000_003 + number))

        def outer(change: Sequence[Tensor]) -> list[Tensor]:
            found = [torch.zeros_like(c) for c in change]
            found[place] = drawn * likelihood.units(drawn * change[place])
            return found

        return outer


class EmpiricalFisher(GaussNewton):
    """(1/N) sum_i g_i g_i' of the gradients g_i of single samples at their own labels; the sum, where L is a sum.

    Not the Fisher information (Kunstner, Hennig, Balles 2019). A sample is a row of the outputs. Raises InputError at the
    first product where samples of a batch see each other, since they have no gradients of their own then.
    """

    kind = "empirical_fisher"

    def middle(self, network: Network, outputs: Any, loss: OutputLoss, batch: Batch, number: int) -> Middle:  # noqa: ARG002
        objective = self.objective
        if not all(bool(t.isfinite().all()) for t in (*loss.leaves, *loss.slope)):
            raise InputError(self.not_finite())
        bad = batch.rows != batch.size or any(t.dim() == 0 or len(t) != batch.rows for t in loss.tensors)
        bad = bad or batch.cuts.get((1,), 0) > 0  # samples along another dimension than the first
        batchnorm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.model.modules())
        if bad or (batchnorm and objective.batchnorm == "batch") or not self._separate(network, loss, batch):
            raise InputError("the empirical Fisher needs gradients of single samples, but samples of a batch see each other")
        # d L / d outputs has 1/N in it for a mean: (1/N) g g' = N (g/N) (g/N)', and so for other weights than 1/N.
        slope, scale = loss.slope, batch.size / batch.weight / objective.weight()

        def outer(change: Sequence[Tensor]) -> list[Tensor]:
            inner = torch.stack([(s * c).flatten(1).sum(1) for s, c in zip(slope, change, strict=True)]).sum(0)
            return [scale * s * inner.view(-1, *[1] * (s.dim() - 1)) for s in slope]

        return outer

    def _separate(self, network: Network, loss: OutputLoss, batch: Batch) -> bool:
        """Whether the first sample alone has the outputs and the slopes that it has among the others."""
        if batch.rows == 1:
            return True
        row = next(batch.chunks(1))
        if row.rows != 1:
            return False
        try:
            alone = OutputLoss(self.objective, network(row.inputs), row)
        except Exception as error:  # a model or a loss that takes whole batches only
            pass_over(error)
            return False
        if len(alone.leaves) != len(loss.leaves):
            return False
        pairs = [*zip(alone.leaves, loss.leaves, strict=True), *zip(alone.slope, loss.slope, strict=True)]
        return all(len(a) == 1 and _near(a.detach()[0], b.detach()) for a, b in pairs)


def _near(row: Tensor, rows: Tensor) -> bool:
    """Whether a row is the first of `rows`, within rounding."""
    return float((row - rows[0]).abs().max()) <= 100 * EXACT[row.dtype] * float(rows.abs().max())
