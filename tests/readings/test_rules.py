"""The rules find what they are there for: each of these lines was said once, and is untrue of its situation."""

import numpy as np
import pytest

from landscape_core.analyses import ANALYSES
from landscape_core.specs import Result

from .odd import GROUPS, NAMED
from .rules import SPELLING, faults
from .texts import Answer, masked, questions

RESULT = Result({name: np.asarray(1) for name in ("parameters", "k", "minibatch_size")}, {}, {})

UNTRUE = [
    (
        "one-parameter",
        "spectrum/ggn",
        "Kind of point: minimum [ok] | A minimum: uphill in every direction.",
        "a class of another",
    ),
    ("saddle-of-400", "spectrum/no-bottom", "Kind of point: minimum [ok] | A minimum.", "a negative eigenvalue, and it is"),
    (
        "saddle-of-400",
        "spectrum/no-bottom",
        "Negative eigenvalues: 0 % [ok] | No eigenvalue lies below zero.",
        "nothing is known",
    ),
    ("saddle-of-400", "spectrum/lanczos", "Negative eigenvalues: 0 % [ok] | No eigenvalue lies below zero.", "none lies below"),
    ("one-flat-of-400", "spectrum/lanczos", "Kind of point: minimum [ok] | A minimum.", "must not: Kind of point: minimum"),
    (
        "downhill-and-flat",
        "spectrum/exact",
        "Kind of point: degenerate [note] | Degenerate.",
        "must: Kind of point: degenerate, d",
    ),
    ("minimum", "spectrum/exact", "Kind of point: strict saddle [ok] | A strict saddle.", "no negative eigenvalue, and it is"),
    ("slope-of-a-bowl", "spectrum/exact", "Kind of point: minimum [ok] | A minimum.", "a point on a slope is called minimum"),
    ("maximum", "spectrum/exact", "Kind of point: not critical [note] | A slope.", "a critical point is called not critical"),
    ("tilted", "spectrum/exact", "Kind of point: not critical [warn] | Along it gradient-flat.", "gradient-flat"),
    ("valley", "spectrum/exact", "Zero eigenvalues: 1 of 2 [ok] | 1 more was found: dead units.", "must not: "),
    ("regression", "spectrum/exact", "Loss: mean [ok] | ReLU's kinks are left out.", "ReLU where there is none"),
    (
        "regression",
        "spectrum/exact",
        "Outliers: 2 [ok] | A classifier with C classes often has C − 1.",
        "a classifier where there",
    ),
    (
        "run-squared-error",
        "overlap/exact",
        "k − 1 directions: 5 % [ok] | Hypothesis: softmax makes k − 1.",
        "softmax where there is none",
    ),
    (
        "regression",
        "surface/filter",
        "Mode: BatchNorm stored [ok] | If the network has BatchNorm.",
        "BatchNorm where there is none",
    ),
    (
        "regression",
        "surface/filter",
        "Whole Hessian: −1 to 1 [warn] | A saddle that looks like a minimum.",
        "a saddle on a slope",
    ),
    ("regression", "surface/filter", "Curvature in the plane: 1 to 2 [ok] | Uphill on every side.", "uphill on a slope"),
    ("regression", "spectrum/exact", "Trace: 2 [ok] | The 10 largest eigenvalues hold 257 % of it.", "a share above 100 %"),
    (
        "contrastive",
        "surface/filter",
        "At the centre: loss 2 ± 0.1 on 12 [ok] | It could be chance.",
        "an error of a coupled loss",
    ),
    ("maximum", "surface/gaussian", "Not convex: 100 % [ok] | Most of it bends: rugged at this scale.", "must not: rugged"),
    ("zero", "surface/gaussian", "Not convex: 0 % [ok] | As convex as a bowl at this resolution.", "must not: "),
    (
        "least-squares",
        "surface/filter",
        "Gradient: 0.1 [note] | Descent is long; descent is mostly elsewhere.",
        "must not: descent",
    ),
    (
        "run-adamw",
        "spectrum/exact",
        "Loss: mean [ok] | With it every eigenvalue would be larger by that.",
        "decay that is part of no",
    ),
    ("run-sgd", "spectrum/exact", "Loss: mean [ok] | The run's weight decay of 0 is left out.", "decay where there is none"),
    (
        "run-cosine",
        "overlap/exact",
        "Limit of stability: 0 [note] | So every curvature is stable.",
        "must not: every curvature",
    ),
    (
        "run-sgd",
        "overlap/exact",
        "Way made inside it: 1 % [note] | It points into the space and back again.",
        "what was not measured",
    ),
    ("run-sgd", "overlap/exact", "Limits: [note] | Training only outside it does as well as usual.", "what was not measured"),
    ("run-unmoved", "overlap/exact", "Persistence: 100 % [ok] | Verdict: it persists.", "must not: it persists"),
    (
        "run-full-batch",
        "counterfactual/small",
        "How it was made: 3 [ok] | Every branch sees the same mini-batches.",
        "must not: same",
    ),
    ("not-a-number", "spectrum/fisher", "refused: | The samples of a batch see each other", "must not: see each other"),
]


@pytest.mark.parametrize(("name", "question", "line", "fault"), UNTRUE)
def test_what_is_untrue_is_found(name: str, question: str, line: str, fault: str) -> None:
    kind, form = question.split("/")
    assert (kind, form) in questions()
    found = list(faults(NAMED[name], kind, form, Answer((line,), RESULT if kind == "spectrum" else None, ())))
    assert any(item.startswith(fault) for item in found), found


SPELLED = {
    "nan": ("it is nan", "at first, not a number at the end", "the loss is not a number here"),
    "minus zero": ("from −0 to 1", "it is -0", "from −0.5 to 0"),
    "plus or minus zero": ("0 ± 0", "1 ± 0 %", "0 ± 0.1"),
    "another speller": ("1e+08", "from -2 to 3", "lr−2, 1e−8, a-2"),
    "from a value to the same": ("100 % to 100 %", "cos 0.99 to 0.99", "1 to 10"),
    "one of many": ("over 1 samples", "The 1 largest eigenvalues", "k − 1 directions, 21 samples"),
    "a torn sentence": ("x [ok] | bends far more times as much", "x [ok] | one  two", "x:  [ok] | One. Two."),
}


@pytest.mark.parametrize("name", SPELLING)
def test_spelling_is_told_apart(name: str) -> None:
    import re

    *wrong, right = SPELLED[name]
    assert all(re.search(SPELLING[name], words) for words in wrong)
    assert not re.search(SPELLING[name], right)


def test_digits_of_rounding_are_found_by_the_unit_of_the_situation() -> None:
    line = "Trace: 2 ± 3e−17 [ok] | It is 2."
    assert "digits of rounding | Trace" in list(faults(NAMED["minimum"], "spectrum", "ggn", Answer((line,), None, ())))
    small = line.replace("3e−17", "3e−18")
    assert "digits of rounding | Trace" not in list(faults(NAMED["noise-floor"], "spectrum", "ggn", Answer((small,), None, ())))


def test_numbers_are_masked() -> None:
    assert masked("λ₁ is −1.5e−3 of 1,510, 12 % to ∞") == "λ₁ is # of #, # % to #"


def test_every_listed_analysis_is_asked_of_more_than_thirty_situations() -> None:
    assert {kind for kind, _ in questions()} == {item.name for item in ANALYSES.values() if item.listed}
    assert sum(len(group) for group in GROUPS.values()) == len(NAMED) > 60
