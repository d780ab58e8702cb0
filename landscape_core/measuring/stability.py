"""Up to which curvature an optimiser is stable: on a quadratic, and only where that is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def stability(
    training: Mapping[str, Any], rate: float | None, *, whole: bool = True, decay_included: bool = False
) -> dict[str, Any]:
    """The largest eigenvalue at which the run's optimiser is stable on a quadratic, and what kind of statement that is.

    Gradient descent theta <- theta - lr g is stable while lambda < 2 / lr; heavy-ball v <- b v + g, theta <- theta - lr v while
    lambda < (2 + 2b) / lr (Cohen et al. 2021). Weight decay in the gradient adds to every eigenvalue, so it lowers the limit
    unless the eigenvalues include it. `rate` is the learning rate of the next step; `whole`, whether they are those of the
    loss which is trained on. Keys: `lr`, `stability_limit` (nan where none), `stability_kind` ("limit", "reference", "none"),
    `stability_rule`, `stability_words`.
    """
    none = {"lr": rate if rate is not None else float("nan"), "stability_limit": float("nan"), "stability_kind": "none"}
    if not training or rate is None:
        return none | {
            "stability_rule": "",
            "stability_words": "How these weights were trained is not known, so no limit is drawn.",
        }
    if training.get("optimizer") != "sgd":
        name = {"adam": "Adam", "adamw": "AdamW"}.get(str(training.get("optimizer")), "This optimiser")
        words = f"{name} rescales every direction by itself: it has no limit on the raw Hessian, and none is claimed."
        return none | {"stability_rule": "", "stability_words": words}
    if rate <= 0:
        return none | {"stability_rule": "", "stability_words": "The learning rate is zero here, so every curvature is stable."}
    momentum, decay = float(training.get("momentum") or 0.0), float(training.get("weight_decay") or 0.0)
    size, samples = int(training.get("batch_size") or 0), int(training.get("train_samples") or 0)
    rule = "(2 + 2β)/lr" if momentum else "2/lr"
    limit = (2 + 2 * momentum) / rate
    if decay and not decay_included:
        rule, limit = f"{rule} − weight decay", limit - decay
    if 0 < size < samples:
        kind = "reference"
        words = f"Mini-batches of {size} add noise: descent becomes unstable below this, so it is only a reference."
    elif not whole:
        kind, words = "reference", "This is not the loss that was trained on, so the limit is only a reference."
    else:
        kind, words = "limit", "Full-batch descent is stable below this on a quadratic."
    return {"lr": rate, "stability_limit": limit, "stability_kind": kind, "stability_rule": rule, "stability_words": words}
