"""Files of finished results: /download/<key>.<ext>, made when asked for."""

from __future__ import annotations

import logging
import re

from flask import Flask, Response, request

from landscape_core import presenting
from landscape_core.drawing.export import to_html
from landscape_core.presenting import files
from landscape_core.specs import InputError, Result

from . import stores
from .shell.address import read_query
from .shell.theme import color_of

log = logging.getLogger("landscape.pages")
KEY = re.compile(r"^[0-9a-f]{32}$")


def register_routes(server: Flask) -> None:
    """Add the download route to the server."""

    @server.get("/download/<key>.<kind>")
    def download(key: str, kind: str) -> Response:
        if not KEY.match(key) or f".{kind}" not in files.ENDINGS:
            return _text(f"there is no file {key}.{kind}", 404)
        result = stores.results().get(key)
        if result is None:
            return _text("this result is not here any more; compute it again on its page", 404)
        try:
            body = _made(result, kind)
        except InputError as error:
            return _text(str(error), 422)
        except Exception as error:  # of an analysis
            log.exception("making %s.%s failed", key, kind)
            return _text(f"this file could not be made: {type(error).__name__}; see the log", 500)
        response = Response(body, mimetype=MIMES.get(kind, "application/octet-stream"))
        name = f"{result.spec.get('analysis', 'result')}-{result.spec.get('source', key)}.{kind}".replace("@", "-")
        response.headers["Content-Disposition"] = f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "-", name)}"'
        return response


def _html(result: Result) -> bytes:
    """The figure as the page shows it, in a file that needs nothing else. Reads the view options of the address."""
    item = presenting.of_result(result)
    query = read_query(request.query_string.decode("ascii", "replace"))
    source = str(result.spec.get("source") or "")
    figure = presenting.drawn(
        item,
        [result],
        [source],
        item.view(query.view),
        colors=[color_of(0)],
        dark=query.view.get("dark") == "true",
    )[0]
    return to_html(figure).encode()


def _made(result: Result, kind: str) -> bytes:
    return _html(result) if kind == "html" else files.content(result, f".{kind}")


MIMES = {"npz": "application/octet-stream", "csv": "text/csv", "html": "text/html"}


def _text(line: str, status: int) -> Response:
    return Response(line + "\n", status=status, mimetype="text/plain")
