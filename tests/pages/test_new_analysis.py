"""An analysis that somebody adds is one folder: page, address, command, job, cache, files and copied texts follow from it."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from landscape_core.specs import Result

from ..serving import ROOT, Server

FOLDER = {
    "__init__.py": """
        from landscape_core.specs import Analysis, AnalysisSpec, Group, Measure, Variable, View, field


        class NoiseSpec(AnalysisSpec):
            '''How the loss grows when the weights are shaken.'''

            points: int = field(30, "Sizes of the noise.", unit="points", ge=2, le=500)
            pause: float = field(0.0, "Time between two points.", unit="s", ge=0, le=1)

            def work(self, _parameters=0, /):
                return {"forwards": float(self.points)}


        ANALYSIS = Analysis(
            "noise",
            "Weight noise",
            "How much shaking do these weights bear?",
            NoiseSpec,
            form=(Group("Noise", ("points", "seed"), labels={"points": "Sizes"}),),
            views=(View("log", "Logarithmic loss", default=True),),
            arrays=(
                Variable("size", "Norm of the noise.", "n", "weight norms"),
                Variable("loss", "Loss over the sample.", "n"),
                Variable("growth", "Largest loss over that of the weights."),
                Variable("evaluated", "Points that this attempt evaluated.", unit="points"),
            ),
            measures=(Measure("growth", "Growth under noise"),),
        )
        """,
    "compute.py": """
        import time

        import numpy as np
        import torch

        from landscape_core.measuring.growing import Growing


        def run(spec, context):
            objective = context.objective
            theta, generator = objective.theta, torch.Generator().manual_seed(spec.seed)
            way = torch.randn(len(theta), generator=generator).to(theta)
            way *= theta.norm() / way.norm()
            size, series = np.linspace(0, 1, spec.points), {"loss": np.full(spec.points, np.nan)}
            growing = Growing(context, {"points": spec.points})
            growing.resumed(series, size=size)
            growing.put(size=size, **series)
            todo = np.flatnonzero(np.isnan(series["loss"]))
            for i in todo:
                series["loss"][i] = objective.loss(theta + float(size[i]) * way)
                growing.done["points"] = int(i) + 1
                time.sleep(spec.pause)
                yield growing.report(f"{i + 1} of {spec.points} sizes")
            growing.put(growth=series["loss"].max() / series["loss"][0], evaluated=len(todo))
            return growing.arrays
        """,
    "figure.py": """
        import plotly.graph_objects as go

        from landscape_core.drawing.axes import cartesian_axis
        from landscape_core.drawing.style import base_layout, theme


        def figure(data, *, log=True, source="", color=None, dark=False, title=None, compact=False):
            layout = base_layout(theme(dark), title or "Weight noise", color=color, compact=compact)
            x, y = (cartesian_axis(theme(dark), words) for words in ("noise  (weight norms)", "loss"))
            layout |= {"xaxis": x, "yaxis": y | {"type": "log" if log else "linear"}}
            return go.Figure(go.Scatter(x=data["size"], y=data["loss"], line={"color": color}), layout=layout)
        """,
    "reading.py": """
        from landscape_core.drawing.numbers import number
        from landscape_core.drawing.statement import Reading


        def reading(data, spec):
            words = f"Noise as long as the weights makes the loss up to {number(data['growth'])} times as large."
            return [Reading("Growth", f"{number(data['growth'])} times", words, "max L / L(0)")]
        """,
}


@pytest.fixture(scope="module")
def analyses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the new analysis, and one that cannot be imported."""
    place = tmp_path_factory.mktemp("analyses of one's own")
    (place / "noise").mkdir()
    for name, text in FOLDER.items():
        (place / "noise" / name).write_text(textwrap.dedent(text).lstrip())
    (place / "crooked").mkdir()
    (place / "crooked" / "__init__.py").write_text("from landscape_core.specs import Analysis\nANALYSIS = Analysis(\n")
    return place


