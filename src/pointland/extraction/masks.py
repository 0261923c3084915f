"""The part of a picture that a template repeats: where it agrees with the other pictures of its group.

A template copy shares most of its pixels with others and differs in a part. Compared as a whole it is no copy of
anything; compared where the group agrees it is.
"""

import numpy as np
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray

from pointland.duplicates import template_groups, thumbnails

TOLERANCE = 8.0  # gray levels
AGREE = 0.8  # of the group
LEAST = 0.1  # of the picture; less is no template


def template_masks(images: UInt8[np.ndarray, "n 3 h w"]) -> Bool[np.ndarray, "n h w"]:
    """Return for every picture where it agrees with its template group; everywhere for one without a group.

    Args:
        images: Pictures of one size, among which groups are looked for.

    Cost:
        That of :func:`~pointland.duplicates.templates.template_groups`.
    """
    masks: NDArray[np.bool_] = np.ones((len(images), *images.shape[2:]), dtype=bool)
    gray = images.astype(np.float32).mean(1)
    groups = template_groups(thumbnails(images))
    for number in range(groups.max(initial=-1) + 1):
        members = np.flatnonzero(groups == number)
        middle = np.median(gray[members], axis=0)
        mask = (np.abs(gray[members] - middle) <= TOLERANCE).mean(0) >= AGREE
        if LEAST <= mask.mean() < 1:
            masks[members] = mask
    return masks
