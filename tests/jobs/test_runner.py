"""Running: one computation for many askers, resumed after every kind of end, and nothing left behind. Real processes."""

import itertools
import os
import signal
import sys
import threading
import time

import diskcache
import numpy as np
import pytest
import torch

from landscape_core.checkpoints.runs import RunStore
from landscape_core.jobs import results as results_module
from landscape_core.jobs import store as store_module
from landscape_core.jobs.requests import Request
from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.runner import run_all, run_or_join
from landscape_core.jobs.shared.protocol import Busy
from landscape_core.jobs.store import JobStore
from landscape_core.specs import InputError, Progress, Result

from . import fakes
from .fakes import CELLS, ended, evaluated, request, wait_for, worker, write_run
from .memory import Memory


@pytest.fixture
def home(tmp_path):
    write_run(tmp_path)
    return tmp_path


@pytest.fixture
def started(home):
    """Starts processes, and leaves none behind."""
    children = []

    def start(*args, **kwargs):
        children.append(worker(home, *args, **kwargs))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.join()


def begun(home, cells=3):
    """Waits until the store has that many cells of the one job, and returns its view."""
    store, key = JobStore(home), request().key(home)
    return wait_for(lambda: (view := store.view(key)) and view.version >= 1 and view.done >= cells and view)


def cells_of(home, item=None):
    return ResultCache(home).get((item or request()).key(home))["loss"].tolist()


def test_a_request_is_done_once_and_then_known(home):
    seen = []
    view = run_or_join(request(), home, start=fakes.sleepy, progress=seen.append)
    assert (view.state, view.done, view.total, view.attempts, view.source) == ("done", CELLS, CELLS, 1, "digits@10")
    assert cells_of(home) == list(range(CELLS))
    assert [item.done for item in seen if item.total] == list(range(CELLS + 1))
    again = run_or_join(Request("surface", "digits@10", request().values), home, start=fakes.breaking)
    assert (again.state, again.attempts, again.key) == ("done", 1, view.key)
    assert len(evaluated(home)) == CELLS


def test_two_processes_and_a_thread_that_ask_for_one_key_compute_it_once(home, started):
    first, second = started(request(), start="sleepy"), started(request(), start="sleepy")
    view = run_or_join(request(), home, start=fakes.sleepy)
    first.join()
    second.join()
    assert (view.state, view.attempts) == ("done", 1)
    assert len(evaluated(home)) == CELLS
    assert len({line.split()[0] for line in evaluated(home)}) == 1


def test_a_killed_worker_is_taken_over_and_resumed_by_who_waits(home, started):
    child = started(request(), start="slow")
    begun(home)
    waiting = []
    thread = threading.Thread(target=lambda: waiting.append(run_or_join(request(), home, start=fakes.sleepy)))
    thread.start()
    os.kill(child.pid, signal.SIGKILL)
    thread.join()
    assert (waiting[0].state, waiting[0].attempts) == ("done", 2)
    assert cells_of(home) == list(range(CELLS))
    assert CELLS <= len(evaluated(home)) <= CELLS + 3  # what was not yet written down is done again


@pytest.mark.fault(
    "The process of a job is killed",
    sees="interrupted at so many of so many; what is done is kept",
    lost="What was not yet written down: a fraction of a second",
    on="Resume goes on from there",
)
def test_a_killed_worker_leaves_an_interrupted_job_that_resumes(home, started):
    child = started(request(), start="slow")
    before = begun(home)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    view = JobStore(home).view(before.key)
    assert view.state == "interrupted"
    assert JobStore(home).active() == []
    kept = np.isfinite(JobStore(home).partial(before.key)["cells"]).sum()
    assert kept >= before.done
    old = len(evaluated(home))
    assert run_or_join(request(), home, start=fakes.sleepy).attempts == 2
    assert len(evaluated(home)) - old == CELLS - kept


