"""The odd situations, what is true of each by construction, and what its cards must and must not say.

The lists are written from the mathematics of a situation, never from what the program prints. A fragment is a regular
expression that is looked for in the lines `name: value [verdict] | words` of what is answered; it stands under the question
(an analysis, or `analysis/form`) that it is about, and "" is every question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from landscape_core import Objective

from . import makers as m
from .makers import Record, changed, quadratic, toy, trained

Fragments = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Odd:
    """One situation: a bare loss (`make`) or a run (`record`)."""

    name: str
    truth: str
    make: Callable[[], Objective] | None = None
    record: Record | None = None
    loss: Literal["cross-entropy", "squared error", "other"] = "other"
    activation: Literal["relu", "tanh", "silu", "none"] = "none"
    classes: bool = False  # whether outputs are scores of classes
    samples: int = 2
    unit: float = 1.0  # of the loss and what is made of it: less than 1e-12 of it is rounding
    batchnorm: bool = False
    coupled: bool = False  # samples of a batch see each other in the loss
    critical: bool | None = False  # whether the gradient vanishes; None where no finite gradient is there
    below: bool | None = None  # whether the Hessian has a negative eigenvalue; None where nobody knows beforehand
    flat: bool = False  # the loss is the same everywhere
    fields: Mapping[str, Any] = field(default_factory=dict)  # of every Spec that has them
    must: Fragments = field(default_factory=dict)
    must_not: Fragments = field(default_factory=dict)


def point(name: str, truth: str, make: Callable[[], Objective], kind: str = "", **known: Any) -> Odd:
    """A point of `kind`, which its exact Hessian must be said to be."""
    must = {"spectrum/exact": (f"Kind of point: {kind} ",)} if kind else {}
    critical = kind not in ("", "not critical")
    known = {"critical": critical, "fields": {"spectrum": True}, **known}
    return Odd(name, truth, make, **{**known, "must": {**must, **known.get("must", {})}})


def net(name: str, truth: str, make: Callable[[], Objective], **known: Any) -> Odd:
    known = {"loss": "cross-entropy", "activation": "relu", "samples": 24, **known}
    return Odd(name, truth, make, **{"classes": known["loss"] == "cross-entropy", **known})


def run(name: str, truth: str, record: Record, **known: Any) -> Odd:
    known = {"loss": "cross-entropy", "activation": "relu", "classes": True, "samples": 60, **known}
    return Odd(name, truth, None, record, **known)


SHOWN = r"^(?!What this picture).*"  # in a line about this picture, not about pictures of its kind
SMOOTH = {"surface": ("rugged",)}  # a quadratic is smooth, whatever its signs
FLAT = {
    "surface": (
        "rugged",
        SHOWN + r"(bowl|[Uu]phill|[Dd]ownhill|bends? (up|down)wards)",
        "times as much",
        "could be chance",
    ),
    "spectrum": ("Outliers", "Most of it belongs"),
}
NO_NETWORK = {"": ("(in|of|for) this network", "dead units", "[Cc]lassifie")}
ROUNDING_GRADIENT = {"surface": ("descent is mostly elsewhere", "Most of the downhill direction", "times that")}
ONE = {
    "overlap": ("look at the curve", "over the last 1 ", "Persistence", "Way made"),
    "spectrum/over-run": ("Sharpness over training", "each checkpoint starts from"),
}


def both(*parts: Fragments) -> Fragments:
    """What any of them lists."""
    return {key: tuple(f for part in parts for f in part.get(key, ())) for part in parts for key in part}


POINTS = [
    point(
        "minimum",
        "½(x² + 2y² + 3z²) at 0",
        lambda: quadratic(1, 2, 3),
        "minimum",
        below=False,
        must={"surface/gaussian": ("bowl",)},
        must_not=both(SMOOTH, NO_NETWORK, {"surface/gaussian": ("[Dd]ownhill", "not a minimum")}),
    ),
    point(
        "maximum",
        "−½(x² + 2y² + 3z²) at 0",
        lambda: quadratic(-1, -2, -3),
        "maximum",
        below=True,
        must={"surface/gaussian": ("not a minimum",)},
        must_not=both(SMOOTH, NO_NETWORK, {"surface": (SHOWN + "bowl",), "": ("index of (a|this) saddle", "slices rarely")}),
    ),
    point(
        "saddle",
        "½(x² − y²) at 0",
        lambda: quadratic(1, -1),
        "strict saddle",
        below=True,
        must={"spectrum/lanczos": ("Kind of point: strict saddle",), "surface/gaussian": ("not a minimum",)},
        must_not=both(SMOOTH, NO_NETWORK, {"": ("rarely show", "looks like a minimum")}),
    ),
    point(
        "saddle-of-400",
        "399 of 400 curvatures are positive, one is −2e-4",
        lambda: m.wide(-2e-4),
        "strict saddle",
        below=True,
        must={"spectrum/lanczos": ("Kind of point: strict saddle",), "spectrum/no-bottom": ("Kind of point: unresolved",)},
        must_not=both(SMOOTH, NO_NETWORK, {"spectrum": ("A minimum",)}),
    ),
    point(
        "one-flat-of-400",
        "399 of 400 curvatures are positive, one is exactly 0",
        lambda: m.wide(0.0),
        "degenerate",
        below=False,
        must={"spectrum/no-bottom": ("Kind of point: unresolved",)},
        must_not=both(SMOOTH, NO_NETWORK, {"spectrum": ("Kind of point: minimum", "no curvature there")}),
    ),
    point(
        "downhill-and-flat",
        "−y² − 1.5z² at 0, x does not enter",
        lambda: quadratic(0, -2, -3),
        "degenerate, downhill",
        below=True,
        must_not=both(SMOOTH, NO_NETWORK, {"spectrum": ("whether it is a minimum",), "surface": (SHOWN + "bowl",)}),
    ),
    point(
        "tilted",
        "x − y/2: no curvature anywhere",
        lambda: toy(lambda x: x[:, 0] - 0.5 * x[:, 1], 0.0, 0.0),
        "not critical",
        below=False,
        must={"surface/gaussian": ("flat|straight|tilted|[Nn]o curvature|not bend",)},
        must_not=both(SMOOTH, NO_NETWORK, {"": ("gradient-flat", SHOWN + "bowl", "looks like a minimum")}),
    ),
    point(
        "slope-of-a-bowl",
        "½(x² + 2y²) at (1, 1)",
        lambda: quadratic(1, 2, at=(1, 1)),
        "not critical",
        below=False,
        must={"surface/gaussian": ("bowl",)},
        must_not=both(SMOOTH, NO_NETWORK, {"": ("gradient-flat",), "surface": ("[Uu]phill on every side",)}),
    ),
    point(
        "zero",
        "0 everywhere",
        lambda: toy(lambda x: 0 * x.sum(-1), 0.3, 0.2, 0.1),
        "degenerate",
        below=False,
        flat=True,
        must={"surface/gaussian": ("flat|same everywhere|constant",)},
        must_not=both(FLAT, NO_NETWORK),
    ),
    point(
        "constant",
        "3.7 everywhere",
        lambda: toy(lambda x: 3.7 + 0 * x.sum(-1), 0.3, 0.2),
        "degenerate",
        below=False,
        flat=True,
        must={"surface/gaussian": ("flat|same everywhere|constant",)},
        must_not=both(FLAT, NO_NETWORK),
    ),
    point(
        "valley",
        "(ab − 1)² at (1, 1): the floor of a valley, eigenvalues 0 and 4",
        lambda: toy(lambda x: (x[:, 0] * x[:, 1] - 1) ** 2, 1.0, 1.0),
        "degenerate",
        below=False,
        must={"spectrum/exact": ("unknown cause",)},
        must_not=both(NO_NETWORK, {"spectrum/exact": ("Kind of point: minimum",)}),
    ),
    point(
        "quartic",
        "x⁴ + y⁴ at 0: the Hessian is 0, and it is a minimum",
        lambda: toy(lambda x: (x**4).sum(-1), 0.0, 0.0),
        "degenerate",
        below=False,
        must_not=both(NO_NETWORK, {"surface": ("not a minimum", SHOWN + "[Dd]ownhill")}),
    ),
    point(
        "two-scalars",
        "a² − b² at 0, with parameters a and b",
        lambda: Objective(m.Pair(0, 0), lambda o, _: (o[:, 0] ** 2 - o[:, 1] ** 2).mean(), m.nothing()),
        "strict saddle",
        below=True,
        must_not=both(SMOOTH, NO_NETWORK, {"spectrum/exact": ("Most of it belongs",)}),
    ),
    point(
        "one-parameter",
        "H = −10 at its one parameter",
        m.single_parameter_maximum,
        "maximum",
        loss="squared error",
        below=True,
        must_not=both(NO_NETWORK, {"": ("looks like a bowl", "largest eigenvalues", "rarely show")}),
    ),
    point(
        "small-units",
        "a saddle in units of 1e-6",
        lambda: quadratic(1, -1, 2, scale=1e-6),
        "strict saddle",
        unit=1e-6,
        below=True,
        must={"spectrum/lanczos": ("Kind of point: strict saddle",)},
        must_not=both(SMOOTH, NO_NETWORK),
    ),
    point(
        "large-units",
        "a bowl in units of 1e8",
        lambda: quadratic(1, 2, 3, scale=1e8),
        "minimum",
        below=False,
        must={"surface/gaussian": ("bowl",)},
        must_not=both(SMOOTH, NO_NETWORK),
    ),
    point(
        "noise-floor",
        "in float32, curvatures of 1e-9 under a loss of 3, half a step from the bottom",
        m.noise_floor,
        "not critical",
        unit=1e-18,  # its gradient, squared
        below=False,
        must_not=both(SMOOTH, NO_NETWORK, {"": ("A minimum", "times as much", "gradient-flat")}),
    ),
    point(
        "deep-linear-at-zero",
        "three linear layers at 0: the Hessian is 0, and it is no minimum",
        m.factorisation,
        "degenerate",
        loss="squared error",
        samples=8,
        below=False,
        must_not={"spectrum": ("× 0",), "surface": ("[Dd]ownhill on every side",)},
    ),
    point(
        "two-factors-at-zero",
        "two linear layers at 0: a strict saddle with eigenvalues in pairs of either sign",
        m.factors_of_two,
        "strict saddle",
        loss="squared error",
        samples=8,
        below=True,
        must={"spectrum/lanczos": ("Kind of point: strict saddle",)},
        must_not={"spectrum": ("Most of it belongs", "how well a network generalises", "rarely show")},
    ),
    point(
        "least-squares",
        "linear regression at its solution, X of full rank",
        m.least_squares,
        "minimum",
        loss="squared error",
        samples=24,
        below=False,
        must={"surface/filter": ("bowl",)},
        must_not=both(SMOOTH, ROUNDING_GRADIENT),
    ),
    point(
        "perfect",
        "logits so far apart that loss, gradient and Hessian are 0 in float64",
        m.perfect,
        "degenerate",
        loss="cross-entropy",
        classes=True,
        samples=24,
        below=False,
        must_not=both(ROUNDING_GRADIENT, {"surface": ("rugged", SHOWN + "[Dd]ownhill"), "spectrum": ("Most of it belongs",)}),
    ),
    point(
        "one-class",
        "cross-entropy over a single class is 0 everywhere",
        m.one_class,
        "degenerate",
        loss="cross-entropy",
        classes=True,
        activation="relu",
        samples=24,
        below=False,
        flat=True,
        must={"surface/gaussian": ("flat|same everywhere|constant",)},
        must_not=both(FLAT, {"spectrum": ("dead units", "× 0")}),
    ),
    point(
        "dead-at-rest",
        "every ReLU is off, and the outputs' biases are the best: critical, and flat in all but two directions",
        m.dead_at_rest,
        "degenerate",
        loss="cross-entropy",
        classes=True,
        activation="relu",
        samples=24,
        below=False,
        must={"spectrum/exact": ("dead",)},
        must_not=both(ROUNDING_GRADIENT, {"surface": ("far more times", "[Dd]ownhill on every side")}),
    ),
]

NETWORKS = [
    net(
        "dead",
        "every ReLU is off",
        m.dead,
        below=False,
        must={"spectrum/exact": ("dead",)},
        must_not={"surface": ("far more times",), "spectrum/rescaled": ("how well a network generalises",)},
    ),
    net(
        "regression",
        "an untrained tanh network, squared error",
        lambda: m.regression(m.mlp(4, 5, 1, activation=nn.Tanh)),
        loss="squared error",
        activation="tanh",
        below=True,
    ),
    net(
        "regression-in-small-units",
        "the same in units of 1e-6",
        lambda: m.regression(m.mlp(4, 5, 1, activation=nn.Tanh), scale=1e-6),
        unit=1e-12,  # its gradient, squared
        loss="squared error",
        activation="tanh",
        below=True,
    ),
    net(
        "regression-in-large-units",
        "the same in units of 1e8",
        lambda: m.regression(m.mlp(4, 5, 1, activation=nn.Tanh), scale=1e8),
        loss="squared error",
        activation="tanh",
        below=True,
    ),
    net(
        "one-sample",
        "a tanh network and one sample",
        lambda: m.classifier(m.mlp(4, 5, 3, activation=nn.Tanh), count=1),
        activation="tanh",
        samples=1,
        must_not={"": (r"\b1 samples", "sample's own|split into samples|divide")},
    ),
    net("two-classes", "one logit, binary cross-entropy", m.binary, loss="other"),
    net(
        "untrained-tanh",
        "an untrained tanh classifier",
        lambda: m.classifier(m.mlp(4, 5, 3, activation=nn.Tanh)),
        activation="tanh",
    ),
    net(
        "softmax-at-zero",
        "linear softmax with zero weights: convex, and five exact zeros of the shift",
        m.softmax_at_zero,
        activation="none",
        below=False,
        must={"spectrum/exact": ("Zero eigenvalues: 5 of 15",)},
        must_not={"surface": ("rugged", "[Dd]ownhill o")},
    ),
    net(
        "batchnorm-stored",
        "BatchNorm with stored statistics",
        lambda: m.batchnorm("stored"),
        batchnorm=True,
        must={"surface/filter": ("BatchNorm",)},
    ),
    net(
        "batchnorm-batch",
        "BatchNorm with the statistics of the sample",
        lambda: m.batchnorm("batch"),
        batchnorm=True,
        coupled=True,
        must={"surface/filter": ("BatchNorm",)},
        must_not={"": ("BatchNorm stored", "stored statistics are used")},
    ),
    net("skip", "skip connections", m.skipping),
    net("convolution", "a convolutional network with SiLU", m.convolutional, activation="silu", samples=12),
    net("frozen", "only the last of three layers is trained", m.frozen, activation="tanh", below=False),
    net(
        "contrastive",
        "InfoNCE: every sample's loss holds all others",
        m.contrastive,
        loss="other",
        activation="tanh",
        samples=12,
        coupled=True,
    ),
    net(
        "language",
        "next tokens, outputs (N, T, V), the loss shifts them by itself",
        m.language,
        activation="tanh",
        samples=6,
        must_not={"": ("classified rightly",)},
    ),
    net("imbalanced", "58 samples of one class and 2 of the other", m.imbalanced, samples=60),
    net(
        "not-a-number",
        "weights that are NaN",
        lambda: m.scaled_weights(float("nan")),
        critical=None,
        must={"spectrum": ("not finite|NaN|not a number",), "surface": ("not finite|NaN|not a number",)},
        must_not={"": ("overflow", "earlier checkpoint", "see each other")},
    ),
    net(
        "overflowing",
        "weights of 1e200: the loss is not finite",
        lambda: m.scaled_weights(1e200),
        critical=None,
        must={"spectrum": ("not finite|overflow|not a number",)},
        must_not={"": ("earlier checkpoint", "see each other", "smaller extent")},
    ),
]

FULL = {"": ("[Mm]ini-batches add noise", "same mini-batches", "Mini-batches of")}
NOT_ABOVE = {"": ("every curvature is stable",)}

RUNS = [
    run("run-sgd", "mini-batches of 20", trained()),
    run("run-trained", "trained to the end", trained(steps=1500, lr=0.5)),
    run(
        "run-full-batch",
        "stable full-batch descent, tanh",
        trained(batch_size=0, activation="tanh", steps=200),
        activation="tanh",
        must={"spectrum/over-run": ("0 of 5 checkpoints above",)},
        must_not=FULL,
    ),
    run(
        "run-too-fast",
        "linear regression, full-batch descent a little beyond its limit: the loss rises",
        trained(batch_size=0, lr=0.16, loss="squared-error", steps=30, widths=[]),
        loss="squared error",
        activation="none",
        below=False,
        must={"spectrum/over-run": ("5 of 5 checkpoints above",), "counterfactual": ("no answer here",)},
        must_not=both(FULL, {"surface": ("rugged",)}),
    ),
    run(
        "run-sgd-decay",
        "SGD with weight decay: the trained loss holds it",
        trained(weight_decay=0.1, batch_size=0, steps=150),
        must={"spectrum/exact": ("decay",), "overlap": ("decay",), "counterfactual": ("decay",)},
        must_not=FULL,
    ),
    run(
        "run-adam-decay",
        "Adam with weight decay: the trained loss holds it",
        trained(optimizer="adam", lr=0.02, weight_decay=0.1),
        must={"spectrum/exact": ("decay",), "overlap": ("decay",), "counterfactual": ("decay",)},
        must_not={"": ("2/lr",)},
    ),
    run(
        "run-adamw",
        "AdamW: its decay is part of no loss",
        trained(optimizer="adamw", lr=0.02, weight_decay=0.1),
        must_not={"": ("would be larger", "2/lr", "left out of gradient", "[Dd]ecay is a part of")},
    ),
    run(
        "run-momentum-decay",
        "heavy ball with weight decay: the trained loss falls while the plain one rises",
        trained(momentum=0.9, weight_decay=0.01, batch_size=0),
        must={"counterfactual": ("decay",), "overlap": ("decay",)},
        must_not=FULL,
    ),
    run(
        "run-too-much-decay",
        "2/lr is below the weight decay: the weights grow, whatever the curvature",
        trained(weight_decay=2.5, lr=1.0, batch_size=0, steps=6),
        must={"spectrum/exact": ("no curvature is stable",)},
        must_not=both(FULL, {"": ("is stable here",)}),
    ),
    run(
        "run-cosine",
        "cosine schedule: 2/lr grows from 10 without bound, and no checkpoint is above it",
        trained(schedule="cosine", lr=0.2, batch_size=0, activation="tanh"),
        activation="tanh",
        must={"spectrum/over-run": ("0 of 4 checkpoints above",), "overlap": ("0 of 8 checkpoints above",)},
        must_not=both(FULL, NOT_ABOVE),
    ),
    run(
        "run-steps",
        "rate divided by ten at half and at three quarters",
        trained(schedule="step", lr=0.2, batch_size=0, activation="tanh"),
        activation="tanh",
        must={"spectrum/over-run": ("10 to 1,000|from 10",)},
        must_not=FULL,
    ),
    run("run-label-noise", "half of the labels are wrong", trained(label_noise=0.5)),
    run(
        "run-batchnorm",
        "BatchNorm with stored statistics",
        trained(norm="batch"),
        batchnorm=True,
        must={"surface/filter": ("BatchNorm",)},
    ),
    run(
        "run-batchnorm-batch",
        "BatchNorm with the statistics of the sample",
        trained(norm="batch"),
        batchnorm=True,
        coupled=True,
        fields={"batchnorm": "batch"},
        must={"surface/filter": ("BatchNorm",)},
        must_not={"": ("BatchNorm stored", "stored statistics are used")},
    ),
    run("run-skip", "skip connections", trained(widths=[4, 4, 4], skip=True)),
    run(
        "run-deep-linear",
        "three linear layers without activation",
        trained(widths=[4, 4], activation="identity"),
        activation="none",
    ),
    run(
        "run-squared-error",
        "squared error against one-hot targets, tanh",
        trained(loss="squared-error", activation="tanh"),
        loss="squared error",
        activation="tanh",
    ),
    run("run-moons", "two classes in the plane", trained("moons-mlp", widths=[3], samples=60)),
    run(
        "run-softmax",
        "no hidden layer: a convex loss",
        trained(widths=[]),
        activation="none",
        below=False,
        must_not={"surface": ("rugged",)},
    ),
    run("run-imbalanced", "57 samples of one class, 3 of the other", m.of_file),
    run(
        "run-imported",
        "one checkpoint, brought in: nobody knows how it was trained",
        m.imported,
        must_not=both(ONE, {"": ("2/lr",)}),
    ),
    run("run-one-checkpoint", "only the last checkpoint is left", changed(trained(), m.last_only), must_not=ONE),
    run(
        "run-two-checkpoints",
        "only the first and the last are left",
        changed(trained(), m.two_only),
        must_not={"": (r"at first, then (\S+) to \1",), "high_dimensions": ("Training wanders",)},
    ),
    run(
        "run-unmoved",
        "a rate of 1e-300: the weights never change",
        trained(lr=1e-300),
        unit=1e-290,  # of its rate
        must={"counterfactual": ("no answer here",)},
        must_not={
            "overlap": ("it persists", "Way made"),
            "high_dimensions": ("describes this run, and the intuition does not: the (norm|way)",),
            "counterfactual": ("do not add up",),
        },
    ),
    run(
        "run-diverged",
        "the last weights are times 1e200",
        changed(trained(), m.last_times(1e200)),
        critical=None,
        must={"spectrum/exact": ("not finite|overflow|not a number",)},
        must_not={"": ("see each other", "smaller extent")},
    ),
    run(
        "run-nan",
        "the last weights are NaN",
        changed(trained(), m.last_times(float("nan"))),
        critical=None,
        must={"spectrum/exact": ("not finite|NaN|not a number",)},
        must_not={"": ("see each other", "overflow")},
    ),
    run("run-float32", "trained to the end in float32", trained(steps=1500, lr=0.5, dtype="float32")),
]

GROUPS = {"points": POINTS, "networks": NETWORKS, "runs": RUNS}
NAMED = {odd.name: odd for group in GROUPS.values() for odd in group}
