"""Colours and type: one place for what every page looks like."""

from __future__ import annotations

from typing import TypedDict

from dash import dcc, html

from landscape_core.drawing.style import FONT, SERIES

SELECTION_COLORS = SERIES[False]  # one for each place in the selection, on light and on dark
MONOSPACE = "ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, monospace"

MANTINE: dict[str, object] = {
    "fontFamily": FONT,
    "fontFamilyMonospace": MONOSPACE,
    "primaryColor": "indigo",
    "primaryShade": {"light": 7, "dark": 5},
    "defaultRadius": "md",
    "cursorType": "pointer",
    "headings": {"fontFamily": FONT, "fontWeight": "600"},
    "components": {
        "NumberInput": {"defaultProps": {"size": "xs"}},
        "TextInput": {"defaultProps": {"size": "xs"}},
        "Select": {"defaultProps": {"size": "xs"}},
        "TagsInput": {"defaultProps": {"size": "xs"}},
        "Switch": {"defaultProps": {"size": "xs"}},
    },
}

GRAPH_CONFIG: dcc.Graph.Config = {
    "showSendToCloud": False,
    "displaylogo": False,
    "responsive": True,
    "scrollZoom": False,
    "modeBarButtonsToRemove": ["toImage", "select2d", "lasso2d", "autoScale2d"],
}


Aria = TypedDict("Aria", {"aria-label": str})
Hidden = TypedDict("Hidden", {"aria-hidden": str})
HIDDEN: Hidden = {"aria-hidden": "true"}  # decoration that is not read aloud


def aria(label: str) -> Aria:
    """The name of a control for those who do not see it."""
    return {"aria-label": label}


def color_of(index: int) -> str:
    """The colour of the checkpoint at this place of the selection."""
    return SELECTION_COLORS[index % len(SELECTION_COLORS)]


def icon(name: str) -> html.Span:
    """An icon of assets/icons, in the colour of the text around it."""
    return html.Span(className="icon", style={"--icon": f"url(/assets/icons/{name}.svg)"}, **HIDDEN)
