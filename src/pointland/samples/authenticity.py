r"""Authenticity: is the sample nearer to its training image than other training images are?

With :math:`x^*` the training image nearest to :math:`g`,

.. math:: a(g) = \frac{d(g, x^*)}{\min_{x \ne x^*} d(x, x^*)}, \qquad \text{authentic if } a > 1

(Alaa et al. 2022, arXiv:2102.08921). AuthPct is the share of authentic samples. Half is not its null value: images
that were never trained on give 60 to 90 %, so read it beside that of held-out images.
"""

import numpy as np
from jaxtyping import Float, Int

from pointland.samples.neighborhood import Neighborhood, neighborhood

PUBLISHED = 1.0


def authenticity(
    near: Neighborhood, train: Float[np.ndarray, "n d"], groups: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " q"]:
    """Return ``a`` for every query, at least 0, low when copied; infinite where the training image has a twin.

    Args:
        near: The neighbours of the queries.
        train: Descriptors of training images.
        groups: Group of copies of each training image, -1 where it is alone.

    Cost:
        One search for each training image that is somebody's nearest.
    """
    found, inverse = np.unique(near.nearest, return_inverse=True)
    around = neighborhood(train[found], train, groups, 2, exclude=found).distances[inverse, 0]
    d = near.distances[:, 0]
    return np.asarray(np.where(around > 0, d / np.maximum(around, 1e-300), np.where(d > 0, np.inf, 1.0)))
