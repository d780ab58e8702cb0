"""The store: leases, fences, slots, cancel, partial arrays, and what it forgets."""

import dataclasses
import itertools
import os
import shutil
import threading
import time
from pathlib import Path

import diskcache
import numpy as np
import psutil
import pytest

from landscape_core.jobs import records
from landscape_core.jobs import store as store_module
from landscape_core.jobs.processes import Worker
from landscape_core.jobs.store import JobStore
from landscape_core.specs import InputError, Progress

from .fakes import request, write_run
from .memory import Memory


@pytest.fixture
def on_disk(tmp_path):
    write_run(tmp_path)
    return JobStore(tmp_path)


@pytest.fixture(params=["folder", "memory"])
def store(request, on_disk):
    """On each kind of shared store: the protocol is all that it rests on."""
    return on_disk if request.param == "folder" else JobStore("", Memory())


@pytest.fixture
def elsewhere(monkeypatch):
    """Claims look as if another host made them: only the heartbeat says that they live."""
    real = Worker.this
    monkeypatch.setattr(Worker, "this", lambda: dataclasses.replace(real(), host="elsewhere"))


def gone(monkeypatch):
    """Claims look as if a process made them that has ended."""
    real = Worker.this
    monkeypatch.setattr(Worker, "this", lambda: dataclasses.replace(real(), born=1.0))


def run(store, key, device="cpu"):
    owner = store.claim(key, request())
    assert store.acquire(key, owner, device)
    return owner


def test_a_job_from_claim_to_done(store):
    assert store.view("k") is None
    owner = store.claim("k", request(3))
    view = store.view("k")
    assert (view.state, view.kind, view.source, view.values["seed"], view.attempts) == (
        "queued",
        "surface",
        "digits@last",
        3,
        1,
    )
    assert store.claim("k", request(3)) is None
    assert store.acquire("k", owner, "cpu")
    assert store.advance("k", owner, Progress(1, 4, "one", {"loss": np.arange(3.0)}))
    view = store.view("k")
    assert (view.state, view.done, view.total, view.message, view.active) == ("running", 1, 4, "one", True)
    assert store.partial("k")["loss"].tolist() == [0, 1, 2]
    assert store.finish("k", owner, "done")
    view = store.view("k")
    assert (view.state, view.done, view.total, view.active, view.seconds_left) == ("done", 4, 4, False, None)
    assert store.partial("k") is None
    assert not store.active()


def test_the_version_grows_with_each_picture_only(store):
    owner = run(store, "k")
    versions = [store.view("k").version]
    for partial in ({"a": np.zeros(2)}, None, {"a": np.ones(2)}):
        store.advance("k", owner, Progress(1, 4, partial=partial))
        versions.append(store.view("k").version)
    assert versions == [0, 1, 1, 2]


def test_who_lost_the_lease_changes_nothing(store, monkeypatch, elsewhere):
    first = run(store, "k")
    store.advance("k", first, Progress(1, 4, "first", {"a": np.zeros(1)}))
    monkeypatch.setattr(records, "LEASE", 0.05)
    time.sleep(0.1)
    assert store.view("k").state == "interrupted"
    second = store.claim("k", request())
    assert second is not None
    assert store.view("k").attempts == 2
    assert not store.beat("k", first)
    assert not store.advance("k", first, Progress(3, 4, "first", {"a": np.ones(1)}))
    assert not store.finish("k", first, "done")
    assert store.partial("k")["a"].tolist() == [0]
    assert len(list(store.shared.names("partial:"))) == 1


def test_a_heartbeat_keeps_the_lease(store, monkeypatch, elsewhere):
    monkeypatch.setattr(records, "LEASE", 0.3)
    owner = run(store, "k")
    for _ in range(5):
        time.sleep(0.1)
        assert store.beat("k", owner)
    view = store.view("k")
    assert view.state == "running"
    assert time.time() - view.updated > 0.4  # beats, but has not advanced


