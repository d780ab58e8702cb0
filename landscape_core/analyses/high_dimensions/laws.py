"""Exact laws of random vectors, matrices and walks: what chance alone gives in d dimensions, beside which a measurement stands.

Logarithms are natural. Without torch, and scipy only where a quantile is asked for: the web server draws these laws itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from ...specs import Array, InputError

FEWEST = 7  # points from which on a perfect order is rarer by chance than 1 in 30
LARGE = 1e4  # dimensions from which on a series is more precise than a difference of logarithms of the Gamma function


def _positive(name: str, value: float, least: float) -> None:
    if not (math.isfinite(value) and value >= least):
        raise InputError(f"{name} must be a number of at least {least:g} (got {value:g})")


# -- angles: cos^2 of two random vectors is Beta(1/2, (d - 1)/2) ---------------------------------------------------------


def cosine_deviation(d: float) -> float:
    """Standard deviation of the cosine between two random vectors in d dimensions: exactly 1/sqrt(d)."""
    _positive("dimensions", d, 1)
    return 1 / math.sqrt(d)


def mean_cosine(d: float) -> float:
    """E|cos| = Gamma(d/2) / (sqrt(pi) Gamma((d + 1)/2)), about sqrt(2 / (pi d))."""
    _positive("dimensions", d, 1)
    return math.sqrt(2 / math.pi) / norm_mean(d)


def cosine_bound(d: float, share: float = 0.99) -> float:
    """The c that |cos| of two random vectors stays below with probability `share`."""
    _positive("dimensions", d, 1)
    if d == 1:
        return 1.0
    from scipy.special import betaincinv  # half a second that the start of the web server does without

    return math.sqrt(float(betaincinv(0.5, (d - 1) / 2, share)))


def angle_density(angles: Array, d: float) -> Array:
    """Density of the angle between two random vectors at `angles` (radians), relative to that of a right angle: sin^(d-2)."""
    _positive("dimensions", d, 2)
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        return np.where(d == 2, 1.0, np.exp((d - 2) * np.log(np.sin(angles))))


# -- planes: the share of a random vector in k dimensions is Beta(k/2, (d - k)/2) ----------------------------------------


def plane_share(k: float, d: float) -> float:
    """Mean share |Pv|^2 / |v|^2 of a random vector in a k-dimensional subspace of d dimensions: k/d."""
    _positive("dimensions", d, max(1.0, k))
    return k / d


def plane_share_bounds(k: float, d: float, share: float = 0.99) -> tuple[float, float]:
    """What such a share lies between with probability `share`, each side missing half of the rest."""
    _positive("dimensions", d, max(1.0, k))
    if k == d:
        return 1.0, 1.0
    from scipy.special import betaincinv

    low, high = (float(betaincinv(k / 2, (d - k) / 2, q)) for q in ((1 - share) / 2, (1 + share) / 2))
    return low, high


# -- shells: the norm of a standard normal vector is chi with d degrees of freedom ---------------------------------------


def norm_mean(d: float) -> float:
    """Mean norm of a standard normal vector: sqrt(2) Gamma((d + 1)/2) / Gamma(d/2), about sqrt(d)."""
    _positive("dimensions", d, 1)
    if d < LARGE:
        return math.sqrt(2) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    return math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (32 * d**2) + 5 / (128 * d**3))


def norm_deviation(d: float) -> float:
    """Standard deviation of that norm: it does not grow with d, but tends to 1/sqrt(2)."""
    if d < LARGE:
        return math.sqrt(d - norm_mean(d) ** 2)
    _positive("dimensions", d, 1)
    return math.sqrt(0.5 - 1 / (8 * d) - 1 / (16 * d**2))


def shell_width(d: float) -> float:
    """Relative thickness of the shell that random vectors lie in: standard deviation of the norm over its mean."""
    return norm_deviation(d) / norm_mean(d)


def outer_share(thickness: float, d: float) -> float:
    """Share of a ball's volume within the outermost `thickness` (a share of the radius): 1 - (1 - thickness)^d."""
    _positive("dimensions", d, 1)
    return 1.0 if thickness >= 1 else -math.expm1(d * math.log1p(-thickness))


def outer_half(d: float) -> float:
    """Thickness (a share of the radius) of the outermost layer of a ball that holds half of its volume: 1 - 2^(-1/d)."""
    _positive("dimensions", d, 1)
    return -math.expm1(-math.log(2) / d)


# -- volumes and corners, in logarithms ----------------------------------------------------------------------------------


def log_volume_ratio(excess: float, d: float) -> float:
    """Logarithm of the ratio of two volumes of one shape, the first radius larger by the share `excess` x: d log(1 + x)."""
    _positive("dimensions", d, 1)
    if not excess > -1:
        raise InputError(f"a radius is larger by a share above -1 (got {excess:g})")
    return d * math.log1p(excess)


def log_ball_volume(d: float, radius: float = 1.0) -> float:
    """Logarithm of the volume of a ball: pi^(d/2) r^d / Gamma(d/2 + 1)."""
    _positive("dimensions", d, 1)
    return d / 2 * math.log(math.pi) + d * math.log(radius) - math.lgamma(d / 2 + 1)


def cube_diagonal(d: float, side: float = 1.0) -> float:
    """Length of the diagonal of a cube, in the unit of its side: side sqrt(d)."""
    _positive("dimensions", d, 1)
    return side * math.sqrt(d)


