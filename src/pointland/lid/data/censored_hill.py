r"""A maximum likelihood estimate that stays right where there are copies: left-censored Hill.

Distances below a *noise floor* :math:`r_0` (quantization, compression) say only that they are small. They enter the
likelihood as such, and with :math:`R = r_k`

.. math:: \hat d = \frac{m}{S}, \qquad m = \#\{j<k : r_j > r_0\}, \qquad S = \sum_{j<k} \log\frac{R}{\max(r_j, r_0)},

equal to the estimate of Levina and Bickel when nothing is below the floor, finite always, and 0 where all ``k``
neighbours are copies, :math:`R \le r_0`. A smaller group of copies is told by its number. A power law that fits the
distances above the floor puts a share :math:`(r_0/R)^d` below it; where significantly more are there (likelihood ratio
test, level 0.01) the point is an *atom* in a larger set, which has dimension 0 (Theorem 4.1 of the paper).
"""

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.special import xlogy
from scipy.stats import chi2
from torch import Tensor

from pointland.lid.data.mle import first
from pointland.lid.data.neighbors import Neighbors, nearest

ATOM_LEVEL = 0.01
CENSORED_LIMIT = 0.05


class CensoredLid(NamedTuple):
    """A local intrinsic dimension a query, its 95 % interval (statistical only), and what the floor did to it.

    Attributes:
        value: In dimensions, finite, 0 at atoms.
        low: Lower end in dimensions.
        high: Upper end in dimensions; 0 at atoms.
        copies: Neighbours within the floor, of ``k``.
        atom: Whether the copies are a group of their own, not the lower end of a power law.
    """

    value: Float[np.ndarray, " q"]
    low: Float[np.ndarray, " q"]
    high: Float[np.ndarray, " q"]
    copies: Int[np.ndarray, " q"]
    atom: Bool[np.ndarray, " q"]

    @property
    def censored(self) -> float:
        """The share of the queries that are no atoms and yet have neighbours below the floor; above 0.05 lower it."""
        ordinary = ~self.atom
        return float((self.copies[ordinary] > 0).mean()) if ordinary.any() else 0.0


def censored_hill(neighbors: Neighbors, floor: float, k: int | None = None) -> CensoredLid:
    """Estimate the LID at every query from its distances, those below ``floor`` censored.

    Args:
        neighbors: At least two a query.
        floor: Noise floor r0, a distance; 0 for exact copies only. See :func:`rounding_floor`.
        k: Use the nearest ``k`` of them; all if left out.

    Returns:
        ``value`` in dimensions, finite always. Where all distances are one and the same, as on a grid or beside a group
        of more than ``k`` copies, the data resolve no dimension above ``R / floor``, and that is the value (2^52, the
        resolution of float64, with floor 0): high, but no dimension.

    Raises:
        ValueError: If the floor is negative or not finite, or there are fewer than 2 or than ``k`` neighbours.

    Warns:
        UserWarning: If more than 5 % of ordinary queries have neighbours below the floor: it is above the sampling gap,
            and dense pieces of low dimension will look like copies. Lower it.

    Cost:
        ``q k`` logarithms.

    Do not trust:
        As for :func:`~pointland.lid.data.mle.mle` above a LID of about 20. A group of near copies whose jitter exceeds
        the floor reads the dimension of the jitter if it has more than ``k`` members.

    Source:
        Ours; the censored likelihood is Hill's (1975) with the roles of the tails exchanged. The atom rule is ours too.

    Example:
        >>> sample = np.random.default_rng(0).standard_normal((2000, 3))
        >>> sample[1] = sample[0]
        >>> found = CensoredHill(floor=1e-6)(sample, sample, np.arange(2000))
        >>> found.value[:2].tolist(), float(np.median(found.value).round())
        ([0.0, 0.0], 3.0)
    """
    if not (math.isfinite(floor) and floor >= 0):
        raise ValueError(f"floor must be a finite distance, at least 0, got {floor}")
    distances = first(neighbors, k)
    nearer, radius = distances[:, :-1], distances[:, -1]
    n = nearer.shape[1]
    above = nearer > floor
    m = above.sum(1)
    all_copies = radius <= floor
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(radius[:, None] / np.maximum(nearer, floor))
    s = np.where(all_copies, np.inf, logs.sum(1))
    eps = float(np.finfo(float).eps)
    finest = n * np.maximum(floor / np.where(radius > 0, radius, 1), eps)
    s = np.where(s < 4 * n * eps, finest, s)  # all tied: one distance, up to rounding
    value = m / s
    atom = all_copies.copy()
    some = np.flatnonzero(~all_copies & (m < n))
    if len(some):
        summed = np.where(above[some], logs[some], 0).sum(1)
        atom[some] = floor == 0 or is_atom(m[some], n, summed, np.log(radius[some] / floor))
    low = np.where(m > 0, chi2.ppf(0.025, np.maximum(2 * m, 1)), 0.0) / (2 * s)
    high = chi2.ppf(0.975, 2 * m + 2) / (2 * s)
    value, low, high = (np.where(atom, 0.0, part) for part in (value, low, high))
    found = CensoredLid(value, low, high, (distances <= floor).sum(1), atom)
    if found.censored > CENSORED_LIMIT:
        warnings.warn(
            f"{found.censored:.0%} of the ordinary points have neighbours below the floor {floor:g}: it is above the "
            "sampling gap of the data; pass a lower floor",
            stacklevel=2,
        )
    return found


