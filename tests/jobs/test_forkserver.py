"""Launching under a real Dash server, in a real browser, and the processes that do the jobs."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import psutil
import pytest
from playwright.sync_api import expect

from landscape_core.analyses import ANALYSES
from landscape_core.jobs.launch.forkserver import PRELOAD, ForkServer
from landscape_core.jobs.store import JobStore

from .fakes import ended, evaluated, request, wait_for, write_run


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The process of the server, with its address and its home."""
    home = tmp_path_factory.mktemp("home")
    write_run(home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.jobs.dash_page", str(home), str(port)]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    process.address, process.home = f"http://127.0.0.1:{port}", home
    try:
        wait_for(lambda: _answers(process), 60)
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(process):
    assert process.poll() is None, (process.home / "server.log").read_text()
    try:
        return urllib.request.urlopen(process.address).status == 200
    except OSError:
        return False


def children(process):
    """The job processes: what the fork server started."""
    return [child for child in psutil.Process(process.pid).children(recursive=True) if child.ppid() != process.pid]


def open_page(browser, server):
    page = browser.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("response", lambda answer: answer.status >= 400 and page.problems.append(f"{answer.status} {answer.url}"))
    page.goto(server.address)
    expect(page.locator("#run")).to_be_visible()
    return page


def launch(page, seed):
    page.locator("#seed").fill(str(seed))
    page.locator("#run").click()


def test_a_second_launch_does_not_end_the_first_and_both_finish(browser, server):
    page = open_page(browser, server)
    launch(page, 1)
    expect(page.locator("#jobs")).to_contain_text("seed 1: running")
    launch(page, 2)  # the same callback: Dash asks the manager to end the first
    expect(page.locator("#jobs")).to_contain_text("seed 2: queued")
    other = open_page(browser, server)  # a second tab on the same key
    launch(other, 1)
    expect(page.locator("#jobs")).to_have_text(re.compile("seed 2: done\nseed 1: done"), timeout=40_000)
    keys = [request(seed).key(server.home) for seed in (1, 2)]
    expect(page.locator("#launches")).to_contain_text(keys[1])
    expect(other.locator("#launches")).to_contain_text(keys[0])
    assert len({line.split()[0] for line in evaluated(server.home)}) == 2  # one process each: none was ended and begun anew
    assert [JobStore(server.home).view(key).attempts for key in keys] == [1, 1]
    wait_for(lambda: not children(server))  # no process is left
    assert page.problems == other.problems == []
    assert {file.read_text() for file in server.home.glob("modules-*")} == {"True"}  # from the fork server: nothing imported it


def test_cancel_leaves_no_process_and_a_process_that_dies_is_no_error(browser, server):
    page = open_page(browser, server)
    launch(page, 3)
    expect(page.locator("#jobs")).to_contain_text("seed 3: running")
    page.locator("#cancel").click()
    expect(page.locator("#jobs")).to_contain_text("seed 3: cancelled")
    wait_for(lambda: not children(server))
    launch(page, 4)
    expect(page.locator("#jobs")).to_contain_text("seed 4: running")
    os.kill(children(server)[0].pid, signal.SIGKILL)
    expect(page.locator("#jobs")).to_contain_text("seed 4: interrupted")
    assert page.problems == []
    with page.expect_response(lambda answer: answer.status == 500):
        launch(page, 99)  # what goes wrong in a callback is told as Dash does


def test_the_server_does_not_wait_for_jobs_and_leaves_none(browser, server):
    page = open_page(browser, server)
    launch(page, 5)
    store, key = JobStore(server.home), request(5).key(server.home)
    wait_for(lambda: (view := store.view(key)) and view.version)
    jobs = wait_for(lambda: children(server))
    server.terminate()
    server.wait(5)
    wait_for(lambda: all(ended(job) for job in jobs))
    assert store.view(key).state == "interrupted"
    assert store.partial(key) is not None


def _tell(folder):
    from landscape_core.jobs.processes import Worker, orphaned

    (folder / "told").write_text(f"{Worker.this().end} {orphaned()}")


def test_its_processes_may_be_killed_and_know_who_asked_for_them(tmp_path):
    ForkServer(preload=()).start(_tell, tmp_path).join()
    assert (tmp_path / "told").read_text() == "kill False"


def test_what_every_listed_analysis_needs_is_imported_before_the_first_job():
    code = "import sys, landscape_core.jobs.launch.preload; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "landscape_core.jobs.launch.preload" in PRELOAD
    assert {f"{item.package}.compute" for item in ANALYSES.values()} <= set(loaded)
