r"""More than one metric, combined validly: their p-values into one statistic, calibrated on the reference.

Columns of one picture depend on each other, so the textbook distribution of a combined p-value does not hold. Instead
the same statistic is computed for every reference picture, ranked among the others, and the audited ones are compared
with those: a conformal p-value like that of any other column, whatever the dependence. A reference picture is ranked
among n pictures and an audited one among n + 1, so the p-value is valid up to terms of order 1 / n.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from pointland.verdict.conformal import Direction, Floats, conformal_p_values

Rule = Literal["fisher", "cauchy"]


def combine(columns: Sequence[tuple[Floats, Floats, Direction]], rule: Rule = "fisher") -> tuple[Floats, Floats]:
    r"""Combine columns into one statistic, low when suspicious.

    Args:
        columns: For each its values at audited items, at reference items, and the end that is suspicious.
        rule: ``fisher``, the sum of :math:`\log p`, gains where several columns are suspicious together; ``cauchy``,
            minus the sum of :math:`\tan((1/2 - p) \pi)`, follows the most suspicious one.

    Returns:
        The statistic at audited and at reference items, NaN where a column has no value.

    Raises:
        ValueError: If there is no column, or a column has no reference value.

    Source:
        Fisher 1925; Liu and Xie 2020 (arXiv:1808.09011). Calibrated on the reference as any score of Bates et al. 2023.
    """
    if not columns:
        raise ValueError("no columns to combine; name at least one")
    audited, reference = np.zeros(len(columns[0][0])), np.zeros(len(columns[0][1]))
    for values, known, memorized_when in columns:
        sign = 1.0 if memorized_when == "low" else -1.0
        there = np.isfinite(known)
        if not there.any():
            raise ValueError("a column without reference values cannot be combined; leave it out")
        p = np.full(len(values), np.nan)
        p[np.isfinite(values)] = conformal_p_values(sign * values[np.isfinite(values)], sign * known[there])
        own = np.full(len(known), np.nan)
        own[there] = rankdata(sign * known[there], method="max") / there.sum()  # among all of them, itself included
        audited, reference = audited + _score(p, rule), reference + _score(own, rule)
    return audited, reference


def _score(p: Floats, rule: Rule) -> Floats:
    score = np.log(p) if rule == "fisher" else -np.tan((0.5 - np.minimum(p, 1 - 1e-9)) * np.pi)
    return np.asarray(score, dtype=np.float64)
