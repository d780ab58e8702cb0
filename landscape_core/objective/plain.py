"""The loss over a fixed sample as a function of one flat parameter vector: values and gradients, the plain path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..specs import InputError
from .accuracy import scores
from .batches import Batch
from .chunks import chunk_rows
from .facts import Slope
from .foreign import pass_over
from .network import Network
from .reasons import Failed
from .taken import Split, Taken
from .threads import operations
from .trees import tensors

ROUNDING = {torch.float32: 5e-6, torch.float64: 1e-11}  # |fast - plain| / |plain| that rounding explains


class PlainObjective(Taken):
    """L(theta), its values and gradients, one batch after another: what every faster way and every curvature stands on.

    `Objective` says what it is made of, and has those.
    """

    # -- values: the plain path, to which every faster one is held ----------------------------------------------------

    def evaluate(self, theta: Tensor | None = None, split: Split = "train") -> dict[str, float]:
        """Loss at theta `(p,)` (default: the weights given), and accuracy and error where the task is a classification."""
        self.found(split)
        self._set(theta)
        with torch.no_grad():
            values = self.measure(self.network, self.batches(split), self.mass(split))
        self.counts["forwards"] += 1
        return {name: float(value) for name, value in values.items()}

    def loss(self, theta: Tensor | None = None, split: Split = "train") -> float:
        """L(theta), accumulated over batches in float64."""
        return self.evaluate(theta, split)["loss"]

    def raw_loss(self, theta: Tensor) -> float:
        """L(theta), counted nowhere."""
        self._set(theta)
        with torch.no_grad():
            return float(self.measure(self.network, self.batches(), self.mass())["loss"])

    def operations(self) -> int:
        """Floating-point operations of a forward pass over the training sample; 0 where they cannot be counted."""
        batch = self.batches("train")[0]
        one = next(batch.chunks(1))
        try:
            with self.graphs():
                return operations(self.network, one.inputs) * self.size() // max(1, one.size)
        except Exception as error:  # a model that takes whole batches only, or whose operations are hidden
            pass_over(error)
            return 0

    def measure(self, network: Network, batches: tuple[Batch, ...], mass: float) -> dict[str, Tensor]:
        """Loss, accuracy, error and declared metrics of the network as it is set: 0-d float64 tensors on the device.

        Accuracy is the share of right targets (one a sample, pixel or token; those that the loss ignores do not count).
        """
        total, hits, seen = (torch.zeros((), dtype=torch.float64, device=self.device) for _ in range(3))
        declared = {name: torch.zeros_like(total) for name in self.metrics}
        classes = self.classes
        for batch in batches:
            with self.graphs():
                outputs = self.outputs(network, batch)
                value = self.term(outputs, batch, network).detach().double()
            total += value
            for name, measured in self.measured(outputs, batch).items():
                declared[name] += measured
            if classes is not None:
                right, count = classes.right(outputs, batch.targets)
                hits += right
                seen += count
        values = {"loss": total / mass if self.reduction == "mean" else total}
        if classes is not None:
            values["accuracy"] = hits / seen
        weight = sum(batch.weight for batch in batches)
        return self.named(values | {name: value / weight for name, value in declared.items()})

    def named(self, values: dict[str, Any]) -> dict[str, Any]:
        """Values with the error beside the accuracy."""
        return {**values, "error": 1 - values["accuracy"]} if "accuracy" in values else values

    def measured(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """What a batch adds to the weighted sums of the declared metrics. Raises InputError if one is no number."""
        found = {}
        for name, metric in self.metrics.items():
            try:
                value = torch.as_tensor(metric(outputs, batch.targets), dtype=torch.float64, device=self.device).reshape(())
            except Exception as error:
                line = " ".join(str(error).split())
                raise InputError(
                    f"the metric {name!r} must give one number for {batch.name} ({type(error).__name__}: {line})"
                ) from error
            found[name] = value * batch.weight
        return found

    def term(self, outputs: Any, batch: Batch, network: Network | None = None) -> Tensor:
        """What a batch adds to the sum of losses, at the weights of `network` if the loss reads them.

        Raises InputError if the loss is not one number, or raises.
        """
        value = self.term_of(outputs, batch, network)
        return value * batch.weight if self.reduction == "mean" else value

    def weighted_terms(self, split: Split = "train") -> Iterator[Tensor]:
        """Differentiable terms that sum to L at the network's present theta, one a batch: one graph lives at a time.

        Raises InputError if the outputs have no gradient at all.
        """
        for batch in self.batches(split):
            yield self.weighted_term(self.network, batch, split)

    def weighted_term(self, network: Network, batch: Batch, split: Split = "train") -> Tensor:
        """What a batch adds to L, differentiable at the network's theta. Raises InputError if its outputs have no gradient."""
        outputs = self.outputs(network, batch)
        graphs = [t.requires_grad for t in tensors(outputs)]
        value = self.term(outputs, batch, network) * self.weight(split)
        if graphs and not any(graphs) and not value.requires_grad:
            raise InputError("the model's outputs do not depend on its trainable parameters: is forward under no_grad?")
        return value

    def weight(self, split: Split = "train") -> float:
        """What the sum of terms is multiplied with: one over the samples, or the weights given, for a mean."""
        return 1 / self.mass(split) if self.reduction == "mean" else 1.0

    def logits(self, theta: Tensor | None = None, split: Split = "train") -> Tensor:
        """The model's outputs on every sample of the split, joined along samples. Raises InputError where they do not fit."""
        self._set(theta)
        with torch.no_grad():
            found = [scores(self.outputs(self.network, batch)) for batch in self.batches(split)]
        self.counts["forwards"] += 1
        try:
            return torch.cat(found, self.along(found[0], self.batches(split)[0]))
        except (RuntimeError, TypeError):
            raise InputError("the outputs of batches cannot be joined: they differ in more than samples") from None

    def along(self, outputs: Tensor, batch: Batch) -> int:
        """The dimension in which a batch's outputs have its samples: that of the targets, if it has as many there."""
        dim = max(0, next((dim for path, dim in batch.cuts.items() if path[0] == 1), 0))
        return dim if dim < outputs.dim() and outputs.shape[dim] == batch.size else 0

    def sample_losses(self, theta: Tensor | None = None, split: Split = "train") -> Tensor:
        """The loss of each sample by itself `(n,)`, float64: `loss` called with one row of outputs and targets at a time.

        Their mean (or sum) is L. Raises InputError where there is no such thing: samples that see each other in their batch,
        batches that do not split into samples, or that have weights of their own.
        """
        if any(b.weight * self.size(split) != b.size * self.mass(split) for b in self.batches(split)):
            raise InputError("losses of single samples do not average to a mean with weights of its own")
        if not self.separate(split):
            raise InputError("losses of single samples need samples that do not see each other in their batch")
        self._set(theta)
        with torch.no_grad():
            found = [self._row_losses(batch).double() for batch in self.batches(split)]
        self.counts["forwards"] += 1
        return torch.cat(found)

    def _row_losses(self, batch: Batch) -> Tensor:
        targets = batch.targets
        dim = batch.cuts.get((1,))
        if batch.rows == batch.size and isinstance(targets, Tensor) and dim is not None and dim >= 0:
            outputs = self.outputs(self.network, batch)
            if isinstance(outputs, Tensor) and outputs.dim() > dim and outputs.shape[dim] == batch.size:
                try:
                    one = lambda o, t: self.asked(o.unsqueeze(dim), t.unsqueeze(dim)).reshape(())  # noqa: E731
                    return torch.func.vmap(one, (dim, dim))(outputs, targets)
                except RuntimeError:  # a loss that vmap cannot follow, such as one that branches on its values
                    pairs = zip(outputs.split(1, dim), targets.split(1, dim), strict=True)
                    return torch.stack([self.asked(o, t).reshape(()) for o, t in pairs])
        rows = list(batch.chunks(1))
        if self.batchnorm == "batch" or any(row.rows != 1 for row in rows):
            raise InputError("losses of single samples need one row of outputs and one target a sample")
        return torch.stack([self._one(row) for row in rows])

    def _one(self, row: Batch) -> Tensor:
        """The loss of a row by itself."""
        return self.term(self.outputs(self.network, row), row) / (row.weight if self.reduction == "mean" else 1.0)

    # -- derivatives --------------------------------------------------------------------------------------------------

    def gradient(self, theta: Tensor | None = None) -> Tensor:
        """dL/dtheta `(p,)` over the whole training sample; zero for parameters that the loss does not use."""
        self.sloped().refuse()
        self.counts["gradients"] += 1
        return self.raw_gradient(self.theta if theta is None else theta)[0]

    def raw_gradient(self, theta: Tensor) -> tuple[Tensor, float]:
        """Autograd's gradient `(p,)` of L at theta, whether or not it is the loss's, and L."""
        self._set(theta)
        with torch.inference_mode(False), torch.enable_grad(), self.network.exactly():
            total, loss = torch.zeros_like(self.theta), 0.0
            for value in self.weighted_terms("train"):
                total += self._derived(value)
                loss += float(value.detach())
        return total, loss

    def _derived(self, value: Tensor) -> Tensor:
        """The derivative of a number by theta. Raises InputError, in one line, where autograd fails."""
        try:
            return self.network.gradient(value)
        except (RuntimeError, NotImplementedError) as error:
            if isinstance(error, (InputError, torch.OutOfMemoryError)):
                raise
            line = " ".join(str(error).split())
            raise Failed("the loss cannot be differentiated", f": {line[:200]}") from error

    def sloped(self) -> Slope:
        """What a look at the derivative shows, once an Objective."""
        if self._slope is None:
            self.found()
            with torch.inference_mode(False):
                self._slope = self._sloped()
        return self._slope

    def minibatch_gradient(self, theta: Tensor | None, chosen: Tensor | None) -> Tensor:
        """The gradient `(p,)` of the loss over the training samples at `chosen` `(n,)` alone; None takes all.

        Raises InputError where the batches given do not split into samples.
        """
        if chosen is None:
            return self.gradient(theta)
        self.sloped().refuse()
        self._set(theta)
        self.counts["batch_gradients"] += 1
        total, start, mass = torch.zeros_like(self.theta), 0, 0.0
        with torch.inference_mode(False), torch.enable_grad(), self.network.exactly():
            for batch in self.batches():
                places = chosen[(chosen >= start) & (chosen < start + batch.size)] - start
                start += batch.size
                if len(places):
                    part = batch.pick(places)
                    total += self._derived(self.term(self.outputs(self.network, part), part))
                    mass += part.weight
        return total / mass if self.reduction == "mean" else total

    # -- chunks -------------------------------------------------------------------------------------------------------

    def chunks(self, split: Split = "train", rows: int | None = None) -> tuple[Batch, ...]:
        """The batches of a split in pieces of at most `rows` rows (as many as a cache holds), if that changes nothing.

        Samples of one batch must not see each other for that (a loss weighted over the batch, BatchNorm on the batch's
        statistics): checked once against the plain evaluation, and without it the batches stay whole.
        """
        self.found(split)
        if rows is not None:
            return self._cut(split, rows)
        if split not in self._chunks:
            self._chunks[split] = self._cut(split, self._cached_rows(split))
        return self._chunks[split]

    def _cut(self, split: Split, rows: int) -> tuple[Batch, ...]:
        """The batches of a split in pieces of at most `rows` rows, or whole if a piece is not what it is in its batch."""
        whole = self.batches(split)
        if self.coupled:
            return whole
        pieces = tuple(piece for batch in whole for piece in batch.chunks(rows))
        if len(pieces) == len(whole):
            return whole
        return pieces if self.separate(split) and self._averaged(whole, pieces) else whole

    def _averaged(self, whole: tuple[Batch, ...], pieces: tuple[Batch, ...]) -> bool:
        """Whether the declared metrics of a batch are means over its samples, so that pieces have the same."""
        if not self.metrics:
            return True
        with torch.no_grad():
            found = [self.measure(self.network, batches, 1.0) for batches in (whole, pieces)]
        off = [float((found[0][name] - found[1][name]).abs() / found[0][name].abs().clamp(min=1e-30)) for name in self.metrics]
        return all(value <= 1e-4 for value in off)

    def _cached_rows(self, split: Split) -> int:
        if split not in self._chunk_rows:
            self._chunk_rows[split] = self.cached_rows(self.batches(split)[0])
        return self._chunk_rows[split]

    def cached_rows(self, batch: Batch) -> int:
        """How many rows of a batch at a time keep the model's values in the cache."""
        try:
            with self.graphs():
                return chunk_rows(self.network, batch)
        except Exception as error:  # a model that takes whole batches only
            pass_over(error)
            return batch.rows

    def _set(self, theta: Tensor | None) -> None:
        self.network.set(self.theta if theta is None else theta)


def rounded(found: float, plain: float, dtype: torch.dtype) -> bool:
    """Whether what a fast form found is the plain value, but for rounding: relative, since losses come in all units."""
    return found == plain or abs(found - plain) <= ROUNDING[dtype] * abs(plain)
