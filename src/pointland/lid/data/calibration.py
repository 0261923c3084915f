r"""The maximum likelihood estimate calibrated by simulation, and its disagreement with ESS.

A finite sample of a high-dimensional set is nearly all edge, and its density changes within one neighbourhood; the
estimate of Levina and Bickel then reads 57 for a true 128, and more data hardly helps. The bias depends on ``n``, ``k``
and the dimension, little on the shape. So the estimate is simulated for Gaussian and ball pieces of known dimension at
the same ``n`` and ``k``; the mean curve is inverted for the value, and the 2.5 and 97.5 % curves of *both* shapes for
the interval, which therefore holds the statistical error and the spread between shapes.

No point sets are drawn. Given a query at distance :math:`\rho` from the centre, the distance of another point has a
known distribution :math:`F_\rho` (noncentral chi for the Gaussian, the overlap of two balls for the ball), so the
:math:`k` nearest of ``n`` are :math:`F_\rho^{-1}` of the lowest uniform order statistics: any ``n`` costs the same.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.special import betainc
from scipy.stats import chi2, ncx2
from torch import Tensor

from pointland.lid.data.interval import DataLid
from pointland.lid.data.mle import mle
from pointland.lid.data.neighbors import Neighbors, nearest

Shape = Literal["gaussian", "ball"]
SHAPES: tuple[Shape, ...] = ("gaussian", "ball")
TOP = 1024  # dimensions; a curve that high is too flat to be inverted
GRID = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
N_RADII = 48  # strata of the query's distance from the centre
N_DRAWS = 48  # neighbourhoods a stratum
N_NODES = 64  # of the table that inverts the distribution of distances


class Curve(NamedTuple):
    """What the estimate reads, by true dimension; both rising.

    Attributes:
        dimensions: True ones, shape ``(g,)``.
        mean: Mean estimate, one row a shape.
        low: 2.5 % point of the estimate, one row a shape.
        high: 97.5 % point, one row a shape.
    """

    dimensions: Float[np.ndarray, " g"]
    mean: Float[np.ndarray, "shape g"]
    low: Float[np.ndarray, "shape g"]
    high: Float[np.ndarray, "shape g"]


def calibrated(estimate: DataLid, *, n: int, k: int, d: int, seed: int = 0) -> DataLid:
    """Undo the bias of :func:`~pointland.lid.data.mle.mle`.

    Args:
        estimate: From ``mle`` with ``k`` neighbours.
        n: Reference points, the query itself not counted.
        k: Neighbours.
        d: Values an item, which no dimension exceeds.
        seed: Of the simulation.

    Returns:
        ``value`` in dimensions; 0 stays 0. Values at ``min(d, 1024)`` mean at least that. The interval is as wide as
        the two shapes need: it contains the true dimension of a Gaussian or ball piece about 95 % of the time or more.

    Raises:
        ValueError: Unless ``3 <= k <= n`` and ``d`` is positive.

    Cost:
        A few seconds for each ``(n, k, d)``, once; then a look-up.

    Do not trust:
        With noise of the size of the distances, mixed pieces or a heavy-tailed density, which are no Gaussian or ball
        of any dimension: see :func:`disagreement`. A dimension above ``TOP``, 1024, is not resolved.

    Source:
        The idea of DANCo (Ceruti et al. 2014); shapes, inversion and interval are ours.
    """
    curve = calibration_curve(n, k, d, seed)
    value = inverted(curve.mean.mean(0), curve.dimensions, estimate.value)
    low = np.min([inverted(row, curve.dimensions, estimate.value) for row in curve.high], axis=0)
    high = np.max([inverted(row, curve.dimensions, estimate.value) for row in curve.low], axis=0)
    return DataLid(value, np.minimum(low, value), np.maximum(high, value))


def disagreement(calibrated: DataLid, skewness: DataLid, limit: float = 0.3) -> Bool[np.ndarray, " q"]:
    """Return where the calibrated estimate is off the ESS by more than ``limit`` of it.

    The two err for different reasons, so there is a problem of scale (noise, curvature) or of mixed pieces, and neither
    should be reported alone.

    Args:
        calibrated: By the calibrated MLE.
        skewness: By ESS, at the same queries.
        limit: Share of the ESS.
    """
    return np.asarray(np.abs(calibrated.value - skewness.value) > limit * skewness.value)


@dataclass(frozen=True)
class CalibratedMle:
    """The calibrated maximum likelihood estimate with its settings.

    Attributes:
        k: Neighbours.
        seed: Of the simulation.
    """

    k: int = 20
    seed: int = 0

    def __call__(
        self,
        queries: Float[np.ndarray | Tensor, "q *event"],
        reference: Float[np.ndarray | Tensor, "n *event"],
        exclude: Int[np.ndarray, " q"] | None = None,
    ) -> DataLid:
        """Estimate the LID at every query; see :func:`calibrated`."""
        found = mle(nearest(queries, reference, self.k, exclude=exclude))
        n = len(reference) - bool(exclude is not None)
        d = int(np.prod(reference.shape[1:]))
        return calibrated(found, n=n, k=self.k, d=d, seed=self.seed)


@cache
def calibration_curve(n: int, k: int, d: int, seed: int = 0) -> Curve:
    """Simulate what the estimate reads for pieces of every dimension up to ``d``."""
    if not (3 <= k <= n and d >= 1):
        raise ValueError(f"calibration needs 3 <= k <= n and d of at least 1, got k = {k}, n = {n}, d = {d}")
    top = min(d, TOP)
    dimensions = np.array([g for g in GRID if g < top] + [top], dtype=np.float64)
    simulated = np.array([[simulate(shape, g, n, k, seed) for g in dimensions] for shape in SHAPES])
    rising = np.maximum.accumulate(simulated, axis=1)
    return Curve(dimensions, rising[:, :, 0], rising[:, :, 1], rising[:, :, 2])


class Reading(NamedTuple):
    """What the estimate reads at a point drawn from a piece: mean, 2.5 and 97.5 % point."""

    mean: float
    low: float
    high: float


def simulate(shape: Shape, d: float, n: int, k: int, seed: int) -> Reading:
    """Simulate the estimate in a piece; the draws are the same for every dimension, so curves are smooth."""
    rng = np.random.default_rng([seed, n, k])
    steps = rng.standard_exponential((N_RADII, N_DRAWS, k)).cumsum(-1)
    uniform = steps / (steps[..., -1:] + rng.gamma(n + 1 - k, size=(N_RADII, N_DRAWS, 1)))
    quantiles = (np.arange(N_RADII) + 0.5) / N_RADII
    radius = np.sqrt(chi2.ppf(quantiles, d)) if shape == "gaussian" else quantiles ** (1 / d)
    ends = [log_quantile(shape, radius, d, p) for p in (uniform.min((1, 2)), uniform.max((1, 2)))]
    nodes = np.linspace(ends[0], ends[1], N_NODES, axis=1)
    shares = distribution(shape, np.exp(nodes), radius[:, None], d)
    logs = np.stack([np.interp(np.log(u), np.log(s), r) for u, s, r in zip(uniform, shares, nodes, strict=True)])
    distances = np.exp(logs - logs[..., -1:]).reshape(-1, k)
    values = mle(Neighbors(distances, np.zeros(distances.shape, dtype=np.int64))).value
    low, high = np.quantile(values, [0.025, 0.975])
    return Reading(float(values.mean()), float(low), float(high))


def log_quantile(shape: Shape, radius: NDArray[np.float64], d: float, p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the distance that a share ``p`` of the piece is within, by bisection."""
    low, high = np.full(len(radius), -35.0), np.full(len(radius), 6.0)
    for _ in range(48):
        middle = (low + high) / 2
        below = distribution(shape, np.exp(middle), radius, d) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def distribution(shape: Shape, r: NDArray[np.float64], rho: NDArray[np.float64], d: float) -> NDArray[np.float64]:
    """Return the share of the piece within ``r`` of a point at ``rho`` from its centre."""
    if shape == "gaussian":
        return np.asarray(np.maximum(ncx2.cdf(r**2, d, rho**2), np.finfo(float).tiny))
    # two caps, cut by the plane in which the spheres meet, or the whole smaller ball
    ours = cap((rho**2 + 1 - r**2) / (2 * rho), d)
    theirs = cap((rho**2 + r**2 - 1) / (2 * rho * r), d)
    with np.errstate(divide="ignore"):
        overlap = ours + np.exp(d * np.log(r) + np.log(theirs))
    share = np.where(r <= 1 - rho, np.exp(d * np.log(np.minimum(r, 1))), np.where(r >= 1 + rho, 1, overlap))
    return np.maximum(share, np.finfo(float).tiny)


def cap(height: NDArray[np.float64], d: float) -> NDArray[np.float64]:
    """Return the share of the unit ball beyond a plane at ``height`` from its centre."""
    h = np.clip(height, -1, 1)
    half = betainc((d + 1) / 2, 0.5, 1 - h**2) / 2
    return np.asarray(np.where(h >= 0, half, 1 - half))


def inverted(
    curve: NDArray[np.float64], dimensions: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the dimension at which a rising curve has the values; below its start, in proportion."""
    inside = np.clip(values, curve[0], curve[-1])
    found = np.exp(np.interp(np.log(inside), np.log(curve), np.log(dimensions)))
    found = np.where(inside >= curve[-1], dimensions[-1], found)  # exp of a log falls short of it by rounding
    return np.asarray(np.where(values < curve[0], dimensions[0] * values / curve[0], found))
