r"""Expected simplex skewness: the dimension from the angles between a query's neighbours.

Two random directions in :math:`d` dimensions are the more orthogonal the larger :math:`d` is. With the neighbours
:math:`v_i` about their mean and :math:`G_{ij} = v_i \cdot v_j`, the areas that pairs span over those they would span at
right angles,

.. math:: \mathrm{ess} = \frac{\sum_{i<j} \sqrt{G_{ii} G_{jj} - G_{ij}^2}}{\sum_{i<j} |v_i| |v_j|}, \qquad
    \mathbb{E}_d = \frac{\Gamma(d/2)^2}{\Gamma((d+1)/2)\, \Gamma((d-1)/2)},

and the value is the :math:`d` at which the reference on the right equals it, interpolated between whole numbers.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pointland.lid.data.interval import DataLid
from pointland.lid.data.local_pca import centered
from pointland.lid.data.neighbors import Neighbors, as_vectors, nearest

TABLE_DIMENSIONS = 16384
CACHED_VALUES = 2**17  # of a block of neighbourhoods or of their pairs, 1 MiB in float64


def ess(neighbors: Neighbors, reference: Float[np.ndarray | Tensor, "n *event"]) -> DataLid:
    """Estimate the LID at every query from the angles between its neighbours.

    Args:
        neighbors: At least three a query, for a fair interval 50; all pairs are used.
        reference: What the neighbours were searched in.

    Returns:
        ``value`` in dimensions, at least 1 unless all neighbours are copies of each other, which is 0; at most 16,384.
        The interval is from leaving out one neighbour at a time.

    Raises:
        ValueError: If there are fewer than 3 neighbours.

    Cost:
        ``k^2 d`` operations a query.

    Do not trust:
        Below a LID of 2 with few neighbours, on curved sets (9.5 for a flat torus of 6), or where another piece is
        nearer than one's own neighbours (105 for 200): then it disagrees with the calibrated MLE. Best of all at high
        dimension: 126 for 128 and 249 for 256 at n = 20,000, k = 100.

    Source:
        Johnsson, Soneson & Fontes 2015, version "a" with d = 1. All pairs, where the reference code draws 5,000.
    """
    y = as_vectors(reference, "reference")
    q, k = neighbors.indices.shape
    if k < 3:
        raise ValueError(f"ess needs three neighbours a query, got {k}; search for more")
    skewness, stderr = np.zeros(q), np.zeros(q)
    size = max(1, CACHED_VALUES // (k * max(k, y.shape[1])))
    for start in range(0, q, size):
        part = slice(start, start + size)
        near = centered(y, neighbors.indices[part])
        found = simplex_skewness(near @ near.swapaxes(1, 2))
        skewness[part], stderr[part] = found.value, found.stderr
    table = reference_table()
    value, low, high = (dimension_of(table, skewness + by * stderr) for by in (0.0, -1.96, 1.96))
    none = skewness < 0
    return DataLid(np.where(none, 0, value), np.where(none, 0, low), np.where(none, 0, high))


@dataclass(frozen=True)
class Ess:
    """Expected simplex skewness with its settings.

    Attributes:
        k: Neighbours.
    """

    k: int = 100

    def __call__(
        self,
        queries: Float[np.ndarray | Tensor, "q *event"],
        reference: Float[np.ndarray | Tensor, "n *event"],
        exclude: Int[np.ndarray, " q"] | None = None,
    ) -> DataLid:
        """Estimate the LID at every query; see :func:`ess`."""
        return ess(nearest(queries, reference, self.k, exclude=exclude), reference)


class Skewness(NamedTuple):
    """The skewness of each neighbourhood, between 0 and 1, and its jackknife error."""

    value: NDArray[np.float64]
    stderr: NDArray[np.float64]


def simplex_skewness(gram: NDArray[np.float64]) -> Skewness:
    """Measure each Gram matrix, which is overwritten; the value is -1 where all neighbours are copies."""
    k = gram.shape[1]
    squares = np.einsum("qii->qi", gram).copy()
    areas = squares[:, :, None] * squares[:, None, :]
    np.square(gram, out=gram)
    areas -= gram
    np.maximum(areas, 0, out=areas)
    np.sqrt(areas, out=areas)
    rows = areas.sum(2)  # twice the pairs: both sums below are over ordered pairs
    lengths = np.sqrt(squares)
    total = lengths.sum(1, keepdims=True)
    weights = lengths * (total - lengths)
    top, bottom = rows.sum(1), weights.sum(1)
    some = bottom > 0
    safe = np.where(some, bottom, 1)
    without = (top[:, None] - 2 * rows) / np.where(bottom[:, None] > 2 * weights, safe[:, None] - 2 * weights, np.inf)
    stderr = np.sqrt((k - 1) * without.var(1))
    return Skewness(np.where(some, top / safe, -1), np.where(some, stderr, 0))


@cache
def reference_table() -> NDArray[np.float64]:
    """Return the expected skewness in 1, 2, ... dimensions, ascending from 0 to 1."""
    table = np.empty(TABLE_DIMENSIONS)
    table[0] = 0
    for place, start in ((1, 2 / np.pi), (2, np.pi / 4)):  # 2 and 3 dimensions, then E(d + 2) = E(d) d^2 / (d^2 - 1)
        d = np.arange(place + 1, TABLE_DIMENSIONS - 1, 2, dtype=np.float64)
        table[place::2] = start * np.concatenate([[1], np.cumprod(d**2 / (d**2 - 1))])
    table.flags.writeable = False
    return table


def dimension_of(table: NDArray[np.float64], skewness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the dimension at which the reference is ``skewness``, linear between whole numbers."""
    return np.asarray(np.interp(skewness, table, np.arange(1.0, len(table) + 1)))
