"""A few cells looked at closely: how far rounding moves a loss there, and which differences could be chance of the sample."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...objective import Objective, Slice
from ...specs import Array, InputError
from .shape import Rounding

SMALL = 1e-4  # of a grid step: how far apart the points are whose scatter is rounding, but
LEAST = 3e-6  # of the weights at least, so that numbers of float32 on the way differ between them too
SCATTERED, ORDER = 9, 4  # how many they are, and the order of the differences that leave only the scatter
Cell = tuple[int, ...]
PLACES = {"near": "neighbours at the centre", "rim": "neighbours at the rim", "far": "from the centre to the rim"}


def pairs_of(axes: Sequence[Array], finite: Array) -> list[tuple[str, Cell, Cell]]:
    """(place, cell, cell): all neighbours of the cell nearest to the origin and of two corners, and from there to the corners.

    Cells that are not finite are left out.
    """
    center = tuple(int(np.abs(axis).argmin()) for axis in axes)
    corners = [tuple(n - 1 for n in finite.shape), (0,) * finite.ndim]
    found: list[tuple[str, Cell, Cell]] = []
    for place, cell in (("near", center), *(("rim", corner) for corner in corners)):
        for moved in np.ndindex(*(3,) * finite.ndim):
            other = tuple(i + m - 1 for i, m in zip(cell, moved, strict=True))
            if other != cell and all(0 <= i < n for i, n in zip(other, finite.shape, strict=True)):
                found.append((place, cell, other))
    found += [("far", center, corner) for corner in corners if corner != center]
    return [(place, a, b) for place, a, b in found if finite[a] and finite[b]]


def point(part: Slice, coordinates: Sequence[float]) -> Tensor:
    """Theta `(p,)` in float64, without the rounding of the picture's own arithmetic."""
    return part.origin.double() + part.directions.double().T @ torch.tensor(coordinates, dtype=torch.float64).to(
        part.origin.device
    )


def sample_losses(double: Objective, theta: Tensor) -> Array:
    """The loss of each sample `(n,)` in float64.

    Raises InputError where samples have none of their own: where their losses don't make up the loss, a sample is alone, or
    BatchNorm takes its statistics from the batch.
    """
    if double.coupled:
        raise InputError("BatchNorm takes its statistics from the batch: samples have no losses of their own")
    whole = double.loss(theta)
    if not np.isfinite(whole):
        raise InputError("the loss is not finite at the centre")
    losses: Array = double.sample_losses(theta).cpu().numpy()
    if len(losses) < 2:
        raise InputError("one sample has no spread")
    found, size = (total(values, double.reduction) for values in (losses, np.abs(losses)))
    single = double.dtype != torch.float64 or bool((losses.astype(np.float32) == losses).all())  # a loss may cast its scores
    if abs(found - whole) > (1e-5 if single else 1e-9) * size:
        raise InputError("the losses of single samples don't make up the loss of the whole")
    return losses


def total(losses: Array, reduction: str) -> float:
    """The loss that `(n,)` losses of samples make up."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(losses.mean() if reduction == "mean" else losses.sum())


def standard_error(losses: Array, reduction: str) -> float:
    """Of the mean of `(n,)` losses of samples, or of their sum."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = float(losses.std(ddof=1)) / len(losses) ** 0.5
    return error if reduction == "mean" else error * len(losses)


class Probes:
    """The cells of `pairs_of` in float64, evaluated when first asked for and once."""

    def __init__(self, double: Objective, part: Slice, axes: Sequence[Array], loss: Array):
        self.double, self.part, self.axes, self.loss = double, part, axes, loss
        self.pairs = pairs_of(axes, np.isfinite(loss))
        self.cells = list(dict.fromkeys(cell for _, *pair in self.pairs for cell in pair))
        self._samples: dict[Cell, Array] = {}

    def coordinates(self, cell: Cell) -> list[float]:
        """Where a cell is, in axis units."""
        return [float(axis[i]) for axis, i in zip(self.axes, cell, strict=True)]

    def differences(self) -> dict[str, Any]:
        """Differences of the loss between cells and their standard errors, from the differences of each sample's losses.

        The samples are the same in both cells, so what they share drops out: L(a) - L(b) has the error of the mean of
        l_i(a) - l_i(b), not of two means. Raises InputError where samples have no losses of their own.
        """
        values, errors = [], []
        for _, a, b in self.pairs:
            paired = self._of(a) - self._of(b)
            values.append(total(paired, self.double.reduction))
            errors.append(standard_error(paired, self.double.reduction))
        places = np.array([place for place, _, _ in self.pairs], dtype=str)
        card: dict[str, Any] = {
            "difference_places": places,
            "difference_cells": np.array([[self.coordinates(a), self.coordinates(b)] for _, a, b in self.pairs]),
            "differences": np.array(values),
            "difference_errors": np.array(errors),
        }
        if not self.pairs:
            return {}
        for place in PLACES:
            here = card["difference_errors"][places == place]
            card[f"difference_error_{place}"] = float(here.max()) if here.size else float("nan")
        return card

    def deviations(self) -> tuple[Array, Array]:
        """(losses of the picture, how far each is from float64) at the cells."""
        exact = [
            total(self._samples[cell], self.double.reduction)
            if cell in self._samples
            else self.double.loss(point(self.part, self.coordinates(cell)))
            for cell in self.cells
        ]
        drawn = np.array([float(self.loss[cell]) for cell in self.cells])
        return drawn, np.abs(drawn - np.array(exact))

    def scatter(self) -> tuple[Array, Array]:
        """(losses, twice the deviation that rounding gives them) at the centre and the corners, in the picture's arithmetic.

        Nine points so close together that fourth differences leave nothing but the noise of the computation, whose variance
        is their mean square over C(8, 4). Moré & Wild 2011, SIAM J. Sci. Comput. 33.
        """
        grid = np.array([float(axis[1] - axis[0]) for axis in self.axes])
        norms = self.part.directions.double().norm(dim=1).cpu().numpy() + np.finfo(float).tiny
        step = np.maximum(SMALL * grid, LEAST * float(self.part.origin.double().norm()) / norms)
        offsets = np.arange(SCATTERED)[:, None] - SCATTERED // 2
        losses, errors = [], []
        for cell in dict.fromkeys(a for place, a, b in self.pairs if place != "far"):
            values = self.part.evaluate(np.array(self.coordinates(cell)) + offsets * step)["loss"]
            largest = float(np.abs(values).max()) or 1.0  # squares of the largest numbers are none
            if np.isfinite(values).all():
                losses.append(float(values[SCATTERED // 2]))
                noise = np.diff(values, ORDER)
                deviation = float(np.linalg.norm(noise / largest)) / (len(noise) * comb(2 * ORDER, ORDER)) ** 0.5
                errors.append(2 * deviation * largest)
        return np.array(losses), np.array(errors)

    def _of(self, cell: Cell) -> Array:
        if cell not in self._samples:
            theta = point(self.part, self.coordinates(cell))
            # Whether they make up the whole is asked once: it is the same question everywhere.
            self._samples[cell] = (
                self.double.sample_losses(theta).cpu().numpy() if self._samples else sample_losses(self.double, theta)
            )
        return self._samples[cell]


def rounding_of(dtype: torch.dtype, *measured: tuple[Array, Array]) -> Rounding:
    """The rounding of a picture in this arithmetic from what was measured of it: (losses, errors) each."""
    losses, errors = (np.concatenate(parts) for parts in zip(*measured, strict=True)) if measured else (np.empty(0),) * 2
    return Rounding.measured(2 * float(torch.finfo(dtype).eps), losses, errors)