def rounding_floor(d: int, step: float = 1 / 255) -> float:
    """Return the floor for ``d`` values an item, rounded to multiples of ``step`` in the unit of the data.

    Rounding errors are uniform with variance ``step^2 / 12``, so a picture is about ``step sqrt(d / 12)`` from its
    rounded self. 8-bit pictures in [-1, 1] have step 2 / 255.
    """
    return step * math.sqrt(d / 12)


@dataclass(frozen=True)
class CensoredHill:
    """The left-censored Hill estimate with its settings.

    Attributes:
        floor: Noise floor, a distance in the unit of the data; 0 for exact copies only.
        k: Neighbours.
    """

    floor: float = 0.0
    k: int = 20

    def __call__(
        self,
        queries: Float[np.ndarray | Tensor, "q *event"],
        reference: Float[np.ndarray | Tensor, "n *event"],
        exclude: Int[np.ndarray, " q"] | None = None,
    ) -> CensoredLid:
        """Estimate the LID at every query; see :func:`censored_hill`."""
        return censored_hill(nearest(queries, reference, self.k, exclude=exclude), self.floor)


def is_atom(m: NDArray[np.int64], n: int, s: NDArray[np.float64], length: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Test whether more than a power law's share of ``n`` distances is below the floor.

    ``m`` are above it, with logarithms that sum to ``s``, each below ``length``. One power law is compared with a free
    share below the floor and a power law above it.
    """
    one = xlogy(m, m / (s + (n - m) * length)) - m
    # the rate d of an exponential law cut at `length` has mean 1 / d - length / (exp(d length) - 1); u = d length
    mean = s / np.maximum(m, 1) / length
    low, high = np.full(len(m), 1e-9), 1 / np.maximum(mean, 1e-9)
    for _ in range(50):
        u = (low + high) / 2
        steep = 1 / u - 1 / np.expm1(np.minimum(u, 700)) < mean
        low, high = np.where(steep, low, u), np.where(steep, u, high)
    d = u / length
    cut = -np.expm1(-u)
    two = xlogy(n - m, (n - m) / n) + xlogy(m, m / n) + m * np.log(d / cut) - d * s
    expected = n * np.exp(-u)
    return np.asarray((n - m > expected) & (2 * (two - one) > chi2.ppf(1 - ATOM_LEVEL, 1)))
