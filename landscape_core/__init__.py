"""Loss landscapes of trained networks, computed live: the public API. Names load on first use (PEP 562)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for the types of what loads on first use
    from .objective import Objective as Objective
    from .specs import Result as Result

_HOMES = {
    "Objective": "landscape_core.objective",
    "Result": "landscape_core.specs",
    "InputError": "landscape_core.specs",
    "Checkpoint": "landscape_core.jobs.compute",
    "compute": "landscape_core.jobs.compute",
    "figure": "landscape_core.presenting",
    "side_by_side": "landscape_core.presenting",
    "reading": "landscape_core.presenting",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'landscape_core' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
