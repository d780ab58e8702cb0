"""The Specs: every field is documented and bounded, texts give Specs back, and what is wrong is said in one line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticUndefined

from landscape_core.analyses import ANALYSES, analysis
from landscape_core.analyses.overlap.spec import OverlapSpec
from landscape_core.analyses.surface.spec import SurfaceSpec
from landscape_core.specs import (
    TASKS,
    ImportSpec,
    InputError,
    Reference,
    Result,
    Spec,
    TaskSpec,
    TrainingSpec,
    bounds_of,
    choices_of,
    import_spec,
    parse_text,
    task_spec,
    training_spec,
    unit_of,
)
from landscape_core.specs.tasks import ARCHITECTURES, DATA, task_fields

ROOT = Path(__file__).parents[2]
SPECS: list[type[Spec]] = [
    *(item.spec for item in ANALYSES.values()),
    *DATA.values(),
    *ARCHITECTURES.values(),
    TaskSpec,
    TrainingSpec,
    ImportSpec,
]
FIELDS = [pytest.param(spec, name, id=f"{spec.__name__}.{name}") for spec in SPECS for name in spec.model_fields]


@pytest.mark.parametrize(("spec", "name"), FIELDS)
def test_every_field_has_a_default_and_a_sentence(spec: type[Spec], name: str) -> None:
    info = spec.model_fields[name]
    assert info.default is not PydanticUndefined
    assert info.description
    assert info.description.endswith(".")
    assert "\n" not in info.description
    assert isinstance(unit_of(spec, name), str)


@pytest.mark.parametrize(("spec", "name"), FIELDS)
def test_numbers_are_bounded_and_the_bounds_hold(spec: type[Spec], name: str) -> None:
    annotation = spec.model_fields[name].annotation
    if annotation not in (int, float, int | None, float | None):
        return
    low, high = bounds_of(spec, name)
    assert low is not None
    assert high is not None
    for value in (low - 1, high + 1, float("nan"), float("inf"), "text", [1]):
        with pytest.raises(InputError, match=f"field '{name}'") as caught:
            spec.parse({name: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("spec", "name"), FIELDS)
def test_a_choice_takes_only_its_values(spec: type[Spec], name: str) -> None:
    if not choices_of(spec, name):
        return
    with pytest.raises(InputError, match=f"field '{name}'"):
        spec.parse({name: "no-such-choice"})


@pytest.mark.parametrize("spec", SPECS)
def test_a_default_spec_is_valid_frozen_and_has_nothing_changed(spec: type[Spec]) -> None:
    default = spec()
    assert default.changed() == {}
    assert json.loads(default.canonical()) == default.model_dump(mode="json")
    for name in spec.model_fields:
        with pytest.raises(ValueError, match="frozen"):
            setattr(default, name, 1)


def test_the_canonical_text_does_not_depend_on_how_it_was_asked() -> None:
    assert (
        SurfaceSpec(resolution=21, seed=3).canonical()
        == SurfaceSpec.parse({name: parse_text(text) for name, text in {"seed": "3", "resolution": "21"}.items()}).canonical()
    )
    assert SurfaceSpec().canonical() == SurfaceSpec(resolution=41, extent=None).canonical()
    assert SurfaceSpec(seed=1).canonical() != SurfaceSpec().canonical()


def test_unknown_names_are_answered_with_the_nearest_one() -> None:
    for call, name, near in (
        (lambda: SurfaceSpec.parse({"resolutoin": 5}), "resolutoin", "resolution"),
        (lambda: task_spec("digit-mlp"), "digit-mlp", "digits-mlp"),
        (lambda: task_spec("digits-mlp", width=[3]), "width", "widths"),
        (lambda: training_spec("digits-mlp", "r", step=3), "step", "steps"),
        (lambda: analysis("surfaces"), "surfaces", "surface"),
    ):
        with pytest.raises(InputError, match=f"'{name}'.*'{near}'"):
            call()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"resolution": 10**6}, "resolution must be between 3 and 501"),
        ({"resolution": [5, 2]}, "resolution must be between 3 and 501"),
        ({"resolution": 2.5}, "field 'resolution'"),
        ({"extent": [1, -1]}, "extent must grow"),
        ({"extent": -1}, "extent must grow"),
        ({"directions": "through"}, "takes 2 checkpoints in 'through'"),
        ({"directions": "difference"}, "takes 1 or 2 checkpoints in 'through'"),
        ({"directions": "through", "through": ["a", "b"], "dimensions": 1}, "use directions=difference"),
        ({"through": ["a@1"]}, "takes 0 checkpoints in 'through'"),
        ({"repeats": 5}, "dimensions=1"),
        ({"device": "gpu"}, "field 'device'"),
        ({"dimensions": 3}, "field 'dimensions': must be"),
    ],
)
def test_fields_that_do_not_go_together_are_named_in_one_line(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        SurfaceSpec.parse(values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_mini_batches_are_expected_to_cost_more() -> None:
    few, many = (OverlapSpec(minibatches=count).work(1510) for count in (8, 800))
    assert many["gradients"] > 30 * few["gradients"]
    assert many["products"] == few["products"]


def test_a_browser_may_not_name_files() -> None:
    for call in (
        lambda remote: SurfaceSpec.parse({"directions": "given", "given": "/etc/passwd"}, remote=remote),
        lambda remote: task_spec("mnist-mlp", path="/etc", remote=remote),
        lambda remote: training_spec("mnist-mlp", "r", path="/etc", remote=remote),
    ):
        call(False)
        with pytest.raises(InputError, match="command line"):
            call(True)


def test_texts_are_json_or_a_bare_word() -> None:
    assert parse_text("0.1") == 0.1
    assert parse_text("[1, 2]") == [1, 2]
    assert parse_text("null") is None
    assert parse_text("filter") == "filter"
    assert parse_text("{broken") == "{broken"


_EXTENT = st.one_of(
    st.none(),
    st.floats(0.01, 100),
    st.tuples(st.floats(-10, -0.1), st.floats(0.1, 10)),
)
_SURFACE = st.fixed_dictionaries(
    {},
    optional={
        "dimensions": st.sampled_from([1, 2]),
        "directions": st.sampled_from(["filter", "layer", "model", "gaussian", "essay", "pca", "gradient"]),
        "resolution": st.one_of(st.integers(3, 501), st.tuples(st.integers(3, 501), st.integers(3, 501))),
        "extent": _EXTENT,
        "orthogonal": st.booleans(),
        "samples": st.one_of(st.none(), st.integers(1, 10**7)),
        "seed": st.integers(0, 2**31 - 1),
        "dtype": st.sampled_from([None, "float32", "float64"]),
        "split": st.sampled_from(["train", "test"]),
        "trajectory": st.one_of(st.none(), st.just("demo")),
    },
)


@pytest.mark.long
@given(_SURFACE)
def test_the_changed_fields_give_a_surface_back_through_texts(values: dict[str, object]) -> None:
    spec = SurfaceSpec.parse(values)
    texts = {name: json.dumps(value) for name, value in spec.changed().items()}
    assert SurfaceSpec.parse({name: parse_text(text) for name, text in texts.items()}) == spec
    assert SurfaceSpec.parse(json.loads(spec.canonical())) == spec


@pytest.mark.long
@given(
    st.sampled_from(list(TASKS)),
    st.fixed_dictionaries(
        {},
        optional={
            "lr": st.floats(1e-6, 10),
            "steps": st.integers(1, 10**7),
            "batch_size": st.integers(0, 10**6),
            "seed": st.integers(0, 2**31 - 1),
            "label_noise": st.floats(0, 1),
            "samples": st.one_of(st.none(), st.integers(10, 10**6)),
            "loss": st.sampled_from(["cross-entropy", "squared-error"]),
            "schedule": st.sampled_from(["constant", "cosine", "step"]),
        },
    ),
)
def test_flat_arguments_give_a_training_back(task: str, values: dict[str, object]) -> None:
    spec = training_spec(task, "r", **values)
    assert task_spec(task, **spec.task.arguments) == spec.task
    flat = {name: value for name, value in spec.changed().items() if name not in ("task", "run")}
    assert training_spec(task, "r", **flat, **spec.task.arguments) == spec
    assert spec.recorded_steps[0] == 0
    assert spec.recorded_steps[-1] == spec.steps
    assert list(spec.recorded_steps) == sorted(set(spec.recorded_steps))


@pytest.mark.parametrize("upload", ["../../etc/passwd", "a.pt", "0" * 64 + ".exe", "0" * 63 + "/.pt"])
def test_an_upload_is_named_by_its_hash_and_nothing_else(upload: str) -> None:
    with pytest.raises(InputError, match="field 'upload'"):
        import_spec("digits-mlp", "r", upload=upload)
    assert import_spec("digits-mlp", "r", widths=[3], step=2, upload="0" * 64 + ".pt").task.arguments == {"widths": [3]}


@pytest.mark.parametrize("task", TASKS)
def test_no_argument_of_a_task_hides_a_field_of_training(task: str) -> None:
    assert not set(task_fields(task)) & set(TrainingSpec.model_fields)
    assert task_spec(task).name == task


@pytest.mark.parametrize(
    ("text", "run", "step"),
    [("demo", "demo", None), ("demo@last", "demo", -1), ("a.b-c_1@0", "a.b-c_1", 0), ("x@120", "x", 120)],
)
def test_references_read_and_write(text: str, run: str, step: int | None) -> None:
    reference = Reference.parse(text)
    assert (reference.run, reference.step, str(reference)) == (run, step, text)


@pytest.mark.parametrize("text", ["", "@1", "a@", "a@-1", "a@first", "../a", ".a", "a/b", "a" * 65, "a b"])
def test_what_is_not_a_reference_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="RUN@STEP"):
        Reference.parse(text)


def test_a_result_survives_its_bytes_and_damage_is_named() -> None:
    result = Result({"loss": np.eye(2), "center_loss": np.array(0.5)}, {"analysis": "surface"}, {"device": "cpu"})
    back = Result.from_bytes(result.to_bytes())
    assert back["center_loss"] == 0.5
    assert np.array_equal(back["loss"], np.eye(2))
    assert (back.spec, back.provenance) == (result.spec, result.provenance)
    assert "object at" not in repr(back["loss"])
    with pytest.raises(InputError, match=r"x\.npz"):
        Result.from_bytes(result.to_bytes()[:100], "x.npz")


def test_a_pickled_array_is_refused() -> None:
    import io

    buffer = io.BytesIO()
    np.savez(buffer, loss=np.array([print], dtype=object))
    with pytest.raises(InputError, match="could run code"):
        Result.from_bytes(buffer.getvalue())


def test_specs_do_not_import_torch() -> None:
    code = "import sys, landscape_core.specs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
