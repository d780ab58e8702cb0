"""A Result written to a file, in the format that its ending names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from landscape_core.checkpoints.home import write_atomically
from landscape_core.specs import Array, InputError, Result

from . import export


def plain(result: Result) -> dict[str, Any]:
    """The result as JSON values: every array and scalar by name, `spec` and `provenance`; what is not finite is null."""
    return {
        **{name: _values(value) for name, value in result.arrays.items()},
        "spec": result.spec,
        "provenance": result.provenance,
    }


def _values(value: Array) -> Any:
    if value.dtype.kind != "f":
        return value.tolist()
    values = value.astype(object)
    values[~np.isfinite(value)] = None
    return values.tolist()


def _png(result: Result) -> bytes:
    try:
        return bytes(export.figure(result).to_image("png", width=1200, height=900, scale=2))
    except RuntimeError as error:
        raise InputError(
            f"a .png is drawn by Chromium or Chrome, which could not be used here; write .html ({error})"
        ) from None


WRITERS: dict[str, Callable[[Result], bytes]] = {
    ".npz": lambda result: result.to_bytes(),
    ".json": lambda result: json.dumps(plain(result)).encode(),
    ".csv": lambda result: export.to_csv(result).encode(),
    ".vtk": lambda result: export.to_vtk(result).encode(),
    ".html": lambda result: export.to_html(export.figure(result)).encode(),
    ".png": _png,
}


def checked(text: str) -> Path:
    """The path that `text` names, if a result can be written there. Raises InputError, before anything is computed."""
    file = Path(text)
    if file.suffix not in WRITERS:
        raise InputError(f"{text}: unknown ending; a result is written as {', '.join(WRITERS)}")
    if not file.absolute().parent.is_dir():
        raise InputError(f"{text}: there is no directory {file.parent}")
    return file


def write(result: Result, file: Path) -> None:
    """Write the result, whole or not at all. Raises InputError if it has no such form or the disk refuses."""
    write_atomically(file.absolute(), WRITERS[file.suffix](result))
