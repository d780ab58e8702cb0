"""What is said of high-dimensional training, against this run: by whom, intuition, measured value, chance, meaning."""

from __future__ import annotations

import math

import numpy as np

from ...drawing.known import Known, scalar
from ...drawing.numbers import counted, number
from ...drawing.statement import Reading
from .claim import Claim
from .curvature_claims import curvature, depth
from .path_claims import angles, lengths, planes
from .spec import HighDimensionsSpec


def reading(data: Known, spec: HighDimensionsSpec) -> list[Reading]:
    """The claims as the certificate of a finished run, and what it rests on."""
    chance, *rest = panel(data, spec)
    return [chance, *[claim.reading() for claim in claims(data)], *rest]


def claims(data: Known) -> list[Claim]:
    """All claims that the result has the numbers for."""
    return [claim for part in (angles, lengths, planes, depth, curvature) for claim in part(data)]


def panel(data: Known, spec: HighDimensionsSpec) -> list[Reading]:
    """What the claims rest on, for the page, where they stand in a table beside it."""
    p, size, count = scalar(data, "parameters"), scalar(data, "sample_size"), np.size(data["steps"])
    told = [note for note in np.atleast_1d(np.asarray(data.get("notes", []))).tolist() if note]
    return [
        Reading(
            "Chance",
            f"cos = 0 ± {number(1 / math.sqrt(p or 1), 2)}",
            f"{counted(p or 0, 'parameter')}: what two random vectors would have. "
            f"{counted(count, 'checkpoint')}; loss and gradient over {counted(size or 0, f'{spec.split} sample')}.",
            "cos² ~ Beta(1/2, (p − 1)/2), standard deviation exactly 1/√p",
        ),
        *[Reading("Note", "", note[:1].upper() + note[1:], verdict="note") for note in told],
        Reading(
            "What this does not show",
            "",
            "Angles and lengths are of the parametrisation: rescaling layers changes them even where it does not change the "
            "function. The last checkpoint is where training stopped, not a minimum. One run is one draw.",
            verdict="note",
        ),
    ]
