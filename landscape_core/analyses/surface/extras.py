"""What a finished grid can do without: made where it can be, else left out with a note."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from ...objective.foreign import pass_over
from ...specs import InputError, Progress

LOG = logging.getLogger(__name__)
EXPECTED = (RuntimeError, MemoryError, ArithmeticError)  # what a model, a loss or PyTorch may raise for a kind of question


class Extras:
    """Runs the parts of a certificate one by one; one that fails costs itself alone and leaves a sentence in `notes`."""

    def __init__(self, *notes: str) -> None:
        self.notes: list[str] = list(notes)

    def note(self, *said: str) -> None:
        """Add sentences, each once."""
        self.notes += [words for words in dict.fromkeys(said) if words not in self.notes]

    def get(self, what: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `make` gives, or nothing. `what` begins the note: "the standard error"."""
        try:
            return make()
        except Exception as error:
            self._leave_out(what, error)
            return {}

    def run(self, what: str, steps: Iterator[Progress]) -> Iterator[Progress]:
        """The reports of a longer part, until it ends or fails; what it put down by then stands."""
        try:
            yield from steps
        except Exception as error:
            self._leave_out(what, error)

    def _leave_out(self, what: str, error: Exception) -> None:
        self.note(f"{what} is left out: {reason(error)}")


def reason(error: Exception) -> str:
    """Why something failed, in words; raises it again where it can only be a mistake of ours (LANDSCAPE_STRICT)."""
    if isinstance(error, InputError):
        return str(error)
    LOG.warning("a part of a surface was left out", exc_info=error)
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return "there was not enough memory"
    if not isinstance(error, EXPECTED):
        pass_over(error)
    return f"the model or the loss failed there ({type(error).__name__}; the log says more)"
