"""High dimensions: a run's geometry beside the laws of chance."""

from ...specs import Analysis, CheckpointRecord, Group, Measure, RunRecord, View
from .arrays import ARRAYS
from .spec import HighDimensionsSpec


def _applies(_spec: HighDimensionsSpec, run: RunRecord, _checkpoint: CheckpointRecord) -> str:
    if len(run.checkpoints) > 1 or run.state == "training":
        return ""
    return f"run '{run.name}' has one checkpoint only, and a path needs two: train a run, or import more steps"


ANALYSIS = Analysis(
    "high_dimensions",
    "High dimensions",
    "Which three-dimensional intuitions fail here?",
    HighDimensionsSpec,
    version=6,
    order=40,
    icon="high_dimensions",
    form=(
        Group("Path", ("checkpoints", "curvature"), labels={"curvature": "Eigenvalues counted at"}),
        Group(
            "Eigenvalues",
            ("method", "k", "flat_tolerance", "zero_tolerance", "probes", "lanczos_steps"),
            advanced=True,
            words={"method": {"auto": "Exact where it can be", "dense": "Exact matrix", "lanczos": "Estimate"}},
            labels={"k": "Largest", "probes": "Random vectors", "lanczos_steps": "Products for each"},
        ),
    ),
    views=(
        View(
            "kind",
            "Picture",
            {
                "angles": "Angles",
                "lengths": "Shells, lengths",
                "distances": "Distances",
                "planes": "Planes",
                "layers": "Layers",
                "flat": "Flat directions",
                "index": "Index and loss",
            },
        ),
    ),
    arrays=ARRAYS,
    measures=(Measure("explained_variance", "Path held by two axes"),),
    applies=_applies,
)
