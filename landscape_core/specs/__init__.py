"""What can be asked and what comes back. Imports nothing of ours and never torch: the web process lives on this room."""

from .analyses import (
    DENSE_LIMIT,
    RANDOM_DIRECTIONS,
    AnalysisSpec,
    CalibrationSpec,
    HighDimensionsSpec,
    SpectrumSpec,
    SurfaceSpec,
)
from .base import InputError, Spec, bounds_of, choices_of, is_local, parse_text, suggestion, unit_of
from .imports import UPLOADS, ImportSpec, import_spec
from .overlap import CounterfactualSpec, OverlapSpec
from .registry import ANALYSES, Analysis, analysis
from .result import COUNTED, Array, Progress, Result, pack, unpack
from .runs import CheckpointRecord, Reference, RunRecord
from .tasks import ARCHITECTURES, DATA, TASKS, TaskSpec, task_fields, task_spec
from .training import TrainingSpec, training_spec

__all__ = [
    "ANALYSES",
    "ARCHITECTURES",
    "COUNTED",
    "DATA",
    "DENSE_LIMIT",
    "RANDOM_DIRECTIONS",
    "TASKS",
    "UPLOADS",
    "Analysis",
    "AnalysisSpec",
    "Array",
    "CalibrationSpec",
    "CheckpointRecord",
    "CounterfactualSpec",
    "HighDimensionsSpec",
    "ImportSpec",
    "InputError",
    "OverlapSpec",
    "Progress",
    "Reference",
    "Result",
    "RunRecord",
    "Spec",
    "SpectrumSpec",
    "SurfaceSpec",
    "TaskSpec",
    "TrainingSpec",
    "analysis",
    "bounds_of",
    "choices_of",
    "import_spec",
    "is_local",
    "pack",
    "parse_text",
    "suggestion",
    "task_fields",
    "task_spec",
    "training_spec",
    "unit_of",
    "unpack",
]
