"""What the estimators of local intrinsic dimension from neighbours return."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class DataLid(NamedTuple):
    """A local intrinsic dimension a query, with its 95 % interval.

    The interval is *statistical only*: it allows for the chance in which points were sampled, not for edges, curvature,
    a changing density or noise, which dominate above a LID of about 20; see :mod:`pointland.lid.data.calibration`.

    Attributes:
        value: In dimensions, shape ``(q,)``.
        low: Lower end in dimensions.
        high: Upper end in dimensions.
    """

    value: Float[np.ndarray, " q"]
    low: Float[np.ndarray, " q"]
    high: Float[np.ndarray, " q"]


class SetLid(NamedTuple):
    """One intrinsic dimension for a whole set, with its 95 % interval (statistical only, as in :class:`DataLid`).

    Attributes:
        value: In dimensions.
        low: Lower end in dimensions.
        high: Upper end in dimensions.
        n_used: Queries that entered it; the others have a copy, whose ratio of distances is undefined.
    """

    value: float
    low: float
    high: float
    n_used: int
