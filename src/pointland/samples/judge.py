r"""The verdict on samples: which are nearer to training images than images that nobody trained on.

Held-out images stand for samples of a model that copies nothing. For a sample, :math:`p_{whole}` is the conformal
p-value of its calibrated distance among theirs, :math:`p_{local}` that of its local evidence, and

.. math:: p = \min(1, 2 \min(p_{whole}, p_{local})),

which is valid whatever the two have to do with each other (Bonferroni). Benjamini and Hochberg's rule on :math:`p`
keeps the share of false discoveries at the rate asked for.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.stats import rankdata

from pointland.samples.measures import Measures
from pointland.verdict import benjamini_hochberg, check_rate, conformal_p_values


class Judged(NamedTuple):
    """One entry a sample.

    Attributes:
        p_whole: Conformal p-value of the calibrated distance; NaN without held-out images.
        p_local: The same of the local evidence; 1 where no window has anything in it.
        p: Both together.
        q: The smallest false discovery rate at which the sample would be flagged.
        flagged: Whether it is at the rate asked for.
        rank: 1 for the most suspicious; ties by calibrated distance.
        needed: How many samples must reach the smallest p-value together before one can be flagged; 0 without
            held-out images.
    """

    p_whole: Float[np.ndarray, " m"]
    p_local: Float[np.ndarray, " m"]
    p: Float[np.ndarray, " m"]
    q: Float[np.ndarray, " m"]
    flagged: Bool[np.ndarray, " m"]
    rank: NDArray[np.int64]
    needed: int


def judge(samples: Measures, held_out: Measures | None, fdr: float) -> Judged:
    """Judge samples against held-out images measured against the same training images.

    Args:
        samples: Their metrics.
        held_out: Metrics of images of the same kind, never trained on; ``None`` ranks only.
        fdr: Largest expected share of false discoveries, in (0, 1).

    Raises:
        ValueError: If ``fdr`` is out of range.
    """
    check_rate(fdr)
    m = len(samples.distance)
    nothing = np.full(m, np.nan)
    local = samples.local is not None
    if held_out is None or not len(held_out.distance):
        places = [rankdata(samples.calibrated)]
        if samples.local is not None:
            places.append(rankdata(-np.nan_to_num(samples.local.evidence)))
        order = np.lexsort((samples.calibrated, np.minimum.reduce(places)))
        return Judged(nothing, nothing, nothing, nothing, np.zeros(m, np.bool_), _ranked(order), 0)
    p_whole = conformal_p_values(samples.calibrated, held_out.calibrated)
    p_local = np.ones(m)
    if samples.local is not None and held_out.local is not None:
        p_local = conformal_p_values(-np.nan_to_num(samples.local.evidence), -np.nan_to_num(held_out.local.evidence))
        p_local = np.where(np.isfinite(samples.local.evidence), p_local, 1.0)
    tests = 2 if local else 1
    p = np.minimum(1.0, tests * np.minimum(p_whole, p_local))
    q = benjamini_hochberg(p)
    needed = int(np.ceil(round(tests * m / (len(held_out.distance) + 1) / fdr, 9)))
    order = np.lexsort((samples.calibrated, p))
    return Judged(p_whole, p_local, p, q, q <= fdr * (1 + 1e-9), _ranked(order), needed)


def _ranked(order: NDArray[np.int64]) -> NDArray[np.int64]:
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    return rank
