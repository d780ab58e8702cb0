"""The address is the state: what the query string holds, read and written in one place.

`on=RUN@STEP,RUN2@last` is the selection; a Spec's field stands under its own name as JSON text (only where it differs from its
default); `v.NAME` is a view option; `present=1` is classroom mode.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote

from landscape_core.specs import parse_text

MAX_SELECTED = 4
VIEW = "v."
SAFE = "@,:[]"  # readable in an address and allowed there


@dataclass(frozen=True)
class Query:
    """What a query string asks for. `problems` are one-line messages about what could not be taken as asked."""

    selection: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    view: Mapping[str, str] = field(default_factory=dict)
    present: bool = False
    dark: bool = False  # how the browser shows the page; not in the address
    problems: tuple[str, ...] = ()


def read_query(search: str | None, dark: bool = False) -> Query:
    """Read `?on=...&field=...&v.name=...&present=1`. Never raises: what is wrong becomes a problem."""
    selection: list[str] = []
    fields: dict[str, str] = {}
    view: dict[str, str] = {}
    present, problems = False, []
    try:
        pairs = parse_qsl((search or "").removeprefix("?"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        pairs = []
        problems.append("the address has more than 100 fields; none of them is used")
    for name, value in pairs:
        if name == "on":
            selection += [part.strip() for part in value.split(",") if part.strip()]
        elif name == "present":
            present = value not in ("", "0", "false")
        elif name.startswith(VIEW):
            view[name.removeprefix(VIEW)] = value
        elif name in fields:
            problems.append(f"field '{name}' stands twice in the address; the first is used")
        else:
            fields[name] = value
    unique = list(dict.fromkeys(selection))
    if len(unique) > MAX_SELECTED:
        problems.append(f"{len(unique)} checkpoints are selected; at most {MAX_SELECTED} can be shown, the first ones are")
    return Query(tuple(unique[:MAX_SELECTED]), fields, view, present, dark, tuple(problems))


def write_query(
    selection: Sequence[str] = (),
    fields: Mapping[str, object] | None = None,
    view: Mapping[str, object] | None = None,
    present: bool = False,
) -> str:
    """The query string with its leading `?`, empty if there is nothing to say. `fields` and `view` hold values, not texts.

    A choice of a view stands as the word that it is: `v.clip=99`, as the page writes it.
    """
    pairs = [("on", ",".join(selection))] if selection else []
    pairs += [(name, text_of(value)) for name, value in (fields or {}).items()]
    pairs += [(VIEW + name, value if isinstance(value, str) else text_of(value)) for name, value in (view or {}).items()]
    pairs += [("present", "1")] if present else []
    return "?" + "&".join(f"{quote(name)}={quote(value, safe=SAFE)}" for name, value in pairs) if pairs else ""


def text_of(value: object) -> str:
    """The text that `parse_text` reads back as this JSON value: a bare word where it can be one."""
    if isinstance(value, str) and parse_text(value) == value:
        return value
    return json.dumps(value, separators=(",", ":"))


def link(path: str, selection: Sequence[str] = (), present: bool = False, **fields: object) -> str:
    """The address of a page with a selection and Spec fields, for links: `link("/page", ["demo@last"], seed=1)`."""
    return path + write_query(selection, fields, present=present)
