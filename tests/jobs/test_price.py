"""What is refused for its price: in one line, before it begins or as soon as its pace is known."""

import os
import subprocess
import sys

import pytest

from landscape_core.jobs import price, runner
from landscape_core.jobs.launch.forkserver import ForkServer
from landscape_core.jobs.price import calibration_of, known_seconds
from landscape_core.jobs.queue import enqueue
from landscape_core.jobs.requests import Request
from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.runner import run_or_join
from landscape_core.jobs.store import JobStore
from landscape_core.specs import InputError, Result

from . import fakes
from .fakes import request, write_run


@pytest.fixture
def home(tmp_path):
    write_run(tmp_path)
    return tmp_path


def measured(home, item, seconds):
    """As if one evaluation had taken so long."""
    wanted = item.resolve(home)
    found = dict.fromkeys(("seconds_forward", "seconds_gradient", "seconds_product"), seconds)
    key = calibration_of(wanted.run, wanted.spec.changed()).key(home)
    ResultCache(home).put(key, Result({**found, "parameters": 4810}, {}, {}))
    return wanted


@pytest.mark.fault(
    "More is asked for than the allowed hours",
    sees="failed: would take about so many hours, and at most 24 are allowed",
    lost="Nothing",
    on="Ask for less, or raise LANDSCAPE_HOURS",
)
@pytest.mark.parametrize(
    "item",
    [
        request(1),
        Request("spectrum", "digits@10", {"method": "lanczos", "probes": 8}),
        Request("overlap", "digits@last", {"method": "lanczos"}),
    ],
    ids=lambda item: item.kind,
)
def test_what_would_take_too_long_is_not_begun(home, item):
    wanted = measured(home, item, 3600.0)
    assert known_seconds(wanted, home) > 24 * 3600
    view = run_or_join(wanted, home)
    assert (view.state, view.bad_input) == ("failed", True)
    assert "hours, and at most 24 are allowed (LANDSCAPE_HOURS)" in view.error
    assert "\n" not in view.error


@pytest.mark.fault(
    "More is asked for than fits the memory",
    sees="failed: needs at least so many GB, and so many are free, with what to ask less of",
    lost="Nothing",
    on="Ask for less",
)
@pytest.mark.parametrize(
    "item",
    [
        Request("spectrum", "digits@10", {"method": "dense", "dtype": "float64"}),
        Request("overlap", "digits@last", {"method": "dense"}),
        Request("spectrum", "digits@10", {"method": "lanczos", "k": 100}),
    ],
    ids=str,
)
def test_what_does_not_fit_the_memory_is_not_begun(home, item, monkeypatch):
    monkeypatch.setattr(runner, "free_memory", lambda: 1_000_000)
    view = run_or_join(item, home)
    assert (view.state, view.bad_input) == ("failed", True)
    assert "GB of memory, and 0.0 GB are free" in view.error


def test_a_pace_that_is_too_slow_ends_a_job_of_unknown_price(home, monkeypatch):
    monkeypatch.setattr(price, "SURE", 0.1)
    monkeypatch.setenv("LANDSCAPE_HOURS", "0.0001")
    view = run_or_join(request(), home, start=fakes.brisk)
    assert (view.state, view.done < fakes.CELLS) == ("failed", True)
    assert "would take about" in view.error
    monkeypatch.delenv("LANDSCAPE_HOURS")
    assert run_or_join(request(), home, start=fakes.sleepy).state == "done"


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "a day"])
def test_a_limit_must_be_a_number_of_hours(text, monkeypatch):
    monkeypatch.setenv("LANDSCAPE_HOURS", text)
    with pytest.raises(InputError, match="LANDSCAPE_HOURS must be a positive number"):
        price.hours()


def test_what_is_short_is_known_from_its_measurement(home):
    enqueue([request(1)], home)
    assert not JobStore(home).turns()[0].short  # unknown
    measured(home, request(2), 1e-5)
    enqueue([request(2)], home)
    assert JobStore(home).turns()[1].short
    calibrate = calibration_of(request(1).resolve(home).run, {})
    enqueue([calibrate], home)
    assert JobStore(home).turns()[2].short


def greedy(folder):
    import numpy as np
    import torch

    words = []
    for take in (lambda: torch.ones(2**40), lambda: np.ones(2**40), lambda: bytearray(2**42)):
        try:
            take()
        except (MemoryError, RuntimeError) as error:
            words.append(runner._one_line(error, folder))
    (folder / "words").write_text("\n".join(words))


@pytest.mark.fault(
    "A job asks for more memory than is free",
    sees="failed: the memory is not enough, with what to take less of",
    lost="Nothing that was kept",
    on="The machine stays usable: each job has a limit of its own",
)
def test_a_job_has_a_limit_of_memory_and_says_what_to_take_less_of(tmp_path):
    ForkServer(()).start(greedy, tmp_path).join()
    words = (tmp_path / "words").read_text().splitlines()
    assert len(words) == 3
    assert all("the memory is not enough: take fewer" in line for line in words)


def steady(folder):
    """Takes little pieces until there are no more."""
    import resource

    import psutil

    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    (folder / "limit").write_text(f"{limit} {psutil.Process().memory_info().data}")


def test_the_limit_is_what_is_free(tmp_path):
    if sys.platform != "linux" or os.path.exists("/dev/nvidiactl"):
        pytest.skip("there is a limit on Linux without CUDA")
    from landscape_core.checkpoints.room import free_memory

    ForkServer(()).start(steady, tmp_path).join()
    limit, own = map(int, (tmp_path / "limit").read_text().split())
    assert 0.5 * free_memory() < limit - own < 1.1 * free_memory()


def test_the_command_line_refuses_as_well(home):
    measured(home, Request("spectrum", "digits@10"), 3600.0)
    command = [sys.executable, "-m", "landscape_core", "compute", "spectrum", "digits@10", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "at most 24 are allowed" in done.stderr
    assert "Traceback" not in done.stderr
