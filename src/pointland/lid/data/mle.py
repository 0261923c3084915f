r"""Levina and Bickel's maximum likelihood estimate.

Near a point of a :math:`d`-dimensional set the number of neighbours within distance :math:`r` grows as :math:`r^d`, so
with :math:`R = r_k` the :math:`\log(R / r_j)` are :math:`k - 1` exponential variables of rate :math:`d`:

.. math:: \hat d = \frac{k - 1}{S}, \qquad S = \sum_{j<k} \log(R / r_j), \qquad 2 d S \sim \chi^2_{2(k-1)} .
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.stats import chi2
from torch import Tensor

from pointland.lid.data.interval import DataLid, SetLid
from pointland.lid.data.neighbors import Neighbors, nearest


def mle(neighbors: Neighbors, k: int | None = None) -> DataLid:
    """Estimate the LID at every query from its distances.

    Args:
        neighbors: At least two a query.
        k: Use the nearest ``k`` of them; all if left out. One pass serves a whole ladder of ``k``.

    Returns:
        ``value`` in dimensions. A single copy makes it 0, which hides everything else: prefer
        :func:`~pointland.lid.data.censored_hill.censored_hill` where there may be copies. Infinite where all ``k``
        distances are the same positive number, as on a grid.

    Raises:
        ValueError: If there are fewer than 2 or than ``k`` neighbours.

    Cost:
        ``q k`` logarithms.

    Do not trust:
        Above a LID of about 20 it reads low (57 for a true 128 at n = 20,000, k = 20), more data hardly helps and a
        larger ``k`` hurts; see :mod:`pointland.lid.data.calibration`. Noise of the size of the distances is counted as
        dimension.

    Source:
        Levina & Bickel 2004, with k - 1 in the numerator; without their correction to k - 2.
    """
    s = log_ratios(neighbors, k)
    n = first(neighbors, k).shape[1] - 1
    value = rate(n, s)
    return DataLid(value, value * chi2.ppf(0.025, 2 * n) / (2 * n), value * chi2.ppf(0.975, 2 * n) / (2 * n))


def mle_average(neighbors: Neighbors, k: int | None = None) -> SetLid:
    """Estimate one dimension for all queries: the harmonic mean of their values, the maximum likelihood for equal LID.

    Queries with a copy have value 0, which the harmonic mean would give to everybody; they are left out and
    ``n_used`` counts the others. With none left the dimension is 0. The interval takes one independent observation a
    query, since neighbourhoods overlap.

    Args:
        neighbors: Of the queries.
        k: How many of them to use; all if ``None``.

    Returns:
        ``value`` in dimensions, with its interval, and ``n_used`` queries.

    Source:
        MacKay & Ghahramani 2005, comments on Levina & Bickel.
    """
    s = log_ratios(neighbors, k)
    n = first(neighbors, k).shape[1] - 1
    used = np.isfinite(s)
    count = int(used.sum())
    if count == 0:
        return SetLid(0.0, 0.0, 0.0, 0)
    value = float(rate(n, np.array([s[used].mean()]))[0])
    low, high = (float(chi2.ppf(p, 2 * count)) / (2 * count) for p in (0.025, 0.975))
    return SetLid(value, value * low, value * high, count)


@dataclass(frozen=True)
class Mle:
    """The maximum likelihood estimate with its settings.

    Attributes:
        k: Neighbours. More have less variance (relative 1 / sqrt(k)) and more bias.
    """

    k: int = 20

    def __call__(
        self,
        queries: Float[np.ndarray | Tensor, "q *event"],
        reference: Float[np.ndarray | Tensor, "n *event"],
        exclude: Int[np.ndarray, " q"] | None = None,
    ) -> DataLid:
        """Estimate the LID at every query; see :func:`mle` and :func:`~pointland.lid.data.neighbors.nearest`."""
        return mle(nearest(queries, reference, self.k, exclude=exclude))


def log_ratios(neighbors: Neighbors, k: int | None) -> NDArray[np.float64]:
    """Return the sum of ``log(R / r_j)`` over the ``k - 1`` nearer neighbours, infinite with a copy."""
    distances = first(neighbors, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.log(distances[:, -1:] / distances[:, :-1]).sum(1)
    return np.where(distances[:, -1] == 0, np.inf, s)


def first(neighbors: Neighbors, k: int | None) -> NDArray[np.float64]:
    """Return the distances to the nearest ``k``, at least two."""
    held = neighbors.distances.shape[1]
    wanted = held if k is None else k
    if not 2 <= wanted <= held:
        raise ValueError(f"this needs k from 2 to the {held} neighbours found, got {wanted}; search for more")
    return neighbors.distances[:, :wanted]


def rate(n: int, s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``n / s``, infinite where ``s`` is 0."""
    with np.errstate(divide="ignore"):
        return n / s
