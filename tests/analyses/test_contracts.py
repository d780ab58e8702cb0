"""What every listed analysis keeps, whatever it is: made from the one list, so that a new one gets all of it for nothing."""

import ast
import base64
import csv
import dataclasses
import importlib
import inspect
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from landscape_core import presenting
from landscape_core.__main__ import main
from landscape_core.analyses import ANALYSES
from landscape_core.checkpoints.runs import RunStore
from landscape_core.drawing.known import Known
from landscape_core.drawing.statement import Reading
from landscape_core.jobs.compute import compute
from landscape_core.jobs.execute import start
from landscape_core.jobs.requests import Request
from landscape_core.jobs.results import ResultCache
from landscape_core.jobs.runner import run_all, run_or_join
from landscape_core.jobs.store import JobStore
from landscape_core.measuring import growing
from landscape_core.presenting.files import content
from landscape_core.specs import Analysis, AnalysisSpec, InputError, Result, bounds_of, choices_of, is_local, task_spec
from landscape_core.specs.result import pack, unpack
from landscape_core.tasks.importing import import_weights
from pages._components.shell.address import text_of, write_query

from .running import small

ROOT = Path(__file__).parents[2]
LISTED = [item for item in ANALYSES.values() if item.listed]
STANDARD = {"source", "color", "dark", "title", "compact"}
every = pytest.mark.parametrize("item", [pytest.param(item, id=item.name) for item in LISTED])


# -- what is asked of an analysis -----------------------------------------------------------------------------------------


def asked(item: Analysis) -> Iterator[dict[str, Any]]:
    """The small Spec, and for each field of the analysis's own those with every other choice, or a value at its bounds."""
    base = small(item)
    yield base
    for name, about in item.spec.model_fields.items():
        if name in AnalysisSpec.model_fields or name in base or is_local(item.spec, name):
            continue
        low, high = bounds_of(item.spec, name)
        values: Iterable[Any] = choices_of(item.spec, name) or ((True, False) if about.annotation is bool else ())
        if low is not None:
            values = (low, low + 2) if isinstance(low, int) and high > 1 else (low, high)
        for value in values:
            fields = {**base, name: value}
            try:
                changed = item.spec.parse(fields).changed()
            except InputError:
                continue  # not by itself
            if value != about.default and name in changed:
                yield fields


class Ran(NamedTuple):
    """One run of an analysis: the arrays that it reported on the way, and its Result or the sentence why there is none."""

    reports: list[dict[str, Any]]
    result: Result | None
    problem: str


