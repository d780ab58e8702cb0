"""Linear algebra on flat vectors: subspaces and principal axes. Knows nothing of networks."""

from .pca import PCA, pca, random_walk_share
from .subspaces import basis, coordinates, cosine, orthogonalised, share

__all__ = ["PCA", "basis", "coordinates", "cosine", "orthogonalised", "pca", "random_walk_share", "share"]
