"""The shape of a picture by its own second differences, none of which is read below the rounding of the losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...specs import Array

BENT = 0.05  # of the larger absolute eigenvalue: what the smaller one must lie below zero to count as bending downwards
CONSTANT = 0.02  # of the size of a Hessian: what it may change by over the picture of a quadratic
NONE = 1e-3  # of the same: an eigenvalue below is none
SWINGS = 3.0  # changes of sign of the second differences along one line, on average, from which a picture is rugged


@dataclass(frozen=True)
class Rounding:
    """How far rounding may move a loss, by its size: at least a unit in the last place, else what was measured nearby.

    `sizes (k,)`, ascending: |loss| at the probes; `errors (k,)`: what was found there. Between probes the next larger one
    counts; beyond the last the error grows in proportion to the loss.
    """

    unit: float  # relative rounding of the dtype
    sizes: Array
    errors: Array

    @classmethod
    def measured(cls, unit: float, losses: Array, errors: Array) -> Rounding:
        """From losses and the errors found there; what is not finite is left out."""
        known = np.isfinite(losses) & np.isfinite(errors)
        order = np.argsort(np.abs(losses[known]), kind="stable")
        sizes, found = np.abs(losses[known])[order], errors[known][order]
        alike = sizes[None, :] <= 2 * sizes[:, None]  # losses of about this size, or smaller
        return cls(unit, sizes, np.where(alike, found[None, :], 0.0).max(axis=1, initial=0.0))

    def __call__(self, losses: Array) -> Array:
        """A bound on the rounding of each of the losses."""
        size = np.abs(np.asarray(losses, dtype=np.float64))
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            found = self.unit * size
            if self.sizes.size:
                at = np.minimum(np.searchsorted(self.sizes, size), self.sizes.size - 1)
                beyond = np.maximum(1.0, size / self.sizes[-1]) if self.sizes[-1] else 1.0
                found = found + 2 * self.errors[at] * beyond
        return np.asarray(found, dtype=np.float64)


EXACT = Rounding(float(np.finfo(np.float64).eps), np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Bends:
    """Second differences at the interior cells of a plane, in axis units, and what rounding may make of each."""

    aa: Array
    bb: Array
    ab: Array
    floor_aa: Array
    floor_bb: Array
    floor_ab: Array

    @property
    def eigenvalues(self) -> tuple[Array, Array]:
        """(smaller, larger) eigenvalue of the 2 x 2 Hessian of each cell."""
        center, radius = (self.aa + self.bb) / 2, np.hypot((self.aa - self.bb) / 2, self.ab)
        return center - radius, center + radius

    @property
    def floor(self) -> Array:
        """What rounding may move an eigenvalue by: the spectral norm of the floors."""
        center, radius = (self.floor_aa + self.floor_bb) / 2, np.hypot((self.floor_aa - self.floor_bb) / 2, self.floor_ab)
        return center + radius


def _errors(loss: Array, axes: tuple[Array, ...], rounding: Rounding) -> Array:
    """What rounding may move each loss of a grid by: its own, and that of its coordinates, by how steep the loss is there."""
    found = rounding(loss)
    for i, axis in enumerate(axes, loss.ndim - len(axes)):
        slope = np.abs(np.gradient(loss, axis[1] - axis[0], axis=i))
        found = found + rounding.unit * np.abs(axis).max() * np.where(np.isfinite(slope), slope, 0.0)
    return found


def bends(alphas: Array, betas: Array, loss: Array, rounding: Rounding = EXACT) -> Bends:
    """The finite-difference Hessian of each interior cell `(n - 2, m - 2)`; NaN beside values that are not finite."""
    a, b = np.float64(alphas[1] - alphas[0]), np.float64(betas[1] - betas[0])
    with np.errstate(all="ignore"):
        e = _errors(loss, (alphas, betas), rounding)
        mid, emid = loss[1:-1, 1:-1], 2 * e[1:-1, 1:-1]
        return Bends(
            (loss[2:, 1:-1] - 2 * mid + loss[:-2, 1:-1]) / a**2,
            (loss[1:-1, 2:] - 2 * mid + loss[1:-1, :-2]) / b**2,
            (loss[2:, 2:] - loss[2:, :-2] - loss[:-2, 2:] + loss[:-2, :-2]) / (4 * a * b),
            (e[2:, 1:-1] + emid + e[:-2, 1:-1]) / a**2,
            (e[1:-1, 2:] + emid + e[1:-1, :-2]) / b**2,
            (e[2:, 2:] + e[2:, :-2] + e[:-2, 2:] + e[:-2, :-2]) / (4 * a * b),
        )


def plane_convexity(alphas: Array, betas: Array, loss: Array, rounding: Rounding = EXACT) -> Array:
    """Smaller eigenvalue / larger absolute one of the 2x2 finite-difference Hessian in (alpha, beta): `(n - 2, m - 2)`.

    Between -1 and 1; negative where the picture bends downwards in some direction; 0 where rounding hides the smaller
    eigenvalue; NaN beside values that are not finite.
    """
    found = bends(alphas, betas, loss, rounding)
    with np.errstate(all="ignore"):
        low, high = found.eigenvalues
        size = np.maximum(np.abs(low), np.abs(high))
        ratio: Array = np.where(np.abs(low) <= found.floor, 0.0, low / size)
        return np.where(np.isfinite(low) & np.isfinite(size), ratio, np.nan)


def nonconvex_share(alphas: Array, betas: Array, loss: Array, rounding: Rounding = EXACT) -> float:
    """Share of interior cells whose 2x2 finite-difference Hessian in (alpha, beta) is not convex.

    A cell counts when its smaller eigenvalue lies below -0.05 times the absolute value of its larger one, and below zero by
    more than rounding; cells with a non-finite neighbour are left out. NaN if none is left, or rounding hides every bend.
    """
    if min(loss.shape) < 3:
        return float("nan")
    ratio = plane_convexity(alphas, betas, loss, rounding)
    known = np.isfinite(ratio)
    hidden = hidden_share(alphas, betas, loss, rounding)
    return float((ratio[known] < -BENT).mean()) if known.any() and hidden < 1 else float("nan")


def hidden_share(alphas: Array, betas: Array, loss: Array, rounding: Rounding = EXACT) -> float:
    """Share of interior cells where no second difference stands above rounding; NaN if none is finite."""
    found = bends(alphas, betas, loss, rounding)
    with np.errstate(all="ignore"):
        low, high = found.eigenvalues
        size = np.maximum(np.abs(low), np.abs(high))
        known = np.isfinite(size)
        return float((size[known] <= found.floor[known]).mean()) if known.any() else float("nan")


def line_bends(alphas: Array, loss: Array, rounding: Rounding = EXACT) -> tuple[Array, Array]:
    """Second differences of lines `(S, n)` and what rounding may make of them: both `(S, n - 2)`."""
    with np.errstate(all="ignore"):
        square = np.float64(alphas[1] - alphas[0]) ** 2
        e = _errors(loss, (alphas,), rounding)
        return np.diff(loss, 2, axis=1) / square, (e[:, 2:] + 2 * e[:, 1:-1] + e[:, :-2]) / square


def bent_share(alphas: Array, loss: Array, rounding: Rounding = EXACT) -> tuple[float, float]:
    """Of the interior points of lines `(S, n)`: the share with a negative second difference, and that hidden by rounding.

    Below zero means by more than rounding. (NaN, NaN) if none is finite, (NaN, 1) if rounding hides every one.
    """
    bend, floor = line_bends(alphas, loss, rounding)
    known = np.isfinite(bend)
    if not known.any():
        return float("nan"), float("nan")
    hidden = float((np.abs(bend[known]) <= floor[known]).mean())
    return (float((bend[known] < -floor[known]).mean()) if hidden < 1 else float("nan")), hidden


def plane_shape(alphas: Array, betas: Array, loss: Array, rounding: Rounding = EXACT) -> str:
    """What a plane shows: flat, tilted, a quadratic (bowl, trough, saddle, ridge, dome), rugged, uneven, or unknown.

    Flat: no two losses differ by more than rounding. Tilted: no second difference stands above it. Quadratic: all cells have
    one Hessian, within 2 % of its size. Rugged: along a line of the grid second differences change sign three times or more
    on average. Uneven: none of these.
    """
    if min(loss.shape) < 3 or not np.isfinite(loss).any():
        return "unknown"
    if (plain := _plain(loss, rounding)) is not None:
        return plain
    found = bends(alphas, betas, loss, rounding)
    parts = np.stack([found.aa, found.ab, found.bb])
    floors = np.stack([found.floor_aa, found.floor_ab, found.floor_bb])
    known = np.isfinite(parts).all(axis=0)
    if not known.any():
        return "unknown"
    # In grid steps: a Hessian's entries then say what each does to this picture.
    a, b = float(alphas[1] - alphas[0]), float(betas[1] - betas[0])
    steps = np.array([a * a, a * b, b * b])[:, None]
    parts, floors = parts[:, known] * steps, floors[:, known] * steps
    kind = _quadratic(parts, floors)
    if kind is not None:
        return kind
    swings = max(_swings(found.aa, found.floor_aa), _swings(found.bb.T, found.floor_bb.T))
    return "rugged" if swings >= SWINGS else "uneven"


def line_shape(alphas: Array, loss: Array, rounding: Rounding = EXACT) -> str:
    """What lines `(S, n)` show, in the words of `plane_shape`; of several lines what is true of each."""
    if loss.shape[1] < 3 or not np.isfinite(loss).any():
        return "unknown"
    if (plain := _plain(loss, rounding)) is not None:
        return plain
    bend, floor = line_bends(alphas, loss, rounding)
    kinds = set()
    for line, least in zip(bend, floor, strict=True):
        known = np.isfinite(line)
        if not known.any():
            continue
        mean, edge = float(line[known].mean()), least[known]
        if (np.abs(line[known]) <= edge).all():
            kinds.add("tilted")
        elif (np.abs(line[known] - mean) <= CONSTANT * abs(mean) + edge).all() and abs(mean) > edge.max():
            kinds.add("bowl" if mean > 0 else "dome")
        else:
            kinds.add("uneven")
    if not kinds:
        return "unknown"
    if kinds == {"uneven"} or len(kinds) > 1:
        return "rugged" if _swings(bend.T, floor.T) >= SWINGS else "uneven"
    return kinds.pop()


def _plain(loss: Array, rounding: Rounding) -> str | None:
    """The word for a picture where no two finite losses differ by more than rounding; None for any other."""
    known = loss[np.isfinite(loss)]
    low, high = known.min(), known.max()
    return "flat" if high - low <= float(rounding(low)) + float(rounding(high)) else None


def _quadratic(parts: Array, floors: Array) -> str | None:
    """The kind of quadratic with entries `(3, cells)` of one Hessian, "tilted" where rounding hides all; None for neither."""
    if (np.abs(parts) <= floors).all():
        return "tilted"
    mean = parts.mean(axis=1)
    center, radius = (mean[0] + mean[2]) / 2, float(np.hypot((mean[0] - mean[2]) / 2, mean[1]))
    low, high = center - radius, center + radius
    size = max(abs(low), abs(high))
    floor = float(floors.max())
    if size <= floor or (np.abs(parts - mean[:, None]) > CONSTANT * size + floors).any():
        return None
    none = NONE * size + floor
    if low > none:
        return "bowl"
    if high < -none:
        return "dome"
    if low < -none and high > none:
        return "saddle"
    return "trough" if high > none else "ridge"


def _swings(bend: Array, floor: Array) -> float:
    """Changes of sign down the columns of second differences, on average over columns; what rounding hides is passed over."""
    counts = []
    for column, least in zip(bend.T, floor.T, strict=True):
        signs = np.sign(column[np.isfinite(column) & (np.abs(column) > least)])
        counts.append(int((signs[1:] != signs[:-1]).sum()))
    return float(np.mean(counts)) if counts else 0.0
