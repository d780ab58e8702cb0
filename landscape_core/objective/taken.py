"""What an Objective is made of: a private model and loss, a fixed sample, and what was found of them."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ..specs import InputError
from .accuracy import Classes
from .batches import Batch, Sample, Weights, as_sample
from .facts import Found, Slope
from .foreign import pass_over
from .kept import reached
from .nature import ROWS, Nature, Reduction, nature
from .network import BatchNorm, Network, unwrapped
from .own import Own, swaps
from .reasons import Failed, of_loss
from .space import ParameterSpace
from .still import Still

Split = Literal["train", "test"]
Loss = Callable[[Any, Any], Tensor]
Metric = Callable[[Any, Any], Any]


class Taken:
    """The caller's model, loss and samples as private copies, and what a first look at them finds.

    `Objective` says what they are.
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
        other._callers = self._callers  # what a copy is made of is private
        other.take_loss()
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
        callers = self.callers()

        def cast(t: Tensor) -> Tensor:
            kind = self.dtype if t.is_floating_point() else self.dtype.to_complex() if t.is_complex() else t.dtype
            # A view of the caller's weights stays one, so that it is seen.
            theirs = t.layout == torch.strided and not t.is_nested and t.untyped_storage().data_ptr() in callers
            return t if theirs else t.to(self.device, kind if self.casts else t.dtype)

        own = Own(swap, cast, {id(value) for value, _, _ in reached([self.network.model])})
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

    # -- one batch, and what the loss is --------------------------------------------------------------------------------

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
