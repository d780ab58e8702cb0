"""Data sets, architectures, losses and the tasks made of them; training that records a run; weights brought in from files."""

from .architectures import build_model
from .data import Data, load_data
from .devices import torch_device
from .importing import import_weights
from .losses import cross_entropy, squared_error
from .task import Task, parameter_count
from .training import train

__all__ = [
    "Data",
    "Task",
    "build_model",
    "cross_entropy",
    "import_weights",
    "load_data",
    "parameter_count",
    "squared_error",
    "torch_device",
    "train",
]
