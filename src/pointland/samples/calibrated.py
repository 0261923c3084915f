r"""Calibrated distance: how near the nearest training image is, beside how near neighbours are there.

.. math:: \ell(g) = \frac{d(g, x_1)}{\alpha \, \frac{1}{k} \sum_{i \le k} d(g, x_i)},

with the nearest :math:`k = 50` training images and :math:`\alpha = 1/2` (Carlini et al. 2023, arXiv:2301.13188, section
5.1). Below 1 the sample is nearer than half the usual distance. Simple images have near neighbours always; this divides
that out. With copies in the training set all 50 neighbours may be the copied image: count groups of copies once.
"""

import numpy as np
from jaxtyping import Float

from pointland.samples.neighborhood import Neighborhood

ALPHA = 0.5
PUBLISHED = 1.0


def calibrated_distance(near: Neighborhood) -> Float[np.ndarray, " q"]:
    """Return the calibrated distance of every query, at least 0, low when copied; 2 where all distances are 0.

    Args:
        near: The nearest training images of every query, by :func:`neighborhood`.
    """
    mean = near.distances.mean(axis=1)
    return np.asarray(np.where(mean > 0, near.distances[:, 0] / np.maximum(ALPHA * mean, 1e-300), 1 / ALPHA))
