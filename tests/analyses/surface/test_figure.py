"""Figures, readings and files of a surface: from synthetic results, finished, partial, masked and broken."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from landscape_core.analyses.surface.difference import comparable, difference_figure
from landscape_core.analyses.surface.figure import KINDS
from landscape_core.analyses.surface.figure import figure as surface_figure
from landscape_core.analyses.surface.overlays import interpolate, read_arrows, read_path
from landscape_core.analyses.surface.quantity import Scale, read_slice, scale_for, value_range
from landscape_core.analyses.surface.reading import reading as surface_reading
from landscape_core.analyses.surface.spec import SurfaceSpec
from landscape_core.drawing.axes import log_ticks
from landscape_core.drawing.style import UNDER_COLOR
from landscape_core.presenting import reading
from landscape_core.presenting.files import content
from landscape_core.specs import InputError, Result

from ..running import table as table_of
from ..surface.results import changed
from . import results as synthetic


def words(figure: Any) -> str:
    return str(figure.layout.title.subtitle.text)


def test_orientation_rows_of_the_picture_are_betas():
    result = synthetic.plane(5, 7)
    heat = surface_figure(result, kind="heatmap").data[0]
    assert np.asarray(heat.z).shape == (7, 5)
    assert np.asarray(heat.z)[6, 1] == pytest.approx(result["loss"][1, 6], rel=1e-6)
    assert heat.x[1] == result["alphas"][1]
    assert heat.y[6] == result["betas"][6]
    assert np.asarray(heat.customdata)[6, 1, 0] == pytest.approx(result["accuracy"][1, 6], rel=1e-6)


def test_hover_data_of_a_surface_is_by_x_and_y():
    result = synthetic.plane(5, 7)
    surface = surface_figure(result, kind="3d", log=True).data[0]
    assert np.asarray(surface.z).shape == (7, 5)
    np.testing.assert_allclose(np.asarray(surface.customdata)[..., 0], result["loss"], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(surface.customdata)[..., 1], result["accuracy"], rtol=1e-6)
    plain = surface_figure(result, kind="3d").data[0]
    assert "%{z:" in plain.hovertemplate
    np.testing.assert_allclose(np.asarray(plain.customdata)[..., 0], result["accuracy"], rtol=1e-6)
    assert surface_figure(synthetic.partial(), kind="3d").data[0].customdata is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quantity", ["loss", "accuracy", "error", "loss_test", "accuracy_test", "error_test"])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("dark", [False, True])
def test_every_kind_draws_every_quantity(kind, quantity, log, dark):
    options: dict[str, Any] = {
        "kind": kind,
        "quantity": quantity,
        "log": log,
        "dark": dark,
        "color": "#3b82c4",
        "flow": True,
    }
    for result in (synthetic.plane(9, 11, masked=True), synthetic.through()):
        text = surface_figure(result, **options).to_json()
        json.loads(text)
    assert surface_figure(synthetic.partial(stride=20), **{**options, "quantity": quantity.removesuffix("_test")}).data


@pytest.mark.parametrize("log", [False, True])
def test_lines_have_mean_band_and_every_line(log):
    figure = surface_figure(synthetic.lines(12), kind="3d", log=log, color="#d97000")
    names = [trace.name for trace in figure.data]
    assert {"12 random directions", "± 1 standard deviation", "loss, mean", "these weights"} <= set(names)
    mean = next(trace for trace in figure.data if trace.name == "loss, mean")
    expected = synthetic.lines(12)["loss"].mean(axis=0)
    np.testing.assert_allclose(mean.y, np.log10(expected) if log else expected, rtol=1e-6)


def test_figures_are_small():
    assert len(surface_figure(synthetic.plane(51, 51, path=False), kind="3d").to_json()) < 45_000
    heat = surface_figure(synthetic.plane(41, 41, path=False), kind="heatmap")
    assert np.asarray(heat.data[0].z).dtype == np.float32
    assert "colorway" not in heat.to_json()  # plotly's template is not in it


def test_log_scale_places_values_and_writes_them_plainly():
    result = changed(synthetic.plane(9, 9, path=False), loss=np.geomspace(0.01, 100, 81).reshape(9, 9))
    surface = surface_figure(result, kind="3d", log=True).data[0]
    np.testing.assert_allclose(np.asarray(surface.z).T, np.log10(result["loss"]), rtol=1e-5)
    assert "0.01" in surface.colorbar.ticktext
    assert "100" in surface.colorbar.ticktext
    assert np.asarray(surface.customdata)[0, 0, 0] == pytest.approx(0.01)


def valley(loss: Any, **fields: Any) -> Result:
    """A plane of 9 x 9 points with these losses, which reach down at its middle."""
    return changed(synthetic.plane(9, 9, path=False, **fields), loss=np.asarray(loss, float).reshape(9, 9))


DEEP = np.geomspace(3e-4, 9e5, 81)


@pytest.mark.parametrize("kind", ["heatmap", "contour", "3d"])
@pytest.mark.parametrize("loss", [DEEP, np.geomspace(1e-300, 1e300, 81), np.geomspace(5e-324, 1.7e308, 81)])
def test_a_log_scale_reaches_down_to_the_smallest_positive_value(kind, loss):
    figure = surface_figure(valley(loss), kind=kind, log=True)
    drawn = figure.data[0]
    np.testing.assert_allclose(np.asarray(drawn.z, float).T.reshape(-1), np.log10(loss), rtol=1e-6)
    assert "logarithm" not in words(figure)
    assert 3 <= len(drawn.colorbar.ticktext) <= 10
    assert not any("inf" in text or text == "0" for text in drawn.colorbar.ticktext)
    shown = np.asarray(drawn.customdata, float)[..., 0]
    assert (shown > 0).all()
    assert np.isfinite(shown).all()
    json.loads(figure.to_json())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("worst", "said"), [(0.0, "3 points at zero,"), (-2.0, "3 points at zero or below,")])
def test_what_has_no_logarithm_is_marked_in_the_picture(kind, worst, said):
    loss = DEEP.reshape(9, 9).copy()
    loss[4, :3] = worst
    figure = surface_figure(valley(loss), kind=kind, log=True)
    assert said in words(figure)
    assert "light blue" in words(figure).lower()
    if kind == "line":
        marks = next(trace for trace in figure.data if trace.name == "zero or negative")
        assert list(marks.x) == [-1.0, -0.75, -0.5]  # on the cut along the second axis
        curve = next(trace for trace in figure.data if trace.name.startswith("along β"))
        assert np.isnan(curve.y[:3]).all()
        assert np.isfinite(curve.y[3:]).all()
        return
    drawn = figure.data[0]
    colours = np.asarray(drawn.surfacecolor if kind == "3d" else drawn.z, float).T
    first = drawn.cmin if kind == "3d" else drawn.zmin
    np.testing.assert_array_equal(colours == np.float32(first), loss <= 0)
    assert drawn.colorscale[0][1] == drawn.colorscale[1][1] == UNDER_COLOR
    assert drawn.colorbar.ticktext[0] == ("0" if worst == 0 else "≤ 0")
    low = np.log10(loss[loss > 0].min())
    assert drawn.colorbar.tickvals[0] < low
    if kind == "3d":
        assert np.asarray(drawn.z).min() == pytest.approx(low, rel=1e-6)
        assert figure.layout.scene.zaxis.range[0] < low


def test_a_plane_without_a_positive_value_is_one_mark():
    for loss in (np.zeros(81), -DEEP):
        for kind in KINDS:
            figure = surface_figure(valley(loss), kind=kind, log=True)
            json.loads(figure.to_json())
            assert "81 points at zero" in words(figure)


def test_an_error_of_zero_lies_half_a_sample_down():
    accuracy = np.full((9, 9), 0.0)
    accuracy[4, 4] = 0.5
    data = changed(synthetic.plane(9, 9), accuracy=accuracy)
    low, _ = value_range([data], "accuracy", True) or (0, 0)
    assert low == pytest.approx(0.5 / 1437)
    assert surface_figure(data, kind="heatmap", quantity="accuracy", log=True).data[0].colorbar.ticktext[0] == "0"
    fine = changed(data, accuracy=np.where(accuracy, 1e-5, 0.0))  # a mean over tokens knows less than half a sample
    assert (value_range([fine], "accuracy", True) or (0, 0))[0] == 1e-5


def test_pictures_that_share_a_log_range_keep_their_colours():
    whole, lost = valley(DEEP), valley(np.where(DEEP < 1, 0, DEEP))
    limits = value_range([whole, lost], log=True)
    assert limits == (DEEP[0], DEEP[-1])
    scales = [scale_for(read_slice(data), limits, True) for data in (whole, lost)]
    assert scales[0].bounds == scales[1].bounds
    assert [scale.floored for scale in scales] == [0, int((DEEP < 1).sum())]
    first, last = scales[1].color_bounds
    share = (scales[1].bounds[0] - first) / (last - first)
    assert scales[1].inside == (pytest.approx(share), 1.0)


def test_a_range_that_was_chosen_marks_both_ends():
    for log in (False, True):
        figure = surface_figure(valley(DEEP), kind="heatmap", log=log, limits=(1.0, 100.0))
        below, above = int((DEEP < 1).sum()), int((DEEP > 100).sum())
        assert f"{below} points below 1 clipped" in words(figure)
        assert f"{above} points above 100 clipped" in words(figure)
        ticks = figure.data[0].colorbar.ticktext
        assert (ticks[0], ticks[-1]) == ("< 1", "> 100")
        line = words(surface_figure(valley(DEEP), kind="line", log=log, limits=(1.0, 100.0)))
        assert f"{below} points below 1 outside the picture" in line
        assert "grey" not in line


def test_a_contour_map_greys_nothing_that_is_in_the_range():
    """Plotly fills bands from half a band below the first line to half above the last."""
    figure = surface_figure(valley(DEEP), kind="contour", log=True, limits=(1.0, 100.0))
    drawn = figure.data[0]
    start, end, size = drawn.contours.start, drawn.contours.end, drawn.contours.size
    low, high = (start + at * (end + size - start) - size / 2 for at in (drawn.colorscale[1][0], drawn.colorscale[-2][0]))
    assert (low, high) == (pytest.approx(0.0), pytest.approx(2.0))


def test_a_path_below_the_surface_is_drawn_below_it():
    result = synthetic.plane()
    deep = changed(result, trajectory_loss=result["trajectory_loss"] * np.linspace(1, 1e-4, 24))
    figure = surface_figure(deep, kind="3d", log=True)
    real = next(trace for trace in figure.data if trace.name == "path of training")
    np.testing.assert_allclose(real.z, np.log10(deep["trajectory_loss"]), atol=0.03)
    assert figure.layout.scene.zaxis.range[0] < np.log10(deep["trajectory_loss"].min())
    assert min(figure.layout.scene.zaxis.tickvals) < np.log10(result["loss"].min())


@pytest.mark.parametrize(("low", "high"), [(1e-300, 1e300), (1e-9, 10), (0.2, 40), (2.0, 2.1), (5e-324, 1.7e308), (3, 3)])
def test_log_ticks_are_few_round_and_inside(low, high):
    found = log_ticks(np.log10(low), np.log10(high), 7)
    assert len(found) <= 7
    assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in found)
    places, _ = Scale("loss", low, high, log=True).ticks(7)
    assert 1 <= len(places) <= 10


def test_masked_points_are_counted_and_drawn_apart():
    result = synthetic.plane(21, 21, masked=True, path=False)
    count = int((~np.isfinite(result["loss"])).sum())
    for kind in ("heatmap", "contour", "3d"):
        figure = surface_figure(result, kind=kind)
        assert f"{count} points not finite" in words(figure)
        assert "not finite" in [trace.name for trace in figure.data]
    spots = next(t for t in surface_figure(result, kind="3d").data if t.name == "not finite")
    assert len(spots.x) == count


def test_clipping_is_marked_and_counted():
    result = synthetic.plane(21, 21, path=False)
    limits = value_range([result], clip=0.9)
    assert limits is not None
    above = int((result["loss"] > limits[1] * (1 + 1e-9)).sum())
    assert above > 0
    figure = surface_figure(result, kind="heatmap", limits=limits)
    assert f"{above} points above" in words(figure)
    heat = figure.data[0]
    assert (np.asarray(heat.z) == np.float32(heat.zmax)).sum() == above
    assert heat.colorbar.ticktext[-1].startswith("> ")
    assert heat.colorscale[-1][1] == heat.colorscale[-2][1]
    surface = surface_figure(result, kind="3d", limits=limits).data[0]
    assert np.asarray(surface.z).max() == pytest.approx(limits[1], rel=1e-6)


def test_shared_range_covers_all_and_makes_equal_scales():
    a, b = synthetic.plane(9, 9), synthetic.plane(9, 9, seed=3, reach=2.0)
    limits = value_range([a, None, b])
    assert limits == (min(a["loss"].min(), b["loss"].min()), max(a["loss"].max(), b["loss"].max()))
    maps = [surface_figure(x, kind="heatmap", limits=limits).data[0] for x in (a, b)]
    assert (maps[0].zmin, maps[0].zmax) == (maps[1].zmin, maps[1].zmax)
    assert value_range([None, {}]) is None


def test_partial_is_labelled_and_filled_in():
    data = synthetic.partial(8)
    figure = surface_figure(data, kind="heatmap")
    assert "36 of 1,681 points exact, held-out error 0.4 % of range" in words(figure)
    assert np.isfinite(np.asarray(figure.data[0].z)).all()
    assert "exact points" in [trace.name for trace in figure.data]
    part = read_slice(data, "accuracy")
    assert part.partial
    assert np.isfinite(part.values).all()
    np.testing.assert_array_equal(part.values[part.exact], data["accuracy"][part.exact])


def test_partial_line_is_joined():
    whole = synthetic.lines(2, 17)
    evaluated = np.zeros((2, 17), bool)
    evaluated[0, ::4] = True
    data = {"alphas": whole["alphas"], "loss": np.where(evaluated, whole["loss"], np.nan), "evaluated": evaluated}
    part = read_slice(data)
    assert np.isfinite(part.values[0]).all()
    assert np.isnan(part.values[1]).all()
    assert surface_figure(data, kind="line").data


@pytest.mark.parametrize("kind", KINDS)
def test_never_a_surface_without_a_cell(kind):
    nothing = changed(synthetic.plane(9, 9, path=False), loss=np.full((9, 9), np.nan))
    lonely = np.full((9, 9), np.nan)
    lonely[4, 4] = 1.0
    started = {**synthetic.partial(), "loss": np.full((41, 41), np.nan), "evaluated": np.zeros((41, 41), bool)}
    started["estimate"] = started["loss"]
    for data in (nothing, changed(nothing, loss=lonely), started):
        figure = surface_figure(data, kind=kind)
        assert not figure.data
        assert figure.layout.annotations[0].text
    assert "smaller extent" in surface_figure(nothing, kind=kind).layout.annotations[0].text
    assert "Waiting" in surface_figure(started, kind=kind).layout.annotations[0].text


def test_constant_and_tiny_surfaces_draw():
    flat = changed(synthetic.plane(3, 3, path=False), loss=np.full((3, 3), 2.0))
    for kind in KINDS:
        for log in (False, True):
            figure = surface_figure(flat, kind=kind, log=log)
            assert figure.data
    low, high = scale_for(read_slice(flat), None, False).bounds
    assert low < 2.0 < high


@pytest.mark.parametrize("kind", ["3d", "contour", "heatmap"])
def test_convexity_is_drawn_on_its_own_points(kind):
    result = synthetic.plane()
    n, m = len(result["alphas"]), len(result["betas"])
    whole = {
        "convexity": np.linspace(-1, 1, 9).reshape(3, 3),
        "convexity_alphas": np.arange(3.0),
        "convexity_betas": np.arange(3.0),
    }
    data = changed(result, convexity_plane=np.full((n - 2, m - 2), 0.3), **whole)
    assert "convexity in the plane" in surface_figure(data, kind=kind, quantity="convexity_plane").to_json()
    figure = surface_figure(data, kind=kind, quantity="convexity", log=True)  # which has no logarithm
    assert "convexity, all directions" in figure.to_json()
    drawn = next(trace for trace in figure.data if trace.type in ("surface", "contour", "heatmap"))
    assert (len(drawn.x), len(drawn.y)) == (3, 3)
    assert value_range([data, None], "convexity") == (-1.0, 1.0)
    lower = changed(data, convexity=-0.1 * np.abs(data["convexity"]))
    assert value_range([lower], "convexity") == (-0.1, 0.1)  # its white is zero
    with pytest.raises(InputError, match="set convexity=9"):
        surface_figure(result, kind=kind, quantity="convexity")


@pytest.mark.parametrize("kind", ["3d", "contour", "heatmap"])
def test_a_random_walk_is_drawn_beside_the_path(kind):
    data = changed(synthetic.plane(), random_walk_coordinates=np.array([[0.5, 0.5], [0.1, -0.2], [0.0, 0.0]]))
    figure = surface_figure(data, kind=kind, walk=True)
    drawn = next(trace for trace in figure.data if trace.name == "random walk with the same steps")
    assert np.allclose(drawn.x, [0.5, 0.1, 0.0])
    assert "Dotted: a random walk" in words(figure)
    assert "Dotted" not in words(surface_figure(data, kind=kind))


@pytest.mark.parametrize("kind", ["3d", "contour", "heatmap"])
def test_a_path_says_which_steps_one_can_go_to(kind):
    data = synthetic.plane()
    traces = surface_figure(data, kind=kind).data
    path = next(trace for trace in traces if trace.meta and "steps" in trace.meta)
    assert list(path.meta["steps"]) == data["trajectory_steps"].tolist()
    assert len(path.hovertext) == len(path.x) == len(data["trajectory_steps"])
    assert [list(trace.x) for trace in traces if trace.meta == {"step": True}] == [[None]]


def test_huge_values_survive():
    loss = np.full((9, 9), 1.0)
    loss[0, 0] = 2.6e38
    loss[0, 1] = 1e200
    for kind in KINDS:
        for log in (False, True):
            figure = surface_figure(changed(synthetic.plane(9, 9, path=False), loss=loss), kind=kind, log=log)
            json.loads(figure.to_json())
    assert "clipped" in words(
        surface_figure(changed(synthetic.plane(9, 9, path=False), loss=loss), limits=(1.0, 2.0), kind="heatmap")
    )


def test_path_has_real_height_and_dotted_shadow():
    result = synthetic.plane()
    figure = surface_figure(result, kind="3d")
    real = next(trace for trace in figure.data if trace.name == "path of training")
    np.testing.assert_allclose(real.z, result["trajectory_loss"], atol=0.06)
    dotted = [trace for trace in figure.data if trace.type == "scatter3d" and trace.line.dash == "dot"]
    np.testing.assert_allclose(dotted[0].z, result["trajectory_plane_loss"], atol=0.06)
    assert "distance from the plane" in real.hovertext[0]
    assert not [t for t in surface_figure(result, kind="3d", path=False).data if t.name == "path of training"]
    low, high = figure.layout.scene.zaxis.range
    assert low <= result["trajectory_loss"].min()
    assert high >= result["trajectory_loss"].max()


def test_path_outside_the_picture_is_said():
    result = synthetic.plane()
    moved = changed(result, trajectory_coordinates=result["trajectory_coordinates"] * 2)
    out = int((np.abs(moved["trajectory_coordinates"]) > 1).any(axis=1).sum())
    assert f"{out} of 24 checkpoints" in words(surface_figure(moved, kind="heatmap"))
    route = read_path(moved, read_slice(moved))
    assert route is not None
    assert (~route.inside).sum() == out


def test_arrows_point_along_the_flow():
    result = synthetic.plane()
    arrows = read_arrows(result, read_slice(result))
    assert arrows is not None
    along = arrows.lines[:, 1] - arrows.lines[:, 0]
    flow = result["flow"].reshape(-1, 2)
    flow = flow[np.linalg.norm(flow, axis=1) > 0]
    cosine = (along * flow).sum(1) / np.linalg.norm(along, axis=1) / np.linalg.norm(flow, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-6)
    zero = changed(result, flow=np.zeros((9, 9, 2)))
    assert read_arrows(zero, read_slice(zero)) is None
    assert surface_figure(zero, kind="contour", flow=True).data


def test_interpolation_is_bilinear():
    result = synthetic.plane(9, 9)
    a, b = np.meshgrid(result["alphas"], result["betas"], indexing="ij")
    plane = changed(result, loss=2 + 3 * a - b + a * b)
    points = np.array([[0.13, -0.4], [1.0, 1.0], [-1.0, 0.2], [1.3, 0.0]])
    got = interpolate(read_slice(plane), points)
    np.testing.assert_allclose(got[:3], 2 + 3 * points[:3, 0] - points[:3, 1] + points[:3, 0] * points[:3, 1])
    assert np.isnan(got[3])


def test_anchors_are_labelled():
    for kind in ("heatmap", "3d"):
        labels = [t.text[0] for t in surface_figure(synthetic.through(), kind=kind).data if t.text]
        assert labels == ["run@0", "run@100", "run@2000"]


def test_units_and_sample_are_on_the_picture():
    figure = surface_figure(synthetic.plane(), kind="3d")
    assert figure.layout.scene.xaxis.title.text == "α  (filter norms)"
    assert "1,437 samples" in figure.data[0].colorbar.title.text
    assert "test" in surface_figure(synthetic.plane(), quantity="loss_test").data[0].colorbar.title.text
    assert "plane holds 0.16 % of the squared gradient" in words(figure)


def test_what_is_asked_wrongly_is_named():
    plane = synthetic.plane(5, 5)
    with pytest.raises(InputError, match="kind"):
        surface_figure(plane, kind="pie")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="colour map"):
        surface_figure(plane, colormap="jet")
    bare = Result({k: v for k, v in plane.arrays.items() if not k.endswith("_test")}, plane.spec)
    with pytest.raises(InputError, match="set test=true"):
        surface_figure(bare, quantity="loss_test")


def test_dark_scene_has_dark_ground_and_light_text():
    figure = surface_figure(synthetic.plane(), dark=True)
    assert figure.layout.scene.bgcolor == figure.layout.paper_bgcolor == "#242424"
    assert figure.layout.font.color == "#f1f3f5"
    assert figure.layout.uirevision == surface_figure(synthetic.plane()).layout.uirevision


# -- difference ------------------------------------------------------------------------------------------------------


def test_difference_is_second_minus_first_around_zero():
    a, b = synthetic.plane(9, 9), synthetic.plane(9, 9, seed=2)
    heat = difference_figure(a, b, names=("a", "b")).data[0]
    np.testing.assert_allclose(np.asarray(heat.z).T, b["loss"] - a["loss"], atol=1e-6)
    assert heat.zmin == -heat.zmax
    assert heat.colorscale[5][1] == "rgb(247,247,247)"
    for kind in KINDS:
        assert "of b" not in words(difference_figure(a, b, kind=kind, names=("a", "b"), log=True))
        assert "own axes" in words(difference_figure(a, b, kind=kind, dark=True))
    ratio = difference_figure(a, b, log=True).data[0]
    np.testing.assert_allclose(np.asarray(ratio.z).T, np.log10(b["loss"] / a["loss"]), atol=1e-6)


def test_difference_needs_the_same_coordinates():
    a = synthetic.plane(9, 9)
    assert comparable(a, synthetic.plane(9, 9, seed=1)) == ""
    assert "resolution" in comparable(a, synthetic.plane(9, 11))
    assert "extent" in comparable(a, synthetic.plane(9, 9, reach=2.0))
    assert "resolution" in comparable(a, synthetic.lines(1, 9))
    with pytest.raises(InputError, match="extent"):
        difference_figure(a, synthetic.plane(9, 9, reach=2.0))


def test_difference_masks_and_survives_equal_surfaces():
    a, b = synthetic.plane(21, 21), synthetic.plane(21, 21, masked=True)
    assert "not finite" in words(difference_figure(a, b))
    assert difference_figure(a, a, kind="3d").data
    assert difference_figure(synthetic.lines(3), synthetic.lines(3)).data


def test_a_difference_beyond_its_range_is_marked_on_both_sides():
    a, b = synthetic.plane(21, 21), synthetic.plane(21, 21, seed=2)
    gap = b["loss"] - a["loss"]
    figure = difference_figure(a, b, value_range=0.1)
    assert f"{int((gap > 0.1 + 1e-9).sum())} points above 0.1 clipped (grey)" in words(figure)
    assert f"{int((gap < -0.1 - 1e-9).sum())} points below −0.1 clipped (grey)" in words(figure)
    heat = figure.data[0]
    assert heat.colorscale[0][1] == heat.colorscale[-1][1]
    assert heat.zmin == -heat.zmax


def test_a_quotient_needs_two_positive_values():
    few = np.arange(81) < 9
    for other in (-DEEP, np.zeros(81)):
        a, b = valley(np.where(few, other, DEEP)), valley(np.where(few, 2 * other, 2 * DEEP))
        figure = difference_figure(a, b, log=True)  # two negative losses have a quotient, which does not say which is lower
        assert "9 points not finite" in words(figure)
        np.testing.assert_allclose(np.asarray(figure.data[0].z).T.reshape(-1)[9:], np.log10(2), rtol=1e-6)
    huge = difference_figure(valley(np.full(81, 1e-300)), valley(np.full(81, 1e300)), log=True)
    assert np.asarray(huge.data[0].z).max() == pytest.approx(600)


# -- reading ---------------------------------------------------------------------------------------------------------


def rows(result: Result) -> dict[str, Any]:
    return {item.name: item for item in reading(result)}


def test_reading_has_every_row_of_the_certificate():
    found = rows(synthetic.plane(directions="pca"))
    assert list(found) == [
        "Axes",
        "Angle of the axes",
        "At the centre",
        "Arithmetic",
        "Gradient in the picture",
        "Curvature along α",
        "Curvature along β",
        "Curvature in the plane",
        "Not convex",
        "Path explained",
        "Path beside the picture",
        "Height of the path",
        "Not finite",
        "Mode",
        "Kinks",
        "What this picture does not show",
    ]
    assert found["Gradient in the picture"].value == "0.16 %"
    assert "0.02 %" in found["Gradient in the picture"].words
    assert "1,437 train samples" in found["At the centre"].value
    assert all(item.words and item.verdict in ("ok", "note", "warn") for item in found.values())
    assert all(item.formula for item in found.values() if item.name.startswith(("Curv", "Path", "Angle", "Grad", "Arith")))


@pytest.mark.parametrize(
    ("arrays", "row", "verdict"),
    [
        ({"axis_cosine": 0.02}, "Angle of the axes", "ok"),
        ({"axis_cosine": -0.3}, "Angle of the axes", "note"),
        ({"axis_cosine": 0.9}, "Angle of the axes", "warn"),
        ({"center_deviation": 2e-5}, "Arithmetic", "warn"),
        ({"center_deviation": 2e-6}, "Arithmetic", "ok"),
        ({"gradient_share": 0.7}, "Gradient in the picture", "ok"),
        ({"second_difference_0": -4.0}, "Curvature along α", "warn"),
        ({"second_difference_0": 16.8}, "Curvature along α", "note"),
        ({"plane_curvatures": np.array([-0.1, 0.2])}, "Curvature in the plane", "note"),
        ({"explained_variance": 0.905}, "Path explained", "warn"),
        ({"trajectory_residual": np.zeros(24)}, "Path beside the picture", "ok"),
        ({"trajectory_height_error": np.full(24, 9.0)}, "Height of the path", "warn"),
        ({"masked_cells": 3}, "Not finite", "note"),
        ({"masked_cells": 900}, "Not finite", "warn"),
    ],
)
def test_verdicts_follow_their_thresholds(arrays, row, verdict):
    assert rows(changed(synthetic.plane(directions="pca"), **arrays))[row].verdict == verdict


def test_float64_is_held_to_its_own_tolerance():
    result = changed(synthetic.plane(), center_deviation=1e-7)
    assert rows(result)["Arithmetic"].verdict == "ok"
    double = Result(result.arrays, result.spec, {**result.provenance, "dtype": "float64"})
    assert rows(double)["Arithmetic"].verdict == "warn"


def test_reading_of_lines_and_of_what_is_missing():
    found = rows(synthetic.lines(10))
    assert "Angle of the axes" not in found
    assert "Over 10 random lines" in found["Curvature along α"].words
    bare = Result({"alphas": np.zeros(3), "loss": np.zeros((1, 3))}, {"analysis": "surface", "dimensions": 1})
    assert [item.name for item in reading(bare)] == ["Mode", "Kinks", "What this picture does not show"]
    nan = {name: np.nan for name, value in synthetic.plane().arrays.items() if value.ndim == 0 and value.dtype.kind == "f"}
    assert surface_reading(changed(synthetic.plane(), **nan), SurfaceSpec())
    unknown = changed(synthetic.plane(), curvature_0=np.nan, curvature_1=np.nan, curvature_note="not twice differentiable")
    assert "not twice differentiable" in rows(unknown)["Curvature"].words
    assert reading(Result({}, {"analysis": "train"})) == []


# -- files -----------------------------------------------------------------------------------------------------------


def test_csv_round_trips():
    result = synthetic.plane(5, 7, masked=True)
    table = table_of(result)
    assert len(table) == 35
    assert float(table[9]["alpha"]) == result["alphas"][1]
    assert float(table[9]["beta"]) == result["betas"][2]
    np.testing.assert_array_equal([float(row["loss"]) for row in table], result["loss"].reshape(-1))
    lines = table_of(synthetic.lines(3, 5))
    assert [row["line"] for row in lines[::5]] == ["0", "1", "2"]
    with pytest.raises(InputError, match="no surface"):
        content(Result({}, {"analysis": "surface"}), ".csv")


def test_vtk_is_a_structured_grid():
    result = synthetic.plane(5, 7, masked=True)
    text = content(result, ".vtk").decode().splitlines()
    assert text[0].startswith("# vtk DataFile Version")
    assert text[2:6] == ["ASCII", "DATASET STRUCTURED_GRID", "DIMENSIONS 5 7 1", "POINTS 35 double"]
    points = np.array([line.split() for line in text[6:41]], dtype=float)
    assert np.isfinite(points).all()
    np.testing.assert_array_equal(points[:5, 0], result["alphas"])
    np.testing.assert_array_equal(points[::5, 1], result["betas"])
    at = text.index("SCALARS loss double 1") + 2
    values = np.array(text[at : at + 35], dtype=float)
    np.testing.assert_array_equal(values.reshape(7, 5).T, result["loss"])
    assert {f"SCALARS {name} double 1" for name in ("loss", "accuracy", "error", "loss_test")} <= set(text)
    with pytest.raises(InputError, match="dimensions=2"):
        content(synthetic.lines(), ".vtk")


@pytest.mark.parametrize(
    ("share", "error", "more"), [(1 + 4e-16, 0.0, False), (1.08, 0.05, False), (1.2, 0.05, True), (1.01, 0.0, True)]
)
def test_negative_curvature_takes_away_where_the_share_is_beyond_all_of_it(share: float, error: float, more: bool) -> None:
    trace = {"hessian_trace": 5.0, "hessian_trace_standard_error": 5 * error, "trace_share_baseline": 0.1}
    found = {"hessian_top": 4.0, "hessian_bottom": 1.0, "trace_share": share, "trace_share_error": error}
    row = next(row for row in reading(changed(synthetic.plane(), **trace, **found)) if row.name == "Trace in the picture")
    assert ("negative curvature takes away" in row.words) == more
