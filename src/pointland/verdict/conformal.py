r"""Verdicts: from a column of numbers to decisions with a false discovery rate, and from labels to separations.

A low LID alone is no memorization: simple pictures have low LID. So every audited item is compared with a *reference*,
pictures of the same kind that the model never trained on. With reference values :math:`r_1 .. r_n` and an item's value
:math:`v` (low when memorized) the conformal p-value is

.. math:: p = \frac{1 + \#\{i : r_i \le v\}}{n + 1},

valid in finite samples when an item that is not memorized is exchangeable with the reference, whatever the
distribution. Benjamini and Hochberg's step-up rule on these p-values keeps the expected share of false discoveries at
the rate asked for (they depend on each other through the reference, positively, under which the rule holds: Bates et
al. 2023, Theorem 2).
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Direction = Literal["low", "high"]
"""Which end of a column is suspicious."""
Floats = NDArray[np.float64]

MINIMUM_STRATUM = 500


class Decisions(NamedTuple):
    """One entry an audited item, in the order given.

    Attributes:
        p: Conformal p-values in (0, 1]; NaN where the value is missing, and everywhere without a reference.
        q: Smallest false discovery rate at which the item would be flagged; NaN like ``p``.
        flagged: Whether it is a discovery at the rate asked for.
        rank: 1 for the most suspicious value; 0 where the value is missing.
        stratum: Complexity stratum that it was compared within, from 0.
        n_strata: How many strata there are.
        n_reference: Reference values used.
        smallest_p: The smallest p-value that the reference allows; NaN without a reference.
        needed: How many items must reach ``smallest_p`` together before any can be flagged; 0 without a reference.
        undecided: Why there is no decision, or an empty string.
    """

    p: Floats
    q: Floats
    flagged: NDArray[np.bool_]
    rank: NDArray[np.int64]
    stratum: NDArray[np.int64]
    n_strata: int
    n_reference: int
    smallest_p: float
    needed: int
    undecided: str


def decide(
    values: Floats,
    reference: Floats,
    *,
    memorized_when: Direction,
    fdr: float,
    complexity: Floats | None = None,
    reference_complexity: Floats | None = None,
    mirror: bool = False,
    weights: tuple[Floats, Floats] | None = None,
    cleared: NDArray[np.bool_] | None = None,
) -> Decisions:
    """Decide which values are lower (or higher) than the reference allows, at a false discovery rate.

    Args:
        values: One value an audited item; NaN where it is missing.
        reference: Values of items never trained on; NaN are left out. Empty: the result ranks and decides nothing.
        memorized_when: Which end is suspicious.
        fdr: Largest expected share of false discoveries, in (0, 1).
        complexity: An audited item's complexity (PNG size), to compare like with like. Used only when the reference has
            at least 500 items a stratum, so that strata cost little resolution; NaN belongs to the first stratum.
        reference_complexity: The same for the reference.
        mirror: Without a reference, take the upper half of the values for what the lower half would be if nothing were
            memorized: see :func:`mirrored_p_values`. For differences of two models only.
        weights: Of audited and of reference pictures, from :func:`shift_weights`, for a reference of other pictures;
            instead of strata. The rate then holds approximately.
        cleared: Items without a value because something before found them unsuspicious. They count as tested, with
            p-value 1, which a null item may always be given: the rate is kept, as long as what clears an item does not
            look at the p-values of others.

    Raises:
        ValueError: If ``fdr`` is not in (0, 1).
    """
    check_rate(fdr)
    sign = 1.0 if memorized_when == "low" else -1.0
    v, r = sign * values, sign * reference
    n = len(values)
    known = np.isfinite(v)
    rank = np.zeros(n, dtype=np.int64)
    rank[known] = rankdata(v[known], method="min").astype(np.int64)
    kept = np.isfinite(r)
    r = r[kept]
    edges = np.empty(0)
    if complexity is not None and reference_complexity is not None and weights is None:
        edges = _edges(reference_complexity[kept])
    stratum = np.zeros(n, dtype=np.int64) if complexity is None else np.searchsorted(edges, np.nan_to_num(complexity))
    of_reference = (
        np.zeros(len(r), dtype=np.int64)
        if reference_complexity is None
        else np.searchsorted(edges, np.nan_to_num(reference_complexity[kept]))
    )
    p = np.full(n, np.nan)
    if len(r):
        for s in range(len(edges) + 1):
            inside = known & (stratum == s)
            sides = (None, None) if weights is None else (weights[0][inside], weights[1][kept])
            p[inside] = conformal_p_values(v[inside], r[of_reference == s], *sides)
    elif mirror and known.any():
        p[known] = mirrored_p_values(v[known])
    tested = known
    if cleared is not None and len(r):
        p[cleared & ~known], tested = 1.0, known | cleared
    mirrored = mirror and not len(r)
    q = benjamini_hochberg(p)
    smallest = float("nan")
    if len(r):
        smallest = 1 / (1 + max(np.bincount(of_reference).tolist()))
    elif mirrored:
        smallest = 1 / (1 + int(known.sum()))
    needed = int(np.ceil(round(smallest * tested.sum() / fdr, 9))) if len(r) or (mirrored and known.any()) else 0
    undecided = ""
    if not known.any():
        undecided = "no audited picture has a value in this column, so nothing is known of any"
    elif not len(r) and not mirrored:
        undecided = (
            "no reference: the ranking says which pictures are the most suspicious, not whether any is memorized; "
            "pass --reference with pictures of the same kind that the model never trained on"
        )
    elif needed > known.sum() and mirrored:
        undecided = (
            f"too few pictures to decide without a reference: among {known.sum()} no p-value is below {smallest:.2g}, "
            f"and at a rate of {fdr:g} as many as {needed} must reach it together; audit more, or pass --reference"
        )
    elif needed > known.sum():
        enough = int(np.ceil(tested.sum() / (known.sum() * fdr)))
        undecided = (
            f"the reference is too small: with {len(r)} no p-value is below {smallest:.2g}, the rate asked for is "
            f"{fdr:g}; at least {enough} are needed and some hundreds are good"
        )
    return Decisions(p, q, q <= fdr * (1 + 1e-9), rank, stratum, len(edges) + 1, len(r), smallest, needed, undecided)


def check_rate(fdr: float) -> None:
    """Check that ``fdr`` is a rate.

    Raises:
        ValueError: Unless it is between 0 and 1.
    """
    if not 0 < fdr < 1:
        raise ValueError(f"fdr {fdr:g} is not a rate between 0 and 1; 0.05 is customary")


def conformal_p_values(
    values: Floats, reference: Floats, weights: Floats | None = None, reference_weights: Floats | None = None
) -> Floats:
    """Return the share of reference values at or below each value, itself counted: in ``[1 / (n + 1), 1]``.

    Args:
        values: One an item, finite; low is suspicious.
        reference: One a reference item, finite.
        weights: Density ratio of audited to reference pictures at each item, for a reference that differs from the
            audited pictures in known features (:func:`shift_weights`); positive. Both weights or none.
        reference_weights: The same at each reference item.

    Raises:
        ValueError: If only one of the two weights is given.

    Source:
        Bates et al. 2023 (arXiv:2104.08279); with weights Tibshirani et al. 2019 (arXiv:1904.06019).
    """
    order = np.argsort(reference)
    below = np.searchsorted(reference[order], values, side="right")
    if weights is None and reference_weights is None:
        return np.asarray((1 + below) / (len(reference) + 1), dtype=np.float64)
    if weights is None or reference_weights is None:
        raise ValueError("weights of only one side were given; weight audited and reference pictures alike")
    summed = np.concatenate([[0.0], np.cumsum(reference_weights[order])])
    return np.asarray((weights + summed[below]) / (weights + summed[-1]), dtype=np.float64)


def shift_weights(features: NDArray[np.float64], reference: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Return how much more likely each picture is among the audited ones than in the reference, by its features.

    A logistic regression tells audited from reference pictures; its odds are the density ratio. Where it can tell them
    apart perfectly no weights help: the reference is of another kind.

    Args:
        features: Shape ``(n, f)``, of the audited pictures: PNG size, brightness, ...; never a column that memorization
            itself moves.
        reference: Shape ``(m, f)``.

    Returns:
        Weights of the audited and of the reference pictures, each above 0, the latter with mean 1.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    both = np.concatenate([features, reference])
    side = np.concatenate([np.ones(len(features)), np.zeros(len(reference))])
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(both, side)
    odds = np.exp(fitted.decision_function(both).clip(-20, 20))
    odds /= odds[len(features) :].mean()
    return np.asarray(odds[: len(features)]), np.asarray(odds[len(features) :])


def mirrored_p_values(values: Floats) -> Floats:
    """Return p-values of low values without a reference, from the values above the median.

    For a difference between two models, such as the LID of a fine-tuned model minus that of its base. If fewer than
    half of the pictures are memorized, and the differences of the others are as often so far above their median as
    below it, then the upper half, mirrored, tells how low the lower half would be: as in the knockoff filter. A skewed
    difference breaks this, a reference does not: take one where there is one.

    Args:
        values: Differences, finite, low when memorized.

    Returns:
        In ``[1 / (n + 1), 1]``; 1 above the median.

    Source:
        The symmetric null of Barber and Candes 2015 (arXiv:1404.5609), around the median.
    """
    middle = np.median(values)
    above = np.sort(values)
    beyond = len(values) - np.searchsorted(above, 2 * middle - values, side="left")
    return np.asarray(np.where(values < middle, (1 + beyond) / (len(values) + 1), 1.0), dtype=np.float64)


def benjamini_hochberg(p: Floats) -> Floats:
    """Return q-values: flag ``q <= fdr`` to keep the false discovery rate. NaN stays NaN and is not counted.

    Args:
        p: P-values; NaN where there is none.
    """
    q = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def _edges(complexity: Floats) -> Floats:
    """Quantiles of the reference's complexity that leave at least 500 items in each of at most five strata."""
    n = min(5, len(complexity) // MINIMUM_STRATUM)
    if n < 2:
        return np.empty(0)
    return np.unique(np.quantile(np.nan_to_num(complexity), np.arange(1, n) / n))
