"""The code in the pages under docs/ and in the README: fenced blocks, and the files that they are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
HOUSE = (ROOT / "docs" / "house.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)


def files(text: str) -> dict[str, str]:
    """The Python files that a page holds: a block belongs to the file that the paragraph before it begins with."""
    return dict(re.findall(r"(?m)^`([\w/]+\.py)` (?:.+\n)+\n```python\n((?:.*\n)*?)```$", text))
