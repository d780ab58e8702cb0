"""What no card may say, whatever the situation, and what follows from what is known of one: the faults of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from scipy.stats import beta

from .odd import Fragments, Odd
from .texts import Answer, answer, training_of

CLASSES = ("minimum", "maximum", "strict saddle", "degenerate", "degenerate, downhill", "not critical", "unresolved", "none")

ROUNDING = 1e-12  # of the unit of a situation: smaller numbers are rounding

# How numbers and sentences look, by a name for the fault.
SPELLING = {
    "nan": r"\bnan\b|(?<! is )not a number(?! there)|\binf\b|: None\b",
    "minus zero": r"(?<![\w.])[−-]0(?![\d.,])",
    "plus or minus zero": r"± 0(?![\d.,])",
    "another speller": r"\de[+-]\d|(?<![\w)])-\d",
    "from a value to the same": r"(?<![\w.,−])([−\d][\d.,e−]*(?: %)?) to \1(?![\w.,])",
    "one of many": r"(?<![\d.,])(?<!− )(?<!± )1 (?:random )?"
    r"(?:samples|products|checkpoints|directions|parameters|vectors|eigenvalues|steps)\b|The 1 largest|first 1 ",
    "a torn sentence": r"\| .* {2}\S| \.| ,|\(\)|more times as much",
}
NEGATIVE = "The most negative|, below zero|[Dd]ownhill curvature exists|negative (ones|curvature) takes?"
NAMES_RELU = r"activation other than ReLU|plain chain of ReLU layers|piecewise linear networks \(ReLU\)"


def faults(odd: Odd, kind: str, form: str, made: Answer) -> Iterator[str]:
    """One line for each fault of the answer to `kind/form`: a name of what is wrong, and where."""
    if made.broken:
        yield f"broken: {made.broken[:60]}"
    for line in made.warned:
        yield f"warned: {line[:60]}"
    for rule in (_spelling, _network, _loss, _decay, _point, _curvature, _shares, _unmeasured):
        yield from rule(odd, kind, form, made)
    for fragment in _of(odd.must, kind, form):  # a bare loss has no samples to choose from, and nothing else is said
        if not (form == "few" and odd.make) and not re.search(fragment, made.text):
            yield f"must: {fragment}"
    for fragment in _of(odd.must_not, kind, form):
        yield from _lines(f"must not: {fragment}", fragment, made)


def _of(listed: Fragments, kind: str, form: str) -> Iterator[str]:
    for where, fragments in listed.items():
        if where in ("", kind, f"{kind}/{form}"):
            yield from fragments


def _lines(fault: str, fragment: str, made: Answer, only: str = "") -> Iterator[str]:
    """The fault for each line in which the fragment is found, of the readings whose name begins with `only`."""
    for line in made.lines:
        if line.startswith(only) and re.search(fragment, line):
            yield f"{fault} | {line.partition(':')[0]}"


def _spelling(odd: Odd, kind: str, form: str, made: Answer) -> Iterator[str]:
    for name, fragment in SPELLING.items():
        only = r"^(?!refused).*" if name == "another speller" else ""  # what was typed is shown as it was typed
        yield from _lines(name, only + f"(?:{fragment})" if only else fragment, made)
    for line in made.lines:
        small = [float(value.replace("−", "-")) for value in re.findall(r"\d[\d.]*e[−-]\d+", line)]
        if form != "far" and any(value < ROUNDING * odd.unit for value in small):  # far away everything is small or large
            yield f"digits of rounding | {line.partition(':')[0]}"
    for line in made.lines:
        words = line.partition("] | ")[2].strip()
        if words and not (words[0].isupper() or words[0] in "“‖λ|θ" or words[0].isdigit() or words[0] in "−"):
            yield f"begins with a small letter | {line.partition(':')[0]}"


def _network(odd: Odd, kind: str, form: str, made: Answer) -> Iterator[str]:
    """Sentences fit the network: its activation, its normalisation, its sample."""
    if odd.activation != "relu":
        for line in made.lines:
            if "ReLU" in re.sub(NAMES_RELU, "", line):
                yield f"ReLU where there is none | {line.partition(':')[0]}"
    if not odd.batchnorm:
        yield from _lines("BatchNorm where there is none", "BatchNorm", made)
    p = _parameters(made)
    if kind == "surface" and p in (1, 2) and form != "lines":
        yield from _lines("all dimensions are seen", "in all other directions|saddle with a few downhill", made)


def _loss(odd: Odd, kind: str, form: str, made: Answer) -> Iterator[str]:
    """Sentences fit the loss: classes only where there are some, chance of the sample only where it is known."""
    if odd.loss != "cross-entropy":
        yield from _lines("softmax where there is none", "softmax", made)
    if not odd.classes:
        yield from _lines("a classifier where there is none", "[Cc]lassifie[rd]|C − 1|than there are classes", made)
    if odd.coupled:
        yield from _lines("an error of a coupled loss", "±|could be chance|± 0", made, "At the centre")
        yield from _lines("a mean over samples of a coupled loss", "mean over", made, "Loss")


def _decay(odd: Odd, kind: str, form: str, made: Answer) -> Iterator[str]:
    training = training_of(odd.name)
    if not training.get("weight_decay"):
        yield from _lines("decay where there is none", "run's weight decay|every eigenvalue is larger by", made)
    elif training["optimizer"] == "adamw":
        yield from _lines("decay that is part of no loss", "would be larger|would shift|decay is (a )?part of th", made)
    if training.get("optimizer") in ("adam", "adamw"):
        yield from _lines("a limit of an adaptive optimiser", r"2/lr|2β", made)


def _point(odd: Odd, kind: str, form: str, made: Answer) -> Iterator[str]:
    """The kind of point, and every sentence that hints at one."""
    if kind != "spectrum" or form == "over-run":
        if odd.critical is False:
            yield from _lines("a saddle on a slope", "[Aa] saddle that looks", made)
            yield from _lines("uphill on a slope", "[Uu]phill on every side|[Dd]ownhill on every side", made)
        return
    rows = [line for line in made.lines if line.startswith("Kind of point: ")]
    said = [re.sub(r" \[.*", "", row.removeprefix("Kind of point: ")) for row in rows]
    if made.result is None:
        return
    for name in said:
        if name not in CLASSES:
            yield f"no class is called {name}"
    if form in ("ggn", "fisher", "fishers") or (form == "block" and not _whole(odd, made)):
        for name in said:
            if name not in ("none", "not critical"):
                yield "a class of another matrix | Kind of point"
        yield from _lines("a class of another matrix", r"A minimum:|A maximum:|A strict saddle:|Degenerate:", made)
        return
    if len(said) != 1:
        yield "must: one kind of point"
        return
    decayed = form == "with-decay"
    if odd.critical and not decayed and said[0] in ("not critical", "none"):
        yield f"a critical point is called {said[0]}"
    if odd.critical is False and not decayed and said[0] != "not critical":
        yield f"a point on a slope is called {said[0]}"
    if odd.below and said[0] in ("minimum", "degenerate"):
        yield f"a negative eigenvalue, and it is called {said[0]}"
    if odd.below is False and said[0] in ("maximum", "strict saddle", "degenerate, downhill"):
        yield f"no negative eigenvalue, and it is called {said[0]}"
    if form == "no-bottom" and said[0] in ("minimum", "degenerate"):
        yield f"nothing is known from below, and it is called {said[0]}"
    yield from _lines("gradient-flat", "gradient-flat", made)


def _curvature(odd: Odd, kind: str, form: str, made: Answer) -> Iterator[str]:
    """Signs are said once, and zero is zero."""
    if kind not in ("spectrum", "surface"):
        return
    psd = form in ("fisher", "fishers") or (form == "ggn" and odd.loss != "other")  # convex in the outputs
    if odd.below and form in ("exact", "lanczos"):
        yield from _lines("none lies below zero, though one does", "[Nn]o eigenvalue lies below|none is below zero", made)
    if form == "no-bottom":
        yield from _lines("nothing is known from below", "[Nn]o eigenvalue lies below zero|none is below zero", made)
    if odd.below is False or psd:
        yield from _lines("negative ones where there are none", NEGATIVE, made)
    if odd.below is False:
        yield from _lines("a saddle where there is none", "looks like a minimum here", made)
    if "most negative" in made.text and re.search("[Nn]o eigenvalue lies below zero", made.text):
        yield "the most negative one, and none lies below zero"
    if form == "no-bottom" or not made.result or kind != "spectrum" or "eigenvalues_top" not in made.result:
        return
    if not np.any(np.asarray(made.result["eigenvalues_top"])):
        yield from _lines("a ratio of zeros", r"λ₁ \S+ times|sharpness ×", made)


def _shares(odd: Odd, kind: str, form: str, made: Answer) -> Iterator[str]:
    for line in made.lines:
        for share in re.findall(r"hold(?:s)? ([\d,.]+) %", line):
            if float(share.replace(",", "")) > 100.5 and not re.search("take away|negative", line):
                yield f"a share above 100 % | {line.partition(':')[0]}"
    share = [line for line in made.lines if line.startswith("Negative eigenvalues: ")]
    for line in share:
        if re.match(r"Negative eigenvalues: .*100 % ±", line):
            yield "a share above 100 % | Negative eigenvalues"
    if kind == "overlap" and made.result is not None:
        yield from _avoids(made)


def _avoids(made: Answer) -> Iterator[str]:
    """Less than a random direction has is said only where chance has so little in one of twenty."""
    result = made.result
    assert result is not None
    k, p = int(result["k"]), int(result["parameters"])
    shares = np.asarray(result["gradient_share"], float)
    late = shares[-max(1, round(shares.size / 3)) :]
    late = late[np.isfinite(late)]
    if late.size and k < p and beta.cdf(np.median(late), k / 2, (p - k) / 2) > 0.05:
        yield from _lines("chance is called less than chance", "avoids|less than a random direction", made)
    whole = int(result["minibatch_size"]) >= int(result["sample_size"])
    if whole:
        yield from _lines("a mini-batch of everything", "mini-batch gradients", made, "Mini-batch gradients")


def _unmeasured(odd: Odd, kind: str, form: str, made: Answer) -> Iterator[str]:
    yield from _lines("what was not measured", "and back again|as the law says", made)
    for line in made.lines:
        if re.search("only outside it does as well", line) and not re.search("elsewhere|found|report|paper|et al", line):
            yield f"what was not measured | {line.partition(':')[0]}"
        if re.search("leaves it a little|goes on outside the space; inside it hardly", line) and odd.name == "run-unmoved":
            yield f"what was not measured | {line.partition(':')[0]}"


def _whole(odd: Odd, made: Answer) -> bool:
    """Whether the named layers are all that there is."""
    return _parameters(made) == _parameters(answer(odd.name, "spectrum", "exact"))


def _parameters(made: Answer) -> int | None:
    if made.result is None:
        return None
    if "direction_0" in made.result:
        return int(np.size(made.result["direction_0"]))
    return int(made.result["parameters"]) if "parameters" in made.result else None
