"""Results as tables: rows by what is declared of their arrays, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..specs import Variable
from .known import Known

Table = tuple[list[str], Iterable[tuple[Any, ...]]]  # header, rows


def rows_of(data: Known, variables: Sequence[Variable]) -> Table:
    """Header and rows of a result: one row for each place along the leading dimension of the first array declared.

    Columns are the arrays with that leading dimension, those of a table numbered from 1; `steps` are headed `step`. A result
    of scalars alone is one row of them.
    """
    about = {item.name: item for item in variables}
    known = {name: np.asarray(data[name]) for name in data if name in about}
    first = next((item.name for item in variables if item.name in known and known[item.name].ndim), None)
    if first is None:
        return list(known), [tuple(value.item() for value in known.values())]
    lead = about[first].dimensions[:1]
    columns: dict[str, Any] = {}
    for name in (first, *(name for name in known if name != first)):
        values = known[name]
        if about[name].dimensions[:1] != lead or not 1 <= values.ndim <= 2 or len(values) != len(known[first]):
            continue
        if values.ndim == 1:
            columns["step" if name == "steps" else name] = values
        else:
            columns |= {f"{name}_{i + 1}": column for i, column in enumerate(values.T)}
    return list(columns), zip(*(column.tolist() for column in columns.values()), strict=True)


def csv_text(table: Table) -> str:
    """The table as CSV; what is not finite is `nan` or `inf`."""
    header, rows = table
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([value if isinstance(value, str) else repr(value) for value in row] for row in rows)
    return buffer.getvalue()
