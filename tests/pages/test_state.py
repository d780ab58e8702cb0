"""The address as state and the forms made from Specs: pure functions, no browser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_core.analyses import ANALYSES
from landscape_core.analyses.surface.spec import SurfaceSpec
from landscape_core.specs import InputError, TrainingSpec, parse_text
from pages._components import forms
from pages._components.shell.address import link, read_query, text_of, write_query
from pages._components.words import duration

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.long
@given(
    st.dictionaries(st.sampled_from(["resolution", "extent", "through", "seed"]), JSON),
    st.dictionaries(st.text("abc", min_size=1), st.booleans() | st.text(max_size=20)),
)
def test_what_is_written_into_an_address_is_read_back(fields: dict, view: dict) -> None:
    query = read_query(write_query(["a@1", "b@last"], fields, view, present=True))
    assert query.selection == ("a@1", "b@last")
    assert {name: parse_text(text) for name, text in query.fields.items()} == fields
    assert query.view == {name: value if isinstance(value, str) else text_of(value) for name, value in view.items()}
    assert query.present
    assert query.problems == ()


@pytest.mark.long
@given(st.text(max_size=200))
def test_no_address_is_too_strange_to_read(search: str) -> None:
    read_query(search)


def test_an_address_can_be_read_by_people() -> None:
    assert link("/surface", ["demo@last", "b@3"], resolution=[41, 31], directions="pca") == (
        "/surface?on=demo@last,b@3&resolution=[41,31]&directions=pca"
    )
    assert text_of("42") == '"42"'
    assert text_of("pca") == "pca"


def test_more_than_four_checkpoints_are_said_to_be_too_many() -> None:
    query = read_query("?on=a@1,b@1,c@1,d@1,e@1,a@1")
    assert len(query.selection) == 4
    assert "at most 4" in query.problems[0]


@pytest.mark.parametrize("name", [item.name for item in ANALYSES.values() if item.listed])
def test_a_form_gives_back_the_spec_that_it_was_made_from(name: str) -> None:
    spec = ANALYSES[name].spec
    controls = [forms.control(spec, field, name) for field in forms.visible_fields(spec)]
    inputs = [{"id": control.id, "value": getattr(control, control.id["prop"], None)} for control in controls]
    assert spec.parse(forms.read_form(spec, inputs), remote=True) == spec()
    assert not any(control.id["field"] == "given" for control in controls)


@pytest.mark.parametrize(
    ("field", "raw", "value"),
    [
        ("resolution", "41", 41),
        ("resolution", "41, 31", [41, 31]),
        ("resolution", "[41, 31]", [41, 31]),
        ("extent", "", None),
        ("extent", "-1, 2", [-1, 2]),
        ("samples", "", None),
        ("seed", "", 0),
        ("directions", "pca", "pca"),
        ("dtype", "null", None),
        ("trajectory", "42", "42"),
        ("trajectory", "", None),
        ("through", [], []),
        ("orthogonal", True, True),
    ],
)
def test_what_people_type_becomes_a_value(field: str, raw: object, value: object) -> None:
    assert forms.to_value(SurfaceSpec, field, raw) == value


@pytest.mark.parametrize(("raw", "value"), [("1e-3", 0.001), (".05", 0.05), (" 7 ", 7), ("", 0.1), ("0,1", "0,1"), (0.2, 0.2)])
def test_numbers_may_be_written_as_people_write_them(raw: object, value: object) -> None:
    assert forms.to_value(TrainingSpec, "lr", raw) == value
    assert forms.control(TrainingSpec, "lr", "train", 1e-5).value == "1e-05"


def test_texts_of_an_address_fill_the_form_or_are_named() -> None:
    values, problems = forms.from_texts(
        SurfaceSpec, {"resolution": "1000000", "seed": "many", "directions": "sideways", "foo": "1", "given": "/etc/passwd"}
    )
    assert values == {"resolution": 1_000_000}  # the form shows it, and the line under it says what is wrong
    assert len(problems) == 4
    assert any("'seed': must be a number" in line for line in problems)
    assert any("'directions': must be one of filter" in line for line in problems)
    assert any("unknown field 'foo'" in line for line in problems)
    assert any("'given' names a file" in line for line in problems)
    with pytest.raises(InputError, match="between 3 and 501"):
        SurfaceSpec.parse(values)


def test_spans_in_words() -> None:
    assert [duration(value) for value in (0.0001, 0.25, 3.21, 42.4, 200, 7500)] == [
        "less than 1 ms",
        "250 ms",
        "3.2 s",
        "42 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
