"""What depends on the host and not on the method: used only where it changes no result, and reported apart."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
KEPT, LARGEST = 1 << 30, 32 << 20  # bytes: kept free at most, and the largest tensor (glibc allows no more)


@contextmanager
def tuned(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Inside, float32 products on a CPU take the faster of two exact routes, and freed memory is kept for the next tensors;
    LANDSCAPE_HOST_TUNING=0 leaves PyTorch's own ways.
    """
    if device.type == "cpu":
        kept_memory()
    if dtype != torch.float32 or device.type != "cpu" or not onednn_products():
        yield
        return
    _switch.turn(1)
    try:
        yield
    finally:
        _switch.turn(-1)


class _Switch:
    """PyTorch's setting for all threads: turned by the first that enters, turned back by the last that leaves."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, ""

    def turn(self, by: int) -> None:
        with self._lock:
            self._inside += by
            if by == self._inside == 1:
                self._before, _products().fp32_precision = _products().fp32_precision, "bf16"
            elif not self._inside:
                _products().fp32_precision = self._before


_switch = _Switch()


@functools.cache
def onednn_products() -> bool:
    """Whether float32 matrix products may go through oneDNN instead of MKL, which runs AMD processors on its slow path.

    The switch that does it permits bfloat16; a processor without matrix tiles (AMX) still computes in float32, which is checked
    here against float64 before it is believed.
    """
    if not _wanted() or not torch.backends.mkldnn.is_available():
        return False
    try:
        about = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    if "AuthenticAMD" not in about or "amx" in about or _products() is None:
        return False
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 512, generator=generator) for _ in range(2))
    exact = a.double() @ b.double().T
    setting = _products()
    before = setting.fp32_precision
    plain = (a @ b.T - exact).abs().max()
    setting.fp32_precision = "bf16"
    try:
        other = (a @ b.T - exact).abs().max()
    finally:
        setting.fp32_precision = before
    return bool(other <= 4 * plain)


@functools.cache
def kept_memory() -> bool:
    """Whether this process keeps up to 1 GiB that tensors gave back: first writes to new pages cost as much as arithmetic does.

    A setting of the GNU C library for the rest of the process's life, made at the first call; no other library has it.
    """
    if not _wanted() or platform.libc_ver()[0] != "glibc":
        return False
    try:
        library = ctypes.CDLL(None)
        return bool(library.mallopt(M_MMAP_THRESHOLD, LARGEST) and library.mallopt(M_TRIM_THRESHOLD, KEPT))
    except (OSError, AttributeError):
        return False


def facts() -> dict[str, bool]:
    """What is used of the host, for provenance."""
    return {"onednn_products": onednn_products(), "kept_memory": kept_memory()}


def _wanted() -> bool:
    return os.environ.get("LANDSCAPE_HOST_TUNING", "1") != "0"


def _products() -> Any:
    return getattr(torch.backends.mkldnn, "matmul", None)
