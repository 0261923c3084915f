"""All metrics of a set of samples at once, from one search among the training images."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from pointland.samples.authenticity import authenticity
from pointland.samples.calibrated import calibrated_distance
from pointland.samples.neighborhood import neighborhood
from pointland.samples.ratio import neighbor_ratio
from pointland.samples.windows import Local, local_evidence


class Measures(NamedTuple):
    """One number a sample.

    Attributes:
        nearest: Index of the nearest training image.
        distance: To it, in the descriptor's unit.
        calibrated: See :mod:`pointland.samples.calibrated`; low when copied.
        ratio: See :mod:`pointland.samples.ratio`; low when copied.
        authenticity: See :mod:`pointland.samples.authenticity`; low when copied.
        local: See :mod:`pointland.samples.windows`; evidence is high when a part is copied. ``None`` if left out.
        neighbors: Neighbours behind ``calibrated``.
    """

    nearest: Int[np.ndarray, " m"]
    distance: Float[np.ndarray, " m"]
    calibrated: Float[np.ndarray, " m"]
    ratio: Float[np.ndarray, " m"]
    authenticity: Float[np.ndarray, " m"]
    local: Local | None
    neighbors: int


class Images(NamedTuple):
    """What is compared of a set of images.

    Attributes:
        vectors: Descriptors.
        thumbs: Thumbnails, or ``None`` to leave out the local evidence.
    """

    vectors: Float[np.ndarray, "n d"]
    thumbs: UInt8[np.ndarray, "n 32 32"] | None


def measures(
    samples: Images,
    train: Images,
    groups: Int[np.ndarray, " n"],
    local_groups: Int[np.ndarray, " n"] | None = None,
    k: int = 50,
) -> Measures:
    """Compute every per-sample metric.

    Args:
        samples: The samples.
        train: The training images.
        groups: Group of copies of each training image, -1 where it is alone.
        local_groups: The same for local evidence, template groups joined in; ``groups`` by default.
        k: Neighbours of the calibrated distance.

    Raises:
        ValueError: If there are fewer than 3 different training images.
    """
    near = neighborhood(samples.vectors, train.vectors, groups, k)
    local = None
    if samples.thumbs is not None and train.thumbs is not None:
        local = local_evidence(samples.thumbs, train.thumbs, groups if local_groups is None else local_groups)
    return Measures(
        near.nearest,
        near.distances[:, 0],
        calibrated_distance(near),
        neighbor_ratio(near),
        authenticity(near, train.vectors, groups),
        local,
        near.distances.shape[1],
    )