def test_a_cancelled_job_stops_by_itself_and_resumes(home, started):
    child = started(request(), start="slow")
    view = begun(home)
    JobStore(home).cancel(view.key)
    child.join(10)
    assert child.exitcode == 0
    view = JobStore(home).view(view.key)
    assert (view.state, view.cancelling) == ("cancelled", False)
    assert JobStore(home).partial(view.key) is not None
    assert run_or_join(request(), home, start=fakes.sleepy).state == "done"
    assert cells_of(home) == list(range(CELLS))
    assert len(evaluated(home)) <= CELLS + 3


@pytest.mark.fault(
    "A cancelled job does not stop",
    sees="cancelled after three seconds",
    lost="What was not yet written down",
    on="Its process is killed; Resume goes on",
)
def test_a_cancelled_job_that_does_not_listen_is_killed(home, started):
    child = started(request(), start="deaf")
    key = begun(home, 1).key
    JobStore(home).cancel(key)
    child.join(15)  # nobody watches: it ends itself
    assert child.exitcode == -signal.SIGKILL
    assert JobStore(home).view(key).state == "cancelled"
    assert JobStore(home).partial(key)["cells"][0] == 0


@pytest.mark.fault(
    "The process of a job hangs and is cancelled",
    sees="cancelled after three seconds",
    lost="What was not yet written down",
    on="Whoever watches ends it; Resume goes on",
)
def test_a_stopped_process_is_killed_by_who_watches(home, started):
    child = started(request(), start="deaf")
    store, key = JobStore(home), begun(home, 1).key
    os.kill(child.pid, signal.SIGSTOP)  # not even its heart beats
    store.cancel(key)
    wait_for(lambda: store.view(key).state == "cancelled")
    child.join(5)
    assert child.exitcode == -signal.SIGKILL


def test_a_queued_job_waits_for_its_turn_and_can_be_cancelled(home, started):
    store = JobStore(home)
    running = started(request(), start="slow")
    begun(home)
    second, third = request(1), request(2)
    waiting = started(second, start="sleepy")
    wait_for(lambda: (view := store.view(second.key(home))) and view.state == "queued" and view.ahead == 1)
    last = started(third, start="sleepy")
    wait_for(lambda: (view := store.view(third.key(home))) and view.ahead == 2)
    store.cancel(second.key(home))
    waiting.join(10)
    assert store.view(second.key(home)).state == "cancelled"
    os.kill(running.pid, signal.SIGKILL)  # the slot of a dead process is free
    last.join(20)
    assert store.view(third.key(home)).state == "done"


def test_jobs_in_different_processes_do_not_run_at_once(home, started):
    children = [started(request(seed), start="sleepy") for seed in range(3)]
    for child in children:
        child.join(60)
    workers = [line.split()[0] for line in evaluated(home)]
    assert len(workers) == 3 * CELLS
    assert sum(a != b for a, b in itertools.pairwise(workers)) == 2  # one after the other, never mixed


@pytest.mark.fault(
    "The server is killed while a job runs",
    sees="interrupted when it is back; what is done is kept",
    lost="What was not yet written down",
    on="The job ends by itself; Resume goes on",
)
@pytest.mark.parametrize("start", ["slow", "deaf"])
def test_no_job_outlives_the_program_that_asked_for_it(home, start):
    server, child = fakes.server_with_worker(home, request(), start)
    view = begun(home, 1)
    server.kill()
    server.join()
    wait_for(lambda: ended(child))
    assert JobStore(home).view(view.key).state == "interrupted"
    assert JobStore(home).partial(view.key) is not None
    assert run_or_join(request(), home, start=fakes.sleepy).state == "done"
    assert cells_of(home) == list(range(CELLS))


