"""What is said of the centre of a slice: its loss, how sure that is, and the arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...drawing.known import Known, scalar
from ...drawing.numbers import number, percent, plus_minus
from ...drawing.statement import Reading, Verdict
from .spec import SurfaceSpec

TOLERANCE = {"float32": 1e-5, "float64": 1e-9}  # |fast - plain| / |plain|, besides what rounding of the outputs explains
EXACT = 1e-12  # of the loss: less is the last places of float64
PLACES = {
    "near": "between neighbouring points at the centre",
    "rim": "between neighbours at the rim",
    "far": "between the centre and the rim",
}


def center(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    """Loss and accuracy with their errors; differences that could be chance; the check against float64."""
    loss = scalar(data, "center_loss")
    size, error, accuracy = (scalar(data, n) for n in ("sample_size", "center_loss_standard_error", "center_accuracy"))
    if loss is not None and size is not None:
        words = f"{percent(accuracy)} of the targets are classified rightly. " if accuracy is not None else ""
        words += _chance(data)
        if error is None:
            words += _unknown(data)
        if spec.samples is not None:
            words += "At most so many samples are used as were asked for, the same for every checkpoint. "
        formula = "loss over the sample ± its standard error, from the losses of single samples"
        value = f"loss {number(loss, 4)}{plus_minus(error, loss)} on {size:,.0f} {spec.split} samples"
        if size == 1:
            value = value.removesuffix("s")
        words = words.strip() or "The loss of these weights."
        yield Reading("At the centre", value, words, formula, "", "note" if spec.samples is not None else "ok")
    yield from _arithmetic(data, spec)


def _chance(data: Known) -> str:
    """Which differences between points could be chance of the sample: from their own paired errors, near and far."""
    found = []
    for place, words in PLACES.items():
        error = scalar(data, f"difference_error_{place}")
        largest = max(_differences(data, place), default=0.0)
        if error is not None and error > 1e-9 * max(largest, abs(scalar(data, "center_loss") or 0.0)):
            found.append(f"{words} below {number(2 * error, 2)}")
    if not found:
        return ""
    listed = found[0] if len(found) == 1 else ", ".join(found[:-1]) + f" and {found[-1]}"
    return f"Differences {listed} could be chance of the sample (2 standard errors, of the same samples at both points). "


def _differences(data: Known, place: str) -> list[float]:
    """Sizes of the differences of a place."""
    if "differences" not in data:
        return []
    here = np.asarray(data["difference_places"]) == place
    sizes: list[float] = np.abs(np.asarray(data["differences"], dtype=float)[here]).tolist()
    return sizes


def _unknown(data: Known) -> str:
    """Why the loss has no standard error."""
    if scalar(data, "sample_size") == 1:
        return "One sample says nothing of its sampling error. "
    return "How far the loss would differ on another sample is unknown: single samples have no losses that make it up. "


def _arithmetic(data: Known, spec: SurfaceSpec) -> Iterator[Reading]:
    gap, reference, loss = (scalar(data, n) for n in ("center_deviation", "center_loss_reference", "center_loss"))
    if reference is None or loss is None:
        return
    kind = str(getattr(data, "provenance", {}).get("dtype") or spec.dtype or "float32")
    allowed = TOLERANCE.get(kind, TOLERANCE["float32"])
    rounding = scalar(data, "center_rounding") or 0.0
    size = abs(reference)
    wrong = abs(loss - reference) if gap is None else gap * size
    good = wrong <= allowed * size + rounding
    words = f"The picture's centre agrees with evaluating the network plainly in float64 ({number(reference, 6)})."
    if good and wrong > allowed * size:
        words = (
            f"In float64 the loss is {number(reference, 6)}: the difference is what rounding of the model's outputs in {kind} "
            "explains. For losses this small compute with dtype=float64."
        )
    elif not good:
        words = (
            f"The picture's centre differs from a plain float64 evaluation ({number(reference, 6)}) by more than rounding "
            "explains"
        ) + (": compute with dtype=float64." if kind != "float64" else ".")
    if wrong <= EXACT * size:
        value = "exact, but for rounding" if wrong else "exact"
    else:
        value = f"off by {number(wrong / size, 2)} of the loss" if size else f"off by {number(wrong, 2)}"
    formula = f"|L(fast) − L(plain)| / |L|, allowed {number(allowed, 1)} in {kind}, and rounding of the outputs"
    verdict: Verdict = "warn" if not good else "note" if wrong > allowed * size else "ok"
    yield Reading("Arithmetic", value, words, formula, "", verdict)
