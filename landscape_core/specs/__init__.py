"""What can be asked and what comes back. Imports nothing of ours and never torch: the web process lives on this room."""

from .analysis import (
    CLASSES,
    DENSE_LIMIT,
    OWN_ANALYSES,
    SAMPLE,
    Analysis,
    AnalysisSpec,
    Group,
    Measure,
    Method,
    Thumbnail,
    Variable,
    View,
    searched,
)
from .base import InputError, Spec, bounds_of, choices_of, field, is_local, parse_text, suggestion, unit_of
from .imports import UPLOADS, ImportSpec, import_spec
from .result import COUNTED, Array, Progress, Result, pack, unpack
from .runs import CheckpointRecord, Reference, RunRecord
from .tasks import ARCHITECTURES, DATA, TASKS, TaskSpec, task_fields, task_spec
from .training import TrainingSpec, training_spec

__all__ = [
    "ARCHITECTURES",
    "CLASSES",
    "COUNTED",
    "DATA",
    "DENSE_LIMIT",
    "OWN_ANALYSES",
    "SAMPLE",
    "TASKS",
    "UPLOADS",
    "Analysis",
    "AnalysisSpec",
    "Array",
    "CheckpointRecord",
    "Group",
    "ImportSpec",
    "InputError",
    "Measure",
    "Method",
    "Progress",
    "Reference",
    "Result",
    "RunRecord",
    "Spec",
    "TaskSpec",
    "Thumbnail",
    "TrainingSpec",
    "Variable",
    "View",
    "bounds_of",
    "choices_of",
    "field",
    "import_spec",
    "is_local",
    "pack",
    "parse_text",
    "searched",
    "suggestion",
    "task_fields",
    "task_spec",
    "training_spec",
    "unit_of",
    "unpack",
]
