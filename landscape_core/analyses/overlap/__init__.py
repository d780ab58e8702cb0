"""Gradient overlap: does gradient descent live in a tiny subspace?"""

from ...specs import Analysis, Group, Measure, View
from .arrays import ARRAYS
from .spec import OverlapSpec

ANALYSIS = Analysis(
    "overlap",
    "Gradient overlap",
    "Does gradient descent live in a tiny subspace?",
    OverlapSpec,
    version=5,
    order=30,
    icon="overlap",
    form=(
        Group(
            "Space and gradients",
            ("k", "minibatch_size", "minibatches", "reference"),
            labels={
                "k": "Eigenvectors",
                "minibatch_size": "Mini-batch",
                "minibatches": "Mini-batches",
                "reference": "Persistence from",
            },
            suggest={"reference": ("last", "first")},
        ),
        Group(
            "Accuracy",
            ("operator", "method", "tolerance", "multiples", "warm", "checkpoints", "seed"),
            advanced=True,
            words={
                "operator": {"hessian": "Hessian of the loss", "ggn": "Gauss-Newton"},
                "method": {"auto": "Exact where it is cheaper", "dense": "Exact matrix", "lanczos": "Lanczos"},
                "warm": {"auto": "Where it pays", "always": "Always", "never": "Never"},
            },
            labels={"operator": "Matrix", "multiples": "Every copy of equal eigenvalues", "warm": "Warm start"},
        ),
    ),
    views=(
        View(
            "kind",
            "Picture",
            {"share": "Share", "contributions": "By eigenvector", "persistence": "Persistence", "eigenvalues": "Eigenvalues"},
        ),
        View("log", "Logarithmic share"),
    ),
    arrays=ARRAYS,
    aligned=("xaxis", "yaxis", "yaxis2"),
    measures=(Measure("baseline", "Share of a random direction"),),
)
