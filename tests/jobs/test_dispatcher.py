"""Jobs that wait in the store and are begun one after the other: real processes."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest

from landscape_core.jobs import records
from landscape_core.jobs.launch import dispatcher as module
from landscape_core.jobs.launch.dispatcher import Dispatcher
from landscape_core.jobs.launch.forkserver import ForkServer
from landscape_core.jobs.queue import enqueue
from landscape_core.jobs.requests import Request
from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.store import JobStore

from . import fakes
from .fakes import CELLS, ended, evaluated, request, wait_for, write_run


@pytest.fixture(scope="module")
def forkserver():
    server = ForkServer(("tests.jobs.fakes", "landscape_core.jobs.launch.dispatcher"))
    server.warm()
    return server


@pytest.fixture
def home(tmp_path):
    write_run(tmp_path)
    return tmp_path


@pytest.fixture
def serve(home, forkserver):
    """Starts a dispatcher whose jobs compute as the named fake does."""

    def start(name="sleepy"):
        dispatcher = Dispatcher(home, forkserver.start, partial(fakes.do, name))
        started.append(dispatcher)
        dispatcher.start()
        return dispatcher

    started = []
    yield start
    for dispatcher in started:
        dispatcher.stop()
        dispatcher.join(10)
        for child in dispatcher._children:
            child.process.kill()
            child.process.join()


def state(home, item):
    view = JobStore(home).view(item.key(home))
    return view.state if view else ""


def began(home, items):
    """When each began, by the time since the machine started: the wall clock may be set."""
    return [records.read(JobStore(home).shared, item.key(home))["started"] for item in items]


def processes():
    """The processes of jobs: children of the fork server, which is a child of ours."""
    (server,) = [child for child in psutil.Process().children() if "forkserver" in " ".join(child.cmdline())]
    return [child.pid for child in server.children() if not ended(child)]


def test_many_launches_wait_without_a_process(home, serve, effort):
    count = effort(20, 60)
    dispatcher, store = serve("brisk"), JobStore(home)
    items = [request(seed) for seed in range(count)]
    for i, item in enumerate(items):
        enqueue([item], home, asker=str(i % 3))
        dispatcher.wake()
    assert [view.state for view in store.active()].count("queued") >= min(count - 1, 20)
    most = 0
    while store.active():
        most = max(most, len(processes()))
        time.sleep(0.05)
        if most and len(evaluated(home)) > 2 * CELLS:
            break  # the rest quicker
    for item in items:
        store.cancel(item.key(home))
    assert most <= 2  # one at work, and perhaps one that is ending
    begun = [store.view(item.key(home)) for item in items]
    assert all(view.attempts <= 1 for view in begun)
    assert {view.state for view in begun} <= {"done", "cancelled", "running"}
    wait_for(lambda: not store.active() and not store.turns())


def test_all_are_done_in_their_order(home, serve):
    dispatcher, store = serve("quick"), JobStore(home)
    items = [request(seed) for seed in range(12)]
    for item in items:
        enqueue([item], home)
    dispatcher.wake()
    wait_for(lambda: all(state(home, item) == "done" for item in items), 60)
    views = [store.view(item.key(home)) for item in items]
    assert [view.attempts for view in views] == [1] * 12
    assert began(home, items) == sorted(began(home, items))
    assert store.turns() == ()


def test_what_follows_is_begun_when_it_is_known_and_not_after_a_failure(home, serve):
    dispatcher = serve("training")
    train = Request("train", None, {"task": "digits-mlp", "run": "new", "steps": 5})
    look = Request("surface", "new@last", {"device": "cpu"})
    enqueue([train, look], home)
    dispatcher.wake()
    wait_for(lambda: (home / "runs" / "new" / "run.json").exists())
    wait_for(lambda: ResultCache(home).has(look.key(home)))
    dispatcher.stop()
    dispatcher.join()
    serve("breaking")
    bad, never = request(1), request(2)
    enqueue([bad, never], home)
    wait_for(lambda: state(home, bad))
    wait_for(lambda: not JobStore(home).turns() and not JobStore(home).active())
    assert state(home, never) == ""


@pytest.mark.fault(
    "The server ends while jobs wait",
    sees="They wait as before when it is back",
    lost="Nothing",
    on="The next server begins them",
)
def test_what_waits_when_the_server_ends_goes_on_with_the_next(home, serve):
    first, second = request(1), request(2)
    enqueue([first, second], home)
    assert (state(home, first), state(home, second)) == ("queued", "")
    serve("quick")  # only now
    wait_for(lambda: state(home, second) == "done")


def test_two_dispatchers_begin_each_job_once(home, serve):
    items = [request(seed) for seed in range(8)]
    for item in items:
        enqueue([item], home)
    serve("sleepy")
    serve("sleepy")
    wait_for(lambda: all(state(home, item) == "done" for item in items), 60)
    assert len(evaluated(home)) == 8 * CELLS
    assert all(JobStore(home).view(item.key(home)).attempts == 1 for item in items)


def test_a_job_asked_for_twice_is_computed_once_and_what_follows_each_is_done(home, serve):
    dispatcher = serve("sleepy")
    common, one, two = request(1), request(2), request(3)
    enqueue([common, one], home, "a")
    enqueue([common, two], home, "b")
    dispatcher.wake()
    wait_for(lambda: state(home, one) == state(home, two) == "done", 30)
    assert len(evaluated(home)) == 3 * CELLS


def test_a_job_whose_process_is_killed_is_taken_over_by_who_waits_for_it(home, serve):
    dispatcher, store = serve("slow"), JobStore(home)
    enqueue([request(1)], home, "a")
    dispatcher.wake()
    wait_for(lambda: (view := store.view(request(1).key(home))) and view.version)
    enqueue([request(1)], home, "b")
    dispatcher.wake()
    os.kill(processes()[0], signal.SIGKILL)
    wait_for(lambda: store.view(request(1).key(home)).attempts == 2)
    store.cancel(request(1).key(home))
    wait_for(lambda: not store.active())


@pytest.mark.fault(
    "The process of a job dies before it has begun",
    sees="interrupted before it began, with Resume",
    lost="Nothing",
    on="Resume",
)
def test_a_process_that_dies_before_it_begins_leaves_an_interrupted_job(home, serve, forkserver):
    dispatcher = Dispatcher(home, forkserver.start, _dies)
    enqueue([request(1), request(2)], home)
    dispatcher.start()
    wait_for(lambda: state(home, request(1)) == "interrupted")
    assert state(home, request(2)) == ""
    dispatcher.stop()


def _dies(*_):
    os._exit(3)


@pytest.mark.fault(
    "No process can be started", sees="failed: no process could be started for it, and why", lost="Nothing", on="Run again"
)
def test_what_the_queue_cannot_begin_is_said(home, forkserver):
    def full(*_):
        raise OSError(11, "Resource temporarily unavailable")

    enqueue([request(1)], home)
    Dispatcher(home, full).step()
    view = JobStore(home).view(request(1).key(home))
    assert (view.state, view.error) == ("failed", "no process could be started for it: Resource temporarily unavailable")


@pytest.mark.fault(
    "A run is trained anew or deleted while a job of it waits",
    sees="failed: a run that it needs has changed since; ask for it again",
    lost="Nothing",
    on="Asked for again, it is of the new run",
)
def test_a_run_that_has_changed_meanwhile_fails_in_one_line(home, forkserver):
    enqueue([request(1)], home)
    key = request(1).key(home)
    write_run(home, mark="other")
    module.work(key, home)
    view = JobStore(home).view(key)
    assert (view.state, view.bad_input) == ("failed", True)
    assert "has changed since" in view.error
    enqueue([request(2)], home)
    key = request(2).key(home)
    (home / "runs" / "digits" / "run.json").unlink()
    module.work(key, home)
    assert "there is no run" in JobStore(home).view(key).error


@pytest.mark.fault(
    "The list of those that wait is lost",
    sees="interrupted before it began, with Resume, within two minutes",
    lost="Their places in the queue",
    on="Resume",
)
def test_a_lost_list_is_noticed(home, forkserver, monkeypatch):
    monkeypatch.setattr(module, "SWEEP", 0.0)
    enqueue([request(1)], home)
    store = JobStore(home)
    store.shared.delete("waiting:")
    store.shared.delete("turns")
    dispatcher = Dispatcher(home, forkserver.start)
    dispatcher.step()
    assert state(home, request(1)) == "queued"  # another server may be starting it
    dispatcher.step()
    assert state(home, request(1)) == "interrupted"


def test_a_program_that_waited_before_is_not_overtaken(home, serve):
    """Programs that compute for themselves take slots as well, in the order of asking."""
    code = (
        "import sys; from pathlib import Path; from tests.jobs import fakes\n"
        "from landscape_core.jobs.runner import run_or_join\n"
        "run_or_join(fakes.request(int(sys.argv[2])), Path(sys.argv[1]), start=fakes.brisk)"
    )
    first = subprocess.Popen([sys.executable, "-c", code, str(home), "1"])
    wait_for(lambda: state(home, request(1)) == "running")
    second = subprocess.Popen([sys.executable, "-c", code, str(home), "2"])
    wait_for(lambda: state(home, request(2)) == "queued")
    enqueue([request(3)], home)
    serve("sleepy")
    wait_for(lambda: state(home, request(3)) == "done", 40)
    first.wait()
    second.wait()
    started = began(home, [request(seed) for seed in (1, 2, 3)])
    assert started == sorted(started)


def test_on_whatever_device_one_process_runs_at_a_time(home, serve):
    """What "auto" means only the processes know, which ask PyTorch."""
    dispatcher, store = serve("brisk"), JobStore(home)
    items = [request(seed, device=device) for seed in range(5) for device in ("auto", "cpu")]
    for item in items:
        enqueue([item], home)
    dispatcher.wake()
    most = 0
    for _ in range(60):
        most = max(most, len(processes()))
        time.sleep(0.05)
    assert 1 <= most <= 2  # one at work, and perhaps one that is ending
    for item in items:
        store.cancel(item.key(home))
    wait_for(lambda: not store.active())


def test_whatever_goes_wrong_jobs_are_begun_once_it_is_over(home, serve, monkeypatch):
    broken, real = [OSError(28, "No space left on device"), RuntimeError("what nobody thought of")], JobStore.turns

    def turns(self):
        if broken:
            raise broken.pop()
        return real(self)

    monkeypatch.setattr(JobStore, "turns", turns)
    monkeypatch.setattr(module, "IDLE", 0.1)
    enqueue([request(1)], home)
    serve("quick")
    wait_for(lambda: state(home, request(1)) == "done")
    assert broken == []


def test_a_list_of_another_format_is_passed_over(home):
    enqueue([request(1)], home)
    store = JobStore(home)
    store.shared.set("waiting:other", '[{"key": "k"}, {"ticket": 1, "rest": [], "more": 2}, 3, null]')
    store.shared.delete("turns")
    assert [item.key for item in store.turns()] == [request(1).key(home)]
