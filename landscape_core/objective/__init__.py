"""The loss as a function of one flat parameter vector: parameter space, many points, gradients, curvature operators."""

from .objective import Objective
from .slice import Slice
from .space import Entry, ParameterSpace, group_norms

__all__ = ["Entry", "Objective", "ParameterSpace", "Slice", "group_norms"]
