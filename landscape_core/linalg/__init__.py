"""Linear algebra on flat vectors: subspaces, principal axes, spectra of operators. Knows nothing of networks."""

from .lanczos import Eigenpairs, Lanczos, dense_eigenpairs, eigenpairs
from .operators import LinearOperator
from .pca import PCA, pca, random_walk_share
from .quadrature import Quadrature, density, integral, share_below
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
    "integral",
    "orthogonalised",
    "pca",
    "random_walk_share",
    "share",
    "share_below",
]
