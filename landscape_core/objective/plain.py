"""The loss over a fixed sample as a function of one flat parameter vector: values and gradients, the plain path."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ..specs import InputError
from .accuracy import correct, scores
from .batches import Batch, as_batches, tensors
from .chunks import chunk_rows
from .foreign import pass_over
from .network import BatchNorm, Network, unwrapped
from .space import ParameterSpace
from .threads import operations

Split = Literal["train", "test"]
Loss = Callable[[Any, Any], Tensor]

ROUNDING = {torch.float32: 5e-6, torch.float64: 1e-11}  # |fast - plain| / max(1, |plain|) that rounding explains


class PlainObjective:
    """L(theta), its values and gradients, one batch after another: what every faster way and every curvature stands on.

    `Objective` says what it is made of, and has those.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Any,
        *,
        reduction: Literal["mean", "sum"] = "mean",
        test_batches: Any = None,
        batchnorm: BatchNorm = "stored",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module (got {type(model).__name__})")
        if not callable(loss):
            raise InputError(f"loss must be a function loss(outputs, targets) (got {type(loss).__name__})")
        if reduction not in ("mean", "sum"):
            raise InputError(f"reduction must be 'mean' or 'sum' (got {reduction!r})")
        if batchnorm not in ("stored", "batch"):
            raise InputError(f"batchnorm must be 'stored' or 'batch' (got {batchnorm!r})")
        model = unwrapped(model)
        self.space = ParameterSpace.of(model)
        first = next(p for p in model.parameters() if p.is_floating_point())
        self.dtype = dtype or first.dtype
        self.device = _device(first.device if device is None else device)
        if self.dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype must be float32 or float64 (got {self.dtype}); pass dtype=torch.float32")
        self.reduction: Literal["mean", "sum"] = reduction
        self.batchnorm: BatchNorm = batchnorm
        self.counts: Counter[str] = Counter()  # passes over the sample: forwards, gradients, products
        with torch.inference_mode(False):
            self.loss_function = self._own(loss)
            self._source = model
            self.network = self.replica()
            self._source = self.network.model
            self.theta = self.network.buffer.clone()  # (p,) the weights given
            self._batches: dict[str, tuple[Batch, ...]] = {"train": as_batches(batches, device=self.device, dtype=self.dtype)}
            if test_batches is not None:
                self._batches["test"] = as_batches(test_batches, device=self.device, dtype=self.dtype)
        self._chunks: dict[str, tuple[Batch, ...]] = {}
        self._chunk_rows: dict[str, int] = {}
        self._separate: dict[str, bool] = {}  # by split: whether samples do not see each other

    # -- the sample -------------------------------------------------------------------------------------------------

    def batches(self, split: Split = "train") -> tuple[Batch, ...]:
        """The batches of a split. Raises InputError if there are none."""
        if split not in self._batches:
            raise InputError(f"the objective has no {split} samples; give test_batches")
        return self._batches[split]

    def size(self, split: Split = "train") -> int:
        """Number of samples of a split."""
        return sum(b.size for b in self.batches(split))

    @property
    def has_test(self) -> bool:
        """Whether there are test samples."""
        return "test" in self._batches

    def chunks(self, split: Split = "train", rows: int | None = None) -> tuple[Batch, ...]:
        """The batches of a split in pieces of at most `rows` rows (as many as a cache holds), if that changes nothing.

        Samples of one batch must not see each other for that (a loss weighted over the batch, BatchNorm on the batch's
        statistics): checked once against the plain evaluation, and without it the batches stay whole.
        """
        if rows is not None:
            return self._cut(split, rows)
        if split not in self._chunks:
            self._chunks[split] = self._cut(split, self._cached_rows(split))
        return self._chunks[split]

    def over(self, batches: Any, *, test_batches: Any = None, dtype: torch.dtype | None = None) -> Self:
        """The same loss over other batches, in this arithmetic or another."""
        return type(self)(
            self._source,
            self.loss_function,
            batches,
            reduction=self.reduction,
            test_batches=test_batches,
            batchnorm=self.batchnorm,
            dtype=dtype or self.dtype,
            device=self.device,
        )

    def to(self, dtype: torch.dtype) -> Self:
        """The same loss in other arithmetic (itself, if it is that already)."""
        if dtype == self.dtype:
            return self
        pairs = {split: [(b.inputs, b.targets) for b in batches] for split, batches in self._batches.items()}
        other = self.over(pairs["train"], test_batches=pairs.get("test"), dtype=dtype)
        other.theta = self.theta.to(dtype)
        return other

    def _own(self, loss: Loss) -> Loss:
        """A loss that is a module in this arithmetic, as a copy: class weights follow the model's dtype and device."""
        if not isinstance(loss, nn.Module):
            return loss
        own = copy.deepcopy(loss).to(self.device).eval()
        return own.double() if self.dtype == torch.float64 else own.float()

    def replica(self) -> Network:
        """One more private copy of the model, for another thread."""
        return Network(self._source, self.space, batchnorm=self.batchnorm, dtype=self.dtype, device=self.device)

    # -- values: the plain path, to which every faster one is held ----------------------------------------------------

    def evaluate(self, theta: Tensor | None = None, split: Split = "train") -> dict[str, float]:
        """Loss at theta `(p,)` (default: the weights given), and accuracy and error where the task is a classification."""
        self._set(theta)
        with torch.no_grad():
            values = self.measure(self.network, self.batches(split), self.size(split))
        self.counts["forwards"] += 1
        return {name: float(value) for name, value in values.items()}

    def loss(self, theta: Tensor | None = None, split: Split = "train") -> float:
        """L(theta), accumulated over batches in float64."""
        return self.evaluate(theta, split)["loss"]

    def operations(self) -> int:
        """Floating-point operations of a forward pass over the training sample; 0 where they cannot be counted."""
        batch = self.batches("train")[0]
        one = next(batch.chunks(1))
        try:
            return operations(self.network, one.inputs) * self.size() // max(1, one.size)
        except Exception as error:  # a model that takes whole batches only, or whose operations are hidden
            pass_over(error)
            return 0

    def measure(self, network: Network, batches: tuple[Batch, ...], size: int) -> dict[str, Tensor]:
        """Loss, accuracy and error of the network as it is set: 0-d float64 tensors on the device.

        Accuracy is the share of right targets (one a sample, pixel or token; negative ones such as -100 do not count).
        """
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        hits: Tensor | None = torch.zeros((), dtype=torch.float64, device=self.device)
        seen = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in batches:
            outputs = network(batch.inputs)
            total += self.term(outputs, batch).double()
            right = correct(outputs, batch.targets)
            if right is None or hits is None:
                hits = None
            else:
                hits += right.sum()
                seen += (batch.targets >= 0).sum()
        values = {"loss": total / size if self.reduction == "mean" else total}
        if hits is not None:
            values["accuracy"] = hits / seen
            values["error"] = 1 - values["accuracy"]
        return values

    def term(self, outputs: Any, batch: Batch) -> Tensor:
        """What a batch adds to the sum of losses. Raises InputError if the loss is not one number."""
        value = self.loss_function(outputs, batch.targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"loss(outputs, targets) must return a tensor of one number (got {got}); reduce it by mean or sum")
        return value.reshape(()) * batch.size if self.reduction == "mean" else value.reshape(())

    def weighted_terms(self, split: Split = "train") -> Iterator[Tensor]:
        """Differentiable terms that sum to L at the network's present theta, one a batch: one graph lives at a time.

        Raises InputError if the outputs have no gradient at all.
        """
        for batch in self.batches(split):
            yield self.weighted_term(self.network, batch, split)

    def weighted_term(self, network: Network, batch: Batch, split: Split = "train") -> Tensor:
        """What a batch adds to L, differentiable at the network's theta. Raises InputError if its outputs have no gradient."""
        outputs = network(batch.inputs)
        graphs = [t.requires_grad for t in tensors(outputs)]
        if graphs and not any(graphs):
            raise InputError("the model's outputs do not depend on its trainable parameters: is forward under no_grad?")
        return self.term(outputs, batch) * self.weight(split)

    def weight(self, split: Split = "train") -> float:
        """What the sum of terms is multiplied with: one over the samples for a mean."""
        return 1 / self.size(split) if self.reduction == "mean" else 1.0

    def logits(self, theta: Tensor | None = None, split: Split = "train") -> Tensor:
        """The model's outputs on every sample of the split, concatenated."""
        self._set(theta)
        with torch.no_grad():
            found = [scores(self.network(batch.inputs)) for batch in self.batches(split)]
        self.counts["forwards"] += 1
        return torch.cat(found)

    def sample_losses(self, theta: Tensor | None = None, split: Split = "train") -> Tensor:
        """The loss of each sample by itself `(n,)`, float64: `loss` called with one row of outputs and targets at a time.

        Raises InputError where a batch does not split into samples.
        """
        self._set(theta)
        with torch.no_grad():
            found = [self._row_losses(batch).double() for batch in self.batches(split)]
        self.counts["forwards"] += 1
        return torch.cat(found)

    def _row_losses(self, batch: Batch) -> Tensor:
        outputs, targets = self.network(batch.inputs), batch.targets
        if isinstance(outputs, Tensor) and isinstance(targets, Tensor) and len(outputs) == batch.size:
            try:
                return torch.func.vmap(lambda o, t: self.loss_function(o[None], t[None]).reshape(()))(outputs, targets)
            except RuntimeError:  # a loss that vmap cannot follow, such as one that branches on its values
                pairs = zip(outputs.split(1), targets.split(1), strict=True)
                return torch.stack([self.loss_function(o, t).reshape(()) for o, t in pairs])
        rows = list(batch.chunks(1))
        if self.batchnorm == "batch" or any(row.rows != 1 for row in rows):
            raise InputError("losses of single samples need one row of outputs and one target a sample")
        return torch.stack([self.loss_function(self.network(row.inputs), row.targets).reshape(()) for row in rows])

    # -- derivatives --------------------------------------------------------------------------------------------------

    def gradient(self, theta: Tensor | None = None) -> Tensor:
        """dL/dtheta `(p,)` over the whole training sample; zero for parameters that the loss does not use."""
        self._set(theta)
        with torch.inference_mode(False), torch.enable_grad(), self.network.exactly():
            total = torch.zeros_like(self.theta)
            for value in self.weighted_terms("train"):
                total += self.network.gradient(value)
        self.counts["gradients"] += 1
        return total

    def minibatch_gradient(self, theta: Tensor | None, chosen: Tensor | None) -> Tensor:
        """The gradient `(p,)` of the loss over the training samples at `chosen` `(n,)` alone; None takes all.

        Raises InputError where the batches given do not split into samples.
        """
        if chosen is None:
            return self.gradient(theta)
        self._set(theta)
        self.counts["batch_gradients"] += 1
        total, start = torch.zeros_like(self.theta), 0
        with torch.inference_mode(False), torch.enable_grad(), self.network.exactly():
            for batch in self.batches():
                places = chosen[(chosen >= start) & (chosen < start + batch.size)] - start
                start += batch.size
                if len(places):
                    part = batch.pick(places)
                    total += self.network.gradient(self.term(self.network(part.inputs), part))
        return total / len(chosen) if self.reduction == "mean" else total

    # -- chunks -------------------------------------------------------------------------------------------------------

    def _cut(self, split: Split, rows: int) -> tuple[Batch, ...]:
        """The batches of a split in pieces of at most `rows` rows, or whole if a piece is not what it is in its batch."""
        whole = self.batches(split)
        if self.batchnorm == "batch" and _has_batchnorm(self.network.model):
            return whole
        pieces = tuple(piece for batch in whole for piece in batch.chunks(rows))
        if len(pieces) == len(whole):
            return whole
        if split not in self._separate:
            self._separate[split] = self._same(whole, pieces, split)
        return pieces if self._separate[split] else whole

    def _same(self, whole: tuple[Batch, ...], pieces: tuple[Batch, ...], split: Split) -> bool:
        """Whether pieces give the loss of the whole.

        Tried beside the given weights: a silent last layer would hide what samples do to each other, and NaN everything.
        """
        noise = torch.randn(len(self.theta), generator=torch.Generator().manual_seed(0)).to(self.theta)
        self.network.set(self.theta.nan_to_num(0.0, 0.0, 0.0) + 0.02 * noise)
        try:
            with torch.inference_mode():
                plain, found = (self.measure(self.network, batches, self.size(split)) for batches in (whole, pieces))
        except Exception as error:  # a model that takes whole batches only
            pass_over(error)
            return False
        self.counts["forwards"] += 2
        return rounded(float(found["loss"]), float(plain["loss"]), self.dtype)

    def _cached_rows(self, split: Split) -> int:
        if split not in self._chunk_rows:
            batches = self.batches(split)
            try:
                self._chunk_rows[split] = chunk_rows(self.network, batches[0])
            except Exception as error:  # a model that takes whole batches only
                pass_over(error)
                self._chunk_rows[split] = max(batch.rows for batch in batches)
        return self._chunk_rows[split]

    def _set(self, theta: Tensor | None) -> None:
        self.network.set(self.theta if theta is None else theta)


def rounded(found: float, plain: float, dtype: torch.dtype) -> bool:
    """Whether what a fast form found is the plain value, but for rounding."""
    return abs(found - plain) / max(1.0, abs(plain)) <= ROUNDING[dtype]


def _has_batchnorm(model: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def _device(device: torch.device | str) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from None
    return found
