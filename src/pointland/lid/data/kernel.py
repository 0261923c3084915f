r"""The closed-form diffusion estimate: FLIPD of the model that memorized the reference.

The best denoiser of a finite set weighs its points by :math:`w_i \propto \exp(-\|x - x_i\|^2 / 2 \sigma^2)`. Its trace
and residual add up to

.. math:: \mathrm{LID}(x; \sigma) = \sum_i w_i \|x - x_i\|^2 / \sigma^2 ,

which needs no model. With the query itself among the points it is the lower curve, what full memorization would look
like. With the query left out it estimates the LID of the data at the same sigma as FLIPD; copies make it 0 with no
division by zero. It averages over an *effective number of neighbours* :math:`n_\mathrm{eff} = 1 / \sum_i w_i^2`, and
means something only while that is far above 1 and far below ``n``.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pointland.lid.data.neighbors import Floating, as_vectors, block_of, center_of, check_exclude, shift

BLOCK_QUERIES = 512
BLOCK_REFERENCE = 4096
NEAR = 1e-6  # of the squared lengths: a squared distance below it is measured again by differences


class KernelLid(NamedTuple):
    """A local intrinsic dimension a query, its 95 % interval (statistical only), and what it rests on.

    Attributes:
        value: In dimensions.
        low: Lower end in dimensions.
        high: Upper end in dimensions.
        n_eff: Effective number of neighbours, from 1; below about 10 neither value nor interval is one of the data.
    """

    value: Float[np.ndarray, " q"]
    low: Float[np.ndarray, " q"]
    high: Float[np.ndarray, " q"]
    n_eff: Float[np.ndarray, " q"]


def kernel(
    queries: Float[np.ndarray | Tensor, "q *event"],
    reference: Float[np.ndarray | Tensor, "n *event"],
    sigma: float,
    *,
    exclude: Int[np.ndarray, " q"] | None = None,
) -> KernelLid:
    """Estimate the LID at every query and scale ``sigma`` from all reference points.

    Args:
        queries: Points, shape ``(q, *event)``, float32 or float64, finite.
        reference: The data set, shape ``(n, *event)``.
        sigma: Noise scale in the unit of the data, positive.
        exclude: The index in the reference of each query itself, to leave it out; -1 for a query that is not in it.
            Without it the result is FLIPD of the memorizing model.

    Returns:
        ``value`` in dimensions, finite. The interval treats the reference as a sample, by the delta method for a ratio
        of means with the correction for few neighbours.

    Raises:
        TypeError: If the points are not floating point.
        ValueError: If ``sigma`` is not positive, the shapes differ, a value is not finite, no point is left, or
            ``exclude`` is out of range.

    Cost:
        ``2 q n d`` float64 operations and ``q n`` exponentials, in blocks of 0.1 GiB.

    Do not trust:
        Unless ``1 << n_eff << n``. For a LID of 2 that holds over a 16-fold range of sigma, for 8 at one setting (7.4),
        from 32 on nowhere.

    Source:
        The closed-form diffusion model under FLIPD (Kamkari et al. 2024); leaving the query out is ours.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma must be positive and finite, got {sigma}")
    x, y = as_vectors(queries, "queries"), as_vectors(reference, "reference")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"queries have {x.shape[1]} values an item, reference has {y.shape[1]}; encode both alike")
    own = check_exclude(exclude, len(x), len(y))
    if len(y) - bool((own >= 0).any()) < 1:
        raise ValueError(f"no reference point is left of {len(y)}; add more")
    center = center_of(y)
    columns = np.empty((4, len(x)))
    for start in range(0, len(x), BLOCK_QUERIES):
        part = slice(start, start + BLOCK_QUERIES)
        columns[:, part] = block_of_queries(x[part], y, own[part], center, sigma)
    return KernelLid(*columns)


@dataclass(frozen=True)
class Kernel:
    """The closed-form diffusion estimate with its settings.

    Attributes:
        sigma: Noise scale in the unit of the data.
    """

    sigma: float

    def __call__(
        self,
        queries: Float[np.ndarray | Tensor, "q *event"],
        reference: Float[np.ndarray | Tensor, "n *event"],
        exclude: Int[np.ndarray, " q"] | None = None,
    ) -> KernelLid:
        """Estimate the LID at every query; see :func:`kernel`."""
        return kernel(queries, reference, self.sigma, exclude=exclude)


def block_of_queries(
    x: Floating, y: Floating, own: NDArray[np.int64], center: NDArray[np.float64], sigma: float
) -> NDArray[np.float64]:
    """Return value, low, high and n_eff as rows, in one pass over the reference."""
    nearest = np.full(len(x), np.inf)
    # sums over points of e, e t, e^2, e^2 t and e^2 t^2, with t = |x - x_i|^2 / sigma^2 and e = exp((nearest - t) / 2)
    sums = np.zeros((5, len(x)))
    powers = np.array([1, 1, 2, 2, 2])[:, None]
    size = min(BLOCK_REFERENCE, block_of(y.shape[1]))
    for start in range(0, len(y), size):
        t = squared_distances(x, y[start : start + size], center) / sigma**2
        mine = np.flatnonzero((own >= start) & (own < start + size))
        t[mine, own[mine] - start] = np.inf
        closer = np.minimum(nearest, t.min(1))
        known = np.isfinite(closer)
        with np.errstate(invalid="ignore"):
            sums *= np.where(known & np.isfinite(nearest), np.exp((closer - nearest) / 2), 0) ** powers
        nearest = closer
        e = np.exp((np.where(known, nearest, 0)[:, None] - t) / 2)
        t[mine, own[mine] - start] = 0  # its e is 0
        e2 = e * e
        sums += np.stack(
            [e.sum(1), np.einsum("qn,qn->q", e, t), e2.sum(1), np.einsum("qn,qn->q", e2, t), (e2 * t * t).sum(1)]
        )
    z, zt, z2, z2t, z2tt = sums
    value, n_eff = zt / z, z**2 / z2
    variance = np.maximum(z2tt - 2 * value * z2t + value**2 * z2, 0) / z**2
    spread = 1.96 * np.sqrt(variance * n_eff / np.maximum(n_eff - 1, np.finfo(float).eps))
    return np.stack([value, np.maximum(value - spread, 0), value + spread, n_eff])


def squared_distances(x: Floating, y: Floating, center: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return all squared distances in float64: by products, and by differences where those would cancel."""
    left, right = (shift(points.astype(np.float64, copy=False), center, np.dtype(np.float64)) for points in (x, y))
    lengths = left[:, -1:] + right[:, -1]
    squares = lengths - 2 * (left[:, :-1] @ right[:, :-1].T)
    row, column = np.nonzero(squares < NEAR * lengths)
    step = block_of(x.shape[1])
    for start in range(0, len(row), step):
        i, j = row[start : start + step], column[start : start + step]
        difference = x[i].astype(np.float64) - y[j]
        squares[i, j] = np.einsum("pd,pd->p", difference, difference)
    return np.maximum(squares, 0, out=squares)