def test_a_job_whose_process_ended_is_interrupted_at_once(store, monkeypatch):
    with monkeypatch.context() as patch:
        gone(patch)
        run(store, "k")
    assert store.view("k").state == "interrupted"
    assert store.active() == []
    assert store.claim("k", request()) is not None


def test_slots_are_given_first_come_first_served(store):
    owners = {key: store.claim(key, request()) for key in "abc"}
    assert store.acquire("a", owners["a"], "cpu")
    assert not store.acquire("b", owners["b"], "cpu")
    assert not store.acquire("c", owners["c"], "cpu")
    assert [store.view(key).ahead for key in "abc"] == [0, 1, 2]
    store.finish("a", owners["a"], "done")
    assert not store.acquire("c", owners["c"], "cpu")
    assert store.acquire("b", owners["b"], "cpu")
    assert [view.key for view in store.active()] == ["c", "b"]


def test_devices_have_slots_of_their_own_and_workers_sets_how_many(store, monkeypatch):
    run(store, "a", "cpu")
    run(store, "b", "cuda:0")
    monkeypatch.setenv("LANDSCAPE_WORKERS", "2")
    run(store, "c", "cpu")
    assert not store.acquire("d", store.claim("d", request()), "cpu")
    monkeypatch.setenv("LANDSCAPE_WORKERS", "many")
    with pytest.raises(InputError, match="LANDSCAPE_WORKERS"):
        store.acquire("d", "", "cpu")


def test_the_slot_of_a_dead_process_is_freed(store, monkeypatch):
    with monkeypatch.context() as patch:
        gone(patch)
        run(store, "a")
    run(store, "b")
    assert store.view("a").state == "interrupted"


def test_racing_claims_and_slots_have_one_winner(store):
    barrier, won = threading.Barrier(8), []

    def race(n):
        barrier.wait()
        if owner := store.claim("k", request()):
            won.append(owner)
        own = store.claim(f"k{n}", request())
        barrier.wait()
        if store.acquire(f"k{n}", own, "cpu"):
            won.append(own)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 2


def test_cancel_is_a_flag_and_a_new_claim_clears_it(store, monkeypatch):
    owner = run(store, "k")
    store.advance("k", owner, Progress(1, 4, partial={"a": np.ones(1)}))
    store.cancel("k")
    assert store.cancelled("k")
    assert store.view("k").cancelling
    store.finish("k", owner, "cancelled")
    assert store.view("k").state == "cancelled"
    assert store.partial("k") is not None
    assert store.claim("k", request()) is not None
    assert not store.cancelled("k")
    store.cancel("nobody")


def test_a_dead_job_can_be_cancelled(store, monkeypatch):
    with monkeypatch.context() as patch:
        gone(patch)
        run(store, "k")
    store.cancel("k")
    assert store.view("k").state == "cancelled"


def test_time_left_comes_from_this_attempt_only(store, monkeypatch):
    monkeypatch.setattr(records, "SETTLE", 0.1)
    owner = run(store, "k")
    store.advance("k", owner, Progress(900, 1000))
    assert store.view("k").seconds_left is None
    since = time.time()
    time.sleep(0.2)
    store.advance("k", owner, Progress(910, 1000))
    left = store.view("k").seconds_left
    assert left == pytest.approx(9 * (time.time() - since), rel=0.2)  # 90 more at 10 in that time
    store.finish("k", owner, "cancelled")
    owner = run(store, "k")
    store.advance("k", owner, Progress(910, 1000))
    assert store.view("k").seconds_left is None


def test_time_left_follows_the_recent_rate(store, monkeypatch):
    monkeypatch.setattr(records, "SETTLE", 0.05)
    monkeypatch.setattr(records, "WINDOW", 0.1)
    real, seconds = records.clock(), itertools.count()
    monkeypatch.setattr(records, "clock", lambda: real + moment)
    moment, done = 0.0, 0
    owner = run(store, "k")
    for pace in (1, 1, 1, 1, 100, 100, 100, 100):
        done, moment = done + pace, 0.06 * next(seconds)
        store.advance("k", owner, Progress(done, 1000))
    assert store.view("k").seconds_left == pytest.approx((1000 - done) / 100 * 0.06, rel=0.1)  # not by the mean rate


