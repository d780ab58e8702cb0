"""Home in a real browser: the first start, training, bringing in weights, selecting, deleting, and every state drawn."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Locator, Page, expect

from landscape_core.checkpoints.runs import RunStore
from landscape_core.checkpoints.weights import load_weights
from landscape_core.jobs.store import JobStore

from ..serving import PATIENCE, Server


@pytest.fixture(scope="module")
def shared(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that do not get into each other's way; it takes uploads of at most 1 MB."""
    home = tmp_path_factory.mktemp("shared") / "home"
    shutil.copytree(trained, home)
    server = Server(home, LANDSCAPE_UPLOAD_MB="1")
    yield server
    server.stop()
    assert server.complaints() == []


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("article", name=f"Run {name}", exact=True)


def surface(page: Page, name: str) -> Locator:
    """The picture of the surface: what plotly has drawn of the heat map."""
    return card(page, name).locator(".card-thumbnail .heatmaplayer image")


def curves(page: Page, name: str) -> Locator:
    return card(page, name).locator(".card-grid > figure:first-child .scatterlayer .trace")


def test_the_first_start_trains_the_demo_and_draws_its_surface(
    start_server: Callable[..., Server], open_page: Callable[..., Page]
) -> None:
    server = start_server()
    page = open_page(server.address)
    expect(
        page.locator("#home-cards").get_by_text("A first run is about to be trained").or_(card(page, "demo"))
    ).to_be_visible()
    expect(card(page, "demo").get_by_role("progressbar").first).to_be_visible()
    expect(surface(page, "demo")).to_be_visible()
    expect(curves(page, "demo")).to_have_count(2)
    expect(card(page, "demo").get_by_text("Draw it")).to_have_count(0)
    expect(page.locator("#jobs-count")).to_have_text("Idle")
    assert RunStore(server.home).read("demo").state == "done"
    assert {view.state for view in JobStore(server.home).views()} == {"done"}
    # A second visit trains nothing more.
    page.reload()
    expect(surface(page, "demo")).to_be_visible()
    assert RunStore(server.home).names() == ["demo"]


