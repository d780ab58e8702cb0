"""A door for notebooks of before: `from landscape_core.figures.surface import surface_figure` works, and says what to write.

Each analysis was drawn by a function of its own here; now `landscape_core.figure(result, **view)` draws any.
"""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any

from ..analyses import ANALYSES, analysis

RENAMED = {"show_path": "path", "show_flow": "flow", "show_walk": "walk", "value_range": "limits"}  # of the surface's options


def _door(name: str) -> ModuleType:
    def figure(result: Any, **options: Any) -> Any:
        warnings.warn(
            f"landscape_core.figures.{name}.{name}_figure goes away; write landscape_core.figure(result, ...)",
            FutureWarning,
            stacklevel=2,
        )
        draw = analysis(name).part("figure", "figure")
        assert draw is not None
        return draw(result, **{RENAMED.get(option, option): value for option, value in options.items()})

    module = ModuleType(f"{__name__}.{name}", __doc__)
    setattr(module, f"{name}_figure", figure)
    return module


for _item in ANALYSES.values():
    sys.modules[f"{__name__}.{_item.name}"] = _door(_item.name)
