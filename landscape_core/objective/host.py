"""What depends on the host and not on the method: used only where a self-check shows that it is exact, and reported apart."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def tuned(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Inside, float32 products on a CPU take the faster of two exact routes; LANDSCAPE_HOST_TUNING=0 leaves PyTorch's own."""
    if dtype != torch.float32 or device.type != "cpu" or not onednn_products():
        yield
        return
    setting = _products()
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before


@functools.cache
def onednn_products() -> bool:
    """Whether float32 matrix products may go through oneDNN instead of MKL, which runs AMD processors on its slow path.

    The switch that does it permits bfloat16; a processor without matrix tiles (AMX) still computes in float32, which is checked
    here against float64 before it is believed.
    """
    if os.environ.get("LANDSCAPE_HOST_TUNING", "1") == "0" or not torch.backends.mkldnn.is_available():
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


def facts() -> dict[str, bool]:
    """What is used of the host, for provenance."""
    return {"onednn_products": onednn_products()}


def _products() -> Any:
    return getattr(torch.backends.mkldnn, "matmul", None)
