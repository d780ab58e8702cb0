"""Linear algebra on flat vectors: subspaces, principal axes, spectra of operators. Knows nothing of networks."""

from .dense import Eigenpairs, dense_eigenpairs
from .lanczos import Lanczos, eigenpairs
from .operators import LinearOperator
from .pca import PCA, pca, random_walk_path, random_walk_share
from .quadrature import Quadrature, density, function_of, share_below
from .subspaces import basis, coordinates, cosine, orthogonalised, share
from .trace import Trace

__all__ = [
    "PCA",
    "Eigenpairs",
    "Lanczos",
    "LinearOperator",
    "Quadrature",
    "Trace",
    "basis",
    "coordinates",
    "cosine",
    "dense_eigenpairs",
    "density",
    "eigenpairs",
    "function_of",
    "orthogonalised",
    "pca",
    "random_walk_path",
    "random_walk_share",
    "share",
    "share_below",
]
