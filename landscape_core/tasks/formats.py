"""Parsers of the data files people have: IDX (MNIST), CIFAR-10 binary, `.npz`. Arrays in, InputError for anything else."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..specs import Array, InputError, archives

IMAGE_BYTES = 3 * 32 * 32


def read_idx(path: Path, ndim: int) -> Array:
    """The unsigned bytes of an IDX file of `ndim` dimensions, plain or gzipped.

    Format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each size as a big-endian 32-bit
    integer, then the values, last dimension fastest. Raises InputError naming the file.
    """
    data = _read(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != 8:
        raise InputError(f"{path} is not an IDX file of unsigned bytes (its first bytes are {data[:4].hex(' ') or 'missing'})")
    if data[3] != ndim:
        raise InputError(f"{path} has {data[3]} dimensions, not {ndim}: images and labels may be swapped")
    start = 4 + 4 * ndim
    if len(data) < start:
        raise InputError(f"{path} is truncated in its header")
    sizes = [int(size) for size in np.frombuffer(data, ">u4", ndim, 4)]
    wanted = math.prod(sizes)
    if len(data) - start != wanted:
        fault = "truncated" if len(data) - start < wanted else "too long"
        raise InputError(f"{path} is {fault}: its header promises {wanted} bytes of data, it has {len(data) - start}")
    if wanted == 0:
        raise InputError(f"{path} is empty: its header gives the sizes {sizes}")
    return np.frombuffer(data, np.uint8, wanted, start).reshape(sizes)


def read_idx_pair(folder: Path, part: str) -> tuple[Array, Array]:
    """Images (N, H, W) and labels (N,) of "train" or "t10k" in `folder`, under the usual names. Raises InputError."""
    images_file, labels_file = (
        _find(folder, [f"{part}-{kind}-idx{n}-ubyte", f"{part}-{kind}.idx{n}-ubyte"])
        for kind, n in (("images", 3), ("labels", 1))
    )
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise InputError(f"{images_file} has {len(images)} images but {labels_file.name} {len(labels)} labels")
    if labels.max() > 9:
        raise InputError(f"{labels_file} has the label {labels.max()}; labels go from 0 to 9")
    return images, labels


def read_cifar10(path: Path) -> tuple[Array, Array]:
    """Images (N, 3, 32, 32) and labels (N,) of a CIFAR-10 binary file: records of one label byte and 3072 pixel bytes.

    Raises InputError naming the file.
    """
    data = _read(path)
    if not data or len(data) % (1 + IMAGE_BYTES):
        raise InputError(
            f"{path} is truncated or not CIFAR-10 binary: its {len(data)} bytes are not whole records of {1 + IMAGE_BYTES}"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + IMAGE_BYTES)
    labels = records[:, 0]
    if labels.max() > 9:
        raise InputError(f"{path} is not CIFAR-10 binary: it has the label {labels.max()}; labels go from 0 to 9")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


def read_cifar10_folder(folder: Path) -> tuple[Array, Array, Array, Array]:
    """Training images and labels of all data_batch_*.bin in `folder` in order, then those of test_batch.bin."""
    inner = folder / "cifar-10-batches-bin"
    folder = inner if inner.is_dir() else folder
    parts = sorted([*folder.glob("data_batch_*.bin"), *folder.glob("data_batch_*.bin.gz")])
    if not parts:
        raise InputError(f"{folder} has no data_batch_1.bin: put the CIFAR-10 binary files there, or set path")
    images, labels = zip(*(read_cifar10(part) for part in parts), strict=True)
    test = read_cifar10(_find(folder, ["test_batch.bin"]))
    return np.concatenate(images), np.concatenate(labels), *test


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of a `.npz` file, without pickle; a folder must hold exactly one. Raises InputError naming the file."""
    if path.is_dir():
        files = sorted(path.glob("*.npz"))
        if len(files) != 1:
            raise InputError(f"{path} must hold exactly one .npz file (it has {len(files)}), or set path to the file")
        path = files[0]
    if not path.exists():
        raise InputError(f"there is no {path}: put a .npz file there, or set path")
    with _opened(path) as file:
        return archives.read_npz(file, str(path))


def _find(folder: Path, names: list[str]) -> Path:
    for name in names:
        for ending in ("", ".gz"):
            if (folder / (name + ending)).is_file():
                return folder / (name + ending)
    raise InputError(f"there is no {folder / names[0]} (or .gz): put the files there, or set path")


def _read(path: Path) -> bytes:
    """What a file holds, or what a `.gz` file unpacks to: as much as its end says, if that is not beyond belief."""
    with _opened(path) as file:
        if path.suffix != ".gz":
            return file.read()
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 4))
        promised = int.from_bytes(file.read(), "little")
        archives.check_unpacked(promised, size, str(path), "get it again if it is not whole, or gunzip it")
        file.seek(0)
        try:
            data = gzip.GzipFile(fileobj=file).read(promised + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise InputError(f"{path} is truncated or not a gzip file") from None
    if len(data) > promised:
        raise InputError(f"{path} becomes more than the {promised:,} bytes that its end promises: get it again, or gunzip it")
    return data


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
