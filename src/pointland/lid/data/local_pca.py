r"""Local PCA: the eigenvalues of the covariance of a query's neighbours, stored once, counted in several ways.

With the centred neighbours as rows of :math:`N`, the eigenvalues of the covariance are those of the smaller of
:math:`N N^T` and :math:`N^T N`, divided by :math:`k - 1`. Forming that Gram matrix in float64 and its eigenvalues is
several times cheaper than singular values of :math:`N`, and exact enough to count: float32 would blur eigenvalues
below a millionth of the largest.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pointland.lid.data.interval import DataLid
from pointland.lid.data.neighbors import Floating, Neighbors, as_vectors, nearest

CACHED_VALUES = 2**18  # of a block of neighbourhoods, 2 MiB in float64


def local_pca(neighbors: Neighbors, reference: Float[np.ndarray | Tensor, "n *event"]) -> Float[np.ndarray, "q rank"]:
    """Return the covariance eigenvalues of every query's neighbours.

    Args:
        neighbors: At least two a query; ``k`` must exceed the dimension looked for, well if possible.
        reference: What the neighbours were searched in.

    Returns:
        Descending, at least 0, in the squared unit of the data, shape ``(q, min(k, d))``. At most ``k - 1`` are above
        rounding. All 0 where the neighbours are copies of each other.

    Raises:
        ValueError: If there are fewer than 2 neighbours.

    Cost:
        ``k d min(k, d)`` operations and one symmetric eigenvalue problem of size ``min(k, d)`` a query.

    Do not trust:
        On a curved set, which fills more directions than it has dimensions (11.2 for a flat torus of 6), or where the
        dimension nears ``k``: counts stop at ``k - 1`` (81 for a true 128 at k = 100).

    Source:
        Fukunaga & Olsen 1971.
    """
    y = as_vectors(reference, "reference")
    q, k = neighbors.indices.shape
    if k < 2:
        raise ValueError("local PCA needs two neighbours a query; search for more")
    rank = min(k, y.shape[1])
    found = np.empty((q, rank))
    size = max(1, CACHED_VALUES // (k * y.shape[1]))
    for start in range(0, q, size):
        near = centered(y, neighbors.indices[start : start + size])
        gram = near @ near.swapaxes(1, 2) if rank == k else near.swapaxes(1, 2) @ near
        found[start : start + size] = np.linalg.eigvalsh(gram)[:, ::-1] / (k - 1)
    return np.maximum(found, 0, out=found)


def fukunaga_olsen(eigenvalues: Float[np.ndarray, "q rank"], k: int, share: float = 0.05) -> DataLid:
    """Count the eigenvalues above ``share`` of the largest, from ``k`` neighbours.

    Returns:
        ``value`` a whole number of dimensions, 0 where the neighbours are copies. The interval moves the threshold by
        the sampling error of a ratio of two eigenvalues, relative ``2 / sqrt(k - 1)``: conservative for a clean plane.

    Raises:
        ValueError: If ``share`` is not between 0 and 1.

    Source:
        Fukunaga & Olsen 1971; interval from Anderson 1963.
    """
    check_share(share)
    limit = share * eigenvalues[:, :1]
    factor = math.exp(1.96 * 2 / math.sqrt(k - 1))
    counts = [(eigenvalues > limit * by).sum(1).astype(np.float64) for by in (1, factor, 1 / factor)]
    return DataLid(*counts)


def explained_variance(eigenvalues: Float[np.ndarray, "q rank"], k: int, share: float = 0.95) -> DataLid:
    """Count the largest eigenvalues that together hold at least ``share`` of the variance, from ``k`` neighbours.

    Returns:
        ``value`` a whole number of dimensions, 0 where the neighbours are copies. The interval moves the share left
        over by the relative sampling error ``2 / sqrt(k - 1)``.

    Raises:
        ValueError: If ``share`` is not between 0 and 1.

    Source:
        Fukunaga & Olsen 1971, by the share of variance explained.
    """
    check_share(share)
    held = np.cumsum(eigenvalues, 1)
    factor = math.exp(1.96 * 2 / math.sqrt(k - 1))

    def count(left: float) -> NDArray[np.float64]:
        # a sum within rounding of the share counts as reaching it
        short = held < (1 - left) * held[:, -1:] * (1 - 1e-12)
        return np.where(held[:, -1] > 0, short.sum(1) + 1.0, 0.0)

    return DataLid(count(1 - share), count(min(1.0, (1 - share) * factor)), count((1 - share) / factor))


def soft_count(eigenvalues: Float[np.ndarray | Tensor, "q rank"], sigma: float) -> Float[np.ndarray, " q"]:
    r"""Return the soft count at scale ``sigma``, :math:`\sum_i l_i / (l_i + \sigma^2)`.

    The number of directions wider than ``sigma``: what FLIPD and the denoising loss measure on the locally linear
    model, so the LID of data and of a model compare at one named scale. ``eigenvalues`` may be variances of any origin:
    local PCA, squared singular values of a generator's Jacobian, variances of a VAE.

    Args:
        eigenvalues: Variances, shape ``(q, rank)``.
        sigma: Scale, positive.

    Returns:
        In dimensions, 0 to ``rank``, shape ``(q,)``.

    Raises:
        ValueError: If ``sigma`` is not positive and finite.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma must be positive and finite, got {sigma}")
    array = eigenvalues.detach().cpu().numpy() if isinstance(eigenvalues, Tensor) else eigenvalues
    scaled = array.astype(np.float64) / sigma**2
    return np.asarray((scaled / (1 + scaled)).sum(-1))


@dataclass(frozen=True)
class LocalPca:
    """Local PCA with the count of Fukunaga and Olsen, and its settings.

    Attributes:
        k: Neighbours, more than the dimension looked for.
        share: Of the largest eigenvalue, above which one counts.
    """

    k: int = 100
    share: float = 0.05

    def __call__(
        self,
        queries: Float[np.ndarray | Tensor, "q *event"],
        reference: Float[np.ndarray | Tensor, "n *event"],
        exclude: Int[np.ndarray, " q"] | None = None,
    ) -> DataLid:
        """Count at every query; see :func:`local_pca` and :func:`fukunaga_olsen`."""
        near = nearest(queries, reference, self.k, exclude=exclude)
        return fukunaga_olsen(local_pca(near, reference), self.k, self.share)


def centered(y: Floating, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the neighbours of a block of queries about their mean, float64; exactly 0 where all are copies."""
    near = y.take(indices, axis=0).astype(np.float64, copy=False)
    near -= near[:, :1].copy()  # first about one of them, so that copies lose nothing to rounding
    near -= np.einsum("qkd->qd", near)[:, None] / indices.shape[1]
    return near


def check_share(share: float) -> None:
    """Raise ``ValueError`` unless ``share`` is between 0 and 1."""
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
