"""Pictures of the laws of many dimensions, and what a small difference of radii does to a volume: closed forms only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from ...drawing.axes import cartesian_axis, log_axis
from ...drawing.numbers import number
from ...drawing.style import Theme, base_layout, cuts, faint, theme
from ...specs import InputError
from . import laws
from .figure import DEGREES

Law = Literal["angle", "shell", "corner", "depth"]
LAWS: dict[str, str] = {"angle": "Angles", "shell": "Shells", "corner": "Corners", "depth": "Depth"}
FREE = {  # the corner of each picture that no curve comes to
    "angle": {"x": 1, "y": 1, "xanchor": "right", "yanchor": "top"},
    "shell": {"x": 1, "y": 0, "xanchor": "right", "yanchor": "bottom"},
    "corner": {"x": 0, "y": 1, "xanchor": "left", "yanchor": "top"},
    "depth": {"x": 0, "y": 0, "xanchor": "left", "yanchor": "bottom"},
}
FAMILIAR = 3.0  # dimensions
LARGEST = 12.0  # power of ten of the dimensions that can be chosen
LAYERS = 100
EXACT = 700.0  # logarithm up to which a ratio is a number of this machine
Picture = tuple[list[Any], dict[str, Any], list[str]]  # traces, axes, sentences


def law_figure(law: str, power: float, *, dark: bool = False) -> go.Figure:
    """One law in 10^power dimensions (0 to 12) beside the same in three. Raises InputError for another law or number."""
    if law not in LAWS:
        raise InputError(f"unknown law '{law}'; known: {', '.join(LAWS)}")
    d = _dimensions(float(round(10.0 ** min(power, 2 * LARGEST))))
    colors = theme(dark)
    traces, axes, said = DRAWN[law](max(2.0, d) if law == "angle" else d, colors, cuts(dark))
    words = f"Depth at width {number(d, 4)}" if law == "depth" else f"{LAWS[law]} in {number(d, 4)} dimensions"
    layout = base_layout(colors, words, caption=said)
    legend = FREE[law] | {"bgcolor": "rgba(0,0,0,0)"}
    layout |= axes | {"showlegend": True, "legend": legend, "hovermode": "closest", "uirevision": law}
    return go.Figure(data=traces, layout=layout)


def volume_words(dimensions: Any, excess: Any) -> list[tuple[str, str]]:
    """(what, how much) of two bodies of one shape in `dimensions`, one radius larger by the share `excess`, and of a cube.

    Numbers, or texts of them. Raises InputError for what is none.
    """
    d = _dimensions(dimensions)
    try:
        share = float(excess)
    except (TypeError, ValueError):
        raise InputError(f"the share by which a radius is larger must be a number, such as 1e-10 (got {excess})") from None
    log = laws.log_volume_ratio(share, d)
    diagonal = laws.cube_diagonal(d)
    return [
        ("Ratio of the volumes", _power(log)),
        ("Its logarithm", f"{number(log, 6)} = d · log(1 + x)"),
        ("Radius that doubles the volume", f"larger by {number(100 * math.expm1(math.log(2) / d), 3)} %"),
        ("Outermost layer that holds half of a ball", f"{number(100 * laws.outer_half(d), 3)} % of its radius"),
        ("Diagonal of a cube of side 1 m", _metres(diagonal)),
        ("From its middle to a wall, to a corner", f"0.5 m, {_metres(diagonal / 2)}"),
        ("Share of the cube in the ball that touches its walls", _power(laws.log_inscribed_share(d))),
    ]


def _dimensions(value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not 1 <= found <= 10**LARGEST:
        raise InputError(f"dimensions must be a number between 1 and 1e{LARGEST:.0f} (got {value})")
    return found


def _power(log: float) -> str:
    """exp(log) for people: as a number, or as a power of ten where it is none of this machine."""
    if abs(log) < EXACT:
        value = math.exp(log)
        return f"{value:,.0f}" if 1e3 <= value < 1e15 else number(value, 6)
    return f"10^({number(log / math.log(10), 6)})"


def _metres(length: float) -> str:
    return f"{number(length / 1000, 5)} km" if length >= 1000 else f"{number(length, 4)} m"


def _line(x: Any, y: Any, name: str, tint: str, *, dash: str = "solid", hover: str = "%{x:.4g}, %{y:.4g}") -> go.Scatter:
    line = {"color": tint, "width": 2.5, "dash": dash}
    return go.Scatter(x=x, y=y, mode="lines", name=name, line=line, hovertemplate=f"{hover}<extra>{name}</extra>")


def _angle(d: float, colors: Theme, tints: tuple[str, str]) -> Picture:
    bound = laws.cosine_bound(d)
    width = 90 - math.degrees(math.acos(bound))
    # Fine where the density is not small: a grid of the whole range would miss a peak of a thousandth of a degree.
    offset = np.linspace(0, 1, 200) ** 2 * 90
    near = np.linspace(0, 4, 200) * width
    degrees = np.unique(np.concatenate([90 + s * part[part <= 90] for s in (-1, 1) for part in (offset, near)]))
    traces = [
        _line(degrees, laws.angle_density(np.radians(degrees), dims), f"{number(dims, 4)} dimensions", tint, dash=dash)
        for dims, tint, dash in ((FAMILIAR, tints[1], "dash"), (d, tints[0], "solid"))
    ]
    x = cartesian_axis(colors, "angle between two random vectors") | {"range": [-3, 183], **DEGREES}
    y = cartesian_axis(colors, "density  (1 at a right angle)") | {"range": [0, 1.06]}
    said = [
        f"99 of 100 pairs are at 90° ± {number(width, 3)}°; cos² ~ Beta(1/2, (d − 1)/2).",
        f"|cos| is {number(laws.mean_cosine(d), 3)} on average; cos deviates by {number(laws.cosine_deviation(d), 3)} = 1/√d.",
    ]
    return traces, {"xaxis": x, "yaxis": y}, said


def _shell(d: float, colors: Theme, tints: tuple[str, str]) -> Picture:
    thickness = np.linspace(0, 1, 400) ** 3
    traces = []
    for dims, tint, dash in ((FAMILIAR, tints[1], "dash"), (d, tints[0], "solid")):
        share = [100 * laws.outer_share(float(t), dims) for t in thickness]
        name = f"{number(dims, 4)} dimensions"
        traces.append(
            _line(100 * thickness, share, name, tint, dash=dash, hover="%{y:.4g} % of the volume in the outermost %{x:.3g} %")
        )
    x = cartesian_axis(colors, "thickness of the outermost layer  (% of the radius)") | {"range": [0, 100]}
    y = cartesian_axis(colors, "share of the ball's volume  (%)") | {"range": [0, 104]}
    said = [
        f"Half of a ball's volume lies in the outermost {number(100 * laws.outer_half(d), 3)} % of its radius.",
        f"A standard normal vector is {number(laws.norm_mean(d), 5)} ± {number(laws.norm_deviation(d), 3)} long: a shell that "
        f"gets no thicker, {number(100 * laws.shell_width(d), 2)} % of its radius.",
    ]
    return traces, {"xaxis": x, "yaxis": y}, said


def _corner(d: float, colors: Theme, tints: tuple[str, str]) -> Picture:
    dims = np.logspace(0, LARGEST, 121)
    traces = [
        _line(dims, np.sqrt(dims) / 2, "a corner", tints[0], hover="%{y:.4g} away in %{x:.4g} dimensions"),
        _line(dims, np.full(dims.size, 0.5), "a wall", tints[1], dash="dash", hover="0.5 away in %{x:.4g} dimensions"),
    ]
    spot = {"size": 11, "color": tints[0], "line": {"width": 2, "color": colors.paper}}
    here = laws.cube_diagonal(d) / 2
    traces.append(go.Scatter(x=[d], y=[here], mode="markers", marker=spot, hoverinfo="skip", showlegend=False))
    x = log_axis(colors, "dimensions", dims)
    y = log_axis(colors, "distance from the middle of a cube of side 1", np.array([0.3, 1e6]))
    said = [
        f"A wall is 0.5 away, a corner {number(here, 5)}; there are {_power(d * math.log(2))} corners.",
        f"The ball that touches the walls holds {_power(laws.log_inscribed_share(d))} of the cube.",
    ]
    return traces, {"xaxis": x, "yaxis": y}, said


def _depth(d: float, colors: Theme, tints: tuple[str, str]) -> Picture:
    layers = np.arange(LAYERS + 1)
    mean, variance = laws.log_gain(1, d)
    # Half the logarithm of the squared norm is that of the norm.
    center, spread = layers * mean / 2, np.sqrt(layers * variance) / 2
    edge: dict[str, Any] = {"x": layers, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    tens = math.log(10)
    traces = [
        go.Scatter(y=(center - spread) / tens, showlegend=False, **edge),
        go.Scatter(
            y=(center + spread) / tens, name="± 1 standard deviation", fill="tonexty", fillcolor=faint(tints[0], 0.25), **edge
        ),
        _line(layers, center / tens, f"width {number(d, 4)}", tints[0], hover="10^%{y:.3g} after %{x} layers"),
    ]
    x = cartesian_axis(colors, "layers") | {"range": [0, LAYERS]}
    y = cartesian_axis(colors, "log₁₀ of the gradient's norm") | {
        "zeroline": True,
        "zerolinecolor": colors.muted,
        "exponentformat": "e",
    }
    said = [
        "A gradient goes back through random linear layers of this width, entries of variance 1/width.",
        f"|Jv|² stays 1 on average, but typically |Jv| falls by a factor {number(math.exp(mean / 2), 4)} a layer.",
        "Depth over width decides: E log‖Jv‖² = L (ψ(n/2) + log(2/n)), variance L ψ′(n/2).",
    ]
    return traces, {"xaxis": x, "yaxis": y}, said


DRAWN: dict[str, Callable[[float, Theme, tuple[str, str]], Picture]] = {
    "angle": _angle,
    "shell": _shell,
    "corner": _corner,
    "depth": _depth,
}
