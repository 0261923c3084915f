r"""Paired differences of one column, with their uncertainty.

Two things make a difference uncertain. Which pictures there are: the bootstrap over pictures gives the interval of the
median. And the Monte-Carlo error of every value: that of one difference is :math:`\sqrt{s_A^2 + s_B^2}`, which is too
large where both runs drew the same noise.

The median of a resample is a value of the sample at a random place: the :math:`m`-th of :math:`n` resampled places is
:math:`\lceil n U \rceil` with :math:`U` Beta-distributed :math:`(m, n + 1 - m)`. So no resample is ever made, and a
million pictures cost one sort.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pointland.report.compare.schema import Paired
from pointland.report.schema import Estimate

Floats = NDArray[np.float64]

RESAMPLES = 2_000
FEWEST = 6  # with fewer no two values enclose the median with 95 % confidence
BEYOND = 1.96


def paired(a: Floats, b: Floats, stderr: Floats, seed: int) -> tuple[Paired | None, Floats]:
    """Return the differences of two columns in numbers, and resampled medians of them.

    Args:
        a: Values in A, NaN where there is none.
        b: Values of the same pictures in B.
        stderr: Combined standard error of every difference; all NaN without one.
        seed: Of the bootstrap.

    Returns:
        ``None`` and nothing with fewer than six pictures that have both values.
    """
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < FEWEST:
        return None, np.empty(0)
    a, b, stderr = a[known], b[known], stderr[known]
    difference = b - a
    medians = resampled_medians(difference, np.random.default_rng(seed))
    measured = np.isfinite(stderr)
    moved = measured & (np.abs(difference) > BEYOND * np.nan_to_num(stderr, nan=np.inf))
    return Paired(
        n=len(a),
        median_a=float(np.median(a)),
        median_b=float(np.median(b)),
        difference=interval(float(np.median(difference)), medians),
        stderr=float(np.median(stderr[measured])) if measured.any() else None,
        n_down=int((moved & (difference < 0)).sum()) if measured.any() else None,
        n_up=int((moved & (difference > 0)).sum()) if measured.any() else None,
    ), medians


def resampled_medians(values: Floats, rng: np.random.Generator, n_resamples: int = RESAMPLES) -> Floats:
    """Return the medians of bootstrap resamples."""
    ordered, n = np.sort(values), len(values)
    m = (n + 1) // 2
    lower = rng.beta(m, n + 1 - m, n_resamples)
    upper = lower if n % 2 else lower + (1 - lower) * rng.beta(1, n - m, n_resamples)
    places = [(np.ceil(n * u).astype(np.int64) - 1).clip(0, n - 1) for u in (lower, upper)]
    return np.asarray((ordered[places[0]] + ordered[places[1]]) / 2, dtype=np.float64)


def interval(value: float, resampled: Floats) -> Estimate:
    """Return an estimate with its 95 % percentile interval."""
    low, high = np.quantile(resampled, [0.025, 0.975]).tolist()
    return Estimate(value=value, low=low, high=high)


def rank_correlation(a: Floats, b: Floats) -> Estimate | None:
    """Return Spearman's correlation with its interval by Fisher's transform (variance of Bonett and Wright 2000).

    ``None`` with fewer than six pictures, or where one column is constant.
    """
    known = np.isfinite(a) & np.isfinite(b)
    n = int(known.sum())
    if n < FEWEST:
        return None
    ranks = rankdata(a[known]), rankdata(b[known])
    if min(ranks[0].std(), ranks[1].std()) == 0:
        return None
    r = float(np.clip(np.corrcoef(*ranks)[0, 1], -1, 1))
    if abs(r) > 1 - 1e-12:
        whole = 1.0 if r > 0 else -1.0
        return Estimate(value=whole, low=whole, high=whole)
    z, half = np.arctanh(r), 1.96 * np.sqrt((1 + r * r / 2) / (n - 3))
    return Estimate(value=r, low=float(np.tanh(z - half)), high=float(np.tanh(z + half)))
