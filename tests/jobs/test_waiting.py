"""Whose turn comes next, and what waits without a process."""

import dataclasses
import random

import pytest

from landscape_core.jobs import store as store_module
from landscape_core.jobs import waiting
from landscape_core.jobs.processes import Worker
from landscape_core.jobs.queue import enqueue
from landscape_core.jobs.requests import Request
from landscape_core.jobs.runner import run_or_join
from landscape_core.jobs.store import JobStore
from landscape_core.jobs.waiting import Waiting
from landscape_core.specs import InputError

from . import fakes
from .fakes import request, write_run
from .memory import Memory


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    return JobStore(tmp_path) if request.param == "folder" else JobStore("", Memory())


def put(store, key, asker="", **fields):
    store.put(Waiting(0, key, asker, **fields), request())


def order(store):
    return [item.key for item in store.turns()]


def serve(store, count):
    """The keys of the next `count` turns, each taken when it is its turn."""
    found = []
    for _ in range(count):
        item = store.turns()[0]
        assert store.take_turn(item)
        found.append(item.key)
    return found


def test_those_who_ask_take_turns(store):
    for key in ("a1", "a2", "a3", "a4"):
        put(store, key, "a")
    assert serve(store, 1) == ["a1"]
    put(store, "b1", "b")
    put(store, "c1", "c")
    put(store, "b2", "b")
    assert order(store) == ["b1", "c1", "a2", "b2", "a3", "a4"]
    assert serve(store, 2) == ["b1", "c1"]
    put(store, "b3", "b")  # who asks again at once does not go before who waits
    assert serve(store, 5) == ["a2", "b2", "a3", "b3", "a4"]
    assert order(store) == []


@pytest.mark.parametrize("seed", range(5))
def test_nobody_waits_longer_than_a_round(store, seed):
    """However many jobs the others have: between two turns of one who waits, each other has at most one."""
    chance = random.Random(seed)
    turns, waits = [], {}
    for step in range(60):
        for asker in "abcd":
            for _ in range(chance.choice((0, 0, 1, 5))):
                put(store, f"{asker}{step}-{chance.random()}", asker)
        if store.turns():
            served = serve(store, 1)[0][0]
            waiting_now = {item.key[0] for item in store.turns()}
            for asker in waiting_now - {served}:
                waits.setdefault(asker, []).append(served)
                assert max(waits[asker].count(other) for other in "abcd") <= 1, waits
            waits.pop(served, None)
            turns.append(served)
    assert len(set(turns)) == 4


def test_a_click_goes_before_what_pages_ask_for_by_themselves(store):
    put(store, "measure 1", "a", automatic=True)
    put(store, "measure 2", "b", automatic=True)
    put(store, "click 1", "b")
    put(store, "click 2", "b")
    assert order(store) == ["click 1", "click 2", "measure 1", "measure 2"]
    put(store, "measure 2", "c")  # a click on what waits already
    assert order(store) == ["click 1", "measure 2", "click 2", "measure 1", "measure 2"]
    assert store.view("measure 2").ahead == 1


def test_the_same_waits_once_and_its_place_is_said(store):
    put(store, "k", "a")
    put(store, "k", "a")
    put(store, "later", "a")
    assert order(store) == ["k", "later"]
    view = store.view("later")
    assert (view.state, view.ahead, view.attempts, view.asker, view.active) == ("queued", 1, 0, "a", True)
    assert [view.key for view in store.active()] == ["later", "k"]


def test_who_claims_what_waits_begins_it_once(store):
    put(store, "k", "a", short=True)
    owner = store.claim("k", request())
    assert owner is not None
    assert store.claim("k", request()) is None
    view = store.view("k")
    assert (view.state, view.attempts, view.asker) == ("queued", 1, "a")
    put(store, "k", "b")  # somebody is at it
    assert store.acquire("k", owner, "cpu")
    assert store.view("k").state == "running"


def test_what_is_cancelled_while_it_waits_is_never_begun(store):
    put(store, "k", "a")
    put(store, "other", "a")
    store.cancel("k")
    assert store.view("k").state == "cancelled"
    assert order(store) == ["other"]
    put(store, "k", "a")
    assert (store.view("k").state, order(store)) == ("queued", ["other", "k"])


