"""The server of pages: Waitress, which reads requests in one loop and hands only whole ones to a thread.

So clients that send slowly, half, or nothing cost a socket and no thread. A body that is refused for its length is read to its
end and thrown away as it comes, so that the answer arrives.
"""

from __future__ import annotations

import copy
import logging
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import waitress
from waitress.buffers import FileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.receiver import FixedStreamReceiver
from waitress.task import ErrorTask
from waitress.utilities import RequestEntityTooLarge

from landscape_core.specs import InputError, printable

THREADS = 8
KEEP_ALIVE = 75  # seconds that an idle connection is kept: longer than proxies wait before they use one again
CONNECTIONS = 1000  # open at once; more wait until others end
UNLIMITED = 2**62


class _Nothing:
    """A buffer that keeps nothing."""

    def append(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def __len__(self) -> int:
        return 0


class _Full(RequestEntityTooLarge):
    code, reason = 507, "Insufficient Storage"


class _Written(FileBasedBuffer):
    """A file of which each part is written when it comes, so that a full disk is met then."""

    def append(self, data: bytes) -> None:
        super().append(data)
        self.file.flush()


class _OneLine(ErrorTask):
    """What is no request, or is refused before it is whole, is answered like everything else: in one line."""

    def execute(self) -> None:
        error = self.request.error
        body = printable(f"{error.reason}: {error.body}").encode() + b"\n"
        self.status, self.content_length = f"{error.code} {error.reason}", len(body)
        self.response_headers.append(("Content-Type", "text/plain; charset=utf-8"))
        self.set_close_on_finish()
        self.write(body)


class _Parser(HTTPRequestParser):
    """Bodies have at most `limit` bytes; those to a path in `limits` so many, and they wait in files in `spool`."""

    limit: int
    limits: Mapping[str, int]
    spool: Path
    adj: Any
    content_length: int
    error: Any
    body_rcv: Any

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        size, most = self.content_length, self.limits.get(self.path, self.limit)
        self.adj = copy.copy(self.adj)
        self.adj.max_request_body_size = most + 1
        if size > most:
            self._refuse(RequestEntityTooLarge(f"{size:,} bytes; at most {most:,} are taken"), size)
        elif self.path in self.limits and size:
            free = shutil.disk_usage(self.spool).free
            if 2 * size > free:  # it is copied once
                self._refuse(_Full(f"{size:,} bytes; the disk has {free:,} left"), size)
                return
            try:
                file = tempfile.TemporaryFile(dir=self.spool)  # noqa: SIM115  # the buffer closes it
            except OSError as error:
                self._refuse(_Full(f"{self.spool} takes no files: {error.strerror}"), size)
            else:
                self.body_rcv = FixedStreamReceiver(size, _Written(file))

    def received(self, data: bytes) -> int:
        try:
            return int(super().received(data))
        except OSError as error:  # the disk has filled since the body began
            if not isinstance(self.body_rcv, FixedStreamReceiver):
                raise
            with suppress(OSError):
                self.body_rcv.getbuf().close()
            self._refuse(_Full(f"{self.spool} takes no more: {error.strerror}"), self.body_rcv.remain)
            return int(super().received(data))

    def _refuse(self, error: RequestEntityTooLarge, rest: int) -> None:
        """What is left of the body is read to its end and thrown away as it comes."""
        self.error = error
        self.body_rcv = FixedStreamReceiver(rest, _Nothing())
        self.content_length, self.adj.max_request_body_size = 0, UNLIMITED


def serve(
    application: Callable[..., Any],
    listener: socket.socket,
    *,
    limit: int,
    limits: Mapping[str, int],
    spool: Path,
    ready: Callable[[], None],
) -> None:
    """Answer until SIGINT or SIGTERM. `limit` bytes of a body are taken, or what `limits` says of a path.

    Bodies to those paths wait in the directory `spool` until they are whole. `ready` is called when requests are answered.
    """
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # more requests than threads wait their turn: nothing is wrong
    parser = type("Parser", (_Parser,), {"limit": limit, "limits": dict(limits), "spool": spool})
    server = waitress.create_server(
        application,
        sockets=[listener],
        threads=THREADS,
        ident=None,  # no Server header
        channel_timeout=KEEP_ALIVE,
        connection_limit=CONNECTIONS,
        cleanup_interval=5,
        asyncore_use_poll=True,
    )
    server.channel_class = type("Channel", (HTTPChannel,), {"parser_class": parser, "error_task_class": _OneLine})
    ready()
    server.run()


def listen(host: str, port: int) -> socket.socket:
    """The listening socket, so that a port in use is one clear line and not a log. Raises InputError."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(1024)
    except socket.gaierror:
        raise InputError(f"--host {host} is no address of this machine; take 127.0.0.1, or 0.0.0.0 for all of them") from None
    except OSError as error:
        if error.errno == 98:
            raise InputError(
                f"port {port} is in use on {host}; choose another with --port, or --port 0 for a free one"
            ) from None
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener
