"""What a first look at an Objective found: is it one function of theta, and is its gradient the derivative of it?"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..specs import InputError


@dataclass(frozen=True)
class Found:
    """What was found of one split."""

    separate: bool = False  # pieces of a batch give the loss of the batch: samples do not see each other
    derives: bool = False  # forward or loss takes derivatives, or computes something else without them
    entangled: bool = False  # the loss reads more than outputs and targets
    alone: bool = False  # threads would share what is kept outside the model
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slope:
    """What was found along one random direction v: `bend`, the difference of two gradients over the way between them (p,)."""

    theta: Tensor  # (p,) float64, beside the given weights
    v: Tensor  # (p,), of length one
    bend: Tensor  # (p,)
    norm: float  # of the gradient
    wrong: str = ""  # why the gradient is not that of the loss

    def refuse(self) -> None:
        """Raises InputError if autograd's gradient is not the loss's own."""
        if self.wrong:
            raise InputError(self.wrong)
