"""What every figure shares: the light and the dark theme, colour maps, captions, and the figure that only says something."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.colors
import plotly.graph_objects as go

FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
# Told apart with every common kind of colour vision, 3:1 on their ground; those for light ground are so on dark as well.
SERIES = {
    False: ("#3b82c4", "#d97000", "#12967a", "#b65fa8"),
    True: ("#74b0e4", "#ffa94d", "#4cc9ab", "#d894cd"),
}
COLOR_MAPS = ("viridis", "cividis")  # readable with every common kind of colour vision
DIVERGING = "RdBu_r"  # for differences, its white at zero
MASK_COLOR = "#e64980"  # not finite; in neither of the colour maps
UNDER_COLOR = "#a5d8ff"  # zero or negative on a log scale; in neither of them either
CENTER_COLOR = "#ff922b"
CUTS = {False: ("#1c7ed6", "#e8590c"), True: ("#4dabf7", "#ffa94d")}  # blue and orange, by dark: apart for every colour vision
BESIDE = {False: "#9c36b5", True: "#da77f2"}  # purple: what is drawn beside the thing itself
CAPTION_LINE = 15  # pixels


@dataclass(frozen=True)
class Theme:
    """The colours that depend on light or dark."""

    paper: str
    text: str
    muted: str
    grid: str
    over: str  # what lies beyond a clipped range
    path: str
    halo: str  # outline that keeps the path visible on every colour of the map
    mark: str  # labels in 3-D, read against the paper and against the map


LIGHT = Theme("#ffffff", "#212529", "#5c636a", "#dee2e6", "#ced4da", "#ffffff", "#212529", "#e8590c")
DARK = Theme("#242424", "#f1f3f5", "#a6adb4", "#495057", "#868e96", "#ffffff", "#101113", "#ffc078")


def theme(dark: bool) -> Theme:
    """The colours of the light or the dark theme."""
    return DARK if dark else LIGHT


def cuts(dark: bool) -> tuple[str, str]:
    """The two colours of a picture of its own, blue and orange."""
    return CUTS[dark]


def color_scale(
    name: str, inside: tuple[float, float] = (0.0, 1.0), under: str | None = None, over: str | None = None
) -> list[tuple[float, str]]:
    """A colour map as plotly stops, laid between the shares `inside`; beyond them one colour each, or the map's own ends."""
    stops = [(float(at), str(color)) for at, color in plotly.colors.get_colorscale(name)]
    low, high = inside
    first, last = under or stops[0][1], over or stops[-1][1]
    return [
        *([(0.0, first), (low, first)] if low > 0 else []),
        *((low * (1 - at) + high * at, color) for at, color in stops),
        *([(high, last), (1.0, last)] if high < 1 else []),
    ]


def faint(color: str, opacity: float) -> str:
    """A colour `#rrggbb` with an opacity."""
    red, green, blue = (int(color.lstrip("#")[k : k + 2], 16) for k in (0, 2, 4))
    return f"rgba({red},{green},{blue},{opacity})"


def caption_lines(sentences: Sequence[str], width: int) -> list[str]:
    """The sentences wrapped to `width` characters, each starting on a line of its own."""
    return [line for sentence in sentences for line in textwrap.wrap(sentence, width)]


def base_layout(
    colors: Theme, title: str, *, color: str | None = None, caption: Sequence[str] = (), compact: bool = False
) -> dict[str, Any]:
    """A layout with a title (before it a swatch in the checkpoint's `color`) and under it the caption in small type.

    The caption is the title's subtitle: it keeps its place at every size of the figure and travels with every download.
    """
    lines = caption_lines(caption, 70 if compact else 96)
    swatch = f"<span style='color:{color}'>■</span> " if color else ""
    return {
        "template": {},  # plotly's default template is 6.5 kB in every figure
        "paper_bgcolor": colors.paper,
        "plot_bgcolor": colors.paper,
        "font": {"family": FONT, "size": 12, "color": colors.text},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": colors.muted, "activecolor": colors.text},
        "hoverlabel": {"font": {"family": FONT, "size": 12}, "align": "left"},
        "margin": {"l": 8, "r": 8, "t": 34 + (CAPTION_LINE * len(lines) + 12 if lines else 0), "b": 8},
        "title": {
            "text": swatch + title,
            "subtitle": {"text": "<br>".join(lines), "font": {"size": 11, "color": colors.muted}},
            "font": {"size": 14},
            "x": 0,
            "xref": "container",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": 12, "t": 10},
        },
        "showlegend": False,
        "autosize": True,
    }


def legend_below(compact: bool = False) -> dict[str, Any]:
    """A legend under the picture, which makes room for it; in a small picture two entries a row in small type."""
    place = {"x": 0.5, "y": 0, "yref": "container", "xanchor": "center", "yanchor": "bottom", "orientation": "h"}
    small = {"entrywidth": 0.48, "entrywidthmode": "fraction", "font": {"size": 11}, "tracegroupgap": 0}
    return place | {"bgcolor": "rgba(0,0,0,0)"} | (small if compact else {})


def message_figure(text: str, *, dark: bool = False, title: str = "", color: str | None = None) -> go.Figure:
    """An empty picture that says in one sentence why it is empty and what to do."""
    colors = theme(dark)
    layout = base_layout(colors, title, color=color)
    words = {"text": "<br>".join(textwrap.wrap(text, 60)), "showarrow": False, "font": {"size": 14, "color": colors.muted}}
    layout["annotations"] = [{**words, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}]
    hidden = {"visible": False, "range": [0, 1], "fixedrange": True}
    return go.Figure(layout={**layout, "xaxis": hidden, "yaxis": hidden})
