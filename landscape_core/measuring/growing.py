"""What grows while an analysis runs: all that is known, how far the work is, and the state that it is resumed from."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np

from ..specs import Array, Progress
from .context import Context

REPORT_SECONDS = 0.15  # between two pictures
STATE_BYTES = 64 << 20  # of vectors that a partial result may keep, so that a killed job goes on where it was
FORM, STATE_FORM = "state_form", 1  # raise it when what is kept of an attempt means something else: it then starts afresh
Running = Generator[Progress, None, dict[str, Any]]  # what `run` of an analysis is
T = TypeVar("T")


class Worker(Protocol):
    """A solver that yields how many products it has made, and can be made again from its state."""

    @property
    def products(self) -> int: ...

    def __iter__(self) -> Iterator[int]: ...

    def state(self) -> Mapping[str, Array]: ...


class Noted(Protocol):
    """An operator, for what must be said of its products."""

    @property
    def notes(self) -> tuple[str, ...]: ...


class Growing:
    """All that is known of a result, and where the work on it stands: stages with the work done and expected of each.

    `arrays` are the Result's, `sketch` those of its partial picture alone. `vector_bytes` is the size of one vector of a
    worker's state. Work is counted in a unit of the analysis's own, mostly products of a matrix with a vector.
    """

    def __init__(self, context: Context, expected: Mapping[str, float] | None = None, *, vector_bytes: int | None = None):
        self.context = context
        theta = context.objective.theta
        self.vector_bytes = theta.numel() * theta.element_size() if vector_bytes is None else vector_bytes
        self.arrays: dict[str, Any] = {}
        self.sketch: dict[str, Any] = {}
        self.notes: list[str] = [*context.objective.notes]
        self.done: dict[str, float] = {}
        self.expected: dict[str, float] = dict(expected or {})
        left = {name: np.asarray(value) for name, value in context.partial.items()}
        self.partial: Mapping[str, Array] = left if np.array_equal(left.get(FORM, []), STATE_FORM) else {}
        self.state: dict[str, Array] = {n: value for n, value in self.partial.items() if n.startswith("state_") and n != FORM}
        self._shown = 0.0

    # -- what is known --------------------------------------------------------------------------------------------------

    def put(self, **values: Any) -> None:
        """Add to what is known."""
        self.arrays.update({name: np.asarray(value) for name, value in values.items()})

    def note(self, *said: str | Noted) -> None:
        """Take over what a person must know: sentences, or the notes of an operator; each once."""
        for item in said:
            for words in (item,) if isinstance(item, str) else item.notes:
                if words not in self.notes:
                    self.notes.append(words)

    def close(self, products: float | None = None) -> None:
        """Add what is only known at the end: the notes, and the products (default: all the work that was done)."""
        total = sum(self.done.values()) if products is None else products
        self.put(products=int(total), notes=np.array(self.notes or [""]))

    # -- what an earlier attempt left ------------------------------------------------------------------------------------

    def resumed(self, series: dict[str, Array], **rest_on: Any) -> bool:
        """Fill `series` with what an earlier attempt left of them, if it was of the same shapes and of equal `rest_on`.

        False, and nothing is changed, where there was none or it was of something else.
        """
        known = self.partial
        same = all(name in known and known[name].shape == values.shape for name, values in series.items())
        if not same or not all(np.array_equal(known.get(name, []), value) for name, value in rest_on.items()):
            return False
        series.update({name: np.array(known[name], dtype=values.dtype) for name, values in series.items()})
        return True

    def state_of(self, stage: str) -> dict[str, Array]:
        """What an earlier attempt left of a stage; empty where it left nothing."""
        prefix = f"state_{stage}_"
        return {name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)}

    def keep(self, stage: str, state: Mapping[str, Any]) -> None:
        """Remember the state of a stage for another attempt, in place of what was kept of it."""
        prefix = f"state_{stage}_"
        self.state = {name: value for name, value in self.state.items() if not name.startswith(prefix)}
        self.state |= {f"{prefix}{name}": np.asarray(value) for name, value in state.items()}

    # -- how far it is ---------------------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether it is time for the next report."""
        return time.monotonic() - self._shown >= REPORT_SECONDS

    def drive(self, stage: str, words: str, worker: Worker, show: Callable[[], None] | None = None) -> Iterator[Progress]:
        """Run a worker to its end, with its state kept; `show()` puts what is known of it into the arrays."""
        self.done[stage] = int(worker.products)  # of an earlier attempt, which may have finished it
        for products in worker:
            self.done[stage] = int(products)
            if self.due:
                yield self._shown_of(stage, words, worker, show)
        yield self._shown_of(stage, words, worker, show)

    def _shown_of(self, stage: str, words: str, worker: Worker, show: Callable[[], None] | None) -> Progress:
        if show is not None:
            show()
        # Vectors that are too many bytes to be copied again and again are left out: the stage then starts afresh.
        fits = (int(getattr(worker, "count", 2)) + 1) * self.vector_bytes <= STATE_BYTES
        self.keep(stage, worker.state() if fits else {})
        return self.report(words)

    def until(self, search: Generator[int, None, T], stage: str | None, words: str) -> Generator[Progress, None, T]:
        """The value of a search that yields its products, with news while it lasts; they count as work of a `stage`."""
        while True:
            try:
                products = next(search)
            except StopIteration as end:
                found: T = end.value
                return found
            if stage is not None:
                self.done[stage] = products
            if self.due:
                yield self.news(words)

    def report(self, words: str) -> Progress:
        """Where the work stands, with everything known so far and the state that another attempt goes on from."""
        kept = self.state if sum(value.nbytes for value in self.state.values()) <= STATE_BYTES else {}
        form = {FORM: np.asarray(STATE_FORM), "stage": np.asarray(words)}
        return self._progress(words, {**self.arrays, **self.sketch, **kept, **form})

    def news(self, words: str) -> Progress:
        """Where the work stands, without a picture."""
        return self._progress(words, None)

    def message(self, words: str) -> str:
        """What a person is told of the work beside its bar."""
        return words

    @property
    def total(self) -> float:
        """The work expected in all: of the stages to come, and of the last one begun what is left of it."""
        later = sum(count for stage, count in self.expected.items() if stage not in self.done)
        now = next(reversed(self.done), "")
        rest = max(0.0, self.expected.get(now, 0.0) - self.done.get(now, 0.0))
        return sum(self.done.values()) + later + rest

    def _progress(self, words: str, partial: Mapping[str, Array] | None) -> Progress:
        self._shown = time.monotonic()
        done = sum(self.done.values())
        return Progress(done, max(self.total, done + 1), self.message(words), partial)