def log_inscribed_share(d: float) -> float:
    """Logarithm of the share of a cube's volume within the ball that touches its walls; the rest is in the corners."""
    return log_ball_volume(d, 0.5)


# -- depth: products of random matrices ----------------------------------------------------------------------------------


def log_gain(layers: float, width: float) -> tuple[float, float]:
    """Mean and variance of log |J v|^2 - log |v|^2, J a product of Gaussian matrices (width, width) of variance 1/width.

    layers (psi(n/2) + log(2/n)), about -layers/n; and layers psi'(n/2): depth over width decides, not depth alone.
    """
    _positive("width", width, 1)
    from scipy.special import digamma, polygamma

    half = width / 2
    mean = float(digamma(half)) - math.log(half) if width < LARGE else -1 / width - 1 / (3 * width**2)
    return layers * mean, layers * float(polygamma(1, half))


def depth_profile(
    shapes: Sequence[tuple[int, int]], weights: Sequence[float], biases: Sequence[float], signal: float, slope: float = 0.5
) -> Array:
    """Expected gradient norm of each layer's weights `(layers,)`, the last one's as 1, in a chain of random layers.

    Mean field: |h_l|^2 = slope (|W_l|^2 |h_(l-1)|^2 / inputs + |b_l|^2) forward and |delta_(l-1)|^2 = slope |W_l|^2
    |delta_l|^2 / outputs back; the gradient is |delta_l| |h_(l-1)|. `shapes` are (outputs, inputs), `weights` and `biases`
    squared norms, `signal` the mean squared norm of an input, `slope` the mean squared slope of the activation (ReLU: 1/2).
    Schoenholz et al. 2017, arXiv:1611.01232. In logarithms: a hundred layers may shrink it below the smallest number.
    """
    below = [math.log(signal)]
    for (_, inputs), weight, bias in zip(shapes[:-1], weights[:-1], biases[:-1], strict=True):
        scaled = math.log(weight / inputs) + below[-1]
        below.append(math.log(slope) + float(np.logaddexp(scaled, math.log(bias) if bias > 0 else -math.inf)))
    above = [0.0]
    for (outputs, _), weight in zip(reversed(shapes[1:]), reversed(weights[1:]), strict=True):
        above.append(above[-1] + math.log(slope * weight / outputs))
    squares = np.array(below) + np.array(above[::-1])
    found: Array = np.exp((squares - squares[-1]) / 2)
    return found


# -- spectra and order ---------------------------------------------------------------------------------------------------


def semicircle_share(tolerance: float) -> float:
    """Share of a large random symmetric matrix's eigenvalues within `tolerance` e times the largest, about 4 e / pi.

    Wigner's semicircle: (2/pi) (asin e + e sqrt(1 - e^2)).
    """
    e = min(1.0, max(0.0, tolerance))
    return 2 / math.pi * (math.asin(e) + e * math.sqrt(1 - e * e))


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's rank correlation of two series `(n,)` over the places where both are known; NaN for fewer than three.

    Of unrelated series without memory its mean is 0 and its standard deviation 1/sqrt(n - 1); for others see
    `rank_correlation_bound`.
    """
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3:
        return float("nan")
    ranks = [_ranks(np.asarray(x, float)[known]) for x in (a, b)]
    spread = [rank - rank.mean() for rank in ranks]
    size = math.sqrt(float((spread[0] ** 2).sum() * (spread[1] ** 2).sum()))
    return float((spread[0] * spread[1]).sum()) / size if size else float("nan")


@cache
def rank_correlation_bound(n: int, share: float = 0.97) -> float:
    """What |rank correlation| with a series that only falls stays below with probability `share`, of one that drifts by chance.

    A path has a memory: what drifts by chance (a Gaussian random walk of n points) is often ordered, which independent values
    are not. By 4000 walks, the same ones at every call; 1 for so few points that even a perfect order is no proof.
    """
    if n < FEWEST:
        return 1.0
    ranks = np.random.default_rng(0).standard_normal((4000, n)).cumsum(1).argsort(1).argsort(1) - (n - 1) / 2
    found = np.abs(ranks @ (np.arange(n) - (n - 1) / 2)) / (n * (n * n - 1) / 12)
    return min(float(np.quantile(found, share)), 1 - 1e-9)


def walk_slope_deviation(steps: Array, p: float) -> float:
    """Standard deviation of the fitted power of the steps that the way of a random walk in p dimensions grows with.

    The way |theta_t - theta_0| is sqrt(t) (1 + e_t) with cov(e_s, e_t) = s / (2 p t) for s <= t, so e is small in many
    dimensions; the fit is a straight line through the logarithms at these steps.
    """
    _positive("dimensions", p, 1)
    t, x = np.asarray(steps, float), np.log(np.asarray(steps, float))
    weights = (x - x.mean()) / np.square(x - x.mean()).sum()
    covariance = np.minimum.outer(t, t) / np.maximum.outer(t, t) / (2 * p)
    return float(math.sqrt(weights @ covariance @ weights))


def _ranks(values: Array) -> Array:
    """Ranks from 0, equal values sharing the mean of theirs."""
    order = np.sort(values)
    found: Array = (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right") - 1) / 2
    return found
