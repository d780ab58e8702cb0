"""What is said of the path of training: its angles, its lengths, the planes that it is drawn in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...drawing.known import Known, scalar
from ...drawing.numbers import ROUNDING, counted, number, percent, plus_minus, span
from ...specs import Array
from . import laws
from .claim import FAILS, GEOMETRY, HOLDS, LARGE, OPEN, SAYING, START, WIDE, Claim, median, signed

MOST = 0.9  # of the checkpoints must be within chance for a claim of chance to hold
LITTLE = 0.05  # of the gradient: next to nothing
FEW = "Too few dimensions, chance alone gives as much."


@dataclass(frozen=True)
class Angle:
    """A claim that two directions are as good as random to each other."""

    name: str
    hypothesis: str
    who: str
    intuition: str
    means: tuple[str, str]
    formula: str
    words: str = ""


ANGLES = (
    Angle(
        "cosine_position",
        "The gradient is almost perpendicular to the position",
        GEOMETRY,
        "two directions may meet at any angle, a right one is rare.",
        ("the slope has nothing to do with where the weights are", "slope and position are tied to each other beyond chance"),
        "cos(g, θ)",
    ),
    Angle(
        "cosine_remaining",
        "The gradient is almost perpendicular to the way that matters",
        GEOMETRY,
        "downhill is the way to the goal.",
        ("downhill says next to nothing of the way left", "downhill is tied to the way left beyond chance"),
        "cos(−g, θ_T − θ)",
        "The way left to the last checkpoint is known only afterwards.",
    ),
    Angle(
        "cosine_path",
        "Descent has forgotten where it came from",
        SAYING,
        "who goes downhill goes on as before.",
        ("downhill has nothing to do with the way gone", "downhill is tied to the way gone beyond chance"),
        "cos(−g, θ − θ₀)",
    ),
    Angle(
        "cosine_steps",
        "One step is as good as random to the next",
        SAYING,
        "a step goes on where the one before led.",
        ("a step does not know the one before", "a step is tied to the one before beyond chance"),
        "cos(θₜ − θₜ₋₁, θₜ₊₁ − θₜ)",
    ),
)


def angles(data: Known) -> Iterator[Claim]:
    """Angles of gradient, position and steps: beyond chance is what chance does nowhere on the path in 99 of 100 runs."""
    p = scalar(data, "parameters") or 2.0
    bound = laws.cosine_bound(p)
    for angle in ANGLES:
        values = np.asarray(data[angle.name], float)
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        # However the checkpoints hang together, by chance one is beyond `far` in at most one of a hundred runs.
        far = laws.cosine_bound(p, 1 - 0.01 / values.size)
        first, later = float(values[0]), values[1:] if values.size > 1 else values
        inside, beyond = np.abs(values) <= bound, np.abs(values) > far
        verdict, words = HOLDS if inside.mean() >= MOST else OPEN, angle.words
        if verdict == OPEN and beyond.any():
            verdict = START if inside[0] else FAILS
        if verdict in (HOLDS, START) and bound > WIDE:
            verdict, words = OPEN, FEW
        elif angle.name == "cosine_position" and later.min() < -far:
            words = "Where it is below, descent along −g makes the weights grow."
        low, high = signed(float(later.min())), signed(float(later.max()))
        then = f", then {low if low == high else f'{low} to {high}'}" if values.size > 1 else ""
        yield Claim(
            angle.hypothesis,
            angle.who,
            angle.intuition,
            f"cos {signed(first)} at first{then}",
            f"|cos| below {number(bound, 2)} for 99 of 100 pairs, at no checkpoint above {number(far, 2)} in 99 of 100 runs",
            verdict,
            angle.means,
            f"Within chance at {int(inside.sum())} of {counted(values.size, 'checkpoint')}. {words}".strip(),
            angle.formula,
            angle.who if angle.who == GEOMETRY else "",
        )


def lengths(data: Known) -> Iterator[Claim]:
    """Norms, distances and the way gone."""
    p = scalar(data, "parameters") or 2.0
    norms, steps = np.asarray(data["theta_norm"], float), np.asarray(data["steps"], float)
    way, distances = np.asarray(data["displacement"], float), np.asarray(data["distances"], float)
    width = laws.shell_width(p)
    if np.isfinite(norms).all() and norms[0] > 0 and way.max() > 0:
        moved, thin = float(np.abs(norms / norms[0] - 1).max()), 2.6 * width
        yield Claim(
            "The weights stay in a thin shell",
            GEOMETRY,
            "a point may lie near the centre of a ball or far out.",
            f"‖θ‖ {span(number(float(norms[0])), number(float(norms[-1])))}",
            f"random vectors of one kind differ by {percent(width, 2)} of their norm",
            FAILS if moved > LARGE * thin else HOLDS if moved <= thin <= WIDE else OPEN,
            ("the norm changes no more than random vectors differ", "the norm changes more than random vectors differ"),
            f"A law of random vectors; the way gone is {_times(float(way[-1] / norms[0]))} the first norm.",
            "‖N(0, I)‖ = √p ± 1/√2",
            GEOMETRY,
        )
    off = distances[np.triu_indices(len(steps), 1)]
    if np.isfinite(off).all() and off.size > 1 and off.mean() > 0:
        spread = float(off.std() / off.mean())
        yield Claim(
            "All points are about equally far apart",
            GEOMETRY,
            "some points are near each other and others far apart.",
            f"distances of checkpoints vary by {percent(spread, 2)}",
            f"{percent(width, 2)} between independent random points",
            FAILS if spread > LARGE * width else HOLDS if LARGE * width <= WIDE else OPEN,
            ("no two checkpoints are nearer than the others", "some checkpoints are near each other and others far apart"),
            "A path is no cloud of independent points: its checkpoints follow each other.",
            "standard deviation / mean of ‖θᵢ − θⱼ‖",
            GEOMETRY,
        )
    gone = steps - steps[0]
    known = (gone > 0) & (way > 0) & np.isfinite(way)
    if known.sum() > 2:
        yield _walk(data, p, gone, way, known)


def _times(ratio: float) -> str:
    return "no more than rounding of" if ratio <= ROUNDING else f"{number(ratio, 2)} times"


def _walk(data: Known, p: float, gone: Array, way: Array, known: Array) -> Claim:
    """Whether the way grows and turns as that of a random walk, within what such a walk in p dimensions deviates."""
    slope, spread = _slope(gone[known], way[known]), laws.walk_slope_deviation(gone[known], p)
    last = known & (gone >= gone[-1] / 10)
    late = f", late as steps^{number(_slope(gone[last], way[last]), 2)}" if last.sum() > 2 else ""
    turn, bound = median(data, "cosine_steps"), laws.cosine_bound(p)
    alike = abs(slope - 0.5) <= LARGE * spread and not abs(turn) > bound
    told = LARGE * spread < 0.25 and bound < WIDE  # so that a straight line would be told from a walk
    return Claim(
        "Training wanders like a random walk",
        SAYING,
        "going downhill leads straight on.",
        f"the way grows as steps^{number(slope, 2)}{late}",
        f"steps^(0.5 ± {number(spread, 1)}) for a random walk; steps^1 straight on",
        FAILS if not alike else HOLDS if told else OPEN,
        ("the way grows and turns as that of a random walk", "the way or its turns are not those of a random walk"),
        f"The angle between steps has a median cosine of {signed(turn)}; a walk's is within ±{number(bound, 2)}."
        if np.isfinite(turn)
        else "",
        "slope of log ‖θₜ − θ₀‖ over the log of the steps from the first checkpoint",
    )


def _slope(steps: Array, way: Array) -> float:
    """The power of the steps that the way grows with."""
    return float(np.polyfit(np.log(steps), np.log(way), 1)[0])


def planes(data: Known) -> Iterator[Claim]:
    """What the plane of the path and a random one hold of the gradient."""
    explained, null = scalar(data, "explained_variance"), scalar(data, "explained_variance_null")
    p = scalar(data, "parameters") or 2.0
    shares = np.asarray(data["plane_share_path"], float)
    shares = shares[np.isfinite(shares)]
    if explained is not None and null is not None and shares.size:
        spread = scalar(data, "explained_variance_null_deviation") or 0.0
        least = float(shares.min())
        walk = " The path is held no better than that of a random walk." if explained <= null + LARGE * spread else ""
        yield Claim(
            "Two principal axes show where training goes",
            "pictures of the path of training",
            "a plane that holds a path shows the slope that it follows.",
            f"{percent(explained)} of the path; of the gradient {percent(float(np.median(shares)), 2)}, at least "
            f"{percent(least, 2)}",
            f"a random walk's plane holds {percent(null)}{plus_minus(100 * spread)} of its path, a random plane "
            f"{percent(2 / p, 2)} of a gradient",
            FAILS if least <= 0.5 else HOLDS if LARGE * 2 / p < 0.5 else OPEN,
            (
                "the plane of the path holds more than half of the gradient everywhere",
                "the plane of the path misses half of the gradient or more somewhere",
            ),
            f"The plane is made of where the path has been, not of where the loss slopes.{walk}",
            "variance about the mean held by two axes; ‖Qᵀg‖²/‖g‖² with Q their basis, in the median",
            "Antognini & Sohl-Dickstein 2018; Hao Li et al. 2018, arXiv:1712.09913",
            intuitive=True,
        )
    values = np.asarray(data["plane_share_random"], float)
    values = values[np.isfinite(values)]
    if values.size and p > 2:
        low, high = laws.plane_share_bounds(2, p)
        inside = int(((values >= low) & (values <= high)).sum())
        yield Claim(
            "A random plane holds next to nothing of the gradient",
            SAYING,
            "a cut through a landscape shows most of its slope: two thirds of it in a random plane of space.",
            f"{percent(float(values.mean()), 2)} on average",
            f"{percent(laws.plane_share(2, p), 2)} on average, below {percent(high, 2)} in 99 of 100 cases",
            FAILS if values.mean() > LARGE * high else HOLDS if values.mean() <= LITTLE else OPEN,
            ("such a picture hardly shows the slope", "such a picture shows more of the slope than chance gives"),
            f"Within chance at {inside} of {counted(values.size, 'checkpoint')}; they share one plane and hang together.",
            "‖Qᵀg‖²/‖g‖² ~ Beta(1, (p − 2)/2)",
        )
