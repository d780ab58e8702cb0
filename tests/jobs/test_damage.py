"""Random damage to every kind of file in a home: no wrong picture, no dead home, one line for what is lost."""

import gc
import logging
import random
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

import diskcache
import numpy as np
import pytest

from landscape_core.checkpoints.runs import RunStore
from landscape_core.checkpoints.weights import load_weights
from landscape_core.jobs import records
from landscape_core.jobs.requests import Request
from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.runner import run_all
from landscape_core.jobs.shared import folder
from landscape_core.jobs.shared.protocol import Busy
from landscape_core.jobs.store import JobStore
from landscape_core.specs import InputError, Progress, Result

from .fakes import request, write_run

RESULTS = 30


def forget(home: Path) -> None:
    """Close what this process holds of the home, as another process would not have it."""
    for place in [place for place in folder._open if place[1].is_relative_to(home)]:
        folder._open.pop(place)[1].close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A home with a trained run, results, ended and interrupted jobs with partial arrays, and a file that was brought in."""
    home = tmp_path_factory.mktemp("whole") / "home"
    home.mkdir(mode=0o700)
    run_all([Request("train", None, {"task": "moons-mlp", "run": "real", "widths": [4], "steps": 5})], home)
    write_run(home)
    results, jobs = ResultCache(home), JobStore(home)
    for seed in range(RESULTS):
        results.put(f"{seed:032x}", Result({"loss": np.full(50, float(seed))}, {"seed": seed}, {}))
        owner = jobs.claim(f"{seed:032x}", request(seed))
        jobs.advance(f"{seed:032x}", owner, Progress(1, 4, "half", {"z": np.full(20, float(seed))}))
        jobs.finish(f"{seed:032x}", owner, "done" if seed % 2 else "cancelled")
    (home / "uploads").mkdir()
    (home / "uploads" / "x.safetensors").write_bytes(b"1234")
    forget(home)
    return home


def hurt(file: Path, rng: random.Random) -> str:
    """One blow: bits, a page, the end, or all of it."""
    data = bytearray(file.read_bytes())
    how = rng.choice(["bits", "bytes", "page", "cut", "grown", "zeros", "empty", "other"])
    if how == "bits":
        for _ in range(rng.randint(1, 5)):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "bytes":
        start = rng.randrange(max(len(data), 1))
        data[start : start + 16] = rng.randbytes(min(16, len(data) - start))
    elif how == "page":
        start = rng.randrange(max(len(data), 1)) // 4096 * 4096
        data[start : start + 4096] = rng.randbytes(len(data[start : start + 4096]))
    elif how == "zeros":
        start = rng.randrange(max(len(data), 1)) // 512 * 512
        data[start : start + 512] = bytes(len(data[start : start + 512]))
    elif how == "cut":
        del data[rng.randrange(max(len(data), 1)) :]
    elif how == "grown":
        data += rng.randbytes(rng.randint(1, 5000))
    else:
        data = bytearray() if how == "empty" else bytearray(rng.randbytes(300))
    file.write_bytes(data)
    return how


def visit(home: Path) -> None:
    """What pages and jobs do; every answer is right or says what is wrong."""
    results, jobs, runs = ResultCache(home), JobStore(home), RunStore(home)
    for view in [*jobs.views(), *jobs.active()]:
        seed = int(view.key, 16) if view.kind == "surface" else None
        assert view.state in ("done", "cancelled", "queued", "running", "interrupted", "failed")
        partial = jobs.partial(view.key)
        assert partial is None or seed is None or partial["z"].tolist() == [seed] * 20
    for seed in range(RESULTS):
        found = results.get(f"{seed:032x}")
        assert found is None or (found["loss"].tolist() == [seed] * 50 and found.spec == {"seed": seed})
    for name in runs.names():
        with suppress(InputError):
            record = runs.read(name)
            for checkpoint in record.checkpoints if name == "real" else ():
                load_weights(runs.folder(name) / checkpoint.file, checkpoint.fingerprint)


def work(home: Path) -> None:
    """A job from its claim to its result."""
    results, jobs = ResultCache(home), JobStore(home)
    key = f"{RESULTS:032x}"
    for _ in range(2):  # the store may have to be mended in the middle of the first
        try:
            owner = jobs.claim(key, request(RESULTS))
            assert owner
            assert jobs.advance(key, owner, Progress(2, 4, "half", {"z": np.ones(3)}))
            results.put(key, Result({"loss": np.ones(3)}, {}, {}))
            assert jobs.finish(key, owner, "done")
            break
        except Busy:
            key = f"{RESULTS + 1:032x}"
    assert results.get(key)["loss"].tolist() == [1] * 3
    assert jobs.view(key).state == "done"


@pytest.mark.fault(
    "A file of the home is damaged: a byte, a page, cut, emptied, gone",
    sees="The page as before; one line in the log names what was damaged",
    lost="What the damage covers and cannot be read elsewhere; never a picture that is wrong",
    on="The database is set aside (three are kept) and built anew of all that can be read",
)
def test_random_damage(whole, tmp_path, caplog, effort):
    caplog.set_level(logging.ERROR)
    kinds = {}
    for seed in range(effort(60, 1000)):
        rng = random.Random(seed)
        home = tmp_path / f"home{seed}"
        shutil.copytree(whole, home)
        files = sorted(file for file in home.rglob("*") if file.is_file() and not file.name.endswith(".lock"))
        by_kind = {}
        for file in files:
            by_kind.setdefault(f"{file.relative_to(home).parts[0]} {file.suffix}", []).append(file)
        databases = [kind for kind in by_kind if ".db" in kind]
        kind = rng.choice(databases if seed % 2 else sorted(by_kind))
        file = rng.choice(by_kind[kind])
        if rng.random() < 0.3 and not file.name.endswith("-shm"):  # a server has it open, and that one mapped
            visit(home)
        how = hurt(file, rng)
        kinds[kind] = kinds.get(kind, 0) + 1
        try:
            visit(home)
            work(home)
            visit(home)
            work(home)
        except Exception as problem:
            raise AssertionError(f"seed {seed}: {how} in {file.relative_to(home)}") from problem
        forget(home)
        gc.collect()
        shutil.rmtree(home)
    assert len(kinds) >= 5
    assert caplog.records == []


def damaged(home: Path, spoil) -> Path:
    forget(home)
    path = home / "jobs" / "cache.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    spoil(path)
    return path


def entries(home: Path) -> tuple[set[str], set[str]]:
    return set(ResultCache(home).shared.names()), {view.key for view in JobStore(home).views()}


@pytest.fixture
def home(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "home")
    return tmp_path / "home"


def overwrite(start: int, length: int):
    def spoil(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[start : start + length] = b"\xff" * length
        path.write_bytes(data)

    return spoil


def test_one_damaged_page_takes_only_what_stood_in_it(home, caplog):
    before = entries(home)[1]
    pages = (home / "jobs" / "cache.db").stat().st_size // 4096
    lost = []
    for page in range(1, pages):
        copy = home.with_name(f"copy{page}")
        shutil.copytree(home, copy)
        damaged(copy, overwrite(4096 * page, 4096))
        lost.append(len(before - entries(copy)[1]))
        work(copy)
        forget(copy)
    assert np.mean(lost) < 0.2 * len(before)
    mended = [record.getMessage() for record in caplog.records if "entries could be read" in record.getMessage()]
    assert mended
    assert all("\n" not in line for line in mended)


@pytest.mark.fault(
    "The database of results is beyond repair",
    sees="The pictures as before",
    lost="When each was last used",
    on="Results name themselves in their files and are found again",
)
def test_results_outlive_their_database(home):
    """The files say whose they are."""
    before = entries(home)[0]
    forget(home)
    for file in (home / "cache").glob("cache.db*"):
        file.write_bytes(b"not a database" * 300)
    assert {name for name in before if name.startswith("result:")} <= entries(home)[0]
    for seed in range(RESULTS):
        assert ResultCache(home).get(f"{seed:032x}")["loss"].tolist() == [seed] * 50
    (aside,) = home.glob("cache.damaged-*")
    assert (aside / "cache.db").read_bytes().startswith(b"not a database")


@pytest.mark.fault(
    "One record of a job is damaged",
    sees="That job is not listed",
    lost="That record; its result stays",
    on="It is asked for again",
)
def test_a_bad_record_takes_only_itself(home, caplog):
    keys = sorted(entries(home)[1])
    cache = diskcache.Cache(str(home / "jobs"), disk=folder.NoPickleDisk)
    for key, text in zip(keys, ["{", "[" * 3000, '"x"', "{}", "crc 00000000 {}", "NaN"], strict=False):
        cache.set(records.RECORD_ + key, text)
    cache.close()
    store = JobStore(home)
    assert {view.key for view in store.views()} == set(keys[6:])
    assert store.view(keys[0]) is None
    assert store.claim(keys[0], request(0))
    assert store.view(keys[0]).state == "queued"


@pytest.mark.fault(
    "The list of the jobs that run is lost", sees="The jobs as before", lost="Nothing", on="It is made from the records"
)
def test_which_jobs_run_is_found_again(home):
    store = JobStore(home)
    owner = store.claim("k", request(99))
    ticket = records.read(store.shared, "k")["ticket"]
    store.shared.delete(records.ACTIVE_KEY)
    store.shared.delete(records.TICKET_KEY)
    assert [view.key for view in store.active()] == ["k"]
    assert store.beat("k", owner)
    store.claim("later", request(100))
    assert records.read(store.shared, "later")["ticket"] > ticket


def test_a_database_that_others_hold_or_that_is_full_is_not_damaged(home, monkeypatch):
    store = JobStore(home)
    before = entries(home)

    def full(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(diskcache.Cache, "set", full)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.claim("k", request(99))
    assert entries(home) == before
    assert not list(home.glob("*.damaged-*"))


def test_a_damaged_database_that_cannot_be_set_aside_stays_as_it_is(home, monkeypatch):
    jobs, database = JobStore(home), home / "jobs" / "cache.db"
    jobs.claim("a" * 32, request())
    forget(home)
    database.write_bytes(b"x" * 100 + database.read_bytes()[100:])
    damaged = database.read_bytes()

    def full(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:1000])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            jobs.views()
    assert database.read_bytes() == damaged
    assert list(home.glob("*.damaged-*")) == []


def test_only_the_newest_that_were_set_aside_are_kept(home):
    for _ in range(5):
        damaged(home, overwrite(0, 100))
        work(home)
        forget(home)
    assert len(list(home.glob("jobs.damaged-*"))) <= 3
