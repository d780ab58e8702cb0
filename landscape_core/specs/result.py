"""What an analysis gives back: a Result, and the Progress that it yields on the way. No torch, no pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .archives import Array, read_npz
from .base import InputError

COUNTED = {  # the evaluations that a Result tells of, one and many
    "forwards": ("forward pass", "forward passes"),
    "gradients": ("gradient", "gradients"),
    "batch_gradients": ("mini-batch gradient", "mini-batch gradients"),
    "products": ("Hessian-vector product", "Hessian-vector products"),
}


@dataclass(frozen=True)
class Progress:
    """How far a job is: `done` of `total` in units of its own; `partial` holds cumulative arrays (all that is known)."""

    done: float
    total: float
    message: str = ""
    partial: Mapping[str, Array] | None = None


@dataclass(frozen=True)
class Result(Mapping[str, Any]):
    """A mapping from names to numpy arrays and scalars, with the Spec that asked for it and where it came from."""

    arrays: Mapping[str, Array]  # scalars and texts as 0-d arrays
    spec: Mapping[str, Any]  # {"analysis": ..., "source": ..., fields of the Spec}
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        value = self.arrays[name]
        return value.item() if value.ndim == 0 else value

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def to_bytes(self) -> bytes:
        """The `.npz` file: the arrays by name, and `spec` and `provenance` as JSON strings."""
        texts = {
            name: np.array(json.dumps(dict(value))) for name, value in (("spec", self.spec), ("provenance", self.provenance))
        }
        return pack({**self.arrays, **texts})

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "result") -> Result:
        """Read what `to_bytes` wrote. Raises InputError naming `name` if the bytes are damaged."""
        arrays = unpack(data, name)
        try:
            spec, provenance = (json.loads(str(arrays.pop(key))) for key in ("spec", "provenance"))
        except (KeyError, ValueError):
            raise InputError(f"{name} is not a result: it has no spec and provenance") from None
        return cls(arrays, spec, provenance)


def pack(arrays: Mapping[str, Any]) -> bytes:
    """Arrays as the bytes of an uncompressed `.npz` file, without pickle."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(value) for name, value in arrays.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(data: bytes, name: str = "data") -> dict[str, Array]:
    """The arrays in the bytes of a `.npz` file. Raises InputError naming `name` if damaged or pickled."""
    return read_npz(io.BytesIO(data), name)
