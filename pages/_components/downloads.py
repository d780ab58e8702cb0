"""Files of finished results: /download/<key>.<ext>, made when asked for."""

from __future__ import annotations

import re
from collections.abc import Callable

from flask import Flask, Response, request

from landscape_core.figures import export
from landscape_core.specs import InputError, Result

from . import stores
from .analysis_page import DECLARED
from .state import read_query
from .theme import color_of

KEY = re.compile(r"^[0-9a-f]{32}$")


def register_routes(server: Flask) -> None:
    """Add the download route to the server."""

    @server.get("/download/<key>.<kind>")
    def download(key: str, kind: str) -> Response:
        if not KEY.match(key) or kind not in MAKERS:
            return _text(f"there is no file {key}.{kind}", 404)
        result = stores.results().get(key)
        if result is None:
            return _text("this result is not here any more; compute it again on its page", 404)
        mime, make = MAKERS[kind]
        try:
            body = make(result)
        except InputError as error:
            return _text(str(error), 422)
        response = Response(body, mimetype=mime)
        name = f"{result.spec.get('analysis', 'result')}-{result.spec.get('source', key)}.{kind}".replace("@", "-")
        response.headers["Content-Disposition"] = f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "-", name)}"'
        return response


def _html(result: Result) -> str:
    """The figure as the page shows it, in a file that needs nothing else. Reads the view options of the address."""
    name = str(result.spec.get("analysis"))
    if name not in DECLARED:
        raise InputError(f"a result of {name} has no figure")
    page = DECLARED[name]
    query = read_query(request.query_string.decode("ascii", "replace"))
    source = str(result.spec.get("source") or "")
    view = page.view_of(query.view)
    figure = page.draw([result], [source.replace("@", " @ ")], view, [color_of(0)], query.view.get("dark") == "true")[0]
    return export.to_html(figure)


MAKERS: dict[str, tuple[str, Callable[[Result], bytes | str]]] = {
    "npz": ("application/octet-stream", lambda result: result.to_bytes()),
    "csv": ("text/csv", lambda result: export.to_csv(result)),
    "vtk": ("application/octet-stream", lambda result: export.to_vtk(result)),
    "html": ("text/html", _html),
}


def _text(line: str, status: int) -> Response:
    return Response(line + "\n", status=status, mimetype="text/plain")
