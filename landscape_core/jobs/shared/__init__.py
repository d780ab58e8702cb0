"""What many processes share: named texts and bytes, behind one protocol."""

from __future__ import annotations

from pathlib import Path

from .folder import Folder
from .protocol import Shared


def open_shared(home: Path | str, name: str) -> Shared:
    """The shared store `name` under `home`. This is the one place that knows which implementation is used."""
    return Folder(Path(home) / name)
