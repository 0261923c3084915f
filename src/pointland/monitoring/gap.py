"""The gap between training and held-out pictures: a regression with errors that hold whatever the variances are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import t


@dataclass(frozen=True)
class Compared:
    """Two sets of pictures compared.

    Attributes:
        gap: Dimensions that training pictures have less.
        low: Lower end of its 95 % interval.
        high: Its upper end.
        p: One-sided p-value of no gap.
    """

    gap: float
    low: float
    high: float
    p: float


def compared(
    values: Float[np.ndarray, " n"], trained: Bool[np.ndarray, " n"], levels: Sequence[Float[np.ndarray, " n"]] = ()
) -> Compared:
    """Regress the dimensions on whether a picture is trained on, at equal levels; see the module's head.

    Args:
        values: LID of every picture.
        trained: Which of them are trained on; both kinds are there.
        levels: What pictures differ by anyway. One that does not vary is left out.

    Cost:
        One least-squares problem.
    """
    varying = [(level - level.mean()) / level.std() for level in levels if level.std() > 1e-9 * abs(level).max()]
    x = np.column_stack([np.ones(len(values)), -trained.astype(float), *varying])
    inverse = np.linalg.pinv(x.T @ x)
    beta = inverse @ x.T @ values
    leverage = np.minimum((x @ inverse * x).sum(1), 1 - 1e-9)
    error = (values - x @ beta) / (1 - leverage)
    gap, stderr = float(beta[1]), float(np.sqrt((inverse @ (x.T * error**2) @ x @ inverse)[1, 1]))
    if stderr <= 1e-9 * max(1.0, float(abs(values).max())):  # nothing varies, as under a constant model: no evidence
        return Compared(gap, gap, gap, 1.0)
    df = len(values) - x.shape[1]
    half = stderr * float(t.ppf(0.975, df))
    return Compared(gap, gap - half, gap + half, float(t.sf(gap / stderr, df)))
