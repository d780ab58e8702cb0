"""The analyses: one folder each, found by looking. A folder says in its `__init__` what it is (`ANALYSIS = Analysis(...)`).

Folders of one's own lie in a directory that $LANDSCAPE_ANALYSES names (several are joined by the path separator). What is
declared imports no torch and draws nothing: compute.py, figure.py and reading.py are imported when they are first asked for.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import pkgutil
import traceback

from ..specs import OWN_ANALYSES, Analysis, AnalysisSpec, InputError, suggestion

log = logging.getLogger("landscape.analyses")
PLACES = [os.path.abspath(folder) for folder in os.environ.get(OWN_ANALYSES, "").split(os.pathsep) if folder]
__path__ += PLACES
for _place in PLACES:
    if not os.path.isdir(_place):
        log.warning("%s names %s, where there is no directory", OWN_ANALYSES, _place)


def _found(name: str) -> Analysis:
    """What the folder `name` declares; a broken one is known by its problem, so that it takes nothing else down."""
    package = f"{__name__}.{name}"
    try:
        item = importlib.import_module(package).ANALYSIS
        if not isinstance(item, Analysis):
            raise InputError(f"ANALYSIS is no Analysis but a {type(item).__name__}")
        if item.name != name:
            raise InputError(f"the folder is called {name}, its analysis {item.name}")
        for field in (field for group in item.form for field in group.fields):
            if field not in item.spec.model_fields:
                raise InputError(
                    f"its form names '{field}', which is no field of its Spec{suggestion(field, item.spec.model_fields)}"
                )
        item.spec.parse({})  # its defaults are within their bounds
        if empty := [view.name for view in item.views if view.choices is not None and not view.choices]:
            raise InputError(f"its view option '{empty[0]}' has no choices")
    except (Exception, SystemExit) as error:  # somebody's own code
        title = name.replace("_", " ").capitalize()
        return Analysis(name, title, "", AnalysisSpec, package=package, problem=_where(error))
    return dataclasses.replace(item, package=package)


def _where(error: BaseException) -> str:
    """One line: what is wrong, in which line of which file."""
    line = " ".join(str(error).split())
    if isinstance(error, SyntaxError | InputError):
        return line  # names its place itself
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {line} ({frame.filename}, line {frame.lineno})"


def _all() -> dict[str, Analysis]:
    folders = sorted({module.name for module in pkgutil.iter_modules(__path__) if module.ispkg})
    found = [_found(name) for name in folders]
    return {item.name: item for item in sorted(found, key=lambda item: (item.order, item.name))}


ANALYSES: dict[str, Analysis] = _all()


def of_cards() -> Analysis | None:
    """The analysis whose thumbnail stands for a run; None where there is none."""
    return next((item for item in ANALYSES.values() if item.thumbnail is not None), None)


def analysis(name: str) -> Analysis:
    """The analysis of this name. Raises InputError that lists the known ones, or says why its folder cannot be used."""
    if name not in ANALYSES:
        known = [item.name for item in ANALYSES.values() if item.listed]
        raise InputError(f"unknown analysis '{name}'{suggestion(name, known)}")
    if ANALYSES[name].problem:
        raise InputError(f"the analysis '{name}' cannot be used: {ANALYSES[name].problem}")
    return ANALYSES[name]
