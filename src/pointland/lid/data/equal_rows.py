"""Rows that are equal to the byte, found by a hash: the copies of a set, whatever else is known of it.

Different rows may have one hash, once in a great many sets; whoever asks measures what is found. A hash is good in the
process that made it only.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from pointland.lid.data.neighbors import Floating


class EqualRows(NamedTuple):
    """The rows of a set by their hash.

    Attributes:
        hashes: Ascending.
        rows: Theirs, ascending where hashes are equal.
    """

    hashes: Int[np.ndarray, " n"]
    rows: Int[np.ndarray, " n"]

    def places(self, points: Floating) -> NDArray[np.int64]:
        """Return the rows equal to each point, which has the set's type, one column each, padded with -1."""
        hashes = hashes_of(points)
        left, right = np.searchsorted(self.hashes, hashes), np.searchsorted(self.hashes, hashes, side="right")
        places = left[:, None] + np.arange((right - left).max(initial=0))
        return np.where(places < right[:, None], self.rows[np.minimum(places, len(self.rows) - 1)], -1)


def equal_rows(points: Floating) -> EqualRows:
    """Sort the rows of a set by their hash."""
    hashes = hashes_of(points)
    rows = np.argsort(hashes, kind="stable")
    return EqualRows(hashes[rows], rows)


def at_most(points: Floating, copies: int) -> NDArray[np.int64]:
    """Return which rows to keep, ascending, so that no more than so many are equal: the first ones."""
    hashes, rows = equal_rows(points)
    return np.sort(rows[np.arange(len(rows)) - np.searchsorted(hashes, hashes) < copies])


def hashes_of(points: Floating) -> NDArray[np.int64]:
    """Return a number for each row, the same for rows that are equal to the byte."""
    return np.fromiter((hash(row.tobytes()) for row in points), np.int64, len(points))
