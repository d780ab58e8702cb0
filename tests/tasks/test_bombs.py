"""Files that would become far more than they are: refused in one line, by what they say of themselves, in little memory."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from landscape_core.checkpoints.weights import read_foreign
from landscape_core.specs import InputError, task_spec, unpack
from landscape_core.tasks.formats import read_cifar10, read_idx, read_npz
from landscape_core.tasks.importing import run_of_file

MEMORY = 64 * 2**20
BOMB = 256 * 2**20  # bytes that a bomb really unpacks to
CENTRAL, LOCAL, END = b"PK\1\2", b"PK\3\4", b"PK\5\6"


def memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def refused(read: Callable[[Path], object], file: Path, words: str) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here on
    before = memory("VmRSS")
    with pytest.raises(InputError, match=words) as error:
        read(file)
    assert memory("VmHWM") - before < MEMORY
    assert file.name in str(error.value)
    assert "\n" not in str(error.value)


def zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // 2**20):
        yield bytes(2**20)


def npy(shape: tuple[int, ...]) -> bytes:
    """The header of a `.npy` file of bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def compressed_zeros(file: Path, size: int = BOMB, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A `.npz` file with the array x of `size` zeros, written piece by piece."""
    with zipfile.ZipFile(file, "w", method) as archive, archive.open("x.npy", "w") as entry:
        entry.write(npy((size,)))
        for piece in zeros(size):
            entry.write(piece)
    return file.read_bytes()


def changed(data: bytes, mark: bytes, at: int, value: int, form: str = "<I", which: int = 0) -> bytes:
    """The archive with a number replaced, `at` bytes after the beginning of the record `mark` (the `which`th of them)."""
    place = -1
    for _ in range(which + 1):
        place = data.index(mark, place + 1)
    place += at
    return data[:place] + struct.pack(form, value) + data[place + struct.calcsize(form) :]


def flood(names: int, length: int = 0) -> bytes:
    """An archive whose directory lists one empty entry under so many names of at least `length` letters."""
    local = struct.pack("<4s5H3I2H", LOCAL, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    texts = [b"%0*x" % (length, index) for index in range(names)]
    headers = [struct.pack("<4s6H3I5H2I", CENTRAL, 20, 20, *[0] * 7, len(text), *[0] * 6) + text for text in texts]
    directory = b"".join(headers)
    count = min(names, 0xFFFF)
    return local + directory + struct.pack("<4s4H2IH", END, 0, 0, count, count, len(directory), len(local), 0)


def twice(data: bytes) -> bytes:
    """The archive with the last entry of its directory listed once more: two entries that are the same bytes."""
    end = data.index(END)
    length, start = struct.unpack("<2I", data[end + 12 : end + 20])
    entry = data[data.rindex(CENTRAL) : end]
    return data[:end] + entry + data[end : end + 12] + struct.pack("<2IH", length + len(entry), start, 0)


def stored(file: Path, **contents: bytes) -> bytes:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.read_bytes()


# -- arrays -----------------------------------------------------------------------------------------------------------

BELIEVED = "at most 20 times its size is believed, or 32 MB: save it uncompressed"
DAMAGED = "is damaged"


def npz_bombs(file: Path) -> Iterator[tuple[str, bytes, str]]:
    data = compressed_zeros(file)
    yield "bomb", data, BELIEVED
    small = compressed_zeros(file, 2**20)
    yield "declares 4 GB", changed(small, CENTRAL, 24, 2**32 - 2), BELIEVED
    yield "declares little", changed(data, CENTRAL, 24, 1000), DAMAGED
    yield "declares little, names it all", changed(changed(data, CENTRAL, 24, 2**20), LOCAL, 22, 2**20), DAMAGED
    yield "entries within one another", twice(small), DAMAGED
    plain = stored(file, **{"x.npy": npy((4,)) + bytes(4), "y.npy": npy((4,)) + bytes(4)})
    yield "an entry that begins in another", changed(plain, CENTRAL, 42, 40, which=1), DAMAGED
    yield "an entry that ends in another", changed(changed(plain, CENTRAL, 20, 200), CENTRAL, 24, 200), DAMAGED
    yield "stored, and less than declared", changed(plain, CENTRAL, 24, 10**7), DAMAGED
    yield "a shape of 10^15", stored(file, **{"x.npy": npy((10**5, 10**5, 10**5)) + bytes(10)}), DAMAGED
    yield "a shape beyond numbers", stored(file, **{"x.npy": npy((2**62, 2**62)) + bytes(10)}), DAMAGED
    header = b"\x93NUMPY\2\0" + struct.pack("<I", 30 * 2**20) + b" " * 30 * 2**20
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header)
    yield "a header of 30 MB", file.read_bytes(), "needs more than 1 MB to say what is in it"
    yield "a million names", flood(10**6), "needs more than 1 MB to say what is in it"
    yield "long names", flood(100, 60_000), "needs more than 1 MB to say what is in it"
    yield "100 names of one entry", flood(100), DAMAGED
    yield "another compression", compressed_zeros(file, 2**20, zipfile.ZIP_LZMA), DAMAGED
    yield "encrypted", changed(plain, CENTRAL, 8, 1, "<H"), DAMAGED
    yield "something before it", b"x" * 100 + plain, DAMAGED
    yield "something after it", plain + b"x" * 100, DAMAGED
    yield "another archive after it", plain + data, DAMAGED
    yield "no directory", plain[: plain.index(CENTRAL)] + plain[plain.index(END) :], DAMAGED
    pointer = struct.pack("<4sIQI", b"PK\6\7", 0, len(plain), 1)
    yield "a second directory elsewhere", plain[: plain.index(END)] + bytes(56) + pointer + plain[plain.index(END) :], DAMAGED


@pytest.mark.fault(
    "A small file of arrays that would become a huge one",
    sees="One line: what it would become, and to save it uncompressed",
    lost="Nothing",
    on="It is saved anew",
)
def test_arrays_that_are_bombs(tmp_path: Path) -> None:
    for name, data, words in npz_bombs(tmp_path / "made.npz"):
        file = tmp_path / f"{name}.npz"
        file.write_bytes(data)
        refused(read_npz, file, words)
        refused(lambda file: unpack(file.read_bytes(), str(file)), file, words)


def test_arrays_that_are_none_are_read_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {
        "images": np.random.default_rng(0).integers(0, 4, (500, 28, 28), dtype=np.uint8),
        "mask": np.zeros((3000, 1000)),  # shrinks to a thousandth
        "text": np.array("x" * 10**6),
        "none": np.zeros((0, 3)),
        "one": np.array(1.5),
    }
    for save, limit in ((np.savez, 2**31), (np.savez_compressed, 2**31), (np.savez_compressed, 100)):
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)  # above it the records are those of large archives
        save(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
        assert (b"PK\6\7" in (tmp_path / "a.npz").read_bytes()[-98:]) == (limit == 100)
        read = read_npz(tmp_path / "a.npz")
        assert list(read) == list(arrays)
        assert all(np.array_equal(read[name], value) and read[name].dtype == value.dtype for name, value in arrays.items())


# -- what is gzipped --------------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "Gzipped data that are a bomb or lie of their size",
    sees="One line: what they become, and to gunzip them",
    lost="Nothing",
    on="They are unpacked first",
)
@pytest.mark.parametrize("read", [lambda file: read_idx(file, 1), read_cifar10])
@pytest.mark.parametrize("kind", ["bomb", "bomb of two parts", "says that it is small", "says that it is large"])
def test_gzipped_data_that_are_bombs(tmp_path: Path, read: Callable[[Path], object], kind: str) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="w") as made:
        made.write(b"\0\0\x08\x01" + struct.pack(">I", BOMB))
        for piece in zeros(BOMB):
            made.write(piece)
    data = buffer.getvalue()
    content, words = {
        "bomb": (data, "would become 256 MB, from 0.2 MB; .*gunzip it"),
        "bomb of two parts": (data + gzip.compress(b"x"), "becomes more than the 1 bytes that its end promises"),
        "says that it is small": (
            data[:-4] + struct.pack("<I", 5000),
            "becomes more than the 5,000 bytes that its end promises",
        ),
        "says that it is large": (data[:-4] + struct.pack("<I", 2**32 - 1), "would become 4,096 MB, from 0.2 MB"),
    }[kind]
    (tmp_path / "x.gz").write_bytes(content)
    refused(read, tmp_path / "x.gz", words)


# -- weights ----------------------------------------------------------------------------------------------------------


def saved(file: Path, content: Any, legacy: bool = False) -> bytes:
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.read_bytes()


def rezipped(file: Path, method: int) -> bytes:
    """The archive that torch wrote, written again by somebody else."""
    with zipfile.ZipFile(file) as archive:
        contents = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.read_bytes()


def weight_bombs(file: Path) -> Iterator[tuple[str, bytes, str]]:
    saved(file, {"a": torch.zeros(BOMB // 4)})
    data = rezipped(file, zipfile.ZIP_DEFLATED)
    yield "bomb", data, BELIEVED
    saved(file, {"a": torch.zeros(10), "b": torch.zeros(20)})
    yield (
        "compressed",
        rezipped(file, zipfile.ZIP_DEFLATED),
        "is compressed, which torch.save never does; save the weights alone",
    )
    plain = rezipped(file, zipfile.ZIP_STORED)
    huge = changed(changed(plain, CENTRAL, 20, 2**32 - 2, which=3), CENTRAL, 24, 2**32 - 2, which=3)
    yield "declares 4 GB", huge, DAMAGED
    yield "declares 10 MB", changed(plain, CENTRAL, 24, 10**7, which=3), DAMAGED
    yield "entries within one another", twice(plain), DAMAGED
    yield "a million names", flood(10**6), "needs more than 1 MB to say what is in it"
    yield "something after it", plain + b"x", DAMAGED
    one = torch.zeros(1)
    for legacy in (False, True):
        names = saved(file, {f"{index:0100}": one for index in range(10**5)}, legacy)
        yield f"names of one tensor, legacy {legacy}", names, "needs more than 1 MB to say what is in it: save the weights"
        large = torch.zeros(2**18)
        views = saved(file, {str(index): large for index in range(100)}, legacy)
        yield f"views of one tensor, legacy {legacy}", views, "would become 100 MB, from 1.0 MB.*save a clone of each tensor"
        tall = saved(file, {"a": torch.zeros(1).expand(2**40, 2**20)}, legacy)
        yield f"a view of 4 EB, legacy {legacy}", tall, "would become 4,398,046,511,104 MB"
    old = saved(file, {"a": torch.zeros(77)}, legacy=True)
    number = old.index(b"K\x4d")  # how many values are stored
    yield "legacy that declares 8 GB", old[:number] + b"J" + struct.pack("<i", 2 * 10**9) + old[number + 2 :], DAMAGED
    yield "legacy, one line of 100 MB", b"\x80\x02c" + b"x" * 100 * 2**20, "needs more than 1 MB to say what is in it"
    yield "legacy, empty things", b"\x80\x02" + b"]" * 100 * 2**20, "needs more than 1 MB to say what is in it"
    yield (
        "legacy, a text of 2 GB",
        b"\x80\x02X" + struct.pack("<I", 2**31 - 1) + b"x",
        "needs more than 1 MB to say what is in it",
    )


@pytest.mark.fault(
    "Weights that are compressed, of a million names, or of entries within each other",
    sees="One line: what is wrong, and how to save them",
    lost="Nothing",
    on="They are saved anew",
)
@pytest.mark.parametrize("ending", [".pt", ".ckpt"])
def test_weights_that_are_bombs(tmp_path: Path, ending: str) -> None:
    for name, data, words in weight_bombs(tmp_path / "made.pt"):
        file = tmp_path / f"{name}{ending}"
        file.write_bytes(data)
        refused(read_foreign, file, words)


def test_a_view_is_not_unfolded_to_find_its_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(1).expand(2**30)}, file)
    refused(lambda file: run_of_file(file, task_spec("digits-mlp"), tmp_path), file, "would become 4,096 MB")


def entry(shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


LARGE = "needs more than 1 MB to say what is in it"
NOT = "truncated or not a safetensors file"


@pytest.mark.fault("A header of safetensors that is huge or lies", sees="One line", lost="Nothing", on="It is saved anew")
@pytest.mark.parametrize(
    ("header", "length", "words"),
    [
        ({f"{index:x}": entry([0], 0, 0) for index in range(10**5)}, None, LARGE),
        ({"x" * 2**21: entry([1], 0, 4)}, None, LARGE),
        ({"__metadata__": {f"{index:x}": "" for index in range(10**6)}}, None, LARGE),
        ({"a": entry([1] * 10**6, 0, 4)}, None, LARGE),
        ({}, 2**63, NOT),
        ({}, 2**30, NOT),
        ({}, 10**5, NOT),
        ({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, None, NOT),
        ({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, None, NOT),
        ({"a": entry([2**62, 4], 0, 4)}, None, NOT),
        ({"a": entry([2**33, 2**31], 0, 0)}, None, NOT),
        ({"a": entry([10**10], 0, 4 * 10**10)}, None, NOT),
        ({"a": entry([1], 4, 0)}, None, NOT),
    ],
)
def test_headers_of_safetensors_that_are_bombs(tmp_path: Path, header: Any, length: int | None, words: str) -> None:
    text = json.dumps(header).encode()
    file = tmp_path / "w.safetensors"
    file.write_bytes(struct.pack("<Q", length or len(text)) + text + bytes(8))
    refused(read_foreign, file, words)


@pytest.mark.parametrize("how", ["new", "legacy", "stored anew", "safetensors"])
def test_weights_that_are_none_are_read_as_ever(tmp_path: Path, how: str) -> None:
    tensors = {f"layers.{index}.weight": torch.randn(500) for index in range(3000)}
    file = tmp_path / ("w.safetensors" if how == "safetensors" else "w.pt")
    if how == "safetensors":
        save_file(tensors, file)
    else:
        tensors["tied"] = tensors["layers.0.weight"]
        saved(file, tensors, how == "legacy")
    if how == "stored anew":
        rezipped(file, zipfile.ZIP_STORED)
    read = read_foreign(file)
    assert list(read) == (sorted(tensors) if how == "safetensors" else list(tensors))
    assert all(torch.equal(read[name], value) for name, value in tensors.items())
