"""One claim about high-dimensional training, and what a run says of it.

The verdicts are about the claim. Most claims contradict three-dimensional intuition, one is its own: a bare "fails" could be
read either way, so what is shown is always a sentence that names its subject.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...drawing.known import Known
from ...drawing.numbers import number
from ...drawing.statement import Reading, Verdict

GEOMETRY = "an essay on backpropagation in high dimensions"
SAYING = "a common saying about many dimensions"
LARGE = 3.0  # times what chance gives in 99 of 100 cases: from here on it is something else
WIDE = 0.3  # a cosine, or a share of a norm: where chance alone reaches as far, staying within it shows nothing
SURE = 2.0  # standard errors of an estimate that a verdict must be clear of its threshold
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


def median(data: Known, name: str) -> float:
    """The median of what is known of a series; NaN where nothing is."""
    values = np.asarray(data[name], float)
    return float(np.median(values[np.isfinite(values)])) if np.isfinite(values).any() else float("nan")


def signed(value: float) -> str:
    """A cosine."""
    return number(round(value, 3), 2) if abs(value) < 0.1 else f"{value:.2f}".replace("-", "−")
