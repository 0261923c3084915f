r"""The method of moments.

In a :math:`d`-dimensional set the distances within :math:`R` have mean :math:`R\, d / (d + 1)`, so with the mean
:math:`m_1` of all :math:`k` distances, :math:`R = r_k` among them,

.. math:: \hat d = \frac{m_1}{R - m_1} .
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import chi2
from torch import Tensor

from pointland.lid.data.interval import DataLid
from pointland.lid.data.mle import first
from pointland.lid.data.neighbors import Neighbors, nearest


def moment(neighbors: Neighbors, k: int | None = None) -> DataLid:
    """Estimate the LID at every query from the mean of its distances.

    Args:
        neighbors: At least two a query.
        k: Use the nearest ``k`` of them; all if left out.

    Returns:
        ``value`` in dimensions: 0 where all neighbours are copies, above 0 with fewer, since copies only lower a mean;
        infinite where all distances are the same positive number. Reads ``(d + 1) k / (k - 1) - 1`` for ``d`` since
        ``R`` is among the distances; the interval is without that bias.

    Raises:
        ValueError: If there are fewer than 2 or than ``k`` neighbours.

    Cost:
        ``q k`` sums.

    Do not trust:
        As for :func:`~pointland.lid.data.mle.mle`; more variance at low dimension, and less affected by the very
        nearest neighbours.

    Source:
        Amsaleg et al. 2018, Extreme-value-theoretic estimation of local intrinsic dimensionality.
    """
    distances = first(neighbors, k)
    radius, n = distances[:, -1], distances.shape[1] - 1
    gap = (radius[:, None] - distances[:, :-1]).sum(1)  # = n R (1 - mean ratio) = (n + 1) (R - m1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(radius == 0, 0.0, distances.sum(1) / gap)
        plus_one = np.where(radius == 0, 1.0, n * radius / gap)  # without the bias, for d + 1
    # 1 - ratio has mean 1 / (d + 1) and squared coefficient of variation d / (d + 2): a gamma law of the same two
    d = np.maximum(plus_one - 1, 1e-3)
    shape = 2 * n * np.where(np.isfinite(d), (d + 2) / np.where(np.isfinite(d), d, 1), 1)
    low, high = (np.maximum(plus_one * chi2.ppf(p, shape) / shape - 1, 0) for p in (0.025, 0.975))
    return DataLid(value, np.where(radius == 0, 0, low), np.where(radius == 0, 0, high))


@dataclass(frozen=True)
class Moment:
    """The method of moments with its settings.

    Attributes:
        k: Neighbours.
    """

    k: int = 20

    def __call__(
        self,
        queries: Float[np.ndarray | Tensor, "q *event"],
        reference: Float[np.ndarray | Tensor, "n *event"],
        exclude: Int[np.ndarray, " q"] | None = None,
    ) -> DataLid:
        """Estimate the LID at every query; see :func:`moment`."""
        return moment(nearest(queries, reference, self.k, exclude=exclude))
