"""From pairs to groups: connected components, kept as one label an item and joined as pairs arrive."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs of items that belong together.

    Attributes:
        a: Index of one, shape ``(n,)``.
        b: Index of the other.
    """

    a: Ints
    b: Ints


def join(labels: Ints, pairs: Pairs) -> Ints:
    """Give everything that the pairs connect one label, from 0 without gaps if anything changed.

    Args:
        labels: A group number an item.
        pairs: Items that belong together.
    """
    a, b = labels[pairs.a], labels[pairs.b]
    apart = a != b
    if not apart.any():
        return labels
    edges = coo_array((np.ones(apart.sum(), np.bool_), (a[apart], b[apart])), shape=(len(labels), len(labels)))
    found: Ints = connected_components(edges, directed=False)[1].astype(np.int64)
    return found[labels]


def numbered(labels: Ints) -> Ints:
    """Number the labels that occur more than once by first occurrence, from 0; -1 for the others."""
    _, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    numbers = np.full(len(counts), -1, np.int64)
    several = np.flatnonzero(counts > 1)
    numbers[several[np.argsort(first[several])]] = np.arange(len(several))
    return numbers[inverse]


def stacked(pairs: list[Pairs]) -> Pairs:
    """Put lists of pairs one after the other."""
    empty = np.empty(0, np.int64)
    return Pairs(np.concatenate([empty, *(p.a for p in pairs)]), np.concatenate([empty, *(p.b for p in pairs)]))
