"""A picture as a file, and the texts that compute it again: they run as they are, in any folder."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from ..specs import OWN_ANALYSES, Spec

CONFIG = {"showSendToCloud": False, "displaylogo": False, "responsive": True}
ROOT = Path(__file__).resolve().parents[2]  # what has to be on the path of a Python that imports us


def to_html(figure: go.Figure) -> str:
    """The figure as one file with plotly.js inside: it opens without a server and asks nobody for anything."""
    title = (figure.layout.title.text or "").split("</span>")[-1].strip() if figure.layout.title else ""
    page: str = figure.to_html(
        include_plotlyjs=True, include_mathjax=False, full_html=True, config=CONFIG, default_height="100vh"
    )
    background = figure.layout.paper_bgcolor or "#ffffff"
    head = f"<title>{_escape(title) or 'Landscape'}</title><style>body{{margin:0;background:{background}}}</style>"
    return page.replace("<head>", f"<head>{head}", 1)


def python_code(kind: str, source: str | Sequence[str], spec: Spec, view: Mapping[str, Any], home: Path) -> str:
    """Python that computes the same results and draws the same picture, for this interpreter in any folder.

    `view` are the view options that are not default, `home` is where runs and results are kept.
    """
    asked = "".join(f", {name}={value!r}" for name, value in {"home": str(home), **spec.changed()}.items())
    options = "".join(f", {name}={value!r}" for name, value in view.items())
    many = not isinstance(source, str)
    lines = [
        f"# {sys.executable}",
        "import os, sys" if _environment() else "import sys",
        f"sys.path.insert(0, {str(ROOT)!r})",
        *(f"os.environ[{name!r}] = {value!r}" for name, value in _environment().items()),
        "import landscape_core",
        "",
        f"{'results' if many else 'result'} = landscape_core.compute({kind!r}, {list(source) if many else source!r}{asked})",
    ]
    if many:
        lines += [f"for figure in landscape_core.side_by_side(results{options}):", "    figure.show()"]
    else:
        lines.append(f"landscape_core.figure(result{options}).show()")
    return "\n".join(lines) + "\n"


def command_line(kind: str, source: str | Sequence[str], spec: Spec, view: Mapping[str, Any], home: Path) -> str:
    """The command that computes the same results and writes the same picture, quoted for a shell in any folder."""
    sources = [source] if isinstance(source, str) else list(source)
    words = [sys.executable, "-m", "landscape_core", "compute", kind, *sources]
    for name, value in spec.changed().items():
        words += ["--set", f"{name}={json.dumps(value, separators=(',', ':'))}"]
    for name, value in view.items():
        words += ["--view", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    words += ["--home", str(home), "--out", f"{kind}-{'-'.join(sources).replace('@', '-')}.html"]
    settings = {"PYTHONPATH": str(ROOT), **_environment()}
    return f"{' '.join(f'{name}={shlex.quote(value)}' for name, value in settings.items())} {shlex.join(words)}"


def _environment() -> dict[str, str]:
    """Settings of this process without which another one would not know the analysis."""
    folders = [os.path.abspath(folder) for folder in os.environ.get(OWN_ANALYSES, "").split(os.pathsep) if folder]
    return {OWN_ANALYSES: os.pathsep.join(folders)} if folders else {}


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
