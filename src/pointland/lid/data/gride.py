r"""GRIDE: the dimension over a ladder of scales, from ratios of two neighbours' distances.

Volumes of neighbours :math:`n_1 < n_2` have a ratio :math:`(r_{n_1} / r_{n_2})^d` of law
:math:`\mathrm{Beta}(n_1, n_2 - n_1)`, whatever the density. With :math:`n_2 = 2 n_1` and :math:`n_1 = 1, 2, 4, ...`
each query gives a curve of LID against scale, with an exact interval; all queries together give the maximum likelihood

.. math:: \frac{N - 1}{d} + (n_2 - n_1 - 1) \sum_i \frac{\log \mu_i}{1 - \mu_i^{-d}} = (n_2 - 1) \sum_i \log \mu_i ,
    \qquad \mu_i = r_{n_2} / r_{n_1} .
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma
from scipy.stats import beta
from torch import Tensor

from pointland.lid.data.interval import SetLid
from pointland.lid.data.neighbors import Neighbors, nearest

LADDER = (1, 2, 4, 8, 16, 32)


class Ladder(NamedTuple):
    """LID against scale at every query, with exact 95 % intervals (statistical only).

    Attributes:
        value: In dimensions, shape ``(q, s)``.
        low: Lower ends.
        high: Upper ends.
        radius: Distance to the farther neighbour, the scale that each value is of, shape ``(q, s)``.
    """

    value: Float[np.ndarray, "q s"]
    low: Float[np.ndarray, "q s"]
    high: Float[np.ndarray, "q s"]
    radius: Float[np.ndarray, "q s"]


def gride(neighbors: Neighbors, ladder: Sequence[int] = LADDER) -> Ladder:
    """Estimate the LID at every query and scale.

    Args:
        neighbors: At least ``2 max(ladder)`` a query.
        ladder: The nearer neighbour n1 of each scale; the farther is ``2 n1``.

    Returns:
        Values whose inverse is unbiased. 0 where the nearer neighbour is a copy; infinite where both distances are the
        same positive number.

    Raises:
        ValueError: If the ladder is empty, has entries below 1, or needs more neighbours.

    Cost:
        ``q s`` logarithms.

    Do not trust:
        One query at small n1: the interval spans a factor of 100 at n1 = 1. A group of near copies shows as a dip.

    Source:
        Denti et al. 2022, doi:10.1038/s41598-022-20991-1. The Beta law for one query is ours.
    """
    check_ladder(neighbors, ladder)
    steps = np.array(ladder)
    inner, radius = neighbors.distances[:, steps - 1], neighbors.distances[:, 2 * steps - 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mu = np.where(inner > 0, np.log(radius / inner), np.inf)
        value, low, high = (
            by / log_mu
            for by in (
                digamma(2 * steps) - digamma(steps),
                -np.log(beta.ppf(0.975, steps, steps)),
                -np.log(beta.ppf(0.025, steps, steps)),
            )
        )
    return Ladder(value, low, high, radius)


def gride_set(neighbors: Neighbors, ladder: Sequence[int] = LADDER) -> list[SetLid]:
    """Estimate one dimension for all queries at every scale, by maximum likelihood.

    Queries whose nearer neighbour is a copy, or whose two distances are equal, are left out; ``n_used`` counts the
    others. With fewer than two left the value is 0. The interval is from the observed Fisher information, as if
    queries were independent, so it is too narrow where neighbourhoods overlap much.

    Args:
        neighbors: At least twice the last step of the ladder a query.
        ladder: Neighbour numbers ``k``, each compared with ``2 k``.

    Raises:
        ValueError: If the ladder is empty, has entries below 1, or needs more neighbours.

    Source:
        Denti et al. 2022, without DADApy's cut of the largest ratios.
    """
    check_ladder(neighbors, ladder)
    return [set_at(neighbors.distances[:, n1 - 1], neighbors.distances[:, 2 * n1 - 1], n1) for n1 in ladder]


@dataclass(frozen=True)
class Gride:
    """GRIDE with its settings.

    Attributes:
        ladder: The nearer neighbour of each scale.
    """

    ladder: tuple[int, ...] = LADDER

    def __call__(
        self,
        queries: Float[np.ndarray | Tensor, "q *event"],
        reference: Float[np.ndarray | Tensor, "n *event"],
        exclude: Int[np.ndarray, " q"] | None = None,
    ) -> Ladder:
        """Estimate the LID at every query and scale; see :func:`gride`."""
        return gride(nearest(queries, reference, 2 * max(self.ladder), exclude=exclude), self.ladder)


def set_at(inner: NDArray[np.float64], outer: NDArray[np.float64], n1: int) -> SetLid:
    """Solve the likelihood equation at one scale."""
    used = (inner > 0) & (outer > inner)
    n = int(used.sum())
    if n < 2:
        return SetLid(0.0, 0.0, 0.0, n)
    log_mu = np.log(outer[used] / inner[used])

    def slope(d: float) -> float:
        repelled = (n1 - 1) * float((log_mu / -np.expm1(-d * log_mu)).sum())
        return (n - 1) / d + repelled - (2 * n1 - 1) * float(log_mu.sum())

    top = 1.0
    while slope(top) > 0:
        top *= 2
    d = float(brentq(slope, top * 1e-12 if top == 1.0 else top / 2, top, xtol=1e-13, rtol=1e-13))
    half = d * log_mu / 2
    information = n / d**2 + (n1 - 1) * float(np.square(log_mu / (2 * np.sinh(np.minimum(half, 300)))).sum())
    spread = 1.96 / (d * np.sqrt(information))
    return SetLid(d, d * float(np.exp(-spread)), d * float(np.exp(spread)), n)


def check_ladder(neighbors: Neighbors, ladder: Sequence[int]) -> None:
    """Raise ``ValueError`` unless the neighbours suffice for every scale."""
    held = neighbors.distances.shape[1]
    if not ladder or min(ladder) < 1 or 2 * max(ladder) > held:
        raise ValueError(
            f"a ladder holds neighbours from 1 to half of those found, {held // 2}, got {tuple(ladder)}; "
            "search for more, or shorten the ladder"
        )
