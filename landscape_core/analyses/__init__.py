"""How each analysis is computed: one file an analysis, a generator from a Spec and a Context to arrays."""