def test_who_waits_for_a_job_ends_with_the_program_that_asked(home, started):
    started(request(), start="long")
    begun(home, cells=1)
    pairs = [fakes.server_with_worker(home, item, "sleepy") for item in (request(), request(1))]  # one joins, one is queued
    wait_for(lambda: JobStore(home).view(request(1).key(home)))
    time.sleep(0.3)
    for server, child in pairs:
        assert not ended(child)
        server.kill()
        server.join()
        wait_for(lambda child=child: ended(child))
    assert JobStore(home).view(request().key(home)).state == "running"
    assert JobStore(home).view(request(1).key(home)).state == "interrupted"


@pytest.mark.fault(
    "Ctrl-C in the middle of a command",
    sees="One line, no traceback",
    lost="What was not yet written down",
    on="The same command goes on from there",
)
def test_ctrl_c_ends_the_job_and_the_caller(home):
    def press(*args):
        steps = fakes.sleepy(*args)
        for _ in range(6):
            yield next(steps)
        signal.raise_signal(signal.SIGINT)
        yield from steps

    with pytest.raises(KeyboardInterrupt):
        run_or_join(request(), home, start=press)
    view = JobStore(home).view(request().key(home))
    assert view.state == "cancelled"
    assert JobStore(home).partial(view.key) is not None
    assert run_or_join(request(), home, start=fakes.sleepy).state == "done"


def test_a_cancelled_job_in_somebodys_program_is_interrupted_not_killed(home, monkeypatch):
    store, key = JobStore(home), request().key(home)

    def watch():
        begun(home, 1)
        store.cancel(key)
        wait_for(lambda: store.view(key).state == "cancelled")

    thread = threading.Thread(target=watch)
    thread.start()
    view = run_or_join(request(), home, start=fakes.deaf)
    thread.join()
    assert view.state == "cancelled"


def test_bad_input_fails_with_its_line(home, caplog):
    view = run_or_join(request(), home, start=fakes.refusing)
    assert (view.state, view.error, view.bad_input) == ("failed", "field 'seed': this seed is refused", True)
    assert not caplog.records


def test_what_breaks_fails_with_one_line_and_its_traceback_in_the_log(home, caplog):
    view = run_or_join(request(), home, start=fakes.breaking)
    assert (view.state, view.error, view.bad_input) == ("failed", "ZeroDivisionError: first line", False)
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text
    assert run_or_join(request(), home, start=fakes.sleepy).state == "done"


@pytest.mark.fault(
    "A job runs out of memory",
    sees="failed: the memory is not enough: take fewer samples, fewer points at once or a smaller network",
    lost="Nothing that was kept",
    on="Run again with less",
)
@pytest.mark.parametrize(
    "take",
    [
        lambda: bytes(10**15),
        lambda: np.empty(10**15),
        lambda: torch.empty(10**15),
        lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")).__next__(),
    ],
    ids=["python", "numpy", "torch", "cuda"],
)
def test_too_little_memory_says_what_to_reduce(home, take):
    def greedy(*_):
        yield Progress(0, 1)
        take()

    view = run_or_join(request(), home, start=greedy)
    assert (view.state, view.bad_input) == ("failed", False)
    assert view.error == "the memory is not enough: take fewer samples, fewer points at once or a smaller network"
    assert run_or_join(request(), home, start=fakes.sleepy).state == "done"


def test_a_request_for_what_is_not_there_is_refused(home):
    with pytest.raises(InputError, match="no run 'other'"):
        run_or_join(Request("surface", "other", {}), home, start=fakes.sleepy)
    assert JobStore(home).views() == []


def test_several_in_order_until_one_does_not_end_well(home):
    requests = [request(1), request(2), request(3)]

    def choose(kind, source, spec, *rest):
        return (fakes.refusing if spec.seed == 2 else fakes.sleepy)(kind, source, spec, *rest)

    assert run_all(requests, home, start=choose) == [item.key(home) for item in requests[:2]]
    store = JobStore(home)
    assert [view.state for view in store.views()] == ["failed", "done"]
    assert store.view(requests[2].key(home)) is None
    assert run_all([], home) == []


