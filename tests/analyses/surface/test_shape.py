"""The shape of pictures known in closed form: flat, tilted, quadratic or rugged, and nothing read below rounding."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import landscape_core as lc
from landscape_core.analyses.surface.shape import (
    EXACT,
    Rounding,
    bent_share,
    hidden_share,
    line_shape,
    nonconvex_share,
    plane_convexity,
    plane_shape,
)

AXIS = np.linspace(-1, 1, 15)
A, B = np.meshgrid(AXIS, AXIS, indexing="ij")
SINGLE = float(np.finfo(np.float32).eps)


class Vec(nn.Module):
    """Its output is its parameter."""

    def __init__(self, *x: float, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(x, dtype=dtype))

    def forward(self, inputs):
        return self.x[None] + 0 * inputs[:, :1]


def picture(f, *at, dtype=torch.float64, dimensions=2, **fields):
    """The surface of f(x) (n,) of two parameters, along the axes unless `fields` say otherwise; a warning is an error."""
    at = at or (0.0, 0.0)
    batches = [(torch.zeros(2, 1, dtype=dtype), torch.zeros(2, dtype=dtype))]
    objective = lc.Objective(Vec(*at, dtype=dtype), lambda o, t: f(o).mean(), batches)
    given = {"directions": "given", "vectors": list(torch.eye(len(at), dtype=dtype))} | fields
    if given["directions"] != "given":
        del given["vectors"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = lc.compute("surface", objective, resolution=given.pop("resolution", 9), dimensions=dimensions, **given)
    return result, {item.name: item for item in lc.reading(result)}


SHAPES = [
    ("flat", lambda o: 0 * o[:, 0], "Flat"),
    ("flat", lambda o: 3.7 + 0 * o[:, 0], "Flat"),
    ("tilted", lambda o: o[:, 0] - 0.5 * o[:, 1], "Tilted"),
    ("tilted", lambda o: 1e-6 * (o[:, 0] + o[:, 1]) + 2, "Tilted"),
    ("saddle", lambda o: o[:, 0] ** 2 - o[:, 1] ** 2, "quadratic saddle"),
    ("saddle", lambda o: 1e-9 * (o[:, 0] * o[:, 1]), "quadratic saddle"),
    ("saddle", lambda o: 1e6 * (3 * o[:, 0] ** 2 + o[:, 0] - o[:, 1] ** 2), "quadratic saddle"),
    ("bowl", lambda o: (o**2).sum(1) + o[:, 0] * o[:, 1], "quadratic bowl"),
    ("dome", lambda o: 5 - (o**2).sum(1), "quadratic dome"),
    ("trough", lambda o: (o[:, 0] + o[:, 1]) ** 2, "quadratic trough"),
    ("ridge", lambda o: -((o[:, 0] - 2 * o[:, 1]) ** 2), "quadratic ridge"),
    ("rugged", lambda o: torch.sin(14 * o[:, 0]) * torch.cos(11 * o[:, 1]) + (o**2).sum(1), "Rugged"),
    ("uneven", lambda o: o[:, 0] ** 2 - o[:, 1] ** 2 + 0.3 * o[:, 0] ** 3, "seldom changes its sign"),
    ("uneven", lambda o: torch.exp(o[:, 0]) + o[:, 1] ** 4 + o[:, 1] ** 2, "convex at this resolution"),
]


@pytest.mark.parametrize(("shape", "f", "words"), SHAPES)
def test_each_shape_has_its_own_sentence(shape, f, words):
    result, rows = picture(f, resolution=25)
    assert str(result["picture_shape"]) == shape
    said = rows["Not convex"].words
    assert words in said
    others = {word for name, _, word in SHAPES if name != shape}
    assert not [word for word in others if word in said]
    if shape in ("flat", "tilted"):
        assert np.isnan(result["nonconvex_share"])
        assert result["hidden_share"] == 1
        assert not result["convexity_plane"].any()
        assert "%" not in rows["Not convex"].value


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 1e8])
@pytest.mark.parametrize(("shape", "f"), [("saddle", lambda o: o[:, 0] ** 2 - o[:, 1] ** 2), ("bowl", lambda o: (o**2).sum(1))])
def test_the_unit_of_the_loss_changes_nothing(shape, f, size):
    result, _ = picture(lambda o: size * f(o))
    assert str(result["picture_shape"]) == shape
    assert result["nonconvex_share"] == float(shape == "saddle")
    assert result["center_deviation"] == 0 or result["center_deviation"] < 1e-9


@pytest.mark.parametrize(("extent", "offset"), [(0.01, 3.0), (1e-4, 1.0), (0.3, 1e4)])
def test_float32_noise_on_a_slope_is_no_ruggedness(extent, offset):
    for seed in range(4):
        result, rows = picture(
            lambda o: o[:, 0] * 1.7 - 0.513 * o[:, 1] + offset,
            0.3,
            0.2,
            dtype=torch.float32,
            directions="gaussian",
            ignore="none",
            seed=seed,
            resolution=21,
            extent=extent,
        )
        assert str(result["picture_shape"]) in ("tilted", "flat")
        assert "ugged" not in rows["Not convex"].words
        assert "grid resolves" not in rows["Curvature along α"].words
        assert rows["Curvature along α"].value == "0 per unit²"


def test_noise_inside_a_float64_model_is_found_too():
    """It rounds to float32 on the way: what float64 shows of it is nothing but that rounding."""
    result, _ = picture(
        lambda o: (o.float() * torch.tensor([1.7, -0.513])).sum(1).double() + 3, 0.3, 0.2, extent=1e-5, resolution=21
    )
    assert str(result["picture_shape"]) in ("tilted", "flat")
    assert result["hidden_share"] == 1


def test_a_bowl_is_read_in_float32_where_it_stands_above_rounding():
    result, _ = picture(lambda o: (o**2).sum(1) + 1, dtype=torch.float32, resolution=15)
    assert str(result["picture_shape"]) == "bowl"
    near, rows = picture(lambda o: (o**2).sum(1) + 1, dtype=torch.float32, resolution=15, extent=1e-5)
    assert str(near["picture_shape"]) in ("tilted", "flat")
    assert "less than the rounding" in rows["Curvature along α"].words
    assert rows["Curvature along α"].value == "2 per unit²"


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda o: (o**2).sum(1), "upwards in every direction"),
        (lambda o: -(o**2).sum(1), "downwards in every direction"),
        (lambda o: o[:, 0] ** 2 - o[:, 1] ** 2, "downwards one way and upwards another"),
        (lambda o: o[:, 0] ** 2 + o[:, 1], "upwards one way and not at all across"),
        (lambda o: o[:, 1] - o[:, 0] ** 2, "downwards one way and not at all across"),
        (lambda o: 0 * o[:, 0], "Nothing bends"),
        (lambda o: o[:, 0] - o[:, 1], "Nothing bends"),
    ],
)
def test_the_curvature_in_the_plane_has_a_sentence_for_each_pair_of_signs(f, words):
    _, rows = picture(f)
    assert words in rows["Curvature in the plane"].words
    assert " to " not in rows["Curvature in the plane"].value or "one way" in words


@pytest.mark.parametrize(
    ("shape", "f"),
    [
        ("flat", lambda o: 2 + 0 * o[:, 0]),
        ("tilted", lambda o: o[:, 0]),
        ("bowl", lambda o: o[:, 0] ** 2 - 3 * o[:, 0]),
        ("dome", lambda o: -(o[:, 0] ** 2)),
        ("rugged", lambda o: torch.sin(20 * o[:, 0])),
        ("uneven", lambda o: o[:, 0] ** 3),
    ],
)
def test_lines_have_the_same_words(shape, f):
    result, rows = picture(f, dimensions=1, resolution=41)
    assert str(result["picture_shape"]) == shape
    assert ("Rugged" in rows["Not convex"].words) == (shape == "rugged")


def test_two_lines_of_two_kinds_are_neither():
    x = AXIS[None]
    assert line_shape(AXIS, np.concatenate([x**2, -(x**2)])) == "uneven"
    assert line_shape(AXIS, np.concatenate([x**2, 3 * x**2 + x])) == "bowl"
    assert bent_share(AXIS, np.concatenate([x**2, -(x**2)])) == (0.5, 0.0)


# -- the rounding floor ---------------------------------------------------------------------------------------------------


def test_no_second_difference_below_the_rounding_of_its_values_is_read():
    rng = np.random.default_rng(0)
    for level in (1e-7, 1e-4):
        noise = rng.uniform(-level, level, A.shape)
        rounding = Rounding.measured(0.0, np.full(6, 1.0), np.full(6, level))
        for loss in (1 + noise, 1 + 0.2 * A - B + noise):
            assert not plane_convexity(AXIS, AXIS, loss, rounding).any()
            assert hidden_share(AXIS, AXIS, loss, rounding) == 1
            assert np.isnan(nonconvex_share(AXIS, AXIS, loss, rounding))
            assert plane_shape(AXIS, AXIS, loss, rounding) in ("flat", "tilted")
            assert plane_shape(AXIS, AXIS, loss) == "rugged"  # without the floor it is what it looks like
            assert line_shape(AXIS, loss, rounding) in ("flat", "tilted")
    strong = A**2 - B**2 + 1e-7 * noise
    assert np.allclose(plane_convexity(AXIS, AXIS, strong, rounding := Rounding.measured(1e-8, np.ones(1), np.zeros(1))), -1)
    assert nonconvex_share(AXIS, AXIS, strong, rounding) == 1


def test_the_share_of_real_cells_keeps_its_definition():
    """Smaller eigenvalue below -0.05 of the larger absolute one, whatever the floor where it is far below."""
    loss = np.sin(3 * A) * np.cos(2 * B) + 0.5 * A**2
    ratio = plane_convexity(AXIS, AXIS, loss)
    assert nonconvex_share(AXIS, AXIS, loss) == (ratio < -0.05).mean()
    assert nonconvex_share(AXIS, AXIS, loss, Rounding(SINGLE, np.empty(0), np.empty(0))) == (ratio < -0.05).mean()
    slightly = A**2 - 0.04 * B**2
    assert nonconvex_share(AXIS, AXIS, slightly) == 0
    assert nonconvex_share(AXIS, AXIS, A**2 - 0.06 * B**2) == 1


def test_rounding_grows_with_the_loss_and_never_falls_below_the_last_place():
    rounding = Rounding.measured(SINGLE, np.array([1e-3, -10.0, np.nan]), np.array([1e-9, 1e-6, 1.0]))
    at = rounding(np.array([0.0, 1e-3, 1.0, -10.0, 1e4]))
    assert (np.diff(at) > 0).all()
    assert at[0] == pytest.approx(2e-9)
    assert at[3] == pytest.approx(2e-6 + SINGLE * 10)
    assert at[4] == pytest.approx(2e-3 + SINGLE * 1e4)
    assert EXACT(np.array([1.0])) == pytest.approx(2.2e-16, rel=0.01)


def test_values_that_are_not_finite_are_known_as_such():
    loss = A**2 - B**2
    loss[7, 7], loss[0, 0] = np.nan, np.inf
    found = plane_convexity(AXIS, AXIS, loss)
    assert np.isnan(found[6, 6])
    assert np.nanmax(found) == pytest.approx(-1)
    assert plane_shape(AXIS, AXIS, loss) == "saddle"
    assert plane_shape(AXIS, AXIS, np.full(A.shape, np.nan)) == "unknown"
    assert np.isnan(hidden_share(AXIS, AXIS, np.full(A.shape, np.inf)))


# -- the ends of all numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extent", [1e200, 1e308, [-1e31, 0], [[0, 1e-40], [0, 1]], [1e12, 1e12 + 1e-4]])
def test_an_extent_that_no_arithmetic_follows_is_refused_in_one_line(extent):
    with pytest.raises(lc.InputError, match="extent must lie within") as found:
        picture(lambda o: (o**2).sum(1), extent=extent)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_overflow_is_masked_without_a_warning(dtype, dimensions):
    result, rows = picture(
        lambda o: torch.exp(o[:, 0]) + (o**8).sum(1), 0.1, 0.2, dtype=dtype, dimensions=dimensions, extent=1e30, flow=3
    )
    assert result["masked_cells"] > 0
    assert "Not finite" in rows
    assert not np.isinf(result["loss"][np.isfinite(result["loss"])]).any()


def test_a_vector_of_endless_length_is_refused():
    with pytest.raises(lc.InputError, match="longer than"):
        picture(
            lambda o: (o**2).sum(1),
            vectors=[torch.tensor([1e300, 0], dtype=torch.float64), torch.tensor([0, 1.0], dtype=torch.float64)],
        )
