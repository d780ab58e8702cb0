"""Faults that are known and not yet mended: (analysis, fault) by the group of situations. One that is mended leaves."""

KNOWN: dict[str, set[tuple[str, str]]] = {
    "points": {
        ("counterfactual", "digits of rounding | Where they end"),
        ("high_dimensions", "digits of rounding | “The weights stay in a thin shell”"),
        ("high_dimensions", "one of many | “A few directions hold most of the curvature”"),
        ("surface", "negative ones where there are none | Trace in the picture"),
    },
    "networks": {
        ("counterfactual", "must not: earlier checkpoint | refused"),
        ("counterfactual", "nan | refused"),
        ("overlap", "a mean over samples of a coupled loss | Loss"),
        ("overlap", "must not: overflow | refused"),
    },
    "runs": {
        ("counterfactual", "nan | refused"),
        ("high_dimensions", "broken: _LinAlgError: linalg.eigh: The algorithm failed to converge "),
        ("high_dimensions", "softmax where there is none | “A few directions hold most of the curvature”"),
        ("overlap", "a mean over samples of a coupled loss | Loss"),
        ("overlap", "must not: overflow | Note"),
        ("overlap", "must not: see each other | Note"),
        ("overlap", "softmax where there is none | k − 1 directions"),
    },
}

# Of these, what rounding decides: it need not be there on every machine.
UNSTEADY: set[tuple[str, str]] = {
    ("surface", "negative ones where there are none | Trace in the picture"),
}
