"""Neighbours found in parts of a set, merged into those of the whole, and how many of the true ones were found.

A part of a search is a table of distances and indices, padded with infinity and -1. The ``k`` least of a union, by
distance, then index, each index once, are the ``k`` least of the ``k`` least of its parts: merging is associative,
commutative and idempotent, so parts may be searched on any machines, in any order, some of them twice.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pointland.lid.data.neighbors import Neighbors

BLOCK = 2**14  # queries
TIED = 1e-9  # relative; distances that differ less are one


class Recall(NamedTuple):
    """The share of the true nearest neighbours that a search found.

    Attributes:
        value: From 0 to 1. A found point that is no farther than the true ``k``-th counts, so ties cost nothing.
        stderr: Over queries; NaN for one query.
        n: Queries it was measured on.
    """

    value: float
    stderr: float
    n: int


def merge(first: Neighbors, *others: Neighbors) -> Neighbors:
    """Merge what the same queries found in parts of the set.

    Args:
        first: Distances and indices into the whole set, of the same shape in every part.
        others: The rest.

    Returns:
        The nearest of all, as many as each part has, by distance, then index; a point that several parts found counts
        once, at the least of its distances.

    Raises:
        ValueError: If the shapes differ.

    Cost:
        Two sorts of a row of all of them. Memory: the result.

    Example:
        >>> left = Neighbors(np.array([[0.5, 2.0]]), np.array([[3, 1]]))
        >>> right = Neighbors(np.array([[1.0, np.inf]]), np.array([[7, -1]]))
        >>> merge(left, right).indices.tolist()
        [[3, 7]]
    """
    shapes = {part.distances.shape for part in (first, *others)}
    if len(shapes) > 1:
        raise ValueError(f"parts of one search have one shape, got {sorted(shapes)}; pass the same queries and k")
    q, k = first.distances.shape
    merged = Neighbors(np.empty((q, k)), np.empty((q, k), dtype=np.int64))
    for start in range(0, q, BLOCK):
        rows = slice(start, start + BLOCK)
        distances = np.concatenate([part.distances[rows] for part in (first, *others)], axis=1)
        indices = np.concatenate([part.indices[rows] for part in (first, *others)], axis=1)
        merged.distances[rows], merged.indices[rows] = first_of(distances, indices, k)
    return merged


def recall_of(found: Neighbors, exact: Neighbors) -> Recall:
    """Return the share of the exact neighbours of the same queries that were found.

    Raises:
        ValueError: If the shapes differ, or there is no query.
    """
    if found.distances.shape != exact.distances.shape or not len(found.distances):
        raise ValueError(f"recall compares the same queries, got {found.distances.shape} and {exact.distances.shape}")
    shares = (found.distances <= exact.distances[:, -1:] * (1 + TIED)).mean(1)
    n = len(shares)
    return Recall(float(shares.mean()), float(shares.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan, n)


def first_of(distances: Float[np.ndarray, "q m"], indices: Int[np.ndarray, "q m"], k: int) -> Neighbors:
    """Return the ``k`` nearest of each row, each index once, padded with infinity and -1."""
    order = np.lexsort((distances, indices), axis=-1)
    distances, indices = np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1)
    again = np.zeros(indices.shape, dtype=bool)
    again[:, 1:] = (indices[:, 1:] == indices[:, :-1]) | (indices[:, 1:] < 0)
    distances, indices = np.where(again, np.inf, distances), np.where(again, -1, indices)
    order = np.lexsort((indices, distances), axis=-1)[:, :k]
    distances, indices = np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1)
    short = ((0, 0), (0, max(0, k - indices.shape[1])))
    return Neighbors(np.pad(distances, short, constant_values=np.inf), np.pad(indices, short, constant_values=-1))
