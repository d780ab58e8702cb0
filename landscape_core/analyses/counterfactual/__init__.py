"""Inside or outside: train on from a checkpoint with only a part of every update."""

from ...specs import Analysis, CheckpointRecord, Group, Measure, RunRecord, View
from .arrays import ARRAYS
from .spec import CounterfactualSpec, setting_unknown


def _applies(spec: CounterfactualSpec, run: RunRecord, _checkpoint: CheckpointRecord) -> str:
    return setting_unknown(spec, run.training or {})


ANALYSIS = Analysis(
    "counterfactual",
    "Inside or outside",
    "Does training need the top of the Hessian, where the gradient lies, or the rest?",
    CounterfactualSpec,
    version=5,
    order=31,
    icon="counterfactual",
    form=(
        Group(
            "Experiment",
            ("steps", "refresh", "k"),
            labels={"steps": "Train on for", "refresh": "New space every", "k": "Eigenvectors"},
        ),
        Group(
            "Training",
            ("optimizer", "lr", "batch_size", "seed"),
            advanced=True,
            words={"optimizer": {None: "as the run", "sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}},
            labels={"lr": "Learning rate", "batch_size": "Batch", "seed": "Seed of the random space"},
        ),
        Group("Accuracy", ("records", "tolerance"), advanced=True),
    ),
    views=(
        View("kind", "Picture", {"loss": "Loss", "distance": "Distance travelled"}),
        View("log", "Logarithmic loss", default=True),
    ),
    arrays=ARRAYS,
    measures=(
        Measure("drop_inside", "Fall of the loss inside"),
        Measure("drop_outside", "Fall of the loss outside"),
    ),
    aligned=("yaxis", "yaxis2"),
    applies=_applies,
)
