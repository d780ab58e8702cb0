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
    known = {item.name: np.asarray(data[item.name]) for item in variables if item.name in data}
    about = {item.name: item for item in variables}
    series = [name for name in known if known[name].ndim]
    if not series:
        return list(known), [tuple(value.item() for value in known.values())]
    lead = about[series[0]].dimensions[:1]
    columns: dict[str, Any] = {}
    for name in series:
        values = known[name]
        if about[name].dimensions[:1] != lead or values.ndim > 2 or len(values) != len(known[series[0]]):
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
