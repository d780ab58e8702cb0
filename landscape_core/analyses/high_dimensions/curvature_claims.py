"""What is said of gradients over depth, of flat directions and of the signs of eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ...drawing.known import Known, has, scalar
from ...drawing.numbers import ROUNDING, counted, number, percent, plus_minus
from ...specs import Array
from . import laws
from .claim import FAILS, GEOMETRY, HOLDS, LARGE, LAW, OPEN, SURE, Claim
from .counts import resolved


def depth(data: Known) -> Iterator[Claim]:
    """The gradient from the last hidden layer to the first, beside random layers of the same sizes."""
    norms, law = np.asarray(data["layer_gradient_norms"], float), np.asarray(data["layer_law"], float)
    if norms.shape[1] < 2 or not (norms[0] > 0).all():
        return
    last = -2 if norms.shape[1] > 2 else -1  # the last layer has no activation behind it
    found = float(norms[0, 0] / norms[0, last])
    known = bool(np.isfinite(law).all()) and law[last] > 0 and law[0] > 0
    expected = float(law[0] / law[last]) if known else float("nan")
    spread = scalar(data, "layer_law_deviation") if known else None
    baseline = "no law: this network is no plain chain of ReLU layers"
    if known:
        baseline = f"{number(expected, 2)} with random layers of these sizes and weights"
        if spread is not None:
            baseline += f", mostly within a factor of {number(math.exp(spread), 2)}"
    agrees = spread is not None and abs(math.log(found / expected)) <= LARGE * spread
    other = "last hidden one" if norms.shape[1] > 2 else "last"
    late = norms[-1, 0] / norms[-1, last] if norms[-1, last] > 0 else float("nan")
    end = f", {number(float(late), 2)} at the end" if math.isfinite(late) else ""
    words = f"{norms.shape[1]} layers."
    if known:
        words += (
            " Each random ReLU layer multiplies |gradient|² by inputs × variance / 2: the scale of the weights decides, and "
            "depth is its exponent."
        )
    yield Claim(
        "Vanishing gradients are geometry, not just depth",
        GEOMETRY,
        "none of its own; the usual view is that depth by itself weakens a gradient.",
        f"first layer {number(found, 2)} times the {other} at first{end}",
        baseline,
        OPEN if spread is None else LAW if agrees else FAILS,
        ("the scale of random layers gives this ratio", "random layers of this scale would give another ratio"),
        words,
        "‖δₗ₋₁‖² = ½ ‖Wₗ‖² ‖δₗ‖² / outputs, ‖hₗ‖² = ½ (‖Wₗ‖² ‖hₗ₋₁‖² / inputs + ‖bₗ‖²)" if known else "",
        f"{GEOMETRY}; Schoenholz et al. 2017, arXiv:1611.01232",
    )


def curvature(data: Known) -> Iterator[Claim]:
    """Flat directions, the largest eigenvalues and the negative ones."""
    if not has(data, "curvature_steps"):
        return
    yield _flat(data)
    yield from _largest(data)
    yield _index(data)


def _flat(data: Known) -> Claim:
    flat, tolerance = resolved(data, "flat_share"), scalar(data, "flat_tolerance") or 0.0
    chance = f"{percent(laws.semicircle_share(tolerance), 2)} of a large random symmetric matrix"
    formula = f"share of |λ| < {number(tolerance, 1)} λ_max"
    flatness = "The loss is flat in most directions", GEOMETRY, "a landscape slopes or bends wherever one goes."
    means = "most directions hardly bend", "half of the directions or more bend"
    known = np.flatnonzero(np.isfinite(flat))
    if not known.size:
        words = "The estimate cannot tell so small eigenvalues from zero: take more products or a larger tolerance."
        return Claim(*flatness, "unknown", chance, OPEN, means, words, formula, GEOMETRY)
    first, last = known[[0, -1]]
    share, error = float(flat[last]), float(_errors(data, "flat_share")[last])  # a bound where it is estimated
    # Under a large tolerance most eigenvalues of any matrix count as flat.
    most = max(0.5, 2 * laws.semicircle_share(tolerance))
    verdict = FAILS if share + error <= 0.5 else HOLDS if share - error > most else OPEN
    said = f"{_range(data, 'flat_share', first)} at step {_step(data, first)}." if first != last else ""
    measured = f"{_range(data, 'flat_share', last)} within {number(tolerance, 1)} λ_max of zero at step {_step(data, last)}"
    return Claim(*flatness, measured, chance, verdict, means, said, formula, GEOMETRY)


def _largest(data: Known) -> Iterator[Claim]:
    """The share of the largest |eigenvalue| in their sum: of a trace, where negative ones take away, any share is possible."""
    of_all, of_trace = np.asarray(data["top_absolute_share"], float), np.asarray(data["top_trace_share"], float)
    known = np.flatnonzero(np.isfinite(of_all))
    if not known.size:
        return
    p, k, last = scalar(data, "parameters") or 2.0, scalar(data, "outliers") or 1.0, known[-1]
    share, error, trace = float(of_all[last]), SURE * float(_errors(data, "top_absolute_share")[last]), float(of_trace[last])
    which = "the only eigenvalue holds" if p == 1 else f"{k:.0f} of {counted(p, 'eigenvalue')} hold{'s' if k == 1 else ''}"
    measured = f"{which} {percent(share)} of the sum of |λ|"
    spread = plus_minus(100 * float(_errors(data, "top_trace_share")[last]), 100)
    measured += f", the largest {percent(trace)}{spread} of the trace" if math.isfinite(trace) else ""
    words = []
    if trace > 1 + max(ROUNDING, SURE * float(_errors(data, "top_trace_share")[last])):
        words.append("Negative eigenvalues take away from the trace, so the largest can hold more than all of it.")
    if (scalar(data, "softmax") or 0.0) > 0 and (scalar(data, "classes") or 0) == k + 1:
        words.append("With softmax, one less than there are classes are expected to stand out.")
    yield Claim(
        "A few directions hold most of the curvature",
        "papers on the spectra of networks",
        "a valley bends in all its directions alike.",
        measured,
        f"{percent(k / p, 2)} if all were equal",
        FAILS if share + error <= 0.5 else HOLDS if share - error > max(0.5, LARGE * k / p) else OPEN,
        ("a few directions bend far more than the rest", "half of the curvature or more lies in the other directions"),
        " ".join(words),
        "Σ of the largest |λ| / Σ |λ|; Σ of the largest λ / tr H",
        "Papyan 2018, arXiv:1811.07062",
    )


def _index(data: Known) -> Claim:
    share, loss, zero = resolved(data, "negative_share"), np.asarray(data["loss"], float), scalar(data, "zero_tolerance") or 0.0
    known = np.isfinite(share) & np.isfinite(loss)
    n = int(known.sum())
    hypothesis = "The higher the loss, the more directions bend down"
    origin = hypothesis, "a paper on critical points", "where descent comes to rest there is a valley, high up or low down."
    means = "the lower the loss, the fewer directions bend down", "the lower the loss, the more directions bend down"
    formula = f"share of λ < −{number(zero, 1)} λ_max, its rank correlation with the loss"
    source = "Dauphin et al. 2014, arXiv:1406.2572, of critical points"
    if n < laws.FEWEST:
        words = "Too few checkpoints have a share of negative eigenvalues that is known well enough."
        measured = f"{n} checkpoint{'s' if n != 1 else ''}"
        return Claim(*origin, measured, "half of a random matrix's are negative", OPEN, means, words, formula, source)
    correlation, bound = laws.rank_correlation(loss, share), laws.rank_correlation_bound(n)
    values, errors, ends = share[known], _errors(data, "negative_share")[known], np.flatnonzero(known)[[0, -1]]
    least, most = values.argmin(), values.argmax()
    apart = values[most] - values[least] > errors[most] + errors[least]  # else it may not change at all
    clear = math.isfinite(correlation) and abs(correlation) > bound and apart
    told = f"Rank correlation with the loss {number(correlation, 2)}" if math.isfinite(correlation) else "It does not change"
    return Claim(
        *origin,
        f"{_range(data, 'negative_share', ends[0])} below −{number(zero, 1)} λ_max at first, "
        f"{_range(data, 'negative_share', ends[1])} at the end",
        f"50 % of a random symmetric matrix; a rank correlation within ±{number(bound, 2)} of a share that drifts by chance",
        (HOLDS if correlation > 0 else FAILS) if clear else OPEN,
        means,
        f"{told} over {n} checkpoints. The law is of critical points; a path passes none.",
        formula,
        source,
    )


def _range(data: Known, name: str, place: int) -> str:
    """A share at a checkpoint: as a number where it was counted, between its bounds where it was estimated."""
    share, error = float(np.asarray(data[name])[place]), float(_errors(data, name)[place])
    if error <= ROUNDING:
        return percent(share)
    return f"{percent(max(0.0, share - error), 2)} to {percent(min(1.0, share + error), 2)}"


def _errors(data: Known, name: str) -> Array:
    return np.nan_to_num(np.asarray(data[f"{name}_error"], float))


def _step(data: Known, place: int) -> str:
    return f"{int(np.asarray(data['steps'])[place]):,}"
