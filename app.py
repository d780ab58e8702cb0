"""Serve the dashboard: `python app.py`. The composition root: settings, stores, background manager, pages, server.

Importing this module starts nothing: processes that the background manager starts import it as well.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import secrets
import signal
import socket
import sqlite3
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:  # processes of jobs import this module and need no Dash
    from dash import Dash

log = logging.getLogger("landscape")
BODY_LIMIT = 2 * 1024 * 1024  # bytes of a request: callbacks carry keys and forms, never data
OURS = "same-origin"
YEAR, MINUTES = 31_536_000, 600  # seconds for which a browser keeps a thing
HOSTS = ("127.0.0.1", "localhost", "[::1]")

INDEX = """<!DOCTYPE html>
<html lang="en">
    <head>
        {%metas%}
        <meta name="color-scheme" content="light dark">
        <title>{%title%}</title>
        <script src="/assets/head-theme.js"></script>
        <link rel="icon" href="/assets/logo.svg" type="image/svg+xml">
        {%css%}
    </head>
    <body>
        {%app_entry%}
        <footer>
            {%config%}
            {%scripts%}
            {%renderer%}
        </footer>
    </body>
</html>"""


def create_app(home: str | Path | None = None, hosts: Sequence[str] = HOSTS) -> Dash:
    """The Dash app over a home directory. Starts no process. Call it once in a process. Raises InputError for a bad home."""
    from dash import Dash

    import pages
    from landscape_core.checkpoints.home import home_directory
    from landscape_core.jobs.launch.background import QueueingManager

    folder = home_directory(home)
    os.environ["LANDSCAPE_HOME"] = str(folder)  # the processes of jobs read it as well
    app = Dash(
        "landscape",
        title="Landscape",
        update_title=None,  # type: ignore[arg-type]  # None is documented: the title stays
        index_string=INDEX,
        assets_folder=str(Path(__file__).parent / "assets"),
        assets_ignore=r"head-.*\.js",
        background_callback_manager=QueueingManager(),
        suppress_callback_exceptions=True,  # pages come and go
        health_endpoint="health",
        serve_locally=True,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    pages.load()
    from pages._components import downloads
    from pages._components.runs import uploads
    from pages._components.shell import frame

    app.layout = frame.layout
    server = app.server
    server.secret_key = _secret(folder)
    server.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
    downloads.register_routes(server)
    uploads.register_routes(server)
    _secure(app, hosts)
    return app


def _secret(home: Path) -> str:
    """The key that signs job handles, kept in the home directory so that open pages survive a restart."""
    from landscape_core.checkpoints.home import write_atomically

    file = home / "secret"
    try:
        known = file.read_text().strip()
    except OSError:
        known = ""
    if len(known) < 32:
        known = secrets.token_hex(32)
        write_atomically(file, known.encode())
    file.chmod(0o600)
    return known


def _secure(app: Dash, hosts: Sequence[str]) -> None:
    """Requests by the names of this server, from its own pages; headers that keep the page to itself: no script but ours, no
    request to elsewhere, no frame around it.
    """
    from flask import request
    from werkzeug.exceptions import HTTPException

    from landscape_core.checkpoints.home import chosen_home, disk_words
    from landscape_core.jobs.shared.protocol import Busy
    from landscape_core.specs import printable
    from pages._components import stores

    names = {urlsplit(f"//{host}").hostname for host in hosts}
    app._setup_server()  # all inline scripts are known from here on
    policy = "; ".join(
        [
            "default-src 'self'",
            "script-src 'self' " + " ".join(f"'{item}'" if not item.startswith("'") else item for item in app.csp_hashes()),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )

    @app.server.before_request
    def refuse() -> tuple[str, int, dict[str, str]] | None:
        line = ""
        if urlsplit(f"//{request.host}").hostname not in names:
            line, status = "this server does not answer to that name; start it with --trust NAME if it should", 400
        elif request.method not in ("GET", "HEAD", "OPTIONS") and request.headers.get("Sec-Fetch-Site", OURS) != OURS:
            # Browsers say from whose page a request comes.
            line, status = "what changes something is taken only from the pages of this server", 403
        return (f"{line}\n", status, {"Content-Type": "text/plain"}) if line else None

    @app.server.errorhandler(Exception)
    def failed(error: Exception) -> Any:
        # Whatever was sent: one line, for who sent it and in the log. A callback's own fault shows there as well.
        if isinstance(error, HTTPException):
            return error
        unwell = isinstance(error, Busy | sqlite3.Error | OSError)
        last = traceback.extract_tb(error.__traceback__)[-1]
        words = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
        log.error("%s", printable(f"{request.method} {request.path} was not answered: {words}"))
        line = "the store cannot be used now; the log says why" if unwell else "this request cannot be answered"
        line = disk_words(error, chosen_home()) or line
        return f"{line}\n", 503 if unwell else 400, {"Content-Type": "text/plain"}

    @app.server.after_request
    def headers(response: Any) -> Any:
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        if response.mimetype == "text/html" and stores.COOKIE not in request.cookies:
            response.set_cookie(stores.COOKIE, secrets.token_hex(16), max_age=YEAR, httponly=True, samesite="Strict")
        if request.path.startswith("/assets/") and response.status_code in (200, 304):
            # Files whose address changes with them are never asked for again; the others, icons above all, for a while.
            response.headers["Cache-Control"] = f"max-age={YEAR}, immutable" if "m" in request.args else f"max-age={MINUTES}"
        return response


def settings(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings: flags, else the environment, else the defaults."""
    parser = argparse.ArgumentParser(prog="app.py", description="Serve the dashboard of loss landscapes.")
    env = os.environ.get
    parser.add_argument("--host", default=env("LANDSCAPE_HOST", "127.0.0.1"), help="address to listen on [LANDSCAPE_HOST]")
    parser.add_argument(
        "--port", type=_port, default=env("LANDSCAPE_PORT", "8050"), help="port; 0 takes a free one [LANDSCAPE_PORT]"
    )
    parser.add_argument("--home", default=env("LANDSCAPE_HOME"), help="where runs and results are kept [LANDSCAPE_HOME]")
    parser.add_argument(
        "--device", default=env("LANDSCAPE_DEVICE", "auto"), help="where to compute: auto, cpu, cuda, cuda:1 [LANDSCAPE_DEVICE]"
    )
    parser.add_argument(
        "--workers", type=_workers, default=env("LANDSCAPE_WORKERS", "1"), help="jobs at once on a device [LANDSCAPE_WORKERS]"
    )
    parser.add_argument(
        "--trust",
        metavar="NAME",
        action="append",
        default=[name for name in env("LANDSCAPE_TRUST", "").split(",") if name],
        help="another host name that browsers may use for this server; may be given several times [LANDSCAPE_TRUST]",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted. Returns the exit status: 2 for settings that cannot be used."""
    _end_quietly()
    import server
    from landscape_core.checkpoints.home import disk_words, home_directory
    from landscape_core.specs import InputError

    chosen = settings(arguments)
    try:
        home = home_directory(chosen.home)
        listener = server.listen(chosen.host, chosen.port)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _log(home)
    os.environ["LANDSCAPE_HOME"] = str(home)
    os.environ["LANDSCAPE_DEVICE"] = chosen.device
    os.environ["LANDSCAPE_WORKERS"] = str(chosen.workers)
    try:
        _serve(listener, chosen.host, chosen.trust)
    except (InputError, OSError, sqlite3.Error) as error:
        words = str(error) if isinstance(error, InputError) else disk_words(error, home)
        if words is None:
            raise
        print(f"error: {words}", file=sys.stderr)
        return 2
    return 0


def _log(home: Path) -> None:
    """Warnings go to the terminal, and to a file that is kept small."""
    import logging.handlers

    plain = logging.StreamHandler()
    plain.setFormatter(logging.Formatter("%(message)s"))
    file = logging.handlers.RotatingFileHandler(home / "server.log", maxBytes=2**20, backupCount=2, delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[plain, file])


def _end_quietly() -> None:
    """From here on SIGINT and SIGTERM end the program without a traceback, however often they come."""

    def end(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _serve(listener: socket.socket, host: str, trust: Sequence[str]) -> None:
    """One process with threads: one dispatcher, one poll; nothing is computed in it."""
    import server

    name = f"[{host}]" if ":" in host else host
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else name}:{listener.getsockname()[1]}"
    app = create_app(hosts=[*HOSTS, *trust, *([name] if host not in ("0.0.0.0", "::") else [])])
    from landscape_core.checkpoints.home import home_directory
    from landscape_core.jobs.launch.dispatcher import Dispatcher
    from landscape_core.jobs.launch.forkserver import ForkServer
    from pages._components.runs import uploads

    forkserver = ForkServer()
    dispatcher = Dispatcher(home_directory(), forkserver.start)
    manager: Any = app._background_manager
    manager.done = dispatcher.wake
    dispatcher.start()
    # Importing torch takes seconds: it happens while the first page is being looked at.
    threading.Thread(target=forkserver.keep_warm, name="warm", daemon=True).start()
    gc.collect()
    gc.freeze()  # what lives as long as the server need not be looked through at every request
    server.serve(
        app.server,
        listener,
        limit=BODY_LIMIT,
        limits={uploads.PATH: uploads.limit()},
        spool=uploads.spool(home_directory()),
        ready=lambda: print(f"Landscape is running at {address}", flush=True),
    )


def _port(text: str) -> int:
    value = int(text) if text.isdecimal() else -1
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a number between 0 and 65535 (got '{text}')")
    return value


def _workers(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if not 1 <= value <= 64:
        raise argparse.ArgumentTypeError(f"workers is a number between 1 and 64 (got '{text}')")
    return value


if __name__ == "__main__":
    sys.exit(main())
