"""The geometry of a run's path, checkpoint by checkpoint: what three-dimensional intuition says of it can then be measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...linalg import Quadrature, SpectralMeasure, basis, cosine, pca, random_walk_law, share
from ...linalg.measure import Function
from ...linalg.operators import generator
from ...measuring.context import Context, Trajectory
from ...measuring.growing import Growing, Running
from ...measuring.path import evenly, own_step, stored_statistics
from ...measuring.top_space import classes_of, dense_allowed, softmax_of
from ...objective import Objective
from ...specs import InputError
from .laws import depth_profile
from .spec import HighDimensionsSpec

SLOPES = (
    "loss",
    "gradient_norm",
    "cosine_position",
    "cosine_path",
    "cosine_remaining",
    "plane_share_path",
    "plane_share_random",
)
COUNTED = ("flat_share", "negative_share", "top_trace_share", "top_absolute_share")
CURVATURES = ("sharpness", *COUNTED, *(f"{name}_error" for name in COUNTED))
SLOPE_COST = 10.0  # of a loss with its gradient, in products of the Hessian with a vector: for the progress bar
DRAWS = 12  # of random layers, for what their law deviates by
VAGUE = 0.2  # relative error of an estimated trace from which on no share of it is given
PLAIN = (nn.Sequential, nn.Flatten, nn.Linear, nn.ReLU)  # of these the law of depth holds


def run(spec: HighDimensionsSpec, context: Context) -> Running:
    """The Result's arrays over the chosen checkpoints; yields them after each, NaN where one is still to come.

    Eigenvalues are counted at `curvature_steps` alone; the plane of the path is that of its two principal axes about its mean.
    """
    given = context.objective
    size = given.space.size
    exact = spec.exact(size)
    dense_allowed(exact, size)
    objective = context.double() if exact and spec.dtype is None else given
    before = objective.counts.copy()
    try:
        return (yield from _over_path(spec, context, objective, exact))
    finally:
        if objective is not given:
            given.counts.update(objective.counts - before)


def _over_path(spec: HighDimensionsSpec, context: Context, objective: Objective, exact: bool) -> Running:
    path = _chosen(spec, context)
    steps, thetas = list(path.steps), path.thetas.to(objective.theta)
    layers = [entry for entry in objective.space.entries if len(entry.shape) > 1]
    series = {name: np.full(len(steps), np.nan) for name in (*SLOPES, *CURVATURES)}
    series |= {"layer_gradient_norms": np.full((len(steps), len(layers)), np.nan)}
    size = objective.space.size
    growing = Growing(context, vector_bytes=size * objective.theta.element_size())
    resumed = growing.resumed(series, steps=steps)
    # From the end, so that one is the last.
    looked = [steps[i] for i in np.unique(np.linspace(len(steps) - 1, 0, spec.curvature).round().astype(int))]
    each = float(size if exact else spec.probes * min(spec.lanczos_steps, size))
    growing.note(*stored_statistics(spec, objective))
    growing.expected = {"slopes": SLOPE_COST * len(steps)} | {f"step_{step}": each for step in looked}
    plane, facts = _plane(path)
    planes = {"plane_share_path": plane, "plane_share_random": _random_plane(spec, thetas)}
    outputs = (objective.nature.scores or (2,))[-1]
    outliers = min(size, spec.k or max(1, outputs - 1))
    flat, zero = spec.tolerances(size)
    growing.put(parameters=size, sample_size=objective.size(), classes=classes_of(objective), softmax=softmax_of(objective))
    growing.put(
        steps=np.array(steps), curvature_steps=np.array(looked, dtype=int), outliers=outliers, **_lengths(thetas), **facts
    )
    growing.put(flat_tolerance=flat, zero_tolerance=zero)
    law = depth_law(objective, thetas[0])
    left = growing.partial.get("layer_law_deviation") if resumed else None
    spread = depth_deviation(objective, thetas[0], law, spec.seed) if left is None else float(left)
    growing.put(layer_names=np.array([entry.name for entry in layers]), layer_law=law, layer_law_deviation=spread, **series)
    for i, theta in enumerate(thetas):
        growing.done["slopes"] = int(SLOPE_COST * (i + 1))
        if np.isnan(series["loss"][i]):
            for name, value in _slope(objective, theta, thetas, planes).items():
                series[name][i] = value
            yield growing.report(f"gradients, {i + 1} of {len(steps)} checkpoints")
    for count, step in enumerate(looked):
        i, stage = steps.index(step), f"step_{step}"
        growing.done[stage] = int(growing.state_of(f"spent_{step}").get("products", 0))  # by an earlier attempt
        if np.isnan(series["flat_share"][i]) and np.isfinite(series["gradient_norm"][i]):
            words = f"eigenvalues at step {step:,}, {count + 1} of {len(looked)} checkpoints"
            found = yield from _counted(spec, growing, objective, stage, words, thetas[i], outliers, exact)
            for name, value in found.items():
                series[name][i] = value
            growing.keep(f"spent_{step}", {"products": growing.done[stage]})
            yield growing.report(words)
    growing.close(sum(count for stage, count in growing.done.items() if stage != "slopes"))
    return growing.arrays


def _chosen(spec: HighDimensionsSpec, context: Context) -> Trajectory:
    """The checkpoints that are looked at. Raises InputError where there is no path."""
    path = context.path()
    if len(path.steps) < 2:
        raise InputError("high_dimensions needs a path: this run has one checkpoint only; train a run, or import more steps")
    own = own_step(context)
    steps = evenly(path.steps, spec.checkpoints, path.steps[-1] if own is None else own)
    return Trajectory(tuple(steps), path.thetas[[path.steps.index(step) for step in steps]])


# -- the path itself -----------------------------------------------------------------------------------------------------


def _lengths(thetas: Tensor) -> dict[str, Any]:
    """What is known of the path without the loss; differences and norms in float64."""
    points = thetas.double()
    count = len(points)
    steps = points.diff(dim=0)
    turns = [cosine(steps[i - 1], steps[i]) if 0 < i < count - 1 else float("nan") for i in range(count)]
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").cpu().numpy()
    return {
        "theta_norm": points.norm(dim=1).cpu().numpy(),
        "displacement": distances[0],
        "remaining": distances[-1],
        "step_length": np.append(steps.norm(dim=1).cpu().numpy(), np.nan),
        "cosine_steps": np.array(turns),
        "distances": distances,
    }


def _plane(path: Trajectory) -> tuple[Tensor | None, dict[str, float]]:
    """The plane `(p, 2)` of the path's two principal axes about its mean, what it explains, and what of a random walk."""
    names = ("explained_variance", "explained_variance_null", "explained_variance_null_deviation")
    unknown = dict.fromkeys(names, float("nan"))
    if len(path.steps) < 3 or not bool(path.thetas.isfinite().all()):
        return None, unknown
    try:
        found = pca(path.thetas, 2, centered=True)
    except InputError:  # they lie on a line
        return None, unknown
    law = random_walk_law(np.array(path.steps), 2, path.thetas.shape[1], centered=True)
    return found.axes.to(path.thetas.device), dict(zip(names, (float(found.shares.sum()), *law), strict=True))


