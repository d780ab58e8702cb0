"""What every shared store must do: a new implementation joins the list, and `APART` if other processes reach it."""

import multiprocessing
import shutil
import threading

import pytest

from landscape_core.jobs.shared import folder
from landscape_core.jobs.shared.protocol import Busy

from .memory import Memory

WAIT = 0.3


def in_folder(path):
    return folder.Folder(path / "shared")


IMPLEMENTATIONS = {"folder": in_folder, "memory": lambda _: Memory(WAIT)}
APART = {"folder": in_folder}


@pytest.fixture(params=IMPLEMENTATIONS)
def shared(request, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "WAIT", WAIT)
    return IMPLEMENTATIONS[request.param](tmp_path)


def elsewhere(do):
    """What another thread gets."""
    found = []
    thread = threading.Thread(target=lambda: found.append(do()))
    thread.start()
    thread.join()
    return found[0]


def count(shared, times):
    for _ in range(times):
        with shared.take() as held:
            held.set("count", str(int(held.get("count") or 0) + 1))


def test_entries_come_back_as_they_were_put(shared):
    assert shared.get("a") is None
    assert not shared.has("a")
    for value in ("", "text", "ü\n\0", b"", b"\0\xff" * 100_000):
        shared.set("a", value)
        assert shared.get("a") == value
        assert type(shared.get("a")) is type(value)
        assert shared.has("a")
        assert elsewhere(lambda: shared.get("a")) == value
    shared.delete("a")
    shared.delete("a")
    assert not shared.has("a")
    assert shared.get("a") is None


def test_names_by_their_beginning(shared):
    for name in ("one:a", "one:b", "two:a", "one"):
        shared.set(name, b"")
    assert sorted(shared.names()) == ["one", "one:a", "one:b", "two:a"]
    assert sorted(shared.names("one:")) == ["one:a", "one:b"]
    assert list(shared.names("three")) == []
    for name in shared.names("one"):  # may be changed meanwhile
        shared.delete(name)
    assert list(shared.names()) == ["two:a"]


@pytest.mark.parametrize("value", [None, 1, 1.5, True, {"a": 1}, bytearray(b"a")])
def test_other_values_are_refused(shared, value):
    with pytest.raises(TypeError, match="values are"):
        shared.set("a", value)
    with pytest.raises(TypeError, match="values are"), shared.take() as held:
        held.set("a", value)
    assert not shared.has("a")


def test_a_take_reads_what_it_wrote_and_others_see_all_of_it_at_its_end(shared):
    shared.set("old", "1")
    with shared.take() as held:
        held.set("old", "2")
        held.set("new", b"bytes")
        held.set("gone", "x")
        held.delete("gone")
        assert (held.get("old"), held.get("new"), held.has("gone")) == ("2", b"bytes", False)
        assert sorted(held.names()) == ["new", "old"]
        assert elsewhere(lambda: (shared.get("old"), list(shared.names()))) == ("1", ["old"])
    assert elsewhere(lambda: (shared.get("old"), shared.get("new"))) == ("2", b"bytes")


@pytest.mark.parametrize("problem", [ValueError, OSError, KeyboardInterrupt])
def test_a_take_that_raises_changes_nothing_and_the_store_goes_on(shared, problem):
    shared.set("a", "1")

    def fail():
        with shared.take() as held:
            held.set("a", "2")
            held.set("b", "2")
            held.delete("a")
            raise problem

    with pytest.raises(problem):
        fail()
    assert (shared.get("a"), shared.has("b")) == ("1", False)
    count(shared, 2)
    assert shared.get("count") == "2"


def test_takes_exclude_each_other(shared):
    threads = [threading.Thread(target=count, args=(shared, 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.get("count") == "40"


def test_who_waits_too_long_is_told_that_the_store_is_busy(shared):
    def refused():
        with pytest.raises(Busy), shared.take():
            raise AssertionError("two at once")
        return "refused"

    with shared.take() as held:
        held.set("a", "1")
        assert elsewhere(refused) == "refused"
    assert shared.get("a") == "1"
    assert elsewhere(lambda: count(shared, 1)) is None


def test_the_size_follows_what_is_kept(shared):
    empty = shared.size()
    shared.set("a", b"x" * 200_000)
    assert 200_000 <= shared.size() - empty <= 300_000
    shared.delete("a")
    shared.tidy()
    assert shared.size() - empty < 100_000


@pytest.mark.parametrize("name", APART)
def test_other_processes_share_it_and_wait_for_each_other(tmp_path, name):
    shared = APART[name](tmp_path)
    processes = [multiprocessing.get_context("spawn").Process(target=count, args=(shared, 20)) for _ in range(2)]
    for process in processes:
        process.start()
    count(APART[name](tmp_path), 20)
    for process in processes:
        process.join()
    assert shared.get("count") == "60"


# -- the folder alone ----------------------------------------------------------------------------------------------------


def test_an_entry_that_is_deleted_or_replaced_leaves_no_file(tmp_path):
    shared = in_folder(tmp_path)
    shared.set("a", b"x" * 1000)
    (file,) = shared.path.glob("*/*/*.val")
    shared.set("a", b"y" * 1000)
    assert not file.exists()
    assert len(list(shared.path.glob("*/*/*.val"))) == 1
    shared.delete("a")
    assert not list(shared.path.glob("*/*/*.val"))


def test_a_folder_removed_under_it_is_begun_anew(tmp_path):
    shared = in_folder(tmp_path)
    shared.set("a", "1")
    shutil.rmtree(shared.path)
    assert shared.get("a") is None
    count(shared, 1)
    assert in_folder(tmp_path).get("count") == "1"
