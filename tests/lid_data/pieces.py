"""Point sets of known dimension, and distances drawn from the law that the estimators assume."""

import numpy as np
from numpy.typing import NDArray

from pointland.lid.data import DataLid, Neighbors

Rows = NDArray[np.float64]


def rotation(d: int, seed: int) -> Rows:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def plane(n: int, dim: int, d: int, seed: int = 0) -> Rows:
    """A Gaussian on a ``dim``-plane in ``d`` dimensions."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, dim)) @ rotation(d, seed + 1)[:dim]


def ball(n: int, dim: int, d: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal((n, dim))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return (direction * rng.random((n, 1)) ** (1 / dim)) @ rotation(d, seed + 1)[:dim]


def power_law(dim: float, q: int, k: int, seed: int = 0) -> Neighbors:
    """Distances to the ``k`` nearest points of a uniform ``dim``-dimensional set, the farthest at 1."""
    steps = np.random.default_rng(seed).standard_exponential((q, k)).cumsum(1)
    return Neighbors((steps / steps[:, -1:]) ** (1 / dim), np.zeros((q, k), dtype=np.int64))


def covered(found: DataLid, truth: float) -> float:
    """The share of the intervals that hold the truth."""
    return float(((found.low <= truth) & (truth <= found.high)).mean())


def everyone(n: int) -> NDArray[np.int64]:
    return np.arange(n)
