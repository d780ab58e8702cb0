"""Time that setting the wall clock does not move: seconds since the machine started, the same in all of its processes."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import psutil


def clock() -> float:
    """Seconds since the machine started, those asleep included where the system counts them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def born(process: psutil.Process) -> float:
    """When a process started, on this clock. Raises psutil.NoSuchProcess.

    psutil's own `create_time` is reckoned from the wall clock: after that was set, every process looks like another.
    """
    try:
        text = Path(f"/proc/{process.pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            raise psutil.NoSuchProcess(process.pid) from None
        return float(process.create_time())  # no such file system
    return int(text.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


BOOT = _boot()  # which start of which machine: only within one do its seconds mean anything
