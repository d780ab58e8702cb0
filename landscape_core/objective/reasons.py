"""Why a model or a loss cannot take a batch, in one line with the way out: PyTorch's own errors are for programmers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..specs import InputError
from .accuracy import scores
from .batches import Batch
from .trees import tensors

LONGEST = 200  # characters of another's message


class Failed(InputError, RuntimeError):
    """What a caller's model or loss raised: an InputError for people, still a RuntimeError for who steps aside for those."""

    def __init__(self, what: str, reason: str, name: str = ""):
        super().__init__(f"{what}{f' on {name}' if name else ''}{reason}")
        self.what, self.reason = what, reason

    def on(self, name: str) -> Failed:
        """The same of a batch that has a name."""
        return Failed(self.what, self.reason, f"the inputs of {name}")


def of_model(error: Exception, inputs: Any) -> Exception:
    """The error to raise in place of one that the model raised."""
    if isinstance(error, (InputError, torch.OutOfMemoryError)):
        return error
    given = ", ".join(_form(t) for t in list(tensors(inputs))[:4])
    return Failed("the model fails", f"{f' ({given})' if given else ''}: {_line(error)}")


def of_loss(error: Exception, outputs: Any, batch: Batch) -> Exception:
    """The error to raise in place of one that the loss raised."""
    if isinstance(error, (InputError, torch.OutOfMemoryError)):
        return error
    return Failed("loss(outputs, targets) fails", f": {_labels(scores(outputs), batch.targets) or _line(error)}", batch.name)


def _line(error: Exception) -> str:
    line = " ".join(str(error).split())
    line = line if len(line) <= LONGEST else line[:LONGEST].rstrip() + " ..."
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _labels(z: Any, targets: Any) -> str:
    """What is wrong with class labels, as far as shapes, types and values show it."""
    if not isinstance(z, Tensor) or not isinstance(targets, Tensor) or z.is_nested or targets.is_nested:
        return ""
    forms = f"outputs are {_form(z)}, targets {_form(targets)}: "
    if z.dim() == 2 and z.shape[1] == 1 and targets.numel() == z.numel():
        return forms + "beside one score a sample targets are floating-point numbers, give targets.float().view(-1, 1)"
    rows = z.shape[:1] + z.shape[2:]
    if z.dim() >= 2 and targets.shape != rows and targets.shape[:1] == z.shape[:1]:
        if targets.shape == (*rows, 1) or (targets.dim() == 2 and targets.shape[1] == 1):
            return forms + "labels of classes have one number a sample, give targets.squeeze(1)"
        if targets.shape == z.shape:
            return forms + "one-hot targets must be floating-point numbers; labels of classes are targets.argmax(1)"
    if targets.shape[:1] != z.shape[:1] and targets.dim() and z.dim():
        return forms + "there must be one target for each output"
    if targets.is_floating_point() and targets.shape == rows:
        return forms + "labels of classes must be integers, give targets.long()"
    if targets.dtype not in (torch.int64, torch.uint8) and not targets.is_floating_point() and targets.shape == rows:
        return forms + "labels of classes must be int64, give targets.long()"
    if not targets.is_floating_point() and targets.shape == rows and z.dim() >= 2 and targets.numel():
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= z.shape[1]:
            return f"targets run from {low} to {high}, but outputs have {z.shape[1]} classes, 0 to {z.shape[1] - 1}"
    return ""


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {'nested' if tensor.is_nested else tuple(tensor.shape)}"