def test_a_later_request_may_be_of_what_an_earlier_one_trains(home):
    train = Request("train", None, {"task": "digits-mlp", "run": "new", "steps": 7, "device": "cpu"})
    look = Request("surface", "new@last", {"device": "cpu"})
    keys = run_all([train, look], home, start=fakes.training)
    assert [JobStore(home).view(key).state for key in keys] == ["done", "done"]
    assert JobStore(home).view(keys[1]).source == "new@7"


def test_training_is_done_while_its_run_stands(home):
    def train(**values):
        item = Request("train", None, {"task": "digits-mlp", "run": "new", "steps": 7, "device": "cpu", **values})
        return run_or_join(item, home, start=fakes.training)

    assert train().attempts == 1
    assert train().attempts == 1
    RunStore(home).delete("new")
    assert train().attempts == 2
    assert train(widths=[8]).attempts == 1  # another run under the same name
    assert train().attempts == 3
    assert len(evaluated(home)) == 4


@pytest.mark.fault("A result is lost or damaged", sees="Not computed yet", lost="That result", on="It is computed afresh")
def test_a_lost_or_damaged_result_is_computed_afresh(home, caplog):
    run_or_join(request(), home, start=fakes.sleepy)
    (file,) = (home / "cache").glob("*/*/*.val")
    file.write_bytes(file.read_bytes()[:200])
    assert run_or_join(request(), home, start=fakes.sleepy).state == "done"
    assert cells_of(home) == list(range(CELLS))
    ResultCache(home).drop(request().key(home))
    assert run_or_join(request(), home, start=fakes.sleepy).state == "done"
    assert len(evaluated(home)) == 3 * CELLS
    assert len(caplog.records) == 1


def test_a_result_without_a_job_is_known(home):
    ResultCache(home).put(request().key(home), Result({"loss": np.zeros(1)}, {}, {}))
    view = run_or_join(request(), home, start=fakes.breaking)
    assert (view.state, view.done) == ("done", view.total)


def test_damaged_partial_arrays_mean_a_fresh_start(home, started, caplog):
    child = started(request(), start="slow")
    begun(home)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    for file in (home / "jobs").glob("*/*/*.val"):
        file.write_bytes(file.read_bytes()[:100])
    assert run_or_join(request(), home, start=fakes.sleepy).state == "done"
    assert cells_of(home) == list(range(CELLS))
    assert len(caplog.records) == 1


def test_a_partial_that_cannot_be_resumed_from_is_dropped(home):
    def unlike(kind, source, spec, place, partial):
        yield Progress(1, 2, partial={"something": np.ones(1)})
        raise RuntimeError("half way")

    states = [run_or_join(request(), home, start=start).state for start in (unlike, fakes.sleepy, fakes.sleepy)]
    assert states == ["failed", "failed", "done"]


def test_a_partial_that_fails_a_later_stage_is_dropped_but_not_for_a_full_disk(home):
    def failing(problem, partial):
        def start(*_):
            yield Progress(2, 4, partial=partial)  # it advances first
            raise problem

        return start

    for problem, kept in ((KeyError("numbers"), False), (OSError(28, "No space left on device"), True)):
        item = request(seed=7 + kept)
        for partial in ({"a": np.ones(1)}, None):
            assert run_or_join(item, home, start=failing(problem, partial)).state == "failed"
        assert (JobStore(home).partial(item.key(home)) is not None) == kept


def test_a_run_that_changes_under_a_job_is_not_kept_under_its_old_key(home):
    def changing(kind, source, spec, place, partial):
        result = yield from fakes.sleepy(kind, source, spec, place, partial)
        write_run(place, mark="other")
        return result

    key = request().key(home)
    view = run_or_join(request(), home, start=changing)
    assert view.state == "failed"
    assert "changed" in view.error
    assert not ResultCache(home).has(key)


