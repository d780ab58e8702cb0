"""Faster ways to evaluate a network at many points of a line or plane; whatever has none is served by the plain path."""

from .plan import Plan
from .program import Program

__all__ = ["Plan", "Program"]
