"""Faults that are known and not yet mended: (analysis, fault) by the group of situations. One that is mended leaves."""

KNOWN: dict[str, set[tuple[str, str]]] = {}

# Of these, what rounding decides: it need not be there on every machine.
UNSTEADY: set[tuple[str, str]] = set()
