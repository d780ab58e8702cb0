"""How one flat vector maps to a model's named parameters, and the groups that normalisation needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..specs import InputError

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


@dataclass(frozen=True)
class Entry:
    """One trainable parameter tensor and its place in theta."""

    name: str
    shape: torch.Size
    offset: int
    size: int
    ignored: bool  # bias or normalisation parameter: at most one dimension, or owned by a normalisation layer


@dataclass(frozen=True)
class ParameterSpace:
    """The coordinates of theta `(p,)`: the trainable parameters of a model in the order of `named_parameters()`.

    A tied parameter appears once, under its first name; a frozen one does not appear.
    """

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, model: nn.Module) -> ParameterSpace:
        """The space of a model's trainable parameters. Raises InputError if there are none, or if they are not real numbers."""
        norms = {id(p) for m in model.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)}
        entries, offset = [], 0
        for name, p in model.named_parameters():
            if isinstance(p, nn.parameter.UninitializedParameter) or p.is_meta:
                raise InputError(f"the parameter {name} has no values yet: load the weights, or call the model once on a batch")
            if p.requires_grad:
                if not p.is_floating_point():
                    raise InputError(f"the parameter {name} is complex: only real parameters have a loss landscape here")
                entries.append(Entry(name, p.shape, offset, p.numel(), p.dim() <= 1 or id(p) in norms))
                offset += p.numel()
        if offset == 0:
            raise InputError("the model has no trainable parameter: set requires_grad on those to look at")
        return cls(tuple(entries))

    @property
    def size(self) -> int:
        """p, the number of coordinates."""
        return self.entries[-1].offset + self.entries[-1].size

    def split(self, theta: Tensor) -> dict[str, Tensor]:
        """The named tensors of theta `(p,)`, as views."""
        return {e.name: theta[e.offset : e.offset + e.size].view(e.shape) for e in self.entries}

    def tensors(self, vector: Tensor, members: Sequence[int]) -> list[Tensor]:
        """The tensors of a vector `(m,)` of the coordinates of some entries alone, those at the places `members`, as views."""
        entries = [self.entries[i] for i in members]
        pieces = vector.split([e.size for e in entries])
        return [piece.view(e.shape) for piece, e in zip(pieces, entries, strict=True)]

    def aligned(self, vector: Tensor, members: Sequence[int]) -> list[Tensor]:
        """`tensors`, to be read alone: pairs of numbers at odd places, which no complex view allows, are copies."""
        return [
            t.clone() if t.dim() and t.shape[-1] == 2 and t.storage_offset() % 2 else t for t in self.tensors(vector, members)
        ]

    def under(self, name: str) -> set[int]:
        """The places of the entries that a name stands for: a parameter's own, or a module's, all parameters below it."""
        return {i for i, entry in enumerate(self.entries) if f"{entry.name}.".startswith(f"{name}.")}

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Theta `(p,)` of named tensors, matched by name. Raises InputError naming what is missing or mis-shaped."""
        missing = [e.name for e in self.entries if e.name not in tensors]
        wrong = [e.name for e in self.entries if e.name in tensors and tensors[e.name].shape != e.shape]
        if missing or wrong:
            parts = [f"{word}: {', '.join(names)}" for word, names in (("missing", missing), ("other shape", wrong)) if names]
            raise InputError(f"the weights do not fit the model ({'; '.join(parts)})")
        return torch.cat([tensors[e.name].detach().reshape(-1) for e in self.entries])

    @cached_property
    def ignored(self) -> Tensor:
        """Which coordinates `(p,)` are biases or normalisation parameters."""
        return torch.cat([torch.full((e.size,), e.ignored) for e in self.entries])

    @cached_property
    def filters(self) -> Tensor:
        """Number of the filter `(p,)` of each coordinate: a first-index slice of a tensor, or all of a vector or number."""
        parts, count = [], 0
        for e in self.entries:
            n = e.shape[0] if len(e.shape) > 1 and e.size else 1
            parts.append(torch.arange(count, count + n).repeat_interleave(e.size // n))
            count += n
        return torch.cat(parts)

    @cached_property
    def layers(self) -> Tensor:
        """Number of the tensor `(p,)` that each coordinate belongs to."""
        return torch.cat([torch.full((e.size,), i) for i, e in enumerate(self.entries)])


def group_norms(vector: Tensor, groups: Tensor) -> Tensor:
    """The L2 norm of each group of coordinates: vector `(p,)`, groups `(p,)` from 0, result `(groups,)` in float64."""
    sums = torch.zeros(int(groups.max()) + 1, dtype=torch.float64, device=vector.device)
    return sums.index_add_(0, groups.to(vector.device), vector.double() ** 2).sqrt_()
