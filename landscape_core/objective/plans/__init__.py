"""Faster ways to evaluate a network at many points of a line or plane; whatever has none is served by the plain path."""

from .graph import Unplannable
from .plan import Plan
from .program import Program, build

__all__ = ["Plan", "Program", "Unplannable", "build"]
