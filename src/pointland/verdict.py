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

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Direction = Literal["low", "high"]
Floats = NDArray[np.float64]

UNMEMORIZED_LABELS = frozenset({"0", "false", "no", "held_out", "unmemorized", "not memorized"})
MINIMUM_FOR_TPR = 100
MINIMUM_STRATUM = 500


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


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


class Separation(NamedTuple):
    """How well one column tells a labelled group from items known not to be memorized.

    Attributes:
        column: The column.
        group: The label of the group.
        n: Items of the group with a value.
        n_controls: Controls with a value.
        auroc: Area under the ROC curve; 0.5 is chance, 1 perfect in the column's declared direction.
        tpr: True positive rate at 1 % false positives; ``None`` with fewer than 100 controls.
        median: Median of the group in the column's unit.
    """

    column: str
    group: str
    n: int
    n_controls: int
    auroc: Interval
    tpr: Interval | None
    median: float


def decide(
    values: Floats,
    reference: Floats,
    *,
    memorized_when: Direction,
    fdr: float,
    complexity: Floats | None = None,
    reference_complexity: Floats | None = None,
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
    if complexity is not None and reference_complexity is not None:
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
            p[inside] = conformal_p_values(v[inside], r[of_reference == s])
    q = benjamini_hochberg(p)
    smallest = 1 / (1 + max(np.bincount(of_reference).tolist())) if len(r) else float("nan")
    needed = int(np.ceil(round(smallest * known.sum() / fdr, 9))) if len(r) else 0
    undecided = ""
    if not known.any():
        undecided = "no audited picture has a value in this column, so nothing is known of any"
    elif not len(r):
        undecided = (
            "no reference: the ranking says which pictures are the most suspicious, not whether any is memorized; "
            "pass --reference with pictures of the same kind that the model never trained on"
        )
    elif needed > known.sum():
        undecided = (
            f"the reference is too small: with {len(r)} no p-value is below {smallest:.2g}, the rate asked for is "
            f"{fdr:g}; at least {int(np.ceil(1 / fdr))} are needed and some hundreds are good"
        )
    return Decisions(p, q, q <= fdr * (1 + 1e-9), rank, stratum, len(edges) + 1, len(r), smallest, needed, undecided)


def check_rate(fdr: float) -> None:
    """Raise ``ValueError`` unless ``fdr`` is a rate between 0 and 1."""
    if not 0 < fdr < 1:
        raise ValueError(f"fdr {fdr:g} is not a rate between 0 and 1; 0.05 is customary")


def conformal_p_values(values: Floats, reference: Floats) -> Floats:
    """Return the share of reference values at or below each value, itself counted: in ``[1 / (n + 1), 1]``."""
    below = np.searchsorted(np.sort(reference), values, side="right")
    return np.asarray((1 + below) / (len(reference) + 1), dtype=np.float64)


def benjamini_hochberg(p: Floats) -> Floats:
    """Return q-values: flag ``q <= fdr`` to keep the false discovery rate. NaN stays NaN and is not counted."""
    q = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def separations(
    columns: Mapping[str, tuple[Floats, Direction]],
    labels: Sequence[str | None],
    *,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> list[Separation]:
    """Return how well each column separates each labelled group from the controls.

    Args:
        columns: For each column its values, NaN where missing, and the end that is suspicious.
        labels: One label an item; ``None`` leaves it out. :data:`UNMEMORIZED_LABELS` are the controls.
        seed: Of the bootstrap.
        n_bootstrap: Resamples behind each 95 % interval; groups and controls are resampled apart.

    Raises:
        ValueError: If no label marks controls, or none marks a group.
    """
    lowered = [None if label is None else label.strip().lower() for label in labels]
    controls = np.array([label in UNMEMORIZED_LABELS for label in lowered])
    groups = list(
        dict.fromkeys(
            label for label, low in zip(labels, lowered, strict=True) if label and low not in UNMEMORIZED_LABELS
        )
    )
    if not controls.any() or not groups:
        raise ValueError(
            f"labels need controls ({', '.join(sorted(UNMEMORIZED_LABELS))}) and at least one group of others; "
            f"got {int(controls.sum())} controls and groups {groups}"
        )
    found = []
    for group in groups:
        inside = np.array([label == group for label in labels])
        for column, (values, memorized_when) in columns.items():
            sign = -1.0 if memorized_when == "low" else 1.0
            positive, negative = sign * values[inside], sign * values[controls]
            positive, negative = positive[np.isfinite(positive)], negative[np.isfinite(negative)]
            if len(positive) and len(negative):
                area, rate = _separate(positive, negative, np.random.default_rng(seed), n_bootstrap)
                median = float(np.median(sign * positive))
                found.append(Separation(column, group, len(positive), len(negative), area, rate, median))
    return found


def auroc(positive: Floats, negative: Floats) -> float:
    """Return the probability that a positive exceeds a negative, ties counted half (Mann-Whitney)."""
    ranks = rankdata(np.concatenate([positive, negative]))
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def tpr_at_fpr(positive: Floats, negative: Floats, fpr: float = 0.01) -> float:
    """Return the share of positives above the threshold that at most a share ``fpr`` of negatives exceeds."""
    threshold = np.sort(negative)[::-1][_allowed(len(negative), fpr)]
    return float((positive > threshold).mean())


def _separate(
    positive: Floats, negative: Floats, rng: np.random.Generator, n_bootstrap: int
) -> tuple[Interval, Interval | None]:
    """Compute AUROC and TPR with bootstrap intervals; resamples are multinomial weights, so each is a few sums."""
    n, m = len(positive), len(negative)
    enough = m >= MINIMUM_FOR_TPR
    ordered = np.sort(negative)
    below, upto = (np.searchsorted(ordered, positive, side=side) for side in ("left", "right"))
    allowed = _allowed(m)
    areas, rates = [], []
    for _ in range(n_bootstrap):
        weights = rng.multinomial(n, np.full(n, 1 / n))
        cumulated = np.concatenate([[0], np.cumsum(rng.multinomial(m, np.full(m, 1 / m)))])
        areas.append(float(weights @ (cumulated[below] + cumulated[upto])) / (2 * n * m))
        if enough:
            threshold = int(np.searchsorted(cumulated, m - allowed, side="left")) - 1
            rates.append(float(weights[below > threshold].sum()) / n)
    area = Interval(auroc(positive, negative), *np.quantile(areas, [0.025, 0.975]).tolist())
    rate = Interval(tpr_at_fpr(positive, negative), *np.quantile(rates, [0.025, 0.975]).tolist()) if enough else None
    return area, rate


def _allowed(n_negatives: int, fpr: float = 0.01) -> int:
    """How many negatives may lie above the threshold."""
    return int(np.floor(fpr * n_negatives + 1e-9))


def _edges(complexity: Floats) -> Floats:
    """Quantiles of the reference's complexity that leave at least 500 items in each of at most five strata."""
    n = min(5, len(complexity) // MINIMUM_STRATUM)
    if n < 2:
        return np.empty(0)
    return np.unique(np.quantile(np.nan_to_num(complexity), np.arange(1, n) / n))
