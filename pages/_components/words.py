"""Names, spans of time and sizes in words; numbers are in `landscape_core.drawing.numbers`."""

from __future__ import annotations

_SPECIAL = {"lr": "learning rate", "sgd": "SGD", "pca": "PCA", "dtype": "arithmetic", "batchnorm": "BatchNorm"}


def humanise(name: str) -> str:
    """A field's name for people: `batch_size` -> "Batch size"."""
    words = " ".join(_SPECIAL.get(word, word) for word in name.replace("-", "_").split("_"))
    return words[:1].upper() + words[1:]


def duration(seconds: float) -> str:
    """A span of time in the one unit that suits it: "0.4 s", "12 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 0.001:
        return "less than 1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def size(count: float) -> str:
    """Bytes: "3.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
