"""A shared store in the memory of one process: what the protocol asks for and nothing else."""

import threading
from contextlib import contextmanager

from landscape_core.jobs.shared.protocol import Busy


class _Entries:
    def __init__(self, values):
        self.values = values

    def get(self, name):
        return self.values.get(name)

    def has(self, name):
        return name in self.values

    def set(self, name, value):
        if type(value) not in (bytes, str):
            raise TypeError(f"values are bytes and texts, not {type(value).__name__}")
        self.values[name] = value

    def delete(self, name):
        self.values.pop(name, None)

    def names(self, prefix=""):
        return iter([name for name in list(self.values) if name.startswith(prefix)])


class Memory(_Entries):
    def __init__(self, wait=30.0):
        super().__init__({})
        self.wait, self.lock = wait, threading.Lock()

    @contextmanager
    def alone(self):
        if not self.lock.acquire(timeout=self.wait):
            raise Busy("the memory is held")
        try:
            yield
        finally:
            self.lock.release()

    def set(self, name, value):
        with self.alone():
            super().set(name, value)

    def delete(self, name):
        with self.alone():
            super().delete(name)

    @contextmanager
    def take(self):
        with self.alone():
            held = _Entries(dict(self.values))
            yield held
            self.values = held.values

    def size(self):
        return sum(len(value) for value in self.values.values())

    def tidy(self):
        pass
