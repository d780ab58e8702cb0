"""What an analysis is given beside its Spec: the loss, other checkpoints by name, and what an earlier attempt left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..objective import Objective
from ..specs import Array, InputError


@dataclass(frozen=True)
class Trajectory:
    """The checkpoints of a run in order."""

    steps: tuple[int, ...]
    thetas: Tensor  # (t, p)


def _no_run(name: str) -> Tensor:
    raise InputError(f"'{name}' names a run, but the source is not a checkpoint of a run")


@dataclass(frozen=True)
class Context:
    """An analysis asks these and nothing else: it knows no store, no process and no page."""

    objective: Objective
    source: str = ""  # RUN@STEP, or empty for a bare Objective
    own_path: Callable[[], Trajectory] | None = None  # the source's own run
    weights: Callable[[str], Tensor] = _no_run  # theta (p,) of another checkpoint of the same task
    paths: Callable[[str], Trajectory] | None = None  # the path of another run of the same task
    vectors: Sequence[Tensor] = ()  # directions given by the caller
    training: Mapping[str, Any] = field(default_factory=dict)  # how the source's run was trained: fields of TrainingSpec
    rates: Mapping[int, float] = field(default_factory=dict)  # its learning rate, by step
    partial: Mapping[str, Array] = field(default_factory=dict)  # arrays that an interrupted attempt left
    provenance: Mapping[str, Any] = field(default_factory=dict)  # fingerprints of what the result rests on

    def path(self, run: str | None = None) -> Trajectory:
        """The trajectory of a run of the same task; None is the source's own. Raises InputError if there is none."""
        if run is None:
            if self.own_path is None:
                raise InputError("this needs the trajectory of a run: give a run as the source, or path= in Python")
            return self.own_path()
        if self.paths is None:
            _no_run(run)
        assert self.paths is not None
        return self.paths(run)

    def double(self) -> Objective:
        """The same loss in float64: the plain reference that a picture's centre is held to."""
        return self.objective.to(torch.float64)
