r"""The nearest-neighbour ratio: distance to the nearest training image over distance to the second nearest.

.. math:: r(g) = d(g, x_1) / d(g, x_2), \qquad \text{memorized if } r < 1/3

(Yoon et al. 2023; Gu et al., arXiv:2310.02664). Published on pixels, and blind to copies of duplicated images unless
groups of copies are counted once.
"""

import numpy as np
from jaxtyping import Float

from pointland.samples.neighborhood import Neighborhood

PUBLISHED = 1 / 3


def neighbor_ratio(near: Neighborhood) -> Float[np.ndarray, " q"]:
    """Return the ratio of every query, in [0, 1], low when copied; 1 where both distances are 0.

    Args:
        near: The nearest training images of every query, by :func:`neighborhood`.
    """
    second = near.distances[:, 1]
    return np.asarray(np.where(second > 0, near.distances[:, 0] / np.maximum(second, 1e-300), 1.0))
