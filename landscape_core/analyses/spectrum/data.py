"""A spectrum result in numbers ready to be drawn: its ends with errors, bars on a signed-log axis, all of it as rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...drawing.known import Known, has, scalar, text
from ...drawing.numbers import counted, number
from ...specs import Array

OPERATORS = {"hessian": "Hessian", "ggn": "Gauss-Newton", "fisher": "Fisher", "empirical_fisher": "empirical Fisher"}
MATRICES = {name: words if name == "hessian" else f"{words} matrix" for name, words in OPERATORS.items()}
CLOSE = 0.02  # relative: eigenvalues further apart are never taken for one, however uncertain they still are
PER_DECADE = 6  # bars in each decade of the signed-log axis


def operator_words(data: Known) -> str:
    """What the eigenvalues are of."""
    return OPERATORS.get(text(data, "operator_kind", "hessian"), "Hessian")


@dataclass(frozen=True)
class Spectrum:
    """What is known of a spectrum: resolved ends with their errors, and the density between them."""

    parameters: int
    top: Array  # (k,) descending
    top_error: Array  # |Hv - lv|: a bound, an eigenvalue lies as near as that
    bottom: Array  # ascending
    bottom_error: Array
    grid: Array | None
    density: Array | None  # per unit of eigenvalue, of one
    density_error: Array | None
    width: float  # standard deviation of the kernel
    mass: float
    nodes: Array | None  # (probes, m)
    weights: Array | None
    exact: bool
    zero: float  # what counts as zero
    beside: Mapping[str, Any]  # the same names for the second operator; empty if there is none
    partial: bool
    outliers: int

    def remarks(self) -> list[str]:
        """What must be said of these numbers."""
        said = []
        if self.partial and self.density is None:
            said.append("Growing: eigenvalues as they stand now; the density follows.")
        elif self.partial:
            probes = 0 if self.nodes is None else len(self.nodes)
            said.append(f"Growing: density of {counted(probes, 'probe')} so far.")
        if self.density is not None and self.mass < 0.995:
            said.append(f"The axis holds {number(100 * self.mass, 3)} % of the density.")
        return said


def read_spectrum(data: Known) -> Spectrum | None:
    """The spectrum in a finished or partial result; None while nothing is known."""
    if not has(data, "eigenvalues_top"):
        return None
    norm = scalar(data, "norm") or float(np.nanmax(np.abs(data["eigenvalues_top"]), initial=0.0))
    top, bottom = (np.asarray(data.get(f"eigenvalues_{end}", []), float) for end in ("top", "bottom"))
    residuals = [np.asarray(data.get(f"residuals_{end}", np.zeros(0)), float) for end in ("top", "bottom")]
    density = has(data, "density", "density_grid")
    beside = {name.removeprefix("beside_"): data[name] for name in data if name.startswith("beside_")}
    return Spectrum(
        int(scalar(data, "parameters") or 0),
        top,
        residuals[0] * np.abs(top) if residuals[0].size == top.size else np.zeros(top.size),
        bottom,
        residuals[1] * norm if residuals[1].size == bottom.size else np.zeros(bottom.size),
        np.asarray(data["density_grid"], float) if density else None,
        np.asarray(data["density"], float) if density else None,
        np.asarray(data["density_error"], float) if density and has(data, "density_error") else None,
        scalar(data, "density_width") or 0.0,
        scalar(data, "density_mass") or 0.0,
        np.asarray(data["nodes"], float) if has(data, "nodes") else None,
        np.asarray(data["weights"], float) if has(data, "weights") else None,
        text(data, "method") == "dense",
        scalar(data, "zero_threshold") or 1e-6 * (norm or 1.0),
        beside if has(beside, "eigenvalues_top") else {},
        "stage" in data,
        int(scalar(data, "outliers") or 0),
    )


def stamp(data: Known, part: Spectrum) -> list[str]:
    """Two lines that say how the numbers were made."""
    made = [counted(part.parameters, "eigenvalue") if part.parameters else ""]
    made.append("exact matrix" if part.exact else "Lanczos, density estimated")
    if part.width and part.density is not None:
        made.append(f"kernel σ {number(part.width, 2)}")
    said = []
    size = scalar(data, "sample_size")
    spec = getattr(data, "spec", {})
    said.append(counted(size, f"{spec.get('split', 'train')} sample") if size else "")
    decay = scalar(data, "weight_decay") or 0.0
    said.append(f"weight decay {number(decay)} included" if spec.get("weight_decay") else "without weight decay")
    return [" · ".join(word for word in line if word) for line in (made, said)]


@dataclass(frozen=True)
class Group:
    """Eigenvalues that cannot be told apart at their accuracy."""

    value: float
    error: float
    first: int
    count: int

    def words(self, letter: str) -> str:
        """For people who point at it."""
        low = str(self.first + 1).translate(LOW)
        name = f"{letter}{low}" if self.count == 1 else f"{letter}{low} … {letter}{str(self.first + self.count).translate(LOW)}"
        spread = f", to within {number(self.error, 2)}" if self.error > 1e-12 * max(1.0, abs(self.value)) else ""
        many = f"<br>{self.count} eigenvalues" if self.count > 1 else "<br>one eigenvalue"
        return f"{name} = {number(self.value, 5)}{spread}{many}"


LOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def merged(values: Array, errors: Array) -> list[Group]:
    """Neighbours closer than their errors (1e-6 to 0.02 of their size) as one group; `values` are sorted."""
    groups: list[Group] = []
    for i, (value, error) in enumerate(zip(values, errors, strict=True)):
        if groups:
            last = groups[-1]
            if abs(last.value - value) <= max(1e-6 * abs(value), min(error, last.error, CLOSE * abs(value))):
                groups[-1] = Group(last.value, max(last.error, float(error)), last.first, last.count + 1)
                continue
        groups.append(Group(float(value), float(error), i, 1))
    return groups


def signed_log(zero: float) -> Any:
    """Position on the signed-log axis: 0 within ± zero, else ± (1/2 + decades above it)."""

    def place(values: Any) -> Array:
        array = np.asarray(values, float)
        size = np.maximum(np.abs(array), zero)
        return np.where(np.abs(array) <= zero, 0.0, np.sign(array) * (0.5 + np.log10(size / zero)))

    return place


def binned(nodes: Array, weights: Array, parameters: int, place: Any) -> tuple[Array, Array]:
    """Centres of the bars and the number of eigenvalues in each, mean over probes: no quadrature bounds it near zero."""
    spots = place(nodes)
    reach = math.ceil(float(np.abs(spots[np.isfinite(spots)]).max(initial=1.0)))
    outer = 0.5 + np.arange(reach * PER_DECADE + 1) / PER_DECADE
    edges = np.concatenate([-outer[::-1], outer])
    # What counts as zero is one bar: everything at position 0.
    rows = [np.histogram(x, edges, weights=w)[0] for x, w in zip(spots, weights, strict=True)]
    return (edges[1:] + edges[:-1]) / 2, np.mean(rows, axis=0) * parameters
