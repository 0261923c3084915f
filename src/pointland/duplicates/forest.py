r"""Pairs of vectors within a radius, by a forest of random projections: candidates in n log n, each one measured.

A tree halves the items at the median of a random direction, and again, until ``leaf`` are left; items of one leaf are
compared with each other. A pair at distance :math:`r` is cut apart at one halving with probability about :math:`r / (3
s)`, where :math:`s` is the usual distance between items, so several trees together miss hardly any near pair (:math:`r
/ s = 0.1`, 13 halvings, 8 trees: one in a thousand). Halving by rank keeps every leaf the same size, so no crowd of
flat or repeated pictures makes a bucket that costs a square: such a crowd lies in many leaves, and the trees, which
break ties at random, join them in a chain. Every pair returned has been measured by differences in float64; only its
being looked at is a matter of chance.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from pointland.duplicates.joining import Ints, Pairs, stacked

Floats = NDArray[np.float32]

BLOCK = 2**24  # values of gathered vectors, 64 MiB
SLACK = 1e-3  # of the radius, what float32 may be wrong by when it nominates


def near_pairs(
    vectors: Float[np.ndarray, "n d"], radius: float, *, n_trees: int = 8, leaf: int = 32, seed: int = 0
) -> Iterator[Pairs]:
    """Yield pairs of items whose distance is at most ``radius``, in portions; a pair may come more than once.

    Args:
        vectors: One an item, finite; float32 is enough.
        radius: Largest Euclidean distance of a pair, positive, and small beside the usual distance between items.
        n_trees: More find more of the pairs near the radius.
        leaf: Items that are compared with each other, at least 2.
        seed: Of the directions.

    Raises:
        ValueError: If a setting is out of range or a value is not finite.

    Cost:
        ``n_trees n log2(n / leaf)`` for the trees and ``n_trees n leaf d`` operations in float32; memory of ``n``
        vectors times 20 values, and 0.3 GiB.

    Source:
        Dasgupta and Freund 2008, random projection trees; a direction is the difference of two items, one for a level.
    """
    if not (radius > 0 and leaf >= 2 and n_trees >= 1):
        raise ValueError(
            f"radius {radius:g}, leaf {leaf}, n_trees {n_trees}: expected positive, at least 2, at least 1"
        )
    x = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(x).all():
        raise ValueError("vectors hold NaN or infinity; leave those items out")
    n = len(x)
    if n < 2:
        return
    rng = np.random.default_rng(seed)
    depth = max(0, int(np.ceil(np.log2(n / leaf))))
    for _ in range(n_trees if depth else 1):
        yield from _inside(x, _leaves(x, depth, rng), radius)


def _leaves(x: Floats, depth: int, rng: np.random.Generator) -> Ints:
    """Return the items of every leaf, shape ``(2 ** depth, size)``, -1 where a leaf has one fewer."""
    n = len(x)
    size = -(-n // 2**depth)
    order = np.full(2**depth * size, -1)
    order[:n] = rng.permutation(n)
    if depth == 0:
        return order[None]
    directions = x[rng.integers(0, n, depth)] - x[rng.integers(0, n, depth)]
    along = np.concatenate([x @ directions.T, np.full((1, depth), np.inf, np.float32)])  # -1 reads the last row
    for level in range(depth):
        order = order.reshape(2**level, -1)
        half = order.shape[1] // 2
        if half * 2 < order.shape[1]:  # odd: one place more, empty
            order = np.concatenate([order, np.full((len(order), 1), -1)], axis=1)
            half += 1
        order = np.take_along_axis(order, np.argpartition(along[order, level], half - 1, axis=1), axis=1)
    return order.reshape(2**depth, -1)


def _inside(x: Floats, leaves: Ints, radius: float) -> Iterator[Pairs]:
    """Yield the pairs within leaves that are near."""
    size = leaves.shape[1]
    step = max(1, BLOCK // (size * (x.shape[1] + size)))
    above = np.triu(np.ones((size, size), np.bool_), 1)
    for start in range(0, len(leaves), step):
        items = leaves[start : start + step]
        points = x[items]
        points -= points.mean(1, keepdims=True)  # less to round away
        square = np.einsum("lid,lid->li", points, points)
        apart = square[:, :, None] + square[:, None, :] - 2 * (points @ points.swapaxes(1, 2))
        rounding = 1e-5 * square.max(1)[:, None, None]
        leaf, i, j = np.nonzero((apart <= radius**2 * (1 + SLACK) + rounding) & above)
        a, b = items[leaf, i], items[leaf, j]
        real = (a >= 0) & (b >= 0)
        yield measured(x, a[real], b[real], radius)


def measured(x: Floats, a: Ints, b: Ints, radius: float) -> Pairs:
    """Keep the pairs whose distance, by differences in float64, is within the radius."""
    kept = []
    for start in range(0, len(a), step := max(1, BLOCK // (2 * x.shape[1]))):
        one, other = a[start : start + step], b[start : start + step]
        difference = x[one].astype(np.float64) - x[other]
        near = np.einsum("pd,pd->p", difference, difference) <= radius**2
        kept.append(Pairs(one[near], other[near]))
    return stacked(kept)
