"""What the records of jobs and the results need of a store that many processes share: little, so that another is one file.

Watchers look again from time to time; nothing here tells them of changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

Value = bytes | str


class Busy(Exception):
    """Another process has held the store for too long; the same call may succeed later. Nothing was changed."""


class Entries(Protocol):
    """Values by name. What is set is there whole or not at all, for every process at once."""

    def get(self, name: str) -> Value | None:
        """The value, or None where there is none, or where it is damaged so that it cannot be read at all."""

    def has(self, name: str) -> bool:
        """Whether there is an entry of this name, though perhaps a damaged one."""

    def set(self, name: str, value: Value) -> None:
        """Make the entry or replace it. Raises TypeError for what is neither bytes nor text, OSError on a full disk, Busy."""

    def delete(self, name: str) -> None:
        """Remove the entry, if it is there. Raises Busy."""

    def names(self, prefix: str = "") -> Iterator[str]:
        """The names that begin so, each once; those that come and go meanwhile may be among them or not."""


class Shared(Entries, Protocol):
    """The whole store. Any number of threads and processes may use it at once, through any number of instances."""

    def take(self) -> AbstractContextManager[Entries]:
        """Alone: who takes it too waits until the block ends, or raises Busy. Keep it short.

        Reads and writes of the block go through the entries that it is given; it reads what it wrote. What it changed is
        there at its end, all of it; nothing of it if the block raises.
        """

    def size(self) -> int:
        """Bytes that the store takes up."""

    def tidy(self) -> None:
        """Free what no entry names: a process was killed while it wrote."""
