"""Which process works on a job: told apart for sure (a pid may be reused), and ended when it must be."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import psutil

from .clock import born

End = Literal["kill", "interrupt", "leave"]
_declared: tuple[End, Callable[[], bool]] | None = None


def declare(end: End, asker_lives: Callable[[], bool] = lambda: True) -> None:
    """What a launcher says first in each process that it starts for jobs: how a job may end the process, and how to find out
    whether who asked for it still lives. Where nobody says so, the process is somebody's own program.
    """
    global _declared
    _declared = (end, asker_lives)


def orphaned() -> bool:
    """Whether this process was started for jobs by somebody who has ended since."""
    return _declared is not None and not _declared[1]()


@dataclass(frozen=True)
class Worker:
    """A process on a host. `end` is how a job may end it: `kill`, `interrupt` (SIGINT: a terminal, a notebook) or `leave`."""

    host: str
    pid: int
    born: float  # seconds since the machine started
    end: End

    @classmethod
    def this(cls) -> Worker:
        """The calling process, ended as its launcher declared; somebody's own program is interrupted where it can be."""
        own: End = "interrupt" if threading.current_thread() is threading.main_thread() else "leave"
        end = own if _declared is None else _declared[0]
        return cls(_host(), os.getpid(), born(psutil.Process()), end)

    @property
    def gone(self) -> bool:
        """True when the process is known to have ended; False when it lives or is on another host."""
        return self.host == _host() and self._process() is None

    def stop(self) -> None:
        """End the process as `end` says. Does nothing if it has ended already or is on another host."""
        process = self._process() if self.host == _host() else None
        if process is None or self.end == "leave":
            return
        with suppress(psutil.Error, ProcessLookupError):
            if self.end == "interrupt":
                process.send_signal(signal.SIGINT)
                return
            for child in process.children(recursive=True):
                with suppress(psutil.Error):
                    child.kill()
            process.kill()

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            if born(process) != self.born or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return process


def _host() -> str:
    # Two containers that share a volume may share a host name, but not a pid namespace.
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
