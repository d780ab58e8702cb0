"""The cache of results: whole or not at all, within its limit, and never in the way."""

import shutil
import time

import diskcache
import numpy as np
import pytest

from landscape_core.jobs import results
from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.shared import open_shared
from landscape_core.jobs.store import JobStore
from landscape_core.specs import InputError, Result

from .fakes import request, write_run
from .memory import Memory

MEGABYTE = 2**20


def result(value=1.0, size=1000):
    return Result({"loss": np.full(size, value)}, {"analysis": "surface"}, {"wall_seconds": 1.5})


def files(cache):
    return list(cache.shared.path.glob("*/*/*.val"))


@pytest.fixture(params=["folder", "memory"])
def shared(request, tmp_path):
    """Each kind of shared store: the protocol is all that results rest on."""
    return open_shared(tmp_path, "cache") if request.param == "folder" else Memory()


def test_what_is_put_is_got(tmp_path, shared):
    cache = ResultCache(tmp_path, shared=shared)
    assert cache.get("k") is None
    assert not cache.has("k")
    cache.put("k", result(3.0))
    found = ResultCache(tmp_path, shared=shared).get("k")
    assert found["loss"].tolist() == [3.0] * 1000
    assert (found.spec, found.provenance) == ({"analysis": "surface"}, {"wall_seconds": 1.5})
    assert cache.has("k")
    cache.put("k", result(4.0))
    assert cache.get("k")["loss"][0] == 4.0
    assert list(shared.names("result:")) == ["result:k"]
    cache.drop("k")
    assert list(shared.names()) == []


@pytest.mark.parametrize(
    "how",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-50]),
        lambda file: file.write_bytes(file.read_bytes().replace(b"\0\0\xf0\x3f", b"\0\0\xf1\x3f")),
        lambda file: file.write_bytes(b"\x80\x04cos\nsystem\n"),
        lambda file: file.unlink(),
    ],
    ids=["truncated", "flipped", "pickle", "missing"],
)
def test_a_damaged_result_is_dropped_with_one_line(tmp_path, caplog, how):
    cache = ResultCache(tmp_path)
    cache.put("k", result())
    cache.put("other", result(2.0, 500))
    how(max(files(cache), key=lambda file: file.stat().st_size))
    assert cache.get("k") is None
    assert not cache.has("k")
    assert cache.get("k") is None
    assert cache.get("other") is not None
    (line,) = [record.getMessage() for record in caplog.records]
    assert "k" in line
    assert "\n" not in line


def test_the_limit_holds_and_the_least_recently_used_go_first(tmp_path, shared, monkeypatch):
    monkeypatch.setattr(results, "FRESH", 0.0)
    cache = ResultCache(tmp_path, limit=3.5 * MEGABYTE, shared=shared)
    for n in range(3):
        cache.put(f"k{n}", result(n, MEGABYTE // 8))
    assert cache.get("k0") is not None  # used again: now k1 is the oldest
    cache.put("k3", result(3, MEGABYTE // 8))
    assert [n for n in range(4) if cache.has(f"k{n}")] == [0, 2, 3]
    assert cache.shared.size() <= cache.limit


def test_a_running_key_is_never_dropped(tmp_path, shared):
    write_run(tmp_path)
    store, cache = JobStore(tmp_path), ResultCache(tmp_path, limit=1.5 * MEGABYTE, shared=shared)
    owner = store.claim("mine", request())
    cache.put("mine", result(0, MEGABYTE // 4))
    cache.put("other", result(0, MEGABYTE // 8))
    assert cache.has("mine")
    assert not cache.has("other")
    store.finish("mine", owner, "done")
    cache.put("other", result(0, MEGABYTE // 8))
    assert not cache.has("mine")


def test_files_that_nobody_knows_count_and_go(tmp_path):
    cache = ResultCache(tmp_path, limit=MEGABYTE)
    cache.put("k", result())
    left = cache.shared.path / "ab" / "cd" / "left.val"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x" * 2 * MEGABYTE)
    cache.put("k2", result())
    assert not left.exists()
    assert cache.shared.size() <= cache.limit


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    cache = ResultCache(tmp_path)
    cache.put("k", result(1.0))
    real = diskcache.Disk._write

    def full(self, path, iterator, mode, encoding=None):
        real(self, path, iter([b"half"]), mode, encoding)
        raise OSError(28, "No space left on device", path)

    with monkeypatch.context() as patch:
        patch.setattr(diskcache.Disk, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            cache.put("k", result(2.0))
    assert cache.get("k")["loss"][0] == 1.0
    assert len(files(cache)) == 1


def test_a_result_is_not_dropped_because_the_disk_is_full(tmp_path, monkeypatch):
    cache = ResultCache(tmp_path)
    cache.put("k", result(1.0))

    def full(_name):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache.shared, "get", full)
        with pytest.raises(OSError, match="No space left"):
            cache.get("k")
    assert cache.get("k")["loss"][0] == 1.0


def test_the_folder_may_be_removed_under_a_running_program(tmp_path):
    cache = ResultCache(tmp_path)
    cache.put("k", result())
    shutil.rmtree(cache.shared.path)
    assert cache.get("k") is None
    cache.put("k", result())
    assert ResultCache(tmp_path).get("k") is not None


def test_a_damaged_database_is_started_afresh(tmp_path, caplog):
    cache = ResultCache(tmp_path)
    cache.shared.path.mkdir()
    (cache.shared.path / "cache.db").write_bytes(b"not a database" * 1000)
    assert cache.get("k") is None
    cache.put("k", result())
    assert cache.get("k") is not None
    assert len(caplog.records) == 1


def test_use_is_not_written_down_at_every_look(tmp_path):
    cache = ResultCache(tmp_path)
    cache.put("k", result())
    before = cache.shared.get("used:k")
    time.sleep(0.01)
    cache.get("k")
    assert cache.shared.get("used:k") == before


@pytest.mark.parametrize("text", ["0", "-1", "much", "nan", ""])
def test_a_bad_limit_is_named(tmp_path, monkeypatch, text):
    monkeypatch.setenv("LANDSCAPE_CACHE_GB", text)
    with pytest.raises(InputError, match="LANDSCAPE_CACHE_GB"):
        ResultCache(tmp_path)
    monkeypatch.setenv("LANDSCAPE_CACHE_GB", "0.5")
    assert ResultCache(tmp_path).limit == 2**29
