"""The loss over a fixed sample as a function of one flat parameter vector: values and gradients, the plain path."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ..specs import InputError
from .accuracy import Classes, scores
from .batches import Batch, Sample, Weights, as_sample
from .chunks import chunk_rows
from .facts import Found, Slope
from .foreign import pass_over
from .kept import Kept
from .nature import ROWS, Nature, Reduction, nature
from .network import BatchNorm, Network, unwrapped
from .own import Own, swaps
from .reasons import Failed, of_loss
from .space import ParameterSpace
from .still import Still
from .threads import operations
from .trees import tensors

Split = Literal["train", "test"]
Loss = Callable[[Any, Any], Tensor]
Metric = Callable[[Any, Any], Any]

ROUNDING = {torch.float32: 5e-6, torch.float64: 1e-11}  # |fast - plain| / |plain| that rounding explains


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
        weights: Weights = None,
        metrics: Mapping[str, Metric] | None = None,
        reduction: Reduction = "mean",
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
        if isinstance(loss, nn.modules.loss._Loss) and loss.reduction == "none":
            raise InputError(f"{type(loss).__name__} has reduction='none', one number a sample: make it 'mean'")
        if weights is not None and reduction == "sum":
            raise InputError("weights are for a mean over batches: with reduction='sum' their losses are added as they are")
        if weights is not None and not callable(weights) and test_batches is not None:
            raise InputError("weights as numbers are those of batches alone: with test_batches give a function of a batch")
        if batchnorm not in ("stored", "batch"):
            raise InputError(f"batchnorm must be 'stored' or 'batch' (got {batchnorm!r})")
        given, model = model, unwrapped(model)
        self._callers = [(name, weakref.ref(p)) for name, p in model.named_parameters()]
        self.space = ParameterSpace.of(model)
        first = next(p for p in model.parameters() if p.is_floating_point())
        self.dtype = dtype or first.dtype
        self.device = _device(first.device if device is None else device)
        if self.dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype must be float32 or float64 (got {self.dtype}); pass dtype=torch.float32")
        self.metrics = _checked(metrics)
        self._weights, self._said_reduction = weights, reduction
        self.batchnorm: BatchNorm = batchnorm
        self.counts: Counter[str] = Counter()  # passes over the sample: forwards, gradients, products
        with torch.inference_mode(False):
            self._source, self.bound = model, False
            self.network = self.replica()
            self._given_loss, self._swap = loss, swaps(model, self.network.model, given)
            self.take_loss()
            self._source = self.network.model
            self.theta = self.network.buffer.clone()  # (p,) the weights given
            parts = {"batches": batches} | ({} if test_batches is None else {"test_batches": test_batches})
            self._samples: dict[str, Sample] = {
                "test" if name == "test_batches" else "train": as_sample(
                    part, device=self.device, dtype=self.dtype, weights=weights, takes=self.network.takes, name=name
                )
                for name, part in parts.items()
            }
        self._chunks: dict[str, tuple[Batch, ...]] = {}
        self._chunk_rows: dict[str, int] = {}
        self._found: dict[str, Found] = {}  # by split
        self._slope: Slope | None = None

    # -- the sample -------------------------------------------------------------------------------------------------

    def batches(self, split: Split = "train") -> tuple[Batch, ...]:
        """The batches of a split. Raises InputError if there are none."""
        if split not in self._samples:
            raise InputError(f"the objective has no {split} samples; give test_batches")
        return self._samples[split].batches

    @property
    def sample(self) -> Sample:
        """How the training samples were counted: `words`, whether that was `guessed`, and `notes` that a result must carry."""
        return replace(self._samples["train"], summed=self._said_reduction == "mean" and self.reduction == "sum")

    def size(self, split: Split = "train") -> int:
        """Number of samples of a split."""
        return sum(b.size for b in self.batches(split))

    def mass(self, split: Split = "train") -> float:
        """What the sum of a split's terms is divided by for a mean: its samples, or the weights given."""
        return sum(b.weight for b in self.batches(split))

    @property
    def has_test(self) -> bool:
        """Whether there are test samples."""
        return "test" in self._samples

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

    def over(self, batches: Any, *, test_batches: Any = None, dtype: torch.dtype | None = None) -> Self:
        """The same loss over other batches, in this arithmetic or another."""
        self._begin()
        other = type(self)(
            self._source,
            self.loss_function,
            batches,
            weights=self._weights if callable(self._weights) else None,
            metrics=self.metrics,
            reduction=self.reduction,
            test_batches=test_batches,
            batchnorm=self.batchnorm,
            dtype=dtype or self.dtype,
            device=self.device,
        )
        if "nature" in vars(self) and isinstance(batches, tuple) and all(isinstance(b, Batch) for b in batches):
            vars(other)["nature"] = self.nature  # known of these batches already
        return other

    def to(self, dtype: torch.dtype) -> Self:
        """The same loss in other arithmetic (itself, if it is that already)."""
        if dtype == self.dtype:
            return self
        parts = {split: sample.batches for split, sample in self._samples.items()}
        other = self.over(parts["train"], test_batches=parts.get("test"), dtype=dtype)
        other._samples = {split: replace(s, batches=other._samples[split].batches) for split, s in self._samples.items()}
        other.theta = self.theta.to(dtype)
        other._found, other._slope = dict(self._found), self._slope
        if not self.casts:
            other.take_loss(cast=False)
        if "nature" in vars(self):
            other.nature = self.nature
        return other

    def _begin(self) -> None:
        """Before a copy is made: it begins where the model was given."""
        if hasattr(self, "network"):
            self.network.call.reset()

    @property
    def asked(self) -> Loss:
        """The loss as it is asked at outputs of any kind: itself, or held still where it needs that."""
        return self.loss_function if self.loss_call.steady else self.loss_call

    def take_loss(self, *, cast: bool = True) -> None:
        """Take a private copy of the loss that was given; what it closes over keeps its arithmetic unless it is `cast`."""
        self.casts = cast
        self.loss_function, self.bound = self._own(self._given_loss, self._swap)
        self.loss_call = Still(self.loss_function, [self.loss_function], self.device, loss=True)

    def _own(self, loss: Loss, swap: dict[int, Any]) -> tuple[Loss, bool]:
        """A private copy of a loss, what it closes over in this arithmetic and on this device; whether it had the model."""

        def cast(t: Tensor) -> Tensor:
            kind = self.dtype if t.is_floating_point() else self.dtype.to_complex() if t.is_complex() else t.dtype
            return t.to(self.device, kind if self.casts else t.dtype)

        own = Own(swap, cast, Kept([self.network.model]).seen)
        found = own(loss)
        return (found.eval() if isinstance(found, nn.Module) else found), own.swapped

    def replica(self) -> Network:
        """One more private copy of the model, for another thread; with a loss of its own, if the loss reads the model."""
        self._begin()
        network = Network(self._source, self.space, batchnorm=self.batchnorm, dtype=self.dtype, device=self.device)
        if self.bound:
            own, _ = self._own(self.loss_function, swaps(self.network.model, network.model, self.network.model))
            network.loss = Still(own, [own], self.device, loss=True)
        return network

    @property
    def coupled(self) -> bool:
        """Whether samples see each other by BatchNorm on the batch's statistics."""
        return self.batchnorm == "batch" and _has_batchnorm(self.network.model)

    # -- what was found -------------------------------------------------------------------------------------------------

    def found(self, split: Split = "train") -> Found:
        """What a first look shows of the function that the loss is, once a split. Raises InputError where it is none."""
        if split not in self._found:
            self.batches(split)
            try:
                with torch.inference_mode(False):
                    self._found[split] = self._settled(split)
            except Exception:
                self._found.pop(split, None)
                raise
        return self._found[split]

    def _settled(self, split: Split) -> Found:
        raise NotImplementedError

    def _sloped(self) -> Slope:
        raise NotImplementedError

    def assume(self, split: Split, *, derives: bool = False) -> None:
        """Take it for a function while it is looked at."""
        self._found[split] = Found(derives=derives)

    def separate(self, split: Split = "train") -> bool:
        """Whether the samples of a batch do not see each other: pieces of it give the loss of the whole."""
        return self.found(split).separate

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person must know about the loss as it is taken here, and how its samples were counted: one sentence each."""
        self.found()
        return tuple(dict.fromkeys([*self.sample.notes, *(note for found in self._found.values() for note in found.notes)]))

    def callers(self) -> dict[int, str]:
        """Names of the parameters of the model that was given, by their memory, while they live."""
        alive = ((name, reference()) for name, reference in self._callers)
        return {p.untyped_storage().data_ptr(): name for name, p in alive if p is not None and p.numel() and not p.is_meta}

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

    def outputs(self, network: Network, batch: Batch) -> Any:
        """The model's outputs for a batch. Raises InputError, in one line that names it, where the model raises."""
        try:
            return network(batch.inputs)
        except Failed as error:
            raise error.on(batch.name) from error.__cause__

    def graphs(self) -> AbstractContextManager[Any]:
        """A context in which values are computed: with derivatives, if the model or the loss takes some by itself."""
        if not any(found.derives for found in self._found.values()):
            return nullcontext()
        stack = ExitStack()
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        return stack

    def term(self, outputs: Any, batch: Batch, network: Network | None = None) -> Tensor:
        """What a batch adds to the sum of losses, at the weights of `network` if the loss reads them.

        Raises InputError if the loss is not one number, or raises.
        """
        value = self.term_of(outputs, batch, network)
        return value * batch.weight if self.reduction == "mean" else value

    def term_of(self, outputs: Any, batch: Batch, network: Network | None = None) -> Tensor:
        """The loss of a batch, as the function gives it: 0-d."""
        call = self.loss_call if network is None or network.loss is None else network.loss
        try:
            value = call(outputs, batch.targets)
        except Exception as error:
            raise of_loss(error, outputs, batch) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"loss(outputs, targets) must return a tensor of one number (got {got}); reduce it by mean or sum")
        return value.reshape(())

    # -- what the loss is ---------------------------------------------------------------------------------------------

    @property
    def reduction(self) -> Reduction:
        """What the loss does over the samples of a batch: as it was said, which is held to what the loss does.

        A sum of the only batch there is, or of a module that says so, is a sum whatever was said. Raises InputError where the
        loss is another than was said.
        """
        said, found = self._said_reduction, self.nature.reduction
        if found is None or found == said or self._weights is not None:
            return said
        if found == "sum":
            alone = all(len(sample.batches) == 1 for sample in self._samples.values())
            if alone or getattr(self.loss_function, "reduction", None) == "sum":
                return "sum"
            raise InputError(
                "the loss is a sum over the samples of a batch, but reduction is 'mean': pass reduction='sum', or divide the "
                "loss by the number of samples"
            )
        raise InputError("the loss is a mean over the samples of a batch, but reduction is 'sum': leave reduction='sum' out")

    @property
    def classes(self) -> Classes | None:
        """The classes that accuracy is counted over; None where it is declared, or the loss is no loss of classes."""
        return None if "accuracy" in self.metrics else self.nature.classes

    @cached_property
    def nature(self) -> Nature:
        """What the loss is, found by asking it once. Raises InputError for outputs and targets that cannot belong together."""
        batch = self.batches("train")[0]
        for piece in (next(batch.chunks(ROWS)), batch):
            try:
                with torch.inference_mode(False), torch.enable_grad():
                    outputs = self.outputs(self.network, piece)
            except InputError:  # a model that takes whole batches only, or none: then evaluating it says why
                continue
            try:
                with self.network.exactly():
                    with suppress(InputError):  # the loss is watched before it is asked
                        self.term_of(outputs, piece)
                    every = [b for sample in self._samples.values() for b in sample.batches]
                    found = nature(self.asked, lambda b: self.outputs(self.network, b), outputs, piece, every)
            except Exception as error:  # outputs that cannot be made up
                pass_over(error)
                return Nature()
            if found.spread:
                raise InputError(
                    f"outputs of {found.spread} ({batch.name}) are compared each with each: give both one shape, "
                    "targets.view(-1, 1) or outputs.squeeze(1)"
                )
            return found
        return Nature()

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


def _checked(metrics: Mapping[str, Metric] | None) -> dict[str, Metric]:
    """The declared metrics. Raises InputError for what is none."""
    found = dict(metrics or {})
    for name, metric in found.items():
        if not isinstance(name, str) or name in ("loss", "error") or not callable(metric):
            raise InputError(
                f"metrics must map names other than 'loss' and 'error' to functions f(outputs, targets) (got {name!r}: "
                f"{type(metric).__name__})"
            )
    return found


def _has_batchnorm(model: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def _device(device: torch.device | str) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from None
    return found
