"""Curvature at one theta as linear operators on flat vectors: Hessian, Gauss-Newton, Fisher and empirical Fisher."""

from .checks import Facts
from .fisher import EmpiricalFisher, Fisher
from .gauss_newton import GaussNewton
from .hessian import Hessian
from .operator import CurvatureOperator
from .reference import HessianOperator

__all__ = ["CurvatureOperator", "EmpiricalFisher", "Facts", "Fisher", "GaussNewton", "Hessian", "HessianOperator"]
