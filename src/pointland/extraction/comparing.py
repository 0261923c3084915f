r"""How near a sample is to a picture, on a scale on which pictures never seen say what chance does.

The distance is calibrated as in Carlini et al. 2023: over the mean distance of the sample to its ``k`` nearest other
pictures, so that plain pictures, to which everything is near, do not count as copied. It can be taken on a part of the
picture (:mod:`pointland.extraction.masks`).
"""

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

NEIGHBORS = 20
Vectors = NDArray[np.float32]


def calibrated_distances(
    samples: Float[np.ndarray, "s p"],
    picture: Float[np.ndarray, " p"],
    others: Float[np.ndarray, "n p"],
    *,
    mask: Bool[np.ndarray, " p"] | None = None,
    k: int = NEIGHBORS,
) -> Float[np.ndarray, " s"]:
    """Return the distance of every sample to a picture, over its mean distance to its nearest other pictures.

    Args:
        samples: Descriptors of samples.
        picture: Of the picture asked for.
        others: Of other pictures, copies of the picture left out.
        mask: Which entries count; all by default.
        k: Nearest pictures; fewer where there are fewer.

    Returns:
        0 for the picture itself, about 1 for a sample no nearer to it than to others.

    Raises:
        ValueError: If there are no other pictures.
    """
    if not len(others):
        raise ValueError("there is no other picture to compare with; extraction needs at least one besides the copies")
    if mask is not None:
        samples, picture, others = samples[:, mask], picture[mask], others[:, mask]
    near = np.linalg.norm(samples - picture, axis=1)
    squares = (samples**2).sum(1)[:, None] + (others**2).sum(1) - 2 * samples @ others.T
    k = min(k, len(others))
    nearest = np.sqrt(np.maximum(np.partition(squares, k - 1, axis=1)[:, :k], 0)).mean(1)
    return np.asarray(near / np.maximum(nearest, 1e-12), dtype=np.float64)


def smallest_by_chance(controls: Float[np.ndarray, " n"], rate: float) -> float | None:
    """Return the bound below which at most ``rate`` of pictures never seen come, conformally; ``None`` with too few.

    Args:
        controls: The smallest distance of each of them, asked for in the same way as often.
        rate: Of false alarms, in (0, 1).
    """
    place = int(rate * (len(controls) + 1))
    return float(np.sort(controls)[place - 1]) if place else None


def conformal_p(value: float, controls: Float[np.ndarray, " n"]) -> float | None:
    """Return the conformal p-value of a smallest distance; ``None`` without controls."""
    return float((1 + (controls <= value).sum()) / (1 + len(controls))) if len(controls) else None