@pytest.fixture(scope="module")
def server(trained: Path, analyses: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("new") / "home"
    shutil.copytree(trained, home)
    made = Server(home, LANDSCAPE_ANALYSES=str(analyses))
    yield made
    made.stop()
    text = made.log.read_text()
    assert made.complaints() == []
    assert "the analysis crooked cannot be used: '(' was never closed (__init__.py, line 2)" in text


def command(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **server.environment, "LANDSCAPE_HOME": str(server.home)}
    line = [sys.executable, "-m", "landscape_core", *words]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def run_button(page: Page) -> Page:
    return page.locator("#noise-run")


def test_the_folder_is_small_and_nothing_else_names_it() -> None:
    assert sum(len(textwrap.dedent(text).strip().splitlines()) for text in FOLDER.values()) < 80
    found = subprocess.run(
        ["git", "grep", "-lw", "noise_spec\\|NoiseSpec"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert set(found.stdout.split()) <= {"tests/pages/test_new_analysis.py", "docs/house.md"}


def test_it_has_a_page_that_cancels_resumes_and_remembers(
    server: Server, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    page = open_page(f"{server.address}/?on=first@last")
    page.get_by_role("link", name="Weight noise").first.click()
    expect(page.get_by_role("heading", name="Weight noise")).to_be_visible()
    expect(page.get_by_text("How much shaking do these weights bear?")).to_be_visible()
    page.goto(f"{server.address}/noise?on=first@last&points=40&pause=0.2")
    expect(page.locator("#noise-cost")).to_contain_text("40 points")
    expect(run_button(page)).to_be_enabled()
    run_button(page).click()
    plot = page.locator("#noise-graphs .js-plotly-plot").first
    expect(plot.locator(".scatterlayer .trace")).to_be_attached()  # it fills in
    page.locator("#noise-status").get_by_role("button", name="Cancel").click()
    expect(run_button(page)).to_have_text("Resume")
    run_button(page).click()
    expect(run_button(page)).to_have_text("Computed")
    expect(page.locator("#noise-reading")).to_contain_text("Noise as long as the weights")
    page.reload()  # the address is the state, the result is kept
    expect(run_button(page)).to_have_text("Computed")
    expect(page.locator("#noise-provenance")).to_contain_text("from the cache")
    page.get_by_text("Table of numbers").click()
    expect(page.locator("#noise-numbers")).to_contain_text("Evaluated (points)")

    def download(kind: str) -> bytes:
        with page.expect_download() as started:
            page.get_by_label(re.compile(f"as {kind}$")).first.click()
        return Path(started.value.path()).read_bytes()

    result = Result.from_bytes(download("NPZ"))
    assert np.isfinite(result["loss"]).all()
    assert 0 < result["evaluated"] < 40  # the second attempt went on where the first one was
    rows = download("CSV").decode().splitlines()
    assert rows[0] == "size,loss"
    assert [float(row.split(",")[1]) for row in rows[1:]] == result["loss"].tolist()
    assert b"Plotly.newPlot" in download("HTML")


def test_command_and_copied_texts_give_the_same_from_the_cache(
    server: Server, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    listed = command(server, "analyses").stdout
    assert "noise: How much shaking" in listed
    assert "--view log" in listed
    done = command(server, "compute", "noise", "first@last", "--set", "points=5", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["evaluated"] == 5
    again = command(server, "compute", "noise", "first@last", "--set", "points=5")
    assert "from the cache" in again.stdout
    assert "Growth" in again.stdout
    wrong = command(server, "compute", "noise", "first@last", "--set", "points=1")
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines()[-1].startswith("error: field 'points'")
    page = open_page(
        f"{server.address}/noise?on=first@last&points=5&v.log=false", permissions=["clipboard-read", "clipboard-write"]
    )
    expect(run_button(page)).to_have_text("Computed")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LANDSCAPE", "PYTHON"))}
    for what in ("Python", "command"):
        page.get_by_role("button", name=f"Copy {what}").click()
        expect(page.locator("#noise-copied")).to_have_text(f"{what.capitalize()} copied")
        text = str(page.evaluate("navigator.clipboard.readText()"))
        if what == "Python":
            assert "log=False" in text
            text = text.replace(".show()", ".write_html('shown.html')")
            text = f"{sys.executable} - <<'END'\n{text}END\n"
        done = subprocess.run(
            ["sh", "-c", text], cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
    pages = [file.read_text() for file in tmp_path.glob("*.html")]
    assert len(pages) == 2
    assert all('"type":"linear"' in text for text in pages)


def test_a_broken_one_says_so_on_its_own_page_and_nowhere_else(server: Server, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{server.address}/crooked?on=first@last")
    expect(page.locator(".problem")).to_contain_text("was never closed")
    page.get_by_role("link", name="Loss surface").first.click()
    expect(page.locator("#surface-cost")).to_contain_text("points")
    done = command(server, "compute", "crooked", "first@last")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the analysis 'crooked' cannot be used: '(' was never closed")
    assert command(server, "compute", "noise", "first@last", "--set", "points=3").returncode == 0


def test_one_whose_picture_or_reading_fails_says_so_in_one_line(server: Server, analyses: Path) -> None:
    place = Path(shutil.copytree(analyses / "noise", analyses / "awry"))
    text = (place / "__init__.py").read_text()
    (place / "__init__.py").write_text(text.replace('"noise"', '"awry"').replace("Weight noise", "Awry"))
    takes = "data, *, log=True, source='', color=None, dark=False, title=None, compact=False"
    (place / "figure.py").write_text(f"def figure({takes}):\n    1 / 0\n")
    (place / "reading.py").write_text("def reading(data, spec):\n    return data['nothing']\n")
    for more in ((), ("--out", str(analyses / "x.html"), "--json")):
        done = command(server, "compute", "awry", "first@last", "--set", "points=3", *more)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: awry cannot be shown: ")


def test_a_default_out_of_bounds_is_a_fault_of_the_folder(server: Server, analyses: Path) -> None:
    place = Path(shutil.copytree(analyses / "noise", analyses / "loose"))
    text = (place / "__init__.py").read_text()
    (place / "__init__.py").write_text(text.replace('"noise"', '"loose"').replace("field(0.0,", "field(7.5,"))
    done = command(server, "compute", "loose", "first@last")
    assert done.returncode == 2
    assert "pause" in done.stderr.splitlines()[-1]
    assert command(server, "compute", "noise", "first@last", "--set", "points=3").stderr == ""