def test_computing_time_adds_up_over_attempts(store):
    since = time.time()
    for _ in range(2):
        owner = run(store, "k")
        time.sleep(0.1)
        store.finish("k", owner, "cancelled")
        time.sleep(0.2)
    assert 0.2 <= store.view("k").wall < time.time() - since - 0.3


def damage(store, how):
    (file,) = store.shared.path.glob("*/*/*.val")
    how(file)


@pytest.mark.parametrize(
    "how",
    [lambda file: file.write_bytes(file.read_bytes()[:100]), lambda file: file.write_bytes(b"x" * 500), lambda f: f.unlink()],
    ids=["truncated", "other", "missing"],
)
def test_damaged_partial_arrays_are_dropped_with_one_line(on_disk, caplog, how):
    owner = run(on_disk, "k")
    on_disk.advance("k", owner, Progress(1, 4, partial={"a": np.arange(1000.0)}))
    damage(on_disk, how)
    assert on_disk.partial("k") is None
    assert on_disk.partial("k") is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line
    assert "computed from the start" in line
    assert on_disk.advance("k", owner, Progress(2, 4, partial={"a": np.ones(1)}))
    assert on_disk.partial("k")["a"].tolist() == [1]


def test_pictures_are_never_half_read_while_they_are_replaced(store):
    owner = run(store, "k")
    store.advance("k", owner, Progress(0, 4, partial={"a": np.full(50_000, 0.0)}))
    over, seen = threading.Event(), set()

    def write():
        value = 0
        while value < 40 or (len(seen) <= 3 and value < 10_000):  # until the reader has seen several
            value += 1
            store.advance("k", owner, Progress(value, 40, partial={"a": np.full(50_000, float(value))}))
        over.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not over.is_set():
        values = np.unique(store.partial("k")["a"])
        assert len(values) == 1
        seen.add(values[0])
    thread.join()
    assert len(seen) > 3


def test_old_jobs_and_partial_arrays_are_forgotten(store, monkeypatch):
    monkeypatch.setattr(store_module, "KEEP", 5)
    monkeypatch.setattr(store_module, "KEEP_PARTIALS", 2)
    living = run(store, "living", "cuda:0")
    for n in range(8):
        owner = run(store, f"k{n}")
        store.advance(f"k{n}", owner, Progress(1, 4, partial={"a": np.ones(n + 1)}))
        store.finish(f"k{n}", owner, "cancelled")
    assert [view.key for view in store.views()] == ["k7", "k6", "k5", "k4", "k3", "living"]
    assert [key for key in ("k7", "k6", "k5", "k0") if store.partial(key)] == ["k7", "k6"]
    assert len(list(store.shared.names("partial:"))) == 2
    assert store.beat("living", living)


def test_partial_arrays_that_nobody_names_are_swept(store):
    owner = run(store, "k")
    store.shared.set("partial:k:orphan", b"left by a process that died")
    store.shared.set("partial:forgotten:orphan", b"left by a process that died")
    store.finish("k", owner, "cancelled")
    assert not list(store.shared.names("partial:"))


