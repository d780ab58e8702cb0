"""The limit of stability over a run, beside the largest eigenvalues: one line for every analysis that follows them."""

from __future__ import annotations

import numpy as np

from ..specs import Array
from .known import Known, text
from .numbers import counted, number, percent, span
from .sources import COHEN
from .statement import Reading

NAME = "Limit of stability"
NAMED = 6  # steps that a sentence lists


def limit_row(data: Known, top: Array, matrix: str = "") -> Reading:
    """How the largest eigenvalues `top (t,)` lie to the limits of their checkpoints, each at its own learning rate.

    `matrix` names what they are eigenvalues of where it is not the Hessian, for which the limit is.
    """
    steps, limit = np.asarray(data["steps"]), np.asarray(data["stability_limit_steps"], float)
    words, rule = text(data, "stability_words"), text(data, "stability_rule")
    known = np.isfinite(limit) & np.isfinite(top)
    if not known.any():
        return Reading(NAME, "none claimed", words, "", "", "note")
    rates = np.asarray(data["lr_steps"], float)
    low, high = (number(float(end(limit[known]))) for end in (np.min, np.max))
    words += f" {rule} = {span(low, high)}"
    slow, fast = (number(float(end(rates[known]))) for end in (np.min, np.max))
    words += f" over the run, at learning rates of {slow} to {fast}." if slow != fast else "."
    above = known & (top > limit)
    words += f" Above it: {_listed(steps[above])}." if above.any() else " No checkpoint lies above it."
    if (limit[known] > 0).all():
        nearest = int(np.flatnonzero(known)[(top[known] / limit[known]).argmax()])
        share = float(top[nearest] / limit[nearest])
        if share > 0:
            words += f" At step {steps[nearest]:,} the largest eigenvalue is {percent(share)} of the limit, the most of all."
    idle = np.isfinite(top) & (rates == 0)
    if idle.any():
        words += f" Where the learning rate is 0 ({_listed(steps[idle])}) no step follows, and no limit is drawn."
    if matrix:
        words += f" These are eigenvalues of {matrix}; the limit is for those of the Hessian."
    claimed = text(data, "stability_kind") == "limit" and not matrix
    value = f"{int(above.sum())} of {counted(int(known.sum()), 'checkpoint')} above"
    return Reading(NAME, value, words, rule, COHEN, "ok" if claimed else "note")


def _listed(steps: Array) -> str:
    names = [f"{step:,}" for step in steps[:NAMED]]
    more = f" and {steps.size - NAMED} more" if steps.size > NAMED else ""
    return f"step{'s' if steps.size > 1 else ''} {', '.join(names)}{more}"
