"""The experiments on Home: every request and address is one that the program takes."""

import pytest
from pages._components.analysis_page import DECLARED

from landscape_core.analyses import analysis
from landscape_core.specs import Spec
from pages import load
from pages._components.presets import PRESETS
from pages._components.state import read_query

load()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_an_experiment_asks_for_what_there_is(preset):
    for request in preset.requests():
        assert isinstance(request.spec(remote=True), Spec)
    path, _, search = preset.address.partition("?")
    page, query = DECLARED[preset.kind], read_query(search)
    assert path == page.path
    assert query.selection == tuple(f"{run}@last" for run in preset.runs)
    assert not query.problems
    # The page computes under the same key what the experiment had computed.
    assert analysis(preset.kind).spec.parse_texts(query.fields, remote=True).changed() == preset.requests()[-1].spec().changed()
    assert page.view_of(query.view).items() >= dict(preset.view).items()


def test_no_two_experiments_train_a_run_of_the_same_name():
    names = [run for preset in PRESETS for run in preset.runs]
    assert len(names) == len(set(names))
