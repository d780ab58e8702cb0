"""Up to which curvature an optimiser is stable: on a quadratic, and only where that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NAMES = {"adam": "Adam", "adamw": "AdamW"}


def stability(
    training: Mapping[str, Any],
    rate: float | None,
    *,
    differs: str = "",
    decay_included: bool = False,
    alone: bool = True,
) -> dict[str, Any]:
    """The largest eigenvalue at which the run's optimiser is stable on a quadratic, and what kind of statement that is.

    Gradient descent theta <- theta - lr g is stable while lambda < 2 / lr; heavy-ball v <- b v + g, theta <- theta - lr v while
    lambda < (2 + 2b) / lr (Cohen et al. 2021). Weight decay in the gradient adds to every eigenvalue, so it lowers the limit
    unless the eigenvalues include it. `rate` is the learning rate of the next step; `differs` says why the eigenvalues are not
    those of the loss which is trained on, if so (`path.not_trained_on`); `alone`, that no other checkpoint stands beside it.
    Keys: `lr`, `stability_limit` (nan where none), `stability_kind` ("limit", "reference", "none"), `stability_rule`,
    `stability_words`.
    """
    found = {"lr": rate if rate is not None else float("nan"), "stability_limit": float("nan")}
    none = found | {"stability_kind": "none", "stability_rule": ""}
    if not training or rate is None:
        return none | {"stability_words": "How these weights were trained is not known, so no limit is drawn."}
    optimizer = str(training.get("optimizer"))
    if optimizer != "sgd":
        name = NAMES.get(optimizer, "This optimiser")
        words = f"{name} rescales every direction by itself: it has no limit on the raw Hessian, and none is claimed."
        return none | {"stability_words": words if optimizer in NAMES else f"{name} is not known here, so no limit is claimed."}
    if not rate > 0:
        words = "The learning rate has come to 0 at this checkpoint: no step follows that a limit would be of."
        return none | {"stability_words": words}
    momentum, decay = float(training.get("momentum") or 0.0), float(training.get("weight_decay") or 0.0)
    rule = "(2 + 2β)/lr" if momentum else "2/lr"
    limit = (2 + 2 * momentum) / rate
    if decay and not decay_included:
        rule, limit = f"{rule} − weight decay", limit - decay
    size = minibatch(training)
    if size:
        kind, words = "reference", f"Mini-batches of {size} add noise: descent may be unstable below this, a reference only."
    elif differs:
        kind, words = "reference", f"{differs[0].upper()}{differs[1:]}, so the limit is a reference only."
    else:
        kind, words = "limit", "Full-batch descent is stable below this on a quadratic."
    if alone and training.get("schedule", "constant") != "constant":
        words += " The learning rate changes over the run: this is the limit of the step after this checkpoint."
    return found | {"stability_limit": limit, "stability_kind": kind, "stability_rule": rule, "stability_words": words}


def stability_over(training: Mapping[str, Any], rates: Sequence[float | None], **more: Any) -> dict[str, Any]:
    """The same over the checkpoints of a run, each at its own rate: `lr_steps` and `stability_limit_steps` `(t,)`.

    Kind, rule and words are those of the checkpoints that have a limit, where any has: a schedule that ends at 0 has one
    everywhere else.
    """
    items = [stability(training, rate, alone=False, **more) for rate in rates]
    told = next((item for item in items if item["stability_kind"] != "none"), items[-1])
    return {
        "lr_steps": np.array([item["lr"] for item in items]),
        "stability_limit_steps": np.array([item["stability_limit"] for item in items]),
        **{name: told[name] for name in ("stability_kind", "stability_rule", "stability_words")},
    }


def minibatch(training: Mapping[str, Any]) -> int:
    """Samples of the run's mini-batches; 0 where every step took all, or where it is not known."""
    size, samples = int(training.get("batch_size") or 0), int(training.get("train_samples") or 0)
    return 0 if samples and size >= samples else size


def trained_decay(training: Mapping[str, Any]) -> float:
    """The weight decay wd where L + wd/2 |theta|^2 is the loss that is trained: of SGD and Adam, which have it in the gradient.

    AdamW's is decoupled: it is a part of no loss.
    """
    return float(training.get("weight_decay") or 0.0) if training.get("optimizer") in ("sgd", "adam") else 0.0