def run(item: Analysis, fields: Mapping[str, Any], home: Path, partial: Any = None, stop_after: int = 0) -> Ran:
    """Run to the end, or until so many reports were made."""
    reports: list[dict[str, Any]] = []
    steps = start(item.name, "tiny@last", item.spec.parse(fields), home, partial)
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return Ran(reports, end.value, "")
        except InputError as error:
            return Ran(reports, None, str(error))
        assert 0 <= progress.done <= progress.total
        if progress.partial is not None:
            reports.append(unpack(pack(progress.partial)))  # as the store keeps them
            if len(reports) == stop_after:
                steps.close()
                return Ran(reports, None, "stopped")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run of 17 parameters, and one that was brought in: one checkpoint, and nobody knows how it was trained."""
    home = tmp_path_factory.mktemp("contracts") / "home"
    home.mkdir()
    network = {"widths": [3], "samples": 64}
    values = {"task": "moons-mlp", "run": "tiny", "steps": 30, "record": [0, 3, 10, 30], **network}
    run_all([Request("train", None, values)], home)
    _, last = RunStore(home).resolve("tiny@last")
    import_weights(RunStore(home).folder("tiny") / last.file, task_spec("moons-mlp", **network), "alone", 0, home)
    return home


@pytest.fixture(scope="module")
def ran(trained: Path) -> Callable[[Analysis], list[tuple[dict[str, Any], Ran]]]:
    """Every run that `asked` asks for, each made once, with reports as often as they come."""
    known: dict[str, list[tuple[dict[str, Any], Ran]]] = {}

    def of(item: Analysis) -> list[tuple[dict[str, Any], Ran]]:
        if item.name not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(growing, "REPORT_SECONDS", 0.0)
                known[item.name] = [(fields, run(item, fields, trained)) for fields in asked(item)]
        return known[item.name]

    return of


def finished(runs: list[tuple[dict[str, Any], Ran]]) -> Iterator[tuple[dict[str, Any], Ran, Result]]:
    return ((fields, made, made.result) for fields, made in runs if made.result is not None)


def equal(one: Known, other: Known) -> None:
    """Both hold the same arrays, but for the order of sums."""
    assert set(one) == set(other)
    for name in one:
        a, b = np.asarray(one[name]), np.asarray(other[name])
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10, err_msg=name)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


# -- what it declares -----------------------------------------------------------------------------------------------------


def test_no_two_analyses_share_a_name_an_address_or_a_place_in_the_navigation() -> None:
    for what in ("name", "path", "order", "title", "icon"):
        values = [getattr(item, what) for item in LISTED]
        assert len(set(values)) == len(values), what


@every
def test_the_declaration_holds_together(item: Analysis) -> None:
    assert not item.problem
    assert item.question.endswith("?")
    assert item.version >= 1
    assert (ROOT / "assets" / "icons" / f"{item.icon}.svg").is_file()
    shown = [name for group in item.groups() for name in group.fields]
    assert sorted(shown) == sorted(name for name in item.spec.model_fields if not is_local(item.spec, name))
    for group in item.form:
        assert {*group.labels, *group.words, *group.suggest} <= {*group.fields}
        for name, words in group.words.items():
            allowed = {*choices_of(item.spec, name), item.spec.model_fields[name].default}
            assert {*words} <= allowed, name
    declared = {variable.name: variable for variable in item.arrays}
    assert len(declared) == len(item.arrays)
    for measure in item.measures:
        assert declared[measure.name].dimensions == ()


@every
def test_the_figure_takes_every_view_and_what_all_figures_take(item: Analysis) -> None:
    draw = item.part("figure", "figure")
    assert draw is not None
    takes = inspect.signature(draw).parameters
    given = {name for name, about in takes.items() if about.kind is about.KEYWORD_ONLY}
    assert given >= STANDARD | {view.name for view in item.views}
    for view in item.views:
        assert takes[view.name].default == view.default_value, view.name


def misfits(known: Known, forms: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Where arrays have another number of dimensions than these forms, or one dimension has two lengths."""
    sizes: dict[str, tuple[str, int]] = {}
    found = []
    for name, form in forms.items():
        if np.ndim(known[name]) != len(form):
            found.append(f"{name} {np.shape(known[name])} is not {form}")
            continue
        for dimension, size in zip(form, np.shape(known[name]), strict=True):
            other, length = sizes.setdefault(dimension, (name, size))
            if size != (int(dimension) if dimension.isdigit() else length):
                found.append(f"{dimension} is {size} in {name}, {length} in {other}")
    return found


@every
def test_every_array_is_declared_and_has_the_dimensions_that_are_said_of_it(item: Analysis, ran: Any) -> None:
    declared = {variable.name: variable for variable in item.arrays}
    for fields, made, result in finished(ran(item)):
        assert {*result} <= {*declared}, fields
        for known in (result.arrays, *made.reports):
            shared = [declared[name] for name in known.keys() & declared.keys()]
            kinds = max(len(variable.forms) for variable in shared)
            told = [misfits(known, {v.name: v.forms[min(kind, len(v.forms) - 1)] for v in shared}) for kind in range(kinds)]
            assert [] in told, (fields, told)
    measured = {name for _, _, result in finished(ran(item)) for name in result}
    assert {measure.name for measure in item.measures} <= measured


# -- what is drawn and said -----------------------------------------------------------------------------------------------


def views(item: Analysis) -> Iterator[dict[str, Any]]:
    """The default view, and each other choice alone."""
    yield {}
    for view in item.views:
        for value in view.choices or (True, False):
            if value != view.default_value:
                yield {view.name: value}


def drawn(item: Analysis, datas: list[Known | None], view: Mapping[str, Any], *, dark: bool = False) -> int:
    """How many traces the pictures have; where there is none, a sentence stands in its place."""
    sources = ["tiny@30", "tiny@10"][: len(datas)]
    colors = ["#1f77b4", "#ff7f0e"][: len(datas)]
    figures = presenting.drawn(item, datas, sources, view, colors=colors if dark else (), dark=dark)
    for figure in figures:
        figure.to_json()  # what the browser is sent
        words = [note.text for note in figure.layout.annotations] if not figure.data else ["a picture"]
        assert all(words), view
        assert words, view
    return sum(len(figure.data) for figure in figures)


@every
def test_a_picture_is_drawn_before_there_are_data_while_they_come_and_when_they_are_there(item: Analysis, ran: Any) -> None:
    seen: dict[str, int] = {}
    for number, (_, made, result) in enumerate(finished(ran(item))):
        for view in views(item):
            marks = drawn(item, [result], view, dark=bool(number % 2))
            seen[str(view)] = max(marks, seen.get(str(view), 0))
            if not view:
                drawn(item, [made.reports[number % len(made.reports)]], view)
            if not number:
                for report in made.reports:
                    drawn(item, [report], view)
                for other in (None, {}, made.reports[0], result):
                    drawn(item, [result, other], view, dark=True)
                assert drawn(item, [None], view) == drawn(item, [{}], view) == 0
    assert all(seen.values()), seen  # every choice of a view shows something of some Result


