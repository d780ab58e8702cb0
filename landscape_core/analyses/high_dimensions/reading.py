"""What is said of high-dimensional training, against this run: by whom, what intuition says, measured value, chance, meaning.

The verdicts are about the claim. Most claims contradict three-dimensional intuition, one is its own: a bare "fails" could be
read either way, so what is shown is always a sentence that names its subject.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...drawing.known import Known, has, scalar
from ...drawing.numbers import number
from ...drawing.statement import Reading, Verdict
from ...specs import Array
from . import laws
from .counts import resolved
from .spec import HighDimensionsSpec

GEOMETRY = "an essay on backpropagation in high dimensions"
SAYING = "a common saying about many dimensions"
MOST = 0.9  # of the checkpoints must be within chance for a claim of chance to hold
LARGE = 3.0  # times what chance gives in 99 of 100 cases: from here on it is something else
WIDE = 0.3  # a cosine, or a share of a norm: where chance alone reaches as far, staying within it shows nothing
LITTLE = 0.05  # of the gradient: next to nothing
FEW = "too few dimensions, chance alone gives as much"
AGREE = 10.0  # a factor within which a law of random layers explains a measured ratio
HOLDS, FAILS, START, OPEN, LAW = "holds", "fails", "at the start only", "not resolved", "as the law says"
MARKS: dict[str, Verdict] = {HOLDS: "ok", LAW: "ok", START: "note", FAILS: "note", OPEN: "note"}


@dataclass(frozen=True)
class Claim:
    """One claim, and what this run says of it."""

    hypothesis: str
    who: str  # claims it
    intuition: str  # what three-dimensional intuition says, a sentence
    measured: str
    baseline: str
    verdict: str  # one of MARKS, about the hypothesis
    means: tuple[str, str]  # what it means where the hypothesis describes this run, and where it does not
    words: str
    formula: str = ""
    source: str = ""
    intuitive: bool = False  # intuition claims the same

    @property
    def name(self) -> str:
        """The hypothesis as the words of somebody else."""
        return f"“{self.hypothesis}”"

    @property
    def origin(self) -> str:
        """Who claims it, and what three-dimensional intuition says."""
        return f"Who says so: {self.who}. Three-dimensional intuition: {self.intuition}"

    @property
    def meaning(self) -> str:
        """What the measured value means for the claim, and for intuition."""
        yes, no = self.means
        so = "and so does the intuition" if self.intuitive else "and the intuition does not"
        fails = "Neither the claim nor the intuition describes" if self.intuitive else "The claim does not describe"
        return {
            HOLDS: f"The claim describes this run, {so}: {yes}.",
            LAW: f"The claim describes this run: {yes}.",
            START: f"The claim describes the start only: later {no}.",
            FAILS: f"{fails} this run: {no}.",
            OPEN: "Neither for nor against the claim.",
        }[self.verdict]

    def reading(self) -> Reading:
        """The claim as a line of the certificate."""
        words = f"{self.origin} Chance: {self.baseline}. {self.meaning} {self.words}".strip()
        return Reading(self.name, self.measured, words, self.formula, self.source, MARKS[self.verdict])


def reading(data: Known, spec: HighDimensionsSpec) -> list[Reading]:
    """The claims as the certificate of a finished run, and what it rests on."""
    chance, *rest = panel(data, spec)
    return [chance, *[claim.reading() for claim in claims(data)], *rest]


def panel(data: Known, spec: HighDimensionsSpec) -> list[Reading]:
    """What the claims rest on, for the page, where they stand in a table beside it."""
    p, size, count = scalar(data, "parameters"), scalar(data, "sample_size"), np.size(data["steps"])
    told = [note for note in np.atleast_1d(np.asarray(data.get("notes", []))).tolist() if note]
    return [
        Reading(
            "Chance",
            f"cos = 0 ± {number(1 / math.sqrt(p or 1), 2)}",
            f"{p or 0:,.0f} parameters: what two random vectors would have. "
            f"{count} checkpoints; loss and gradient over {size or 0:,.0f} {spec.split} samples.",
            "cos² ~ Beta(1/2, (p − 1)/2), standard deviation exactly 1/√p",
        ),
        *[Reading("Note", "", note[:1].upper() + note[1:], verdict="note") for note in told],
        Reading(
            "What this does not show",
            "",
            "Angles and lengths are of the parametrisation: rescaling layers changes them without changing the function. The "
            "last checkpoint is where training stopped, not a minimum. One run is one draw.",
            verdict="note",
        ),
    ]


def claims(data: Known) -> list[Claim]:
    """All claims that the result has the numbers for."""
    return [claim for part in (_angles, _lengths, _plane, _depth, _curvature) for claim in part(data)]


def _angles(data: Known) -> Iterator[Claim]:
    p = scalar(data, "parameters") or 2.0
    bound = laws.cosine_bound(p)
    for angle in ANGLES:
        values = np.asarray(data[angle.name], float)
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        first, later = float(values[0]), values[1:] if values.size > 1 else values
        inside = np.abs(values) <= bound
        verdict, words = HOLDS if inside.mean() >= MOST else START if inside[0] else FAILS, angle.words
        if verdict != FAILS and bound > WIDE:
            verdict, words = OPEN, FEW[0].upper() + FEW[1:] + "."
        elif angle.name == "cosine_position" and later.min() < -bound:
            words = "Descent along −g then grows the weights."
        span = f"{_signed(float(later.min()))} to {_signed(float(later.max()))}"
        yield Claim(
            angle.hypothesis,
            angle.who,
            angle.intuition,
            f"cos {_signed(first)} at first, then {span}",
            f"|cos| below {number(bound, 2)} for 99 of 100 pairs",
            verdict,
            angle.means,
            f"Within chance at {int(inside.sum())} of {values.size} checkpoints. {words}".strip(),
            angle.formula,
            angle.who if angle.who == GEOMETRY else "",
        )


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


def _signed(value: float) -> str:
    return number(round(value, 3), 2) if abs(value) < 0.1 else f"{value:.2f}".replace("-", "−")


def _lengths(data: Known) -> Iterator[Claim]:
    p = scalar(data, "parameters") or 2.0
    norms, steps = np.asarray(data["theta_norm"], float), np.asarray(data["steps"], float)
    way, distances = np.asarray(data["displacement"], float), np.asarray(data["distances"], float)
    width = laws.shell_width(p)
    if np.isfinite(norms).all() and norms[0] > 0:
        moved, thin = float(np.abs(norms / norms[0] - 1).max()), 2.6 * width
        yield Claim(
            "The weights stay in a thin shell",
            GEOMETRY,
            "a point may lie near the centre of a ball or far out.",
            f"‖θ‖ from {number(float(norms[0]))} to {number(float(norms[-1]))}",
            f"random vectors of one kind differ by {number(100 * width, 2)} % of their norm",
            FAILS if moved > LARGE * thin else HOLDS if moved <= thin <= WIDE else OPEN,
            ("the norm changes no more than random vectors differ", "the norm changes more than random vectors differ"),
            f"A law of random vectors; the way gone is {number(float(way[-1] / norms[0]), 2)} times the first norm.",
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
            f"distances of checkpoints vary by {number(100 * spread, 2)} %",
            f"{number(100 * width, 2)} % between independent random points",
            FAILS if spread > LARGE * width else HOLDS if LARGE * width <= WIDE else OPEN,
            ("no two checkpoints are nearer than the others", "some checkpoints are near each other and others far apart"),
            "A path is no cloud of independent points: neighbours are near.",
            "standard deviation / mean of ‖θᵢ − θⱼ‖",
            GEOMETRY,
        )
    gone = steps - steps[0]
    known = (gone > 0) & (way > 0) & np.isfinite(way)
    if known.sum() > 2:
        slope = _slope(gone[known], way[known])
        last = known & (gone >= gone[-1] / 10)
        late = _slope(gone[last], way[last]) if last.sum() > 2 else slope
        turn = _median(data, "cosine_steps")
        yield Claim(
            "Training wanders like a random walk",
            SAYING,
            "going downhill leads straight on.",
            f"the way grows as steps^{number(slope, 2)}, late as steps^{number(late, 2)}",
            "steps^0.5 for a random walk; steps^1 straight on",
            HOLDS if abs(slope - 0.5) < 0.1 and abs(turn) < min(WIDE, LARGE * laws.cosine_bound(p)) else FAILS,
            ("the way grows as that of a random walk", "the way or its turns are not those of a random walk"),
            f"The angle between steps has a median cosine of {_signed(turn)}; a walk's would be 0.",
            "slope of log ‖θₜ − θ₀‖ over the log of the steps from the first checkpoint",
        )


def _slope(steps: Array, way: Array) -> float:
    """The power of the steps that the way grows with."""
    return float(np.polyfit(np.log(steps), np.log(way), 1)[0])


def _median(data: Known, name: str) -> float:
    values = np.asarray(data[name], float)
    return float(np.median(values[np.isfinite(values)])) if np.isfinite(values).any() else float("nan")


def _plane(data: Known) -> Iterator[Claim]:
    explained, null = scalar(data, "explained_variance"), scalar(data, "explained_variance_null")
    p = scalar(data, "parameters") or 2.0
    if explained is not None and null is not None:
        shares = np.asarray(data["plane_share_path"], float)
        held, least = _median(data, "plane_share_path"), float(np.nanmin(shares))
        measured = f"{number(100 * explained)} % of the path; of the gradient {number(100 * held, 2)} %, "
        yield Claim(
            "Two principal axes show where training goes",
            "pictures of the path of training",
            "a plane that holds a path shows the slope that it follows.",
            f"{measured}at least {number(100 * least, 2)} %",
            f"a random walk's plane holds {number(100 * null)} % of its path, any plane {number(200 / p, 2)} % of a gradient",
            FAILS if least <= 0.5 else HOLDS if LARGE * 2 / p < 0.5 else OPEN,
            (
                "the plane of the path holds more than half of the gradient everywhere",
                "the plane of the path misses half of the gradient or more somewhere",
            ),
            "The plane is made of where the path has been; the loss slopes in other directions as well.",
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
            f"{number(100 * float(values.mean()), 2)} % on average",
            f"{number(100 * laws.plane_share(2, p), 2)} % on average, below {number(100 * high, 2)} % in 99 of 100 cases",
            FAILS if values.mean() > LARGE * high else HOLDS if values.mean() <= LITTLE else OPEN,
            ("such a picture hardly shows the slope", "such a picture shows more of the slope than chance gives"),
            f"Within chance at {inside} of {values.size} checkpoints; they share one plane, so they are not independent.",
            "‖Qᵀg‖²/‖g‖² ~ Beta(1, (p − 2)/2)",
        )


def _depth(data: Known) -> Iterator[Claim]:
    norms, law = np.asarray(data["layer_gradient_norms"], float), np.asarray(data["layer_law"], float)
    if norms.shape[1] < 2 or not (norms[0] > 0).all():
        return
    last = -2 if norms.shape[1] > 2 else -1  # the last layer has no activation behind it
    found = float(norms[0, 0] / norms[0, last])
    late = norms[-1, 0] / norms[-1, last] if norms[-1, last] > 0 else float("nan")
    known = np.isfinite(law).all() and law[last] > 0
    expected = float(law[0] / law[last]) if known else float("nan")
    baseline = (
        f"{number(expected, 2)} with random layers of these sizes and weights"
        if known
        else "no law: this network is no plain chain of ReLU layers"
    )
    agrees = known and 1 / AGREE < found / expected < AGREE
    other = "last hidden one" if norms.shape[1] > 2 else "last"
    yield Claim(
        "Vanishing gradients are geometry, not just depth",
        GEOMETRY,
        "none of its own; the usual view is that depth by itself weakens a gradient.",
        f"first layer {number(found, 2)} times the {other} at first, {number(float(late), 2)} at the end",
        baseline,
        LAW if agrees else OPEN if not known else FAILS,
        ("the scale of random layers gives this ratio", "random layers of this scale would give another ratio"),
        f"{norms.shape[1]} layers. Each random ReLU layer multiplies |gradient|² by inputs × variance / 2: the scale of the "
        "weights decides, and depth is its exponent.",
        "‖δₗ₋₁‖² = ½ ‖Wₗ‖² ‖δₗ‖² / outputs, ‖hₗ‖² = ½ (‖Wₗ‖² ‖hₗ₋₁‖² / inputs + ‖bₗ‖²)",
        f"{GEOMETRY}; Schoenholz et al. 2017, arXiv:1611.01232",
    )


def _curvature(data: Known) -> Iterator[Claim]:
    flat, loss = resolved(data, "flat_share"), np.asarray(data["loss"], float)
    tolerance, zero = scalar(data, "flat_tolerance") or 0.0, scalar(data, "zero_tolerance") or 0.0
    p, k = scalar(data, "parameters") or 2.0, scalar(data, "outliers") or 1.0
    if not has(data, "curvature_steps"):
        return
    chance = f"{number(100 * laws.semicircle_share(tolerance), 2)} % of a large random symmetric matrix"
    formula = f"share of |λ| < {number(tolerance, 1)} λ_max"
    flatness = "The loss is flat in most directions", GEOMETRY, "a landscape slopes or bends wherever one goes."
    means = "most directions hardly bend", "half of the directions or more bend"
    if np.isfinite(flat).any():
        values = flat[np.isfinite(flat)]
        said = f"{number(100 * float(values[0]), 2)} % at step {_step(data, flat, 0)}."
        # Under a large tolerance most eigenvalues of any matrix count as flat.
        verdict = FAILS if values[-1] <= 0.5 else HOLDS if values[-1] > 2 * laws.semicircle_share(tolerance) else OPEN
        measured = f"{number(100 * float(values[-1]), 3)} % at step {_step(data, flat, -1)}"
        yield Claim(*flatness, measured, chance, verdict, means, said, formula, GEOMETRY)
    else:
        words = "The estimate cannot tell so small eigenvalues from zero: take more products or a larger tolerance."
        yield Claim(*flatness, "unknown", chance, OPEN, means, words, formula, GEOMETRY)
    top = np.asarray(data["top_trace_share"], float)
    if np.isfinite(top).any():
        last = float(top[np.isfinite(top)][-1])
        yield Claim(
            "A few directions hold most of the curvature",
            "papers on the spectra of networks",
            "a valley bends in all its directions alike.",
            f"{k:.0f} of {p:,.0f} eigenvalues hold {number(100 * last, 3)} % of the trace",
            f"{number(100 * k / p, 2)} % if all were equal",
            FAILS if last <= 0.5 else HOLDS if last > LARGE * k / p else OPEN,
            ("a few directions bend far more than the rest", "half of the curvature or more lies in the other directions"),
            "Negative eigenvalues take away from the trace, so the rest can hold more than all of it."
            if last > 1
            else "With softmax, one less than there are classes are expected to stand out.",
            "Σ of the largest λ / tr H",
            "Papyan 2018, arXiv:1811.07062",
        )
    yield from _index(data, loss, zero)


def _index(data: Known, loss: Array, zero: float) -> Iterator[Claim]:
    share = resolved(data, "negative_share")
    known = np.isfinite(share) & np.isfinite(loss)
    hypothesis, formula = (
        "The higher the loss, the more directions bend down",
        f"share of λ < −{number(zero, 1)} λ_max, its rank correlation with the loss",
    )
    source = "Dauphin et al. 2014, arXiv:1406.2572, of critical points"
    origin = hypothesis, "a paper on critical points", "where descent comes to rest there is a valley, high up or low down."
    means = "the lower the loss, the fewer directions bend down", "the lower the loss, the more directions bend down"
    if known.sum() < 4:
        words = "Too few checkpoints have a share of negative eigenvalues that is known well enough."
        yield Claim(
            *origin,
            f"{int(known.sum())} checkpoints",
            "half of a random matrix's are negative",
            OPEN,
            means,
            words,
            formula,
            source,
        )
        return
    n = int(known.sum())
    correlation, chance = laws.rank_correlation(loss, share), 1 / math.sqrt(n - 1)
    values = share[known]
    clear: Any = math.isfinite(correlation) and abs(correlation) > 2 * chance
    yield Claim(
        *origin,
        f"{number(100 * float(values[0]), 2)} % negative at first, {number(100 * float(values[-1]), 2)} % at the end",
        f"50 % of a random symmetric matrix; rank correlation 0 ± {number(chance, 2)}",
        HOLDS if clear and correlation > 0 else FAILS if clear else OPEN,
        means,
        (
            f"Rank correlation with the loss {number(correlation, 2)}"
            if math.isfinite(correlation)
            else "No correlation: no change"
        )
        + f" over {n} checkpoints. The law is of critical points; a path passes none.",
        formula,
        source,
    )


def _step(data: Known, values: Array, place: int) -> str:
    steps = np.asarray(data["steps"])[np.isfinite(values)]
    return f"{int(steps[place]):,}"