def test_nothing_is_computed_that_could_not_be_kept_after_waiting_for_a_slot(home, monkeypatch):
    acquire, looks = JobStore.acquire, []

    def later(self, *args):
        looks.append(args)
        if len(looks) == 1:
            write_run(home, mark="other")
            return False
        return acquire(self, *args)

    monkeypatch.setattr(JobStore, "acquire", later)
    view = run_or_join(request(), home, start=fakes.sleepy)
    assert (view.state, view.bad_input) == ("failed", True)
    assert "changed" in view.error
    assert evaluated(home) == []


@pytest.mark.fault(
    "The disk is full while a job keeps its first pictures",
    sees="failed: the disk is full: free some space, then run it again; what is finished is kept",
    lost="What was not yet written down",
    on="Run again after space is made: it goes on from there",
)
@pytest.mark.parametrize("folder", ["jobs", "cache"])
def test_a_full_disk_fails_with_one_clear_line(home, monkeypatch, folder):
    real = diskcache.Disk._write

    def full(self, path, iterator, mode, encoding=None):
        if str(home / folder) in path:
            real(self, path, iter([b"half"]), mode, encoding)
            raise OSError(28, "No space left on device", path)
        return real(self, path, iterator, mode, encoding)

    with monkeypatch.context() as patch:
        patch.setattr(diskcache.Disk, "_write", full)
        view = run_or_join(request(), home, start=fakes.sleepy)
    assert view.state == "failed"
    assert view.error == f"the disk is full: free some space for {home}, then run it again; what is finished is kept"
    assert "\n" not in view.error
    assert run_or_join(request(), home, start=fakes.sleepy).state == "done"
    assert cells_of(home) == list(range(CELLS))


def test_the_first_picture_comes_at_once_and_later_ones_seldom(home):
    versions, times = [], []
    store, key = JobStore(home), request().key(home)

    def quick(*args):
        for step in fakes.sleepy(*args, pause=0.005):
            yield step
            view = store.view(key)
            versions.append(view.version)
            times.append(time.monotonic())
        return Result({"loss": np.zeros(1)}, {}, {})

    run_or_join(request(), home, start=quick)
    assert max(versions) <= 2 + (times[-1] - times[0]) / 0.2


@pytest.mark.parametrize("refused", [0, 1])
def test_large_pictures_come_although_the_news_between_have_none(home, monkeypatch, refused):
    store, item, versions, left = JobStore(home), request(), set(), [refused]
    advance = JobStore.advance

    def busy_at_first(self, key, owner, progress):
        if progress.partial is not None and left[0]:
            left[0] -= 1
            raise Busy
        return advance(self, key, owner, progress)

    monkeypatch.setattr(JobStore, "advance", busy_at_first)

    def growing(kind, source, spec, home, partial):
        cells = np.zeros(300_000)  # too large to be copied at every progress
        end = time.monotonic() + 4.0
        while time.monotonic() < end:
            cells += 1
            yield Progress(cells[0], 1e9, "growing", {"cells": cells})
            versions.add(store.view(item.key(home)).version)
            time.sleep(0.07)
        return Result({"loss": cells}, {"analysis": kind, "source": source}, {})

    run_or_join(item, home, start=growing)
    assert len(versions) >= 4  # with the pauses that writing them may ask for


def test_another_shared_store_is_enough(home, monkeypatch):
    stores = {"jobs": Memory(), "cache": Memory()}
    for module in (store_module, results_module):
        monkeypatch.setattr(module, "open_shared", lambda _, name: stores[name])
    view = run_or_join(request(), home, start=fakes.sleepy)
    assert (view.state, view.done, view.attempts) == ("done", CELLS, 1)
    assert cells_of(home) == list(range(CELLS))
    assert run_or_join(request(), home, start=fakes.breaking).attempts == 1
    assert not (home / "jobs").exists()
    assert not (home / "cache").exists()


def test_nothing_here_imports_torch():
    code = "import sys, landscape_core.jobs.runner, landscape_core.jobs.launch.forkserver; sys.exit('torch' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0
