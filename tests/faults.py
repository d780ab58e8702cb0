"""The table of faults in docs/faults.md, made from the tests that cause them: `python -m tests.faults` writes it.

A test says what it does with `@pytest.mark.fault(fault, sees=..., lost=..., on=...)`: what the person sees, what is lost, and
how it goes on.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "faults.md"
HEAD = """# Faults

What can go wrong on one machine, and what then happens. Each line is a test that really does it; `python -m tests.faults`
writes this table from them. In no case is a finished run, checkpoint or result lost.

| Fault | What the person sees | What is lost | How it goes on | Test |
| --- | --- | --- | --- | --- |
"""


class Fault(NamedTuple):
    """A test that causes a fault, and what it holds the program to."""

    fault: str
    sees: str
    lost: str
    on: str
    test: str  # file::function, below tests/


def faults() -> list[Fault]:
    """All of them, by file and in the order in which they stand there. Raises ValueError where a mark says too little."""
    return [item for path in sorted((ROOT / "tests").rglob("test_*.py")) for item in _of(path)]


def _of(path: Path) -> Iterator[Fault]:
    for node in ast.parse(path.read_text()).body:
        for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                where = f"{path.relative_to(ROOT / 'tests')}::{node.name}"
                said = {str(item.arg): ast.literal_eval(item.value) for item in mark.keywords}
                if len(mark.args) != 1 or set(said) != {"sees", "lost", "on"}:
                    raise ValueError(f"{where}: a fault says what it is, and sees, lost, on")
                yield Fault(ast.literal_eval(mark.args[0]), test=where, **said)


def text() -> str:
    """The page."""
    rows = [[item.fault, item.sees, item.lost, item.on, f"`{item.test}`"] for item in faults()]
    return HEAD + "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows)


if __name__ == "__main__":
    FILE.write_text(text())
