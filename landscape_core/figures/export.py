"""A Result as a file for other programs, and the text that computes it again."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from landscape_core.specs import Array, InputError, Spec

from .counterfactual import counterfactual_figure
from .high_dimensions import high_dimensions_figure, path_rows
from .overlap import overlap_figure
from .quantity import QUANTITIES
from .spectrum import spectrum_figure
from .spectrum_data import spectrum_rows
from .steps import step_rows
from .surface import surface_figure

CONFIG = {"showSendToCloud": False, "displaylogo": False, "responsive": True}
FIGURES: dict[str, Callable[..., go.Figure]] = {
    "surface": surface_figure,
    "spectrum": spectrum_figure,
    "overlap": overlap_figure,
    "counterfactual": counterfactual_figure,
    "high_dimensions": high_dimensions_figure,
}


def figure(result: Mapping[str, Any], **options: Any) -> go.Figure:
    """The figure of a Result of any analysis; `options` go to its figure function. Raises InputError if it has none."""
    name = str(getattr(result, "spec", {}).get("analysis"))
    if name not in FIGURES:
        raise InputError(f"a result of '{name}' has no figure")
    return FIGURES[name](result, **options)


def to_csv(result: Mapping[str, Any]) -> str:
    """One row a point: `alpha,beta,loss,...` of a plane, `line,alpha,loss,...` of lines; of a spectrum one a number; of a
    series over training one a step; of a path one a checkpoint.

    Not finite is `nan` or `inf`.
    """
    if "eigenvalues_top" in result:
        header, rows = spectrum_rows(result)
    elif "cosine_path" in result:
        header, rows = path_rows(result)
    elif "steps" in result:
        header, rows = step_rows(result)
    else:
        columns = _columns(result)
        header, rows = list(columns), zip(*(column.reshape(-1).tolist() for column in columns.values()), strict=True)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([value if isinstance(value, str) else repr(value) for value in row] for row in rows)
    return buffer.getvalue()


def to_vtk(result: Mapping[str, Any]) -> str:
    """A plane as a legacy VTK structured grid in ASCII, for ParaView: height is the loss, every quantity is point data.

    x runs fastest. Points that are not finite stand at the largest finite height; their values remain `nan` or `inf` in the
    point data. Raises InputError for a result that is no plane.
    """
    if "betas" not in result:
        raise InputError("VTK holds planes: compute the surface with dimensions=2")
    columns = _columns(result)
    n, m = columns["loss"].shape
    loss = columns["loss"]
    finite = loss[np.isfinite(loss)]
    height = np.where(np.isfinite(loss), loss, finite.max() if finite.size else 0.0)
    rows = [
        "# vtk DataFile Version 3.0",
        f"loss surface of {_ascii(str(getattr(result, 'spec', {}).get('source', '')))}"[:255],
        "ASCII",
        "DATASET STRUCTURED_GRID",
        f"DIMENSIONS {n} {m} 1",
        f"POINTS {n * m} double",
        *(f"{x!r} {y!r} {z!r}" for x, y, z in zip(*map(_x_fastest, (columns["alpha"], columns["beta"], height)), strict=True)),
        f"POINT_DATA {n * m}",
    ]
    for name, values in columns.items():
        if name not in ("alpha", "beta"):
            rows += [f"SCALARS {name} double 1", "LOOKUP_TABLE default", *map(repr, _x_fastest(values))]
    return "\n".join(rows) + "\n"


def to_html(figure: go.Figure) -> str:
    """The figure as one file with plotly.js inside: it opens without a server and asks nobody for anything."""
    title = (figure.layout.title.text or "").split("</span>")[-1].strip() if figure.layout.title else ""
    page: str = figure.to_html(
        include_plotlyjs=True, include_mathjax=False, full_html=True, config=CONFIG, default_height="100vh"
    )
    background = figure.layout.paper_bgcolor or "#ffffff"
    head = f"<title>{_escape(title) or 'Landscape'}</title><style>body{{margin:0;background:{background}}}</style>"
    return page.replace("<head>", f"<head>{head}", 1)


def python_code(kind: str, source: str | Sequence[str], spec: Spec) -> str:
    """Python that computes the same result: runs in a notebook beside the program's home directory."""
    arguments = "".join(f", {name}={value!r}" for name, value in spec.changed().items())
    many = not isinstance(source, str)
    sources = repr(list(source) if many else source)
    name = "results" if many else "result"
    lines = ["import landscape_core", f"{name} = landscape_core.compute({kind!r}, {sources}{arguments})"]
    if kind in FIGURES:
        function = FIGURES[kind].__name__
        module = FIGURES[kind].__module__
        lines.insert(1, f"from {module} import {function}\n")
        shown = f"for result in results:\n    {function}(result).show()" if many else f"{function}(result).show()"
        lines.append(shown)
    return "\n".join(lines) + "\n"


def command_line(kind: str, source: str | Sequence[str], spec: Spec) -> str:
    """The command that computes the same result, quoted for a shell."""
    words = ["python", "-m", "landscape_core", "compute", kind, *([source] if isinstance(source, str) else source)]
    for name, value in spec.changed().items():
        words += ["--set", f"{name}={json.dumps(value, separators=(',', ':'))}"]
    return shlex.join(words)


def _columns(result: Mapping[str, Any]) -> dict[str, Array]:
    """Coordinates and quantities, all of the shape of the loss."""
    if "loss" not in result or "alphas" not in result:
        raise InputError("this result has no surface to write: it has no 'alphas' and 'loss'")
    alphas = np.asarray(result["alphas"], dtype=np.float64)
    values = {
        name: np.asarray(result[name], dtype=np.float64)
        for name in (*QUANTITIES, *(f"{q}_test" for q in QUANTITIES))
        if name in result
    }
    if "betas" in result:
        a, b = np.meshgrid(alphas, np.asarray(result["betas"], dtype=np.float64), indexing="ij")
        return {"alpha": a, "beta": b, **values}
    values = {name: np.atleast_2d(array) for name, array in values.items()}
    count = values["loss"].shape[0]
    line, a = np.meshgrid(np.arange(count), alphas, indexing="ij")
    return {"line": line, "alpha": a, **values}


def _x_fastest(values: Array) -> list[float]:
    return values.T.reshape(-1).tolist()


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("\n", " ")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
