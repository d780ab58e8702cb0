"""Linear algebra on flat vectors: subspaces, principal axes, spectra of operators. Knows nothing of networks."""

from .dense import Eigenpairs, dense_eigenpairs
from .lanczos import Lanczos, eigenpairs
from .measure import Estimate, SpectralMeasure, student
from .operators import LinearOperator
from .pca import PCA, pca, random_walk_law, random_walk_path, random_walk_share
from .quadrature import Quadrature, SpectralDensity, density, function_of, share_below, share_bounds, spectral_density
from .subspaces import basis, coordinates, cosine, orthogonalised, share
from .trace import Trace, TraceEstimate, estimated_trace

__all__ = [
    "PCA",
    "Eigenpairs",
    "Estimate",
    "Lanczos",
    "LinearOperator",
    "Quadrature",
    "SpectralDensity",
    "SpectralMeasure",
    "Trace",
    "TraceEstimate",
    "basis",
    "coordinates",
    "cosine",
    "dense_eigenpairs",
    "density",
    "eigenpairs",
    "estimated_trace",
    "function_of",
    "orthogonalised",
    "pca",
    "random_walk_law",
    "random_walk_path",
    "random_walk_share",
    "share",
    "share_below",
    "share_bounds",
    "spectral_density",
    "student",
]
