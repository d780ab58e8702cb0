"""Runs that are not as one expects, on every page in a real browser: something is shown or said of each, and nothing breaks."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Locator, Page, expect

from landscape_core.analyses import ANALYSES
from landscape_core.checkpoints.runs import RunStore
from landscape_core.checkpoints.weights import load_weights, save_weights
from landscape_core.jobs.requests import Request
from landscape_core.jobs.runner import run_all, run_or_join
from landscape_core.specs import Analysis, InputError, task_spec
from landscape_core.tasks.importing import import_weights
from pages._components.shell.address import write_query

from ..analyses.running import small
from ..serving import PATIENCE, Server

expect.set_options(timeout=PATIENCE)
LISTED = [item for item in ANALYSES.values() if item.listed]
ODD = ("single", "growing", "diverged", "nan", "untested", "imported")
NETWORK = {"widths": [3], "samples": 64}


class Odd(NamedTuple):
    """The server over the odd runs; what became of every analysis of each: "done", or the sentence why there is no result."""

    server: Server
    became: Mapping[tuple[str, str], str]


def prepare(home: Path) -> None:
    """One run as it should be, and odd ones made from it."""
    values = {"task": "moons-mlp", "run": "plain", "steps": 30, "record": [0, 3, 10, 30], **NETWORK}
    run_all([Request("train", None, values)], home)
    runs = RunStore(home)
    plain = runs.read("plain")
    *early, last = plain.checkpoints

    def put(name: str, **changes: Any) -> None:
        shutil.copytree(runs.folder("plain"), runs.folder(name), dirs_exist_ok=True)
        runs.write(plain.model_copy(update={"name": name, **changes}))

    put("single", checkpoints=plain.checkpoints[-1:])
    put("growing", checkpoints=plain.checkpoints[:3], state="training")
    for name, factor, state in (("diverged", 1e30, "diverged"), ("nan", float("nan"), "done")):
        put(name)
        file = runs.folder(name) / last.file
        weights = {key: value * factor for key, value in load_weights(file, last.fingerprint).items()}
        lost = {"fingerprint": save_weights(file, weights), "metrics": dict.fromkeys(last.metrics)}
        message = "the loss is not finite from step 30 on" if state == "diverged" else ""
        runs.write(
            runs.read(name).model_copy(
                update={"state": state, "message": message, "checkpoints": (*early, last.model_copy(update=lost))}
            )
        )
    seen = [
        item.model_copy(update={"metrics": {k: v for k, v in item.metrics.items() if "test" not in k}})
        for item in plain.checkpoints
    ]
    put("untested", checkpoints=tuple(seen), sizes={"train": plain.sizes["train"]}, data={"train": plain.data["train"]})
    import_weights(runs.folder("plain") / last.file, task_spec("moons-mlp", **NETWORK), "imported", 0, home)


def quick(item: Analysis) -> dict[str, Any]:
    """Fields with which it takes a moment, in the run's own arithmetic: in float32 the weights overflow."""
    return {name: value for name, value in small(item).items() if name != "dtype"}


def come(home: Path) -> None:
    """The run that is deleted while a page shows it, made anew."""
    runs = RunStore(home)
    shutil.copytree(runs.folder("plain"), runs.folder("gone"))
    runs.write(runs.read("plain").model_copy(update={"name": "gone"}))


def asked(item: Analysis, name: str, home: Path) -> str:
    try:
        view = run_or_join(Request(item.name, f"{name}@last", quick(item)), home)
    except InputError as error:
        return str(error)
    assert view.state == "done" or view.bad_input, (item.name, name, view.error)  # a sentence, not a mistake of the program
    return view.error or "done"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odd]:
    home = tmp_path_factory.mktemp("odd") / "home"
    home.mkdir()
    prepare(home)
    with RunStore(home).take("growing"):
        became = {(item.name, name): asked(item, name, home) for item in LISTED for name in ODD}
        server = Server(home)
        yield Odd(server, became)
        server.stop()
    assert server.complaints() == []


def test_the_odd_runs_are_refused_by_some_and_computed_by_some(odd: Odd) -> None:
    """What the pages are asked to show is of both kinds."""
    for name in ODD:
        assert "done" in {odd.became[item.name, name] for item in LISTED}, name
    assert {name for (_, name), became in odd.became.items() if became != "done"} >= {"single", "imported", "nan", "diverged"}


@pytest.mark.parametrize("item", [pytest.param(item, id=item.name) for item in LISTED])
def test_every_odd_run_is_shown_or_said_on_the_page(item: Analysis, odd: Odd, open_page: Callable[..., Page]) -> None:
    page = None
    for names in (ODD[:3], ODD[3:]):
        address = odd.server.address + item.path + write_query([f"{name}@last" for name in names], quick(item))
        if page is None:
            page = open_page(address, viewport={"width": 900, "height": 600})
        else:
            page.goto(address)
        became = {name: odd.became[item.name, name] for name in names}
        done = [name for name, words in became.items() if words == "done"]
        button = page.locator(f"#{item.name}-run")
        said = page.locator(f"#{item.name}-empty, #{item.name}-status")
        for words in became.values():
            if words != "done":
                expect(said.filter(has_text=words)).not_to_have_count(0)
        if done:
            expect(page.locator(f"#{item.name}-graphs .cell:not([hidden]) .js-plotly-plot").first).to_be_visible()
        failed = page.locator(f"#{item.name}-status .job-failed")
        if failed.count():
            expect(button).to_be_enabled()
            expect(page.locator(f"#{item.name}-cost")).not_to_be_empty()
        else:
            expect(button).to_be_disabled()
            expect(button).to_have_text("Computed" if done else "Compute")
    assert page is not None

    # Deleted while the page shows it: what one presses then is answered in words.
    come(odd.server.home)
    page.goto(odd.server.address + item.path + write_query(["gone@last"], {**quick(item), "seed": 1}))
    expect(page.locator(f"#{item.name}-empty")).to_contain_text("Press Compute")
    expect(button).to_be_enabled()
    RunStore(odd.server.home).delete("gone")
    button.click()
    expect(page.locator(f"#{item.name}-empty")).to_contain_text("there is no run 'gone'")
    expect(button).to_be_disabled()


def test_home_has_a_card_for_every_odd_run(odd: Odd, open_page: Callable[..., Page]) -> None:
    come(odd.server.home)
    page = open_page(odd.server.address + "/" + write_query([f"{name}@last" for name in (*ODD[:3], "gone")]))

    def card(name: str) -> Locator:
        return page.get_by_role("article", name=f"Run {name}", exact=True)

    for name in (*ODD, "gone"):
        expect(card(name)).to_be_visible()
    expect(card("diverged")).to_contain_text("the loss is not finite from step 30 on")
    expect(card("growing")).to_contain_text("training")
    RunStore(odd.server.home).delete("gone")
    page.reload()
    expect(card("single")).to_be_visible()
    expect(card("gone")).to_have_count(0)
