"""Values with a seal: the CRC-32 of name and value stands before them, so that damage is found wherever it lies."""

from __future__ import annotations

import zlib

from .protocol import Value

BYTES, TEXT = b"LSv1", "crc "  # what a sealed value begins with


def seal(name: str, value: Value) -> Value:
    """The value as it is stored under `name`."""
    if isinstance(value, str):
        return f"{TEXT}{_sum(name, value.encode('utf-8', 'surrogatepass')):08x} {value}"
    return b"".join((BYTES, _sum(name, value).to_bytes(4, "big"), value))


def unseal(name: str, stored: Value) -> Value:
    """What was stored under `name`. Raises ValueError where it is not that. Results from before there were seals pass."""
    if isinstance(stored, str):
        if not stored.startswith(TEXT):
            return stored
        value: Value = stored[len(TEXT) + 9 :]
        if stored == seal(name, value):
            return value
    elif stored.startswith(b"PK"):  # a .npz, which has sums of its own
        return stored
    else:
        value = stored[len(BYTES) + 4 :]
        if stored[: len(BYTES) + 4] == BYTES + _sum(name, value).to_bytes(4, "big"):
            return value
    raise ValueError(f"the entry {name} is damaged")


def _sum(name: str, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(name.encode("utf-8", "surrogatepass")))
