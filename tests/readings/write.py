"""Writes the texts of all situations anew: `python -m tests.readings.write [SITUATION ...]`."""

import shutil
import sys

import torch

from .odd import NAMED
from .texts import TEXTS, kept, place, questions


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    if not names:
        shutil.rmtree(TEXTS, ignore_errors=True)
    for name in names or NAMED:
        for kind in dict.fromkeys(kind for kind, _ in questions()):
            file = place(name, kind)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(kept(name, kind))


if __name__ == "__main__":
    main(sys.argv[1:])