def _random_plane(spec: HighDimensionsSpec, thetas: Tensor) -> Tensor | None:
    """An orthonormal basis `(p, 2)` of a random plane; None in fewer than two dimensions."""
    size = thetas.shape[1]
    normal = torch.randn(size, 2, generator=torch.Generator().manual_seed(spec.seed), dtype=torch.float64)
    return basis(normal.to(thetas.device)) if size > 1 else None


# -- the loss along it ---------------------------------------------------------------------------------------------------


def _slope(objective: Objective, theta: Tensor, thetas: Tensor, planes: dict[str, Tensor | None]) -> dict[str, Any]:
    """Loss and gradient at one checkpoint, and how the gradient g lies."""
    gradient = objective.gradient(theta).double()
    parts = objective.space.split(gradient)
    return {
        "loss": objective.loss(theta),
        "gradient_norm": float(gradient.norm()),
        "cosine_position": cosine(gradient, theta),
        "cosine_path": cosine(-gradient, theta - thetas[0]),
        "cosine_remaining": cosine(-gradient, thetas[-1] - theta),
        **{name: float("nan") if plane is None else share(plane, gradient) for name, plane in planes.items()},
        "layer_gradient_norms": [float(part.norm()) for part in parts.values() if part.dim() > 1],
    }


def depth_law(objective: Objective, theta: Tensor) -> np.ndarray:
    """The expected profile `(layers,)` of gradient norms over a chain of ReLU layers with random weights as large as theta's.

    NaN for any other network: there the law says nothing.
    """
    parts = objective.space.split(theta.double())
    matrices = {name: part for name, part in parts.items() if part.dim() > 1}
    unknown = np.full(len(matrices), np.nan)
    modules = list(objective.network.model.modules())
    shapes = [(part.shape[0], part.shape[1]) for part in matrices.values()]
    linear = sum(isinstance(module, nn.Linear) for module in modules)
    relu = sum(isinstance(module, nn.ReLU) for module in modules)
    inputs = [batch.inputs for batch in objective.batches()]
    plain = all(type(module) in PLAIN for module in modules) and linear == relu + 1 == len(shapes)
    if not plain or not all(torch.is_tensor(x) for x in inputs):
        return unknown
    signal = float(sum(x.double().square().sum() for x in inputs)) / objective.size()
    biases = [parts.get(name.removesuffix("weight") + "bias") for name in matrices]
    squares = [float(part.square().sum()) for part in matrices.values()]
    if not signal > 0 or not all(np.isfinite(squares)) or min(squares) <= 0:
        return unknown
    return depth_profile(shapes, squares, [0.0 if b is None else float(b.square().sum()) for b in biases], signal)


