"""How a process may be ended is what its launcher declared, never a guess."""

import multiprocessing
import threading

import pytest

from landscape_core.jobs import processes
from landscape_core.jobs.processes import Worker

spawn = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def undeclared(monkeypatch):
    monkeypatch.setattr(processes, "_declared", None)


def in_a_thread(do):
    found = []
    thread = threading.Thread(target=lambda: found.append(do()))
    thread.start()
    thread.join()
    return found[0]


def test_somebodys_program_is_interrupted_where_that_reaches_the_job_and_never_orphaned():
    assert Worker.this().end == "interrupt"
    assert in_a_thread(Worker.this).end == "leave"
    assert not processes.orphaned()


@pytest.mark.parametrize("end", ["kill", "interrupt", "leave"])
def test_a_launcher_decides_for_all_threads(end):
    processes.declare(end)
    assert Worker.this().end == in_a_thread(Worker.this).end == end
    assert not processes.orphaned()


def test_a_process_is_orphaned_when_who_asked_for_it_has_ended():
    asker = [True]
    processes.declare("kill", lambda: asker[0])
    assert not processes.orphaned()
    asker[0] = False
    assert processes.orphaned()


def _end_of_this(pipe):
    pipe.send((Worker.this().end, processes.orphaned()))


def test_a_process_that_a_program_starts_for_itself_may_not_be_killed():
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_end_of_this, args=(theirs,))
    process.start()
    assert ours.recv() == ("interrupt", False)
    process.join()
