"""Results written to files, in the format that the ending names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ..analyses import ANALYSES
from ..checkpoints.home import write_atomically
from ..drawing.export import to_html
from ..drawing.tables import csv_text
from ..specs import Array, InputError, Result
from .pictures import of_result, rows, side_by_side

PICTURES = (".html", ".png")
ENDINGS = (".npz", ".json", ".csv", *PICTURES, *sorted({f".{kind}" for item in ANALYSES.values() for kind in item.files}))


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


def content(result: Result, ending: str) -> bytes:
    """The result as the bytes of a file of numbers: .npz, .json, .csv, or what else its analysis writes. Raises InputError."""
    if ending == ".npz":
        return result.to_bytes()
    if ending == ".json":
        return json.dumps(plain(result)).encode()
    if ending == ".csv":
        return csv_text(rows(result)).encode()
    item = of_result(result)
    make = item.part("figure", ending[1:]) if ending[1:] in item.files else None
    if make is None:
        raise InputError(f"a result of '{item.name}' is not written as {ending}")
    text: str = make(result)
    return text.encode()


def _picture(figure: go.Figure, ending: str) -> bytes:
    if ending == ".html":
        return to_html(figure).encode()
    try:
        return bytes(figure.to_image("png", width=1200, height=900, scale=2))
    except RuntimeError as error:
        raise InputError(
            f"a .png is drawn by Chromium or Chrome, which could not be used here; write .html ({error})"
        ) from None


def checked(text: str) -> Path:
    """The path that `text` names, if a result can be written there. Raises InputError, before anything is computed."""
    file = Path(text)
    if file.suffix not in ENDINGS:
        raise InputError(f"{text}: unknown ending; a result is written as {', '.join(ENDINGS)}")
    if not file.absolute().parent.is_dir():
        raise InputError(f"{text}: there is no directory {file.parent}")
    return file


def write(results: Sequence[Result], file: Path, view: Mapping[str, Any]) -> list[Path]:
    """Write results of one analysis, each whole or not at all; several to files named after their sources too.

    Pictures are drawn with the `view` options, beside each other as on the page. Returns the files. Raises InputError if a
    result has no such form or the disk refuses.
    """
    if file.suffix in PICTURES:
        parts = [_picture(figure, file.suffix) for figure in side_by_side(results, **view)]
    else:
        parts = [content(result, file.suffix) for result in results]
    places = [file]
    if len(parts) > 1:
        places = [file.with_stem(f"{file.stem}-{result.spec['source']}") for result in results]
    for place, data in zip(places, parts, strict=True):
        write_atomically(place.absolute(), data)
    return places