def depth_deviation(objective: Objective, theta: Tensor, law: np.ndarray, seed: int) -> float:
    """How far such networks deviate from that law: of log(first / last hidden gradient norm), the root mean square over draws.

    Each draw has Gaussian weights and biases as large, layer by layer, as theta's, and the gradient of the loss itself. NaN
    where there is no law, or most draws have lost the gradient of a layer.
    """
    if not np.isfinite(law).all() or len(law) < 2:
        return float("nan")
    last = -2 if len(law) > 2 else -1
    expected, found = float(np.log(law[0]) - np.log(law[last])), []
    for i in range(DRAWS):
        source = generator(seed, i)
        parts = []
        for part in objective.space.split(theta.double()).values():
            drawn = torch.randn(part.shape, generator=source, dtype=torch.float64).to(part)
            parts.append((drawn * (part.norm() / drawn.norm())).reshape(-1))
        gradients = objective.space.split(objective.gradient(torch.cat(parts).to(theta)).double()).values()
        norms = [float(gradient.norm()) for gradient in gradients if gradient.dim() > 1]
        if norms[0] > 0 and norms[last] > 0:
            found.append(np.log(norms[0]) - np.log(norms[last]) - expected)
    return float(np.sqrt(np.mean(np.square(found)))) if 2 * len(found) > DRAWS else float("nan")


# -- its curvature -------------------------------------------------------------------------------------------------------


def _counted(
    spec: HighDimensionsSpec,
    growing: Growing,
    objective: Objective,
    stage: str,
    words: str,
    theta: Tensor,
    outliers: int,
    exact: bool,
) -> Running:
    """How many eigenvalues are flat and how many negative: exactly, or the middle of bounds by quadrature."""
    operator, size = objective.hessian(theta), len(theta)
    if exact:
        matrix = operator.dense().double()
        if not bool(matrix.isfinite().all()):
            growing.note("where the Hessian is not finite, eigenvalues are not counted")
            return {}
        values = torch.linalg.eigvalsh((matrix + matrix.T) / 2).cpu().numpy()
        growing.done[stage] = size
        nodes, weights = values[None], np.full((1, size), 1 / size)
    else:
        quadrature = Quadrature(
            operator, spec.probes, spec.lanczos_steps, seed=spec.seed, state=growing.state_of(stage) or None
        )
        yield from growing.drive(stage, words, quadrature)
        growing.keep(stage, {})  # the counts are all that is wanted of a finished checkpoint
        nodes, weights = quadrature.nodes, quadrature.weights
    growing.note(operator)
    return _shares(spec, nodes, weights, size, outliers, exact)


def _shares(spec: HighDimensionsSpec, nodes: Any, weights: Any, size: int, outliers: int, exact: bool) -> dict[str, float]:
    """Shares of eigenvalues by size and sign, from nodes and weights `(probes, m)` of the spectral measure."""
    norm = float(np.abs(nodes).max())
    flat, zero = (tolerance * norm for tolerance in spec.tolerances(size))
    sums: dict[str, tuple[float, float]] = {}
    functions: dict[str, Function] = {"trace": lambda t: t, "absolute": np.abs}
    if exact:
        counts = [(float(share),) * 2 for share in ((nodes < -flat).mean(), (nodes <= flat).mean(), (nodes < -zero).mean())]
        sums |= {name: (float(function(nodes).sum()), 0.0) for name, function in functions.items()}
    else:
        measure = SpectralMeasure(nodes, weights, size)
        counts = [measure.share_bounds(threshold) for threshold in (-flat, flat, -zero)]
        for name, function in functions.items():
            total = measure.total(function)
            sums[name] = (total.value, total.error)
    (below, beyond), (inside, above), (negative, most) = counts
    least = max(0.0, inside - beyond)
    # Ritz values approach eigenvalues from within, so the estimate of the top is from below: the largest of the probes.
    tops = {
        name: max(float(np.sort(row)[::-1][:outliers].sum()) for row in values)
        for name, values in (("trace", nodes), ("absolute", np.abs(nodes)))
    }
    found = {
        "sharpness": float(nodes.max()),
        "flat_share": (least + above - below) / 2,
        "flat_share_error": (above - below - least) / 2,
        "negative_share": (negative + most) / 2,
        "negative_share_error": (most - negative) / 2,
    }
    for name, (value, error) in sums.items():
        known = value > 0 and error < VAGUE * value
        part = tops[name] / value if known else float("nan")
        if name == "absolute" and known:
            part = min(part, 1.0)  # that they hold no more than all is sure, whatever is estimated
        found[f"top_{name}_share"] = part
        found[f"top_{name}_share_error"] = abs(part) * error / value if known else float("nan")
    return found
