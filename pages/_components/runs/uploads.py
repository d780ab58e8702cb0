"""Weights from a browser: POST /upload streams a file into the home directory, where an import job reads it."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from flask import Flask, Response, jsonify, request

from landscape_core.specs import UPLOADS
from landscape_core.specs.imports import WEIGHT_ENDINGS

from .. import stores

PATH = "/upload"
HEADER = "X-Landscape-Upload"  # a browser sends it for no other site's page without asking us first
BLOCK = 2**20
KEPT = 24 * 3600  # seconds that a file waits for its import
DEFAULT_LIMIT_MB = 2048


def limit() -> int:
    """Bytes that the files which wait for their import may have together: $LANDSCAPE_UPLOAD_MB, else 2 GB."""
    text = os.environ.get("LANDSCAPE_UPLOAD_MB", "")
    return (int(text) if text.isdecimal() else DEFAULT_LIMIT_MB) * 2**20


def spool(home: Path) -> Path:
    """The directory in which bodies lie while they arrive, in files without names: nothing is ever left there."""
    folder = home / ".arriving"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def register_routes(server: Flask) -> None:
    """Add the upload route to the server."""

    @server.post(PATH)
    def upload() -> Response:
        name = Path(request.args.get("name", "")).name
        ending = Path(name).suffix.lower()
        if HEADER not in request.headers:
            return _problem("uploads come from the page itself", 403)
        if ending not in WEIGHT_ENDINGS:
            return _problem(f"{name or 'the file'}: weights are read from {', '.join(WEIGHT_ENDINGS)}", 415)
        size = request.content_length
        if not size:
            return _problem(f"{name} is empty", 400)
        if size > limit():
            return _problem(f"{name} has {size / 2**20:,.0f} MB; at most {limit() / 2**20:,.0f} MB are taken", 413)
        waiting = _waiting()
        if waiting + size > limit():
            return _problem(
                f"{waiting / 2**20:,.0f} MB wait for their import already; bring those in first, or wait a day", 413
            )
        request.max_content_length = limit()
        try:
            return jsonify(upload=_store(ending, size), name=name, size=size)
        except EOFError:
            return _problem(f"{name} did not arrive whole; send it again", 400)
        except OSError as error:
            return _problem(f"{name} could not be stored: {error.strerror}", 507)


def _waiting() -> int:
    """Bytes of the files that wait for their import; those that nobody imports are removed after a day."""
    total = 0
    folder = stores.home() / UPLOADS
    folder.mkdir(mode=0o700, exist_ok=True)
    for old in folder.iterdir():
        with suppress(FileNotFoundError):  # imported meanwhile
            facts = old.stat()
            if time.time() - facts.st_mtime > KEPT:
                old.unlink()
            else:
                total += facts.st_size
    return total


def _store(ending: str, size: int) -> str:
    """Write the body under the SHA-256 of its contents, whole or not at all; returns the name."""
    folder = stores.home() / UPLOADS
    digest, received = hashlib.sha256(), 0
    temporary = folder / f".{secrets.token_hex(8)}.part"
    try:
        with temporary.open("xb") as file:
            while block := request.stream.read(BLOCK):
                digest.update(block)
                file.write(block)
                received += len(block)
        if received != size:
            raise EOFError
        name = digest.hexdigest() + ending
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    return name


def _problem(line: str, status: int) -> Response:
    return Response(line, status=status, mimetype="text/plain")
