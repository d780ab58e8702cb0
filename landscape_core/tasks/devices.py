"""Where to compute: the text of a Spec's `device` field as a torch device."""

from __future__ import annotations

import os

import torch

from ..specs import InputError


def torch_device(name: str = "auto") -> torch.device:
    """The device named auto, cpu, mps, cuda or cuda:N; auto is $LANDSCAPE_DEVICE, a GPU, or the CPU. Raises InputError."""
    if name == "auto":
        name = os.environ.get("LANDSCAPE_DEVICE", "auto")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    if (device.index or 0) >= count:
        raise InputError(f"field 'device': there is no {name} here; use auto or cpu")
    return device
