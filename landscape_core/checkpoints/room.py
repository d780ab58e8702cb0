"""What a job needs of memory and disk, held against what there is before it starts."""

from __future__ import annotations

import math
import shutil
from contextlib import suppress
from pathlib import Path

import psutil

from ..specs import InputError

SPARE = 0.1  # of what is free is left to the rest of the machine
GROUPS = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes that a process may still take: of the machine, or of the container if that has fewer."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no container, or one without a limit
        limit, used = (int((GROUPS / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, limit - used + _reclaimable())
    return max(free, 0)


def _reclaimable() -> int:
    """Bytes of the container that hold files and are given up when they are needed."""
    with suppress(OSError, ValueError):
        lines = dict(line.split() for line in (GROUPS / "memory.stat").read_text().splitlines())
        return int(lines["inactive_file"])
    return 0


def check_training(home: Path, parameters: int, itemsize: int, checkpoints: int, moments: int) -> None:
    """Raises InputError, one line, where a run's weights do not fit the memory or its checkpoints the disk.

    Memory: weights, gradient and `moments` vectors of the optimiser, as many again while a checkpoint is written; activations
    come on top. Disk: `checkpoints` times the weights, and the state that a killed training goes on from.
    """
    copy = parameters * itemsize
    needs = (3 + moments) * copy
    free = int((1 - SPARE) * free_memory())
    if needs > free:
        raise InputError(
            f"{parameters:,} parameters need {_size(needs)} of memory to be trained, and {_size(free)} are free: "
            "take a smaller network (widths, depth, width, dim)"
        )
    needs = (checkpoints + 1 + moments) * copy
    free = int((1 - SPARE) * shutil.disk_usage(home).free)
    if needs > free:
        raise InputError(
            f"{checkpoints:,} checkpoints of {parameters:,} parameters need {_size(needs)}, and {_size(free)} are free on the "
            "disk: record fewer (record) or take a smaller network"
        )


def _size(count: float) -> str:
    power = min(4, max(0, int(math.log10(max(count, 1)) // 3)))
    value, unit = count / 1000**power, ("bytes", "kB", "MB", "GB", "TB")[power]
    return f"{value:,.0f} {unit}" if value >= 10 or not power else f"{value:.1f} {unit}"
