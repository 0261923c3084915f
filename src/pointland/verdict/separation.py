"""Separations: how well a column tells a labelled group from items known not to be memorized, with intervals."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import beta, rankdata

from pointland.verdict.conformal import Direction, Floats

UNMEMORIZED_LABELS = frozenset({"0", "false", "no", "held_out", "unmemorized", "not memorized"})
"""Labels of pictures that were not memorized, which count as controls."""
MINIMUM_FOR_TPR = 100
"""Controls below which a true positive rate at 1 % false positives is not given."""


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


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


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> Interval:
    """Return a share with its exact binomial interval (Clopper and Pearson 1934).

    Args:
        hits: Of ``n``.
        n: Trials.
        level: That the interval holds the share with, at least.

    Raises:
        ValueError: Unless ``0 <= hits <= n`` and ``n > 0``.
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"{hits} of {n} is no share; expected 0 <= hits <= n and n > 0")
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return Interval(hits / n, low, high)


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
