"""Looking at the directory of a file of arrays before anything in it is inflated, unpickled or believed."""

from __future__ import annotations

import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np

from .base import InputError

Array = np.ndarray[Any, np.dtype[Any]]
DIRECTORY = 10**6  # bytes that say what is in a file: thousands of tensors, read in a moment and in little memory
SMALL, TIMES = 32 * 2**20, 20  # data of people shrink to a fifth, seldom a tenth; what unpacks to SMALL harms nobody
LOCAL_HEADER = 30  # bytes before the name and the content of an entry, at least
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def check_directory(size: int, name: str) -> None:
    """Raises InputError where a file spends more than DIRECTORY bytes on saying what is in it."""
    if size > DIRECTORY:
        raise InputError(
            f"{name} needs more than {DIRECTORY // 10**6} MB to say what is in it: "
            "save the weights or arrays alone, in fewer pieces"
        )


def check_unpacked(size: int, packed: int, name: str, remedy: str) -> None:
    """Raises InputError where `packed` bytes would become `size`, more than those of real data do."""
    if size > max(SMALL, TIMES * packed):
        raise InputError(
            f"{name} would become {size / 2**20:,.0f} MB, from {packed / 2**20:,.1f} MB; at most {TIMES} times its size is "
            f"believed, or {SMALL // 2**20} MB: {remedy}"
        )


def open_zip(file: BinaryIO, name: str) -> zipfile.ZipFile:
    """A zip archive, judged by its directory alone. Raises InputError where that is none to be trusted.

    Only what torch.save and numpy.savez write is taken, so that all readers see the same archive: nothing before or after it,
    no entry within another, none that unpacks to more than it may.
    """
    size = file.seek(0, 2)
    check_directory(_directory_size(file, size, name), name)
    damaged = InputError(f"{name} is damaged: the directory of the archive does not fit the file; save it again")
    try:
        archive = zipfile.ZipFile(file)
    except Exception:  # zipfile raises a dozen kinds for damaged files
        raise damaged from None
    end = archive.start_dir
    for entry in sorted(archive.infolist(), key=lambda item: -item.header_offset):
        stored = entry.compress_type == zipfile.ZIP_STORED
        if entry.compress_type not in METHODS or entry.flag_bits & 1 or (stored and entry.file_size != entry.compress_size):
            raise damaged
        if entry.header_offset + LOCAL_HEADER + entry.compress_size > end:
            raise damaged
        end = entry.header_offset
    check_unpacked(sum(entry.file_size for entry in archive.infolist()), size, name, "save it uncompressed")
    return archive


def _directory_size(file: BinaryIO, size: int, name: str) -> int:
    """Bytes of the directory, from the records at the end of the archive; the one for large archives counts if it is there."""
    file.seek(max(0, size - 98))
    tail = file.read().rjust(98, b"\0")
    large, pointer, last = struct.unpack("<4s36x2Q", tail[:56]), struct.unpack("<4s4xQ4x", tail[56:76]), tail[76:]
    mark, length, start, comment = struct.unpack("<4s8x2IH", last)
    end = size - 22
    if pointer[0] == b"PK\6\7":
        end = size - 98
        length, start = large[1:] if large[0] == b"PK\6\6" and pointer[1] == end else (0, 0)
    if mark != b"PK\5\6" or comment or start + length != end or end < 0:
        raise InputError(f"{name} is damaged or truncated: it does not end as an archive does; save it again")
    return int(length)


def read_npz(file: BinaryIO, name: str) -> dict[str, Array]:
    """The arrays in a `.npz` file, without pickle. Raises InputError naming `name`."""
    archive = open_zip(file, name)
    try:
        return {entry.filename.removesuffix(".npy"): _read_array(archive, entry, name) for entry in archive.infolist()}
    except InputError:
        raise
    except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged files
        fault = (
            "holds Python objects, which could run code" if "allow_pickle" in str(error) else "is damaged or not a .npz file"
        )
        raise InputError(f"{name} {fault}") from None


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Array:
    with archive.open(entry) as stream:
        beginning = stream.read(12)
    if beginning[6:7] > b"\1":  # of the first version a header is short
        check_directory(int.from_bytes(beginning[8:], "little"), name)
    with archive.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)  # asks for pieces: never unpacks more than that at once