@every
def test_readings_are_sentences_of_every_result(item: Analysis, ran: Any) -> None:
    for fields, _, result in finished(ran(item)):
        said = presenting.reading(result)
        assert said, fields
        for reading in said:
            assert isinstance(reading, Reading)
            assert reading.name
            assert reading.value or reading.words
            assert "nan" not in f"{reading.value} {reading.words}".lower().split(), (fields, reading)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of means of nothing
@every
def test_a_loss_that_is_not_a_number_spoils_no_picture_reading_or_row(item: Analysis, ran: Any) -> None:
    for _, _, result in list(finished(ran(item)))[:1]:
        numbers = [name for name, values in result.arrays.items() if values.dtype.kind == "f"]
        assert numbers
        for spoilt in [*([name] for name in numbers), numbers]:
            arrays = {name: np.full_like(v, np.nan) if name in spoilt else v for name, v in result.arrays.items()}
            broken = dataclasses.replace(result, arrays=arrays)
            for view in views(item):
                drawn(item, [broken], view)
            presenting.reading(broken)
            presenting.reading(broken, panel=True)
            content(broken, ".csv")
            json.loads(content(broken, ".json"))


# -- jobs, cache and the three ways of asking -----------------------------------------------------------------------------


@every
def test_cancelled_and_resumed_it_gives_what_one_go_gives(
    item: Analysis, ran: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "REPORT_SECONDS", 0.0)
    for number, (fields, made, result) in enumerate(finished(ran(item))):
        last = len(made.reports)
        assert last, fields  # it grows before the eye, and can be resumed
        for stop in {1, (last + 1) // 2, last} if not number else {(last + 1) // 2}:
            left = run(item, fields, trained, stop_after=stop)
            again = run(item, fields, trained, left.reports[-1] if left.result is None else None)
            assert again.result is not None, again.problem
            equal(again.result, result)


@every
def test_a_second_call_comes_from_the_cache(item: Analysis, trained: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(trained, tmp_path / "home"))
    first, second = (compute(item.name, "tiny@last", home=home, **small(item)) for _ in range(2))
    assert (first.provenance["cached"], second.provenance["cached"]) == (False, True)
    equal(first, second)
    jobs = [view for view in JobStore(home).views() if view.kind == item.name]
    assert [(view.state, view.attempts) for view in jobs] == [("done", 1)]


WEB = """
import base64, json, sys
import app
client = app.create_app(sys.argv[1]).server.test_client()
from pages import PAGES
from pages._components.shell import frame
from pages._components.shell.address import read_query

def plain(part):
    return part.to_plotly_json() if hasattr(part, "to_plotly_json") else str(part)

for line in sys.stdin:
    address = json.loads(line)
    path, _, search = address.partition("?")
    if path in PAGES:
        page = frame._content(PAGES[path], path, read_query(search))
        parts = {}
        for part in page._traverse():
            if getattr(part, "id", None):
                name = part.id if isinstance(part.id, str) else json.dumps(part.id, sort_keys=True)
                parts[name] = {"text": json.dumps(part, default=plain), **part.to_plotly_json()["props"]}
        answer = {"text": json.dumps(page, default=plain), "parts": parts}
    else:
        found = client.get(address)
        answer = {"status": found.status_code, "body": base64.b64encode(found.data).decode()}
    print(json.dumps({**answer, "torch": "torch" in sys.modules}, default=plain), flush=True)
"""


class Web:
    """The app as the server has it, in a process of its own that draws pages and gives out files."""

    def __init__(self, home: Path, log: Path):
        self.home, self.log = home, log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", WEB, str(home)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def get(self, address: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(address) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        answer: dict[str, Any] = json.loads(line)
        assert answer["torch"] is False
        return answer

    def file(self, key: str, kind: str, query: str = "") -> bytes:
        answer = self.get(f"/download/{key}.{kind}{query}")
        body = base64.b64decode(answer["body"])
        assert answer["status"] == 200, body
        return body

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        assert "Traceback" not in self.log.read_text()


@pytest.fixture(scope="module")
def web(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """The pages over a home of their own."""
    folder = tmp_path_factory.mktemp("web")
    web = Web(Path(shutil.copytree(trained, folder / "home")), folder / "log")
    yield web
    web.close()


def address(item: Analysis, source: str, fields: Mapping[str, Any], view: Mapping[str, Any] | None = None) -> str:
    return item.path + write_query([source], fields, view)


def state(item: Analysis, page: Mapping[str, Any]) -> dict[str, Any]:
    """What the page keeps of what is asked, with its one checkpoint."""
    known: dict[str, Any] = page["parts"][f"{item.name}-state"]["data"]
    return known


def computed(item: Analysis, web: Web) -> str:
    """The key of the small result, computed as the page's button does it."""
    (entry,) = state(item, web.get(address(item, "tiny@last", small(item))))["items"]
    view = run_or_join(Request.from_json(entry["request"], remote=True), web.home)
    assert (view.state, view.key) == ("done", entry["key"])
    return str(entry["key"])


def command(item: Analysis, home: Path, *more: str, source: str = "tiny@last") -> int:
    settings = [word for name, value in small(item).items() for word in ("--set", f"{name}={json.dumps(value)}")]
    return main(["compute", item.name, source, "--home", str(home), *settings, *more])


@every
def test_command_line_notebook_and_page_give_the_same_numbers_under_the_same_key(
    item: Analysis, web: Web, trained: Path, tmp_path: Path
) -> None:
    key = computed(item, web)
    shown = ResultCache(web.home).get(key)
    assert shown is not None
    homes = [Path(shutil.copytree(trained, tmp_path / name)) for name in ("notebook", "terminal")]
    equal(compute(item.name, "tiny@last", home=homes[0], **small(item)), shown)
    assert command(item, homes[1], "--out", str(tmp_path / "written.npz")) == 0
    equal(Result.from_bytes((tmp_path / "written.npz").read_bytes()), shown)
    for home in homes:
        assert key in {view.key for view in JobStore(home).views() if view.kind == item.name}


@every
def test_every_file_holds_the_result_from_the_page_and_from_the_command_line(
    item: Analysis, web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = computed(item, web)
    result = ResultCache(web.home).get(key)
    assert result is not None
    files = {kind: web.file(key, kind) for kind in ("npz", "csv", "json", "html", *item.files)}
    for kind in files:
        assert command(item, web.home, "--out", str(tmp_path / f"written.{kind}")) == 0
    assert "from the cache" in capsys.readouterr().out
    written = {kind: (tmp_path / f"written.{kind}").read_bytes() for kind in files}

    equal(Result.from_bytes(files["npz"]), result)
    equal(Result.from_bytes(written["npz"]), result)
    numbers = json.loads(files["json"])
    assert set(numbers) == {*result, "spec", "provenance"}
    assert numbers["spec"] == result.spec
    assert all(written[kind] == files[kind] for kind in ("csv", *item.files))
    assert {**json.loads(written["json"]), "provenance": 0} == {**numbers, "provenance": 0}
    for page in (files["html"], written["html"]):
        assert page.lstrip().lower().startswith((b"<!doctype html", b"<html"))
        assert b"Plotly.newPlot" in page
    header, *rows = csv.reader(io.StringIO(files["csv"].decode()))
    assert rows
    assert {len(row) for row in rows} == {len(header)}
    make = item.part("figure", "rows")
    said = {*result, "step"} | {f"{name}_{i + 1}" for name in result for i in range(np.size(result[name]))}
    documented = "" if make is None else str(make.__doc__)
    assert [name for name in header if name not in said and name.split()[0] not in said and name not in documented] == []


@every
def test_a_deep_link_shows_fields_views_and_the_finished_picture_at_once(item: Analysis, web: Web) -> None:
    fields = {**small(item), "seed": 3}
    choices = {view.name: [*(view.choices or (True, False))] for view in item.views}
    view = {option.name: next(v for v in choices[option.name] if v != option.default_value) for option in item.views}
    place = address(item, "tiny@last", fields, view)

    before = web.get(place)
    assert before["parts"][f"{item.name}-result"]["hidden"] is True
    assert "Press Compute" in before["parts"][f"{item.name}-empty"]["text"]
    (entry,) = state(item, before)["items"]
    run_all([Request.from_json(entry["request"], remote=True)], web.home)

    after = web.get(place)
    assert state(item, after)["fields"] == {name: text_of(value) for name, value in item.spec.parse(fields).changed().items()}
    assert after["parts"][f"{item.name}-about"]["data"]["done"] == [entry["key"]]
    assert after["parts"][f"{item.name}-result"]["hidden"] is False
    graph = after["parts"][json.dumps({"graph": item.name, "index": 0}, sort_keys=True)]
    assert graph["figure"]["layout"]
    for option in item.views:
        prop = "checked" if option.choices is None else "value"
        place = json.dumps({"view": item.name, "name": option.name, "prop": prop}, sort_keys=True)
        assert after["parts"][place][prop] == view[option.name]
    assert "Python" in after["text"]
    assert f"/download/{entry['key']}.npz" in after["text"]


@every
def test_what_an_address_cannot_ask_for_is_said_in_one_line(item: Analysis, web: Web) -> None:
    page = web.get(f"{item.path}?on=tiny@last&nonsense=1&v.nonsense=2")
    assert "unknown field 'nonsense'" in page["text"]
    assert "there is no view option 'v.nonsense'" in page["text"]
    for name in item.spec.model_fields:
        page = web.get(f"{item.path}?on=tiny@last&{name}=%7B%22a%22:%5B-1%5D%7D")
        assert f"field '{name}'" in page["parts"][f"{item.name}-problems"]["text"] + state(item, page)["error"], name
    for view in item.views:
        page = web.get(f"{item.path}?on=tiny@last&v.{view.name}=neither")
        assert f"{item.name}-state" in page["parts"]  # the page is there


@every
def test_a_checkpoint_that_it_cannot_be_asked_of_is_refused_everywhere_in_the_same_words(
    item: Analysis, web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = [view.key for view in JobStore(web.home).views()]
    problem = item.applies(item.spec.parse(small(item)), *RunStore(web.home).resolve("alone@last"))
    (entry,) = state(item, web.get(address(item, "alone@last", small(item))))["items"]
    assert entry["problem"] == problem
    if not problem:
        assert command(item, web.home, source="alone@last") == 0
        return
    assert "key" not in entry
    capsys.readouterr()
    assert command(item, web.home, source="alone@last") == 2
    assert capsys.readouterr() == ("", f"error: {problem}\n")
    with pytest.raises(InputError) as raised:
        compute(item.name, "alone@last", home=web.home, **small(item))
    assert str(raised.value) == problem
    assert [view.key for view in JobStore(web.home).views()] == begun


def test_some_analyses_cannot_be_asked_of_weights_that_were_brought_in(trained: Path) -> None:
    place = RunStore(trained).resolve("alone@last")
    assert [item.name for item in LISTED if item.applies(item.spec(), *place)]


# -- where it lives -------------------------------------------------------------------------------------------------------


def test_what_is_declared_drawn_and_said_imports_neither_torch_nor_dash() -> None:
    program = """
import sys
from landscape_core.analyses import ANALYSES
from landscape_core import presenting
for item in ANALYSES.values():
    if item.listed:
        item.spec().work()
        assert item.part("figure", "figure") and item.part("reading", "reading"), item.name
print([name for name in ("torch", "dash") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# Besides its folder and its page: the guided demos, the door for old notebooks, and the little surfaces of Home's cards.
NAMED = ("landscape_core/demos.py", "landscape_core/figures/__init__.py", "pages/_components/runs/cards.py")


@every
def test_no_other_code_names_it(item: Analysis) -> None:
    own = ROOT / item.package.replace(".", "/")
    found = []
    for file in (*(ROOT / "landscape_core").rglob("*.py"), *(ROOT / "pages").rglob("*.py")):
        place = str(file.relative_to(ROOT))
        if own in file.parents or place in (f"pages/{item.name}.py", *NAMED):
            continue
        tree = ast.parse(file.read_text())
        # A field or a view of another analysis may be called the same.
        other = next((a for a in ANALYSES.values() if ROOT / a.package.replace(".", "/") in file.parents), None)
        if other is None or item.name not in {*other.spec.model_fields, *(view.name for view in other.views)}:
            found += [f"{place}:{n.lineno}" for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value == item.name]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                words = [*(getattr(node, "module", "") or "").split("."), *(alias.name for alias in node.names)]
                if item.name in ".".join(words).split("."):
                    found.append(f"{place}:{node.lineno}")
    assert found == []


@pytest.mark.parametrize("name", ["surface", "spectrum", "overlap", "counterfactual", "high_dimensions"])
def test_the_old_door_to_its_picture_opens_with_a_warning(name: str, ran: Any) -> None:
    _, _, result = next(finished(ran(ANALYSES[name])))
    draw = getattr(importlib.import_module(f"landscape_core.figures.{name}"), f"{name}_figure")
    with pytest.warns(FutureWarning, match=r"landscape_core\.figure\(result"):
        figure = draw(result, title="tiny @ 30", source="tiny@30", color="#12967a")
    assert figure.to_json() == presenting.figure(result, title="tiny @ 30", color="#12967a").to_json()