def test_a_run_is_selected_and_opened_in_surface(shared: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(shared.address)
    page.get_by_role("button", name="Add first to the selection").click()
    expect(page.locator("#chips")).to_contain_text("first @ 60")
    expect(page).to_have_url(re.compile("on=first@last"))
    page.get_by_role("button", name="Remove first from the selection").click()
    expect(page.locator("#chips")).not_to_contain_text("first")
    card(page, "second").get_by_role("button", name="Draw it").click()
    expect(surface(page, "second")).to_be_visible()
    card(page, "second").get_by_role("link", name="Open loss surface").click()
    expect(page.locator("#surface-result")).to_be_visible()
    expect(page.locator("#chips")).to_contain_text("second @ 60")
    expect(page).to_have_url(re.compile("resolution=31"))
    page.go_back()
    expect(card(page, "first")).to_be_visible()


def test_a_run_is_trained_cancelled_and_resumed(shared: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(shared.address)
    expect(card(page, "first")).to_be_visible()
    page.get_by_role("button", name="Train a run").click()
    drawer = page.get_by_role("dialog", name="Train a run")
    name, rate = drawer.get_by_label("Name of the run"), drawer.get_by_role("textbox", name="Learning rate")
    expect(name).to_have_value("digits-mlp")
    go = drawer.locator("#train-go")
    expect(go).to_be_enabled()
    name.fill("first")
    expect(drawer.locator("#train-validation")).to_have_text("field 'run': there is a run 'first' already; choose another name")
    expect(go).to_be_disabled()
    name.fill("long")
    rate.fill("-1")
    expect(drawer.locator("#train-validation")).to_contain_text("field 'lr'")
    rate.fill("5e-2")
    expect(drawer.locator("#train-validation")).to_be_empty()
    expect(go).to_be_enabled()
    drawer.get_by_role("textbox", name="Steps", exact=True).fill("40000")
    go.click()
    expect(drawer).to_be_hidden()
    long = card(page, "long")
    expect(long.get_by_role("progressbar")).to_be_visible()
    expect(curves(page, "long").first).to_be_visible()
    long.get_by_role("button", name="Cancel Train long (digits-mlp)").click()
    expect(long.get_by_text("cancelled at")).to_be_visible()
    record = RunStore(shared.home).read("long")
    assert record.state == "stopped"
    assert record.training is not None
    assert (record.training["lr"], record.training["steps"]) == (0.05, 40_000)
    page.reload()  # what can be resumed can still be resumed
    long.get_by_role("button", name="Resume: Train long (digits-mlp)").click()
    expect(long.get_by_text("left").first).to_be_visible()
    long.get_by_role("button", name="Cancel Train long (digits-mlp)").click()
    expect(long.get_by_text("cancelled at")).to_be_visible()
    assert not JobStore(shared.home).active()


def test_a_training_that_cannot_be_done_says_why(shared: Server, open_page: Callable[..., Page]) -> None:
    (shared.home / "data" / "mnist").mkdir(parents=True)
    page = open_page(shared.address)
    expect(card(page, "first")).to_be_visible()
    page.get_by_role("button", name="Train a run").click()
    page.locator("#train-task").click()
    page.get_by_role("option", name="MNIST, fully connected").click()
    drawer = page.get_by_role("dialog", name="Train a run")
    expect(drawer.get_by_label("Name of the run")).to_have_value("mnist-mlp")
    drawer.locator("#train-go").click()
    failed = card(page, "mnist-mlp").get_by_role("status")
    expect(failed).to_contain_text("failed: ")
    expect(failed).to_contain_text("train-images-idx3-ubyte")
    expect(failed.get_by_role("button", name="Run again")).to_be_visible()


def send(page: Page, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files(file)


def test_weights_are_brought_in(shared: Server, open_page: Callable[..., Page], tmp_path: Path) -> None:
    runs = RunStore(shared.home)
    _, checkpoint = runs.resolve("first@last")
    weights = load_weights(runs.folder("first") / checkpoint.file)
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "my net.pt")
    page = open_page(shared.address)
    expect(card(page, "first")).to_be_visible()
    page.get_by_role("button", name="Bring in weights").click()
    drawer = page.get_by_role("dialog", name="Bring in weights")
    send(page, tmp_path / "my net.pt")
    expect(drawer.get_by_text("my net.pt, ")).to_be_visible()
    expect(drawer.get_by_label("Name of the run")).to_have_value("my-net")
    drawer.locator("#import-go").click()
    status = drawer.get_by_role("status").filter(has_text="failed")
    expect(status).to_contain_text("the uploaded file does not fit the network: ")  # it has 8 hidden neurons, not 64
    drawer.get_by_label("Widths").fill("8")
    drawer.get_by_label("Step of training").fill("-1")
    expect(drawer.locator("#import-validation")).to_contain_text("field 'step'")
    drawer.get_by_label("Step of training").fill("60")
    expect(drawer.locator("#import-validation")).to_be_empty()
    drawer.locator("#import-go").click()
    expect(drawer).to_be_hidden()
    expect(card(page, "my-net")).to_contain_text("brought in")
    expect(surface(page, "my-net")).to_be_visible()
    brought = runs.resolve("my-net@60")[1]
    assert brought.fingerprint == checkpoint.fingerprint
    assert list((shared.home / "uploads").iterdir()) == []


def test_an_upload_that_is_not_weights_is_refused_in_one_line(
    shared: Server, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    page = open_page(shared.address)
    expect(card(page, "first")).to_be_visible()
    page.get_by_role("button", name="Bring in weights").click()
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    send(page, tmp_path / "broken.safetensors")
    drawer = page.get_by_role("dialog", name="Bring in weights")
    expect(drawer.locator("#import-go")).to_be_enabled()
    drawer.locator("#import-go").click()
    expect(drawer.get_by_text("failed: the uploaded file is truncated or not a safetensors file")).to_be_visible()
    assert not RunStore(shared.home).exists("broken")


def test_the_upload_takes_only_what_it_should(shared: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(shared.address)
    own = {"X-Landscape-Upload": "1"}
    for name, headers, body, status in (
        ("w.pt", {}, b"x", 403),
        ("w.exe", own, b"x", 415),
        ("w.pt", own, b"", 400),
        ("w.pt", own, b"x" * (2**20 + 1), 413),
        ("../../w.pt", own, b"x", 200),
    ):
        before = set((shared.home / "uploads").glob("*"))
        # The server may close an idle connection just when it is taken up again: browsers try such a request once more.
        options = {"params": {"name": name}, "headers": headers, "data": body, "max_retries": 2}
        answer = page.request.post(f"{shared.address}/upload", **options)
        assert answer.status == status
        assert "\n" not in answer.text().strip()
        new = set((shared.home / "uploads").glob("*")) - before
        assert [len(file.name) for file in new] == ([64 + len(".pt")] if status == 200 else [])


def test_a_run_is_deleted_after_a_question(trained_server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{trained_server.address}/?on=first@last,second@last")
    expect(page.locator("#chips")).to_contain_text("first @ 60")
    card(page, "first").get_by_role("button", name="Delete first").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete first").click()
    expect(card(page, "first")).to_have_count(0)
    expect(card(page, "second")).to_be_visible()
    expect(page.locator("#chips")).not_to_contain_text("first")
    card(page, "second").get_by_role("button", name="Delete second").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete second").click()
    expect(page.get_by_text("There is no run")).to_be_visible()
    assert RunStore(trained_server.home).names() == []
    page.get_by_role("button", name="Train the demo run").click()
    expect(card(page, "demo")).to_be_visible()


def test_a_damaged_run_is_named_and_can_be_deleted(trained_server: Server, open_page: Callable[..., Page]) -> None:
    (trained_server.home / "runs" / "second" / "run.json").write_text("{")
    page = open_page(trained_server.address, color_scheme="dark")
    expect(card(page, "second")).to_contain_text("run 'second' is damaged")
    expect(curves(page, "first")).to_have_count(2)
    card(page, "second").get_by_role("button", name="Delete second").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete second").click()
    expect(card(page, "second")).to_have_count(0)


def test_an_experiment_trains_its_runs_and_opens_its_page(shared: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(shared.address)
    experiment = page.get_by_role("article", name="Experiment: Vanishing gradients in twenty layers")
    experiment.get_by_role("button", name="Train and open").click()
    expect(experiment).to_contain_text("Training")
    expect(page).to_have_url(re.compile("/high-dimensions"), timeout=4 * PATIENCE)  # two trainings of twenty layers
    expect(page.locator("#chips")).to_contain_text("lesson-deep-he @ 200")
    expect(page.locator("#high_dimensions-claims")).to_contain_text("Vanishing gradients")
    page.go_back()
    expect(experiment.get_by_role("link", name="Open")).to_be_visible()
    assert {"lesson-deep", "lesson-deep-he"} <= set(RunStore(shared.home).names())
