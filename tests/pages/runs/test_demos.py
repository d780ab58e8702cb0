"""The demos on Home: every address is one that the program takes, and opens on what was computed."""

import pytest

from landscape_core.analyses import analysis
from landscape_core.demos import DEMOS
from landscape_core.specs import Spec, parse_text
from pages import load
from pages._components.runs.demos import address
from pages._components.shell.address import read_query

load()


@pytest.mark.parametrize("demo", DEMOS.values(), ids=DEMOS)
def test_a_demo_asks_for_what_there_is(demo):
    for request in [*demo.trainings(), *demo.results()]:
        assert isinstance(request.spec(remote=True), Spec)
    path, _, search = address(demo).partition("?")
    item, query = analysis(demo.analysis), read_query(search)
    assert path == item.path
    assert query.selection == tuple(f"{run}@last" for run in demo.runs)
    assert not query.problems
    # The page computes under the same key what the demo had computed.
    values = {name: parse_text(text) for name, text in query.fields.items()}
    assert item.spec.parse(values, remote=True).changed() == demo.results()[-1].spec().changed()
    assert item.view(query.view).items() >= dict(demo.view).items()