class Evil:
    """Unpickled it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_pickled(on_disk, tmp_path):
    cache = on_disk.shared
    with pytest.raises(TypeError, match="values are"):
        cache.set("k", {"a": 1})
    with pytest.raises(TypeError, match="keys are"):
        cache.set(("k",), 1)
    with pytest.raises(TypeError, match="values are"):
        cache.set("k", True)
    plain = diskcache.Cache(str(on_disk.shared.path), disk=diskcache.Disk)
    plain.set("evil", Evil(tmp_path / "ran"))
    plain.close()
    assert cache.get("evil") is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.fault(
    "The clock is set by seconds or a day, either way",
    sees="Nothing",
    lost="Nothing",
    on="Jobs are reckoned by the time since the machine started",
)
@pytest.mark.parametrize("step", [-86400.0, -30.0, 30.0, 86400.0])
def test_setting_the_clock_ends_no_job_and_holds_up_no_end(store, monkeypatch, step):
    """The lease, the grace of a cancel and the rates are reckoned by the time since the machine started."""
    owner = run(store, "k")
    store.advance("k", owner, Progress(1, 4))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)
    assert store.view("k").state == "running"
    assert store.claim("k", request()) is None
    assert store.beat("k", owner)
    assert 0 <= store.view("k").wall < 5
    assert not Worker.this().gone
    store.cancel("k")
    assert store.view("k").state == "running"  # its grace has only begun
    monkeypatch.setattr(store_module, "GRACE", 0.1)
    monkeypatch.setattr(Worker, "stop", lambda _: None)
    time.sleep(0.2)
    assert store.view("k").state == "cancelled"


def test_a_process_is_told_apart_by_when_it_started_since_the_boot(monkeypatch):
    here = Worker.this()
    assert here == Worker.this()
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 0.0)  # what a step of the wall clock makes of it
    assert not here.gone
    assert dataclasses.replace(here, born=here.born + 1).gone


def test_a_job_of_another_boot_is_dead_by_the_wall_clock(store, monkeypatch, elsewhere):
    owner = run(store, "k")
    record = records.read(store.shared, "k")
    with store.shared.take() as held:
        records.write(held, "k", record | {"boot": "another", "epoch": time.time() - record["beat"]})
    assert store.view("k").state == "running"
    with store.shared.take() as held:
        records.write(held, "k", record | {"boot": "another", "epoch": time.time() - record["beat"] - 60})
    assert store.view("k").state == "interrupted"
    assert store.claim("k", request()) not in (None, owner)


def test_the_folder_is_private_and_may_be_removed_under_a_running_program(on_disk):
    run(on_disk, "k")
    assert os.stat(on_disk.shared.path).st_mode & 0o777 == 0o700
    shutil.rmtree(on_disk.shared.path)
    assert on_disk.view("k") is None
    run(on_disk, "k")
    assert JobStore(on_disk.shared.path.parent).view("k").state == "running"


def test_a_damaged_database_is_started_afresh_with_one_line(tmp_path, caplog):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "cache.db").write_bytes(b"not a database" * 1000)
    assert JobStore(tmp_path).view("k") is None
    run(JobStore(tmp_path), "k")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "damaged" in line
    assert "\n" not in line


def test_a_full_disk_leaves_what_there_was(on_disk, monkeypatch):
    owner = run(on_disk, "k")
    on_disk.advance("k", owner, Progress(1, 4, partial={"a": np.zeros(10)}))
    files = list(on_disk.shared.path.glob("*/*/*.val"))

    real = diskcache.Disk._write

    def full(self, path, iterator, mode, encoding=None):
        real(self, path, iter([b"half"]), mode, encoding)
        raise OSError(28, "No space left on device", path)

    with monkeypatch.context() as patch:
        patch.setattr(diskcache.Disk, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            on_disk.advance("k", owner, Progress(2, 4, partial={"a": np.ones(10)}))
    assert on_disk.partial("k")["a"].tolist() == [0] * 10
    assert list(on_disk.shared.path.glob("*/*/*.val")) == files
    assert on_disk.advance("k", owner, Progress(2, 4, partial={"a": np.ones(10)}))


def test_what_ended_lately_is_known_also_to_those_who_did_not_see_it_run(store, monkeypatch):
    for n in range(30):
        store.finish(f"k{n}", run(store, f"k{n}"), "done" if n % 2 else "failed")
    assert store.lately(60) == [f"k{n}" for n in range(29, 9, -1)]
    store.finish("k12", run(store, "k12"), "cancelled")
    assert store.lately(60)[:3] == ["k12", "k29", "k28"]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 100)
    assert store.lately(60) == []
    store.shared.set("ended", "{")
    assert store.lately(60) == []
