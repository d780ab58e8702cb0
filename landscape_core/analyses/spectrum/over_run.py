"""The largest eigenvalues over the checkpoints of a run, beside the limit of stability of its optimiser."""

from __future__ import annotations

import numpy as np

from ...linalg import Lanczos
from ...measuring.context import Context
from ...measuring.growing import Running
from ...measuring.path import evenly, own_step
from .growing import SpectrumGrowing
from .kind import kind_of_pairs
from .spec import SpectrumSpec
from .trained import TRAINED, decay_beside


def over_run(spec: SpectrumSpec, context: Context) -> Running:
    """Top k and the smallest eigenvalue at every chosen checkpoint, each search warm-started from the one before.

    `eigenvalues_top` and `residuals_top` are those of the source's own checkpoint. NaN where a checkpoint is still to come.
    """
    path = context.path()
    objective = context.objective
    own = own_step(context)
    steps = evenly(path.steps, spec.checkpoints, path.steps[-1] if own is None else own)
    growing = SpectrumGrowing(spec, context, objective, exact=False)
    k, low = min(spec.k, growing.size), min(1, spec.k_bottom, growing.size - min(spec.k, growing.size))
    growing.expected = {f"step_{step}": 2.5 * k + 10 * low + 5 for step in steps}
    count = len(steps)
    series = {
        "eigenvalues_top_steps": np.full((count, k), np.nan),
        "residuals_top_steps": np.full((count, k), np.nan),
        "eigenvalue_bottom_steps": np.full(count, np.nan),
        "gradient_norm_steps": np.full(count, np.nan),
    }
    decay = decay_beside(growing)
    if decay:
        series[f"gradient_norm_steps{TRAINED}"] = np.full(count, np.nan)
    growing.resumed(series, steps=steps)
    growing.put(steps=np.array(steps), **series, **growing.stability_over(steps))
    thetas = dict(zip(path.steps, path.thetas, strict=True))
    start = None
    for i, step in enumerate(steps):
        if np.isfinite(series["eigenvalues_top_steps"][i]).all():
            growing.done[f"step_{step}"] = int(growing.state_of(f"step_{step}").get("products", 0))  # of an earlier attempt
            continue
        theta = thetas[step].to(objective.theta)
        operator = growing.operator(spec.operator, theta)
        search = Lanczos(operator, k, low, tolerance=spec.tolerance, seed=spec.seed, start=start)
        for products in search:
            growing.done[f"step_{step}"] = int(products)
        pairs = search.pairs()
        gradient = objective.gradient(theta)[growing.coordinates] + growing.shift * theta[growing.coordinates]
        series["eigenvalues_top_steps"][i] = pairs.top.cpu().numpy()
        series["residuals_top_steps"][i] = pairs.top_residuals.cpu().numpy()
        series["eigenvalue_bottom_steps"][i] = float(pairs.bottom[0]) if low else np.nan
        series["gradient_norm_steps"][i] = float(gradient.double().norm())
        if decay:
            trained = gradient + decay * theta[growing.coordinates]
            series[f"gradient_norm_steps{TRAINED}"][i] = float(trained.double().norm())
        start = pairs.top_vectors
        growing.put(**series)
        growing.keep(f"step_{step}", {"products": growing.done[f"step_{step}"]})
        yield growing.report(f"step {step:,}, {i + 1} of {count} checkpoints")
        growing.note(operator)
    at = steps.index(own) if own in steps else count - 1
    top, bottom = series["eigenvalues_top_steps"][at], series["eigenvalue_bottom_steps"][at]
    ends = np.array([bottom]) if low else np.zeros(0)
    gradient = float(series["gradient_norm_steps"][at])
    growing.put(
        classification=kind_of_pairs(growing, thetas[steps[at]], gradient, top, ends),
        eigenvalues_top=top,
        residuals_top=series["residuals_top_steps"][at],
    )
    if decay:
        growing.put(**{name + TRAINED: series[name] + decay for name in ("eigenvalues_top_steps", "eigenvalue_bottom_steps")})
    growing.close()
    return growing.arrays