@pytest.mark.fault(
    "Too many jobs wait",
    sees="too many jobs are waiting (so many of yours): cancel some, or ask again when some are done",
    lost="Nothing",
    on="Some are done or cancelled",
)
def test_too_many_are_refused_in_one_line(store, monkeypatch):
    monkeypatch.setattr(waiting, "EACH", 3)
    monkeypatch.setattr(waiting, "LIMIT", 5)
    for n in range(3):
        put(store, f"a{n}", "a")
    with pytest.raises(InputError, match=r"too many jobs are waiting \(3 of yours\): cancel some"):
        put(store, "a3", "a")
    assert store.view("a3") is None
    put(store, "b0", "b")
    put(store, "b1", "b")
    with pytest.raises(InputError, match="5 in all"):
        put(store, "c0", "c")
    store.take_turn(store.turns()[0])
    put(store, "c0", "c")


def test_a_short_job_may_run_beside_a_long_one_but_not_beside_another_short_one(store):
    def claim(key, short):
        put(store, key, short=short)
        return store.claim(key, request())

    def run(key, short):
        return store.acquire(key, claim(key, short), "cpu")

    assert run("long", False)
    assert not run("second", False)
    assert store.room("cpu", True, 10**9)
    assert not store.room("cpu", False, 10**9)
    assert run("short", True)
    assert not store.room("cpu", True, 10**9)
    assert not run("short 2", True)
    assert store.room("cuda:0", False, 10**9)  # devices have slots of their own


def test_two_short_ones_do_not_run_at_once(store):
    put(store, "a", short=True)
    assert store.acquire("a", store.claim("a", request()), "cpu")
    assert not store.room("cpu", True, 10**9)


def test_what_a_lost_list_named_is_found(store):
    put(store, "k", "a")
    put(store, "l", "b")
    store.shared.set(waiting.WAITING_ + "a", "{damaged")
    store.shared.set(waiting.TURNS_KEY, "[]")
    assert order(store) == ["l"]
    assert store.unlisted() == {"k"}
    store.give_up("k", "interrupted")
    assert store.view("k").state == "interrupted"
    put(store, "k", "a")
    assert order(store) == ["l", "k"]


def test_what_waits_is_not_forgotten_with_the_old_and_does_not_slow_their_end(store, monkeypatch):
    monkeypatch.setattr(store_module, "KEEP", 2)
    for n in range(30):
        put(store, f"w{n}")
    for n in range(4):
        owner = store.claim(f"k{n}", request())
        store.finish(f"k{n}", owner, "done")
    assert len(store.turns()) == 30
    assert {view.key for view in store.views()} == {"k2", "k3", *(f"w{n}" for n in range(20))}
    assert store.view("w29").ahead == 29


def test_who_is_served_last_is_remembered_for_so_many_only(store, monkeypatch):
    monkeypatch.setattr(waiting, "REMEMBERED", 3)
    for n in range(6):
        put(store, f"k{n}", f"asker{n}")
        serve(store, 1)
    assert len(waiting._served(store.shared)) == 3


def test_requests_that_are_done_are_passed_over(tmp_path):
    write_run(tmp_path)
    run_or_join(request(1), tmp_path, start=fakes.sleepy)
    assert enqueue([request(1)], tmp_path) is None
    key = enqueue([request(1), request(2), request(3)], tmp_path, "a")
    (item,) = JobStore(tmp_path).turns()
    assert (item.key, item.rest) == (key, (request(3).to_json(),))
    with pytest.raises(InputError, match="there is no run"):
        enqueue([Request("surface", "nobody")], tmp_path)


def test_a_dead_one_waits_anew_and_a_living_one_is_left_alone(store, monkeypatch):
    real = Worker.this
    monkeypatch.setattr(Worker, "this", lambda: dataclasses.replace(real(), born=1.0))
    store.claim("k", request())
    put(store, "k", "a")
    assert store.waits("k")
    monkeypatch.setattr(Worker, "this", real)
    store.claim("k", request())
    put(store, "k", "b")
    assert not store.waits("k")
