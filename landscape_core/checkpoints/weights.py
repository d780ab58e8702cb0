"""Reading and writing weights safely: our own safetensors files, and files of others that must not run code."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as format_safetensors
from torch import Tensor, nn

from ..specs import InputError
from ..specs.archives import DIRECTORY, check_directory, check_unpacked, open_zip
from ..specs.imports import WEIGHT_ENDINGS
from .home import write_atomically

PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning
NESTED = ("state_dict", "model_state_dict", "model")


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, as 64 hex digits, of names, dtypes, shapes and values; the order of the mapping does not matter."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_weights(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write the tensors as safetensors, whole or not at all; gives their fingerprint. Raises InputError."""
    # safetensors refuses tensors that share memory, as tied weights do: every one gets its own.
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, format_safetensors(own))
    return fingerprint(own)


def load_weights(path: Path, recorded: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name (sorted), on the CPU; with the fingerprint `recorded`, only if it is theirs.

    Raises InputError, one line naming the file, if it is missing, truncated, damaged or not the one recorded.
    """
    tensors = _parse(path)
    if recorded is not None and fingerprint(tensors) != recorded:
        raise InputError(f"{path} is not what was recorded: its weights were changed or damaged; record the run again")
    return tensors


def _parse(path: Path) -> dict[str, Tensor]:
    try:
        return dict(sorted(parse_safetensors(path.read_bytes()).items()))  # the library's order varies from call to call
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError):
        raise InputError(f"{path} is truncated or not a safetensors file") from None


def read_foreign(path: Path) -> dict[str, Tensor]:
    """The tensors in somebody else's file: .safetensors, or .pt/.pth/.ckpt read with `weights_only=True`.

    A state dict may lie under "state_dict", "model_state_dict" or "model". No code in the file is ever run.
    Raises InputError, one line, for an unreadable file and for a pickle that asks for anything but tensors.
    """
    if path.suffix.lower() not in WEIGHT_ENDINGS:
        raise InputError(f"{path}: unknown ending '{path.suffix}'; weights are read from {', '.join(WEIGHT_ENDINGS)}")
    content = _content(path)
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{path} holds no weights: it must be a state dict, as torch.save(model.state_dict(), path) writes")
    size = 0
    for name, value in tensors.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.device.type != "cpu":
            raise InputError(f"{path}: '{name}' is not a plain real tensor (sparse, quantised, complex or without values)")
        size += math.prod(value.shape) * value.element_size()
    # A file may hold many views of the same few values.
    check_unpacked(size, path.stat().st_size, str(path), "save a clone of each tensor")
    return {name: value.detach() for name, value in tensors.items()}


def _content(path: Path) -> Any:
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            beginning = file.read(8)
            if path.suffix.lower() == ".safetensors":
                length = int.from_bytes(beginning, "little")
                check_directory(length if length < path.stat().st_size else 0, str(path))
                return _parse(path)
            if beginning[:4] == b"PK\3\4":
                _check_archive(file, path)
                return torch.load(path, map_location="cpu", weights_only=True)
            with _Pickles(path) as old:  # as torch.save wrote it until 2020
                return torch.load(old, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:
        asked = re.search(r"(?:GLOBAL|function) ([\w.]+)", str(error))
        if "TorchScript" in str(error):
            fault = "refused: it is a TorchScript archive"
        elif asked and isinstance(error, pickle.UnpicklingError):
            fault = f"refused: it asks for '{asked[1]}', which could run code"
        else:
            raise InputError(f"{path} is damaged or not a PyTorch file") from None
        raise InputError(f"{path} is {fault}; save the weights alone with torch.save(model.state_dict(), path)") from None


def _check_archive(file: BinaryIO, path: Path) -> None:
    entries = open_zip(file, str(path)).infolist()
    check_directory(sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl")), str(path))
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" not in names and any(entry.compress_type for entry in entries):  # TorchScript has such entries
        raise InputError(
            f"{path} is compressed, which torch.save never does; save the weights alone with "
            "torch.save(model.state_dict(), path)"
        )


class _Pickles(io.BufferedReader):
    """A file whose values torch reads by its descriptor; of what it unpickles there is no more than a directory may have."""

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path))
        self.path, self.unpickled = path, 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._count(sys.maxsize if size is None or size < 0 else size)
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(DIRECTORY if size is None or size < 0 else size)
        self._count(len(line))
        return line

    def _count(self, size: int) -> None:
        self.unpickled += size
        if self.unpickled > DIRECTORY:
            check_directory(self.unpickled, str(self.path))


def match_state(tensors: Mapping[str, Tensor], model: nn.Module, path: Path | str) -> dict[str, Tensor]:
    """`tensors` under the names of `model.state_dict()`: the prefixes module., _orig_mod. and model. are taken off.

    Raises InputError, one line, listing the keys that are missing, unexpected or of another shape. Counters of BatchNorm
    (num_batches_tracked), which old files lack and no evaluation uses, may be missing.
    """
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        short = _stripped(name, wanted)
        if short in found:
            raise InputError(f"{path}: '{name}' and another key both stand for '{short}'")
        found[short] = value
    for name, value in wanted.items():
        if name.endswith("num_batches_tracked"):
            found.setdefault(name, value)
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    shaped = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    faults = [
        f"{word} {_listed(names)}"
        for word, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shaped))
        if names
    ]
    if faults:
        raise InputError(f"{path} does not fit the network: {'; '.join(faults)}")
    return {name: found[name] for name in wanted}


def _stripped(name: str, wanted: Mapping[str, Tensor]) -> str:
    short = name
    while short not in wanted:
        prefix = next((p for p in PREFIXES if short.startswith(p)), None)
        if prefix is None:
            break
        short = short[len(prefix) :]
    return short


def _listed(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
