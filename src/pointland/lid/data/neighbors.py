r"""The nearest neighbours that every estimator of data LID is fed from, in one pass.

Copies are the core case of memorization, so neighbours are exact there too. A query is told from its own entry in the
reference *by identity* (its index), never by distance: a copy counts, at distance 0. The usual expansion
:math:`\|x - y\|^2 = \|x\|^2 - 2 x \cdot y + \|y\|^2` in float32 is fast and destroys near-duplicates, so it only
nominates: the best :math:`k + 8` are measured again in float64 by differences. With :math:`e` the rounding error of
the products and :math:`T` the largest nominated value, no other point can be nearer than :math:`\sqrt{T - e}`; a query
whose :math:`k`-th distance is not below that is searched again with products in float64.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

TREE_MAX_DIMENSIONS = 10  # above it a k-d tree visits most of its leaves
MARGIN = 8
FLOAT32_SAFE = 1e15  # beyond this spread squares overflow float32
BLOCK_QUERIES = 1024
BLOCK_REFERENCE = 4096
BLOCK_VALUES = 2**22  # of a converted block, 32 MiB in float64
CACHED_VALUES = 2**17  # of gathered neighbours, 1 MiB in float64

Floating = NDArray[np.float32] | NDArray[np.float64]


class Neighbors(NamedTuple):
    """The nearest reference points of every query.

    Attributes:
        distances: Euclidean, ascending, float64, shape ``(q, k)``.
        indices: Into the reference, shape ``(q, k)``.
    """

    distances: Float[np.ndarray, "q k"]
    indices: Int[np.ndarray, "q k"]


def nearest(
    queries: Float[np.ndarray | Tensor, "q *event"],
    reference: Float[np.ndarray | Tensor, "n *event"],
    k: int,
    *,
    exclude: Int[np.ndarray, " q"] | None = None,
) -> Neighbors:
    """Find the ``k`` nearest reference points of every query, exactly.

    Args:
        queries: Points, shape ``(q, *event)``, float32 or float64, finite.
        reference: The data set, shape ``(n, *event)``.
        k: Neighbours, fewer than ``n``.
        exclude: The index in the reference of each query itself, which is then no neighbour; -1 for a query that is not
            in the reference. ``np.arange(n)`` where the queries are the reference.

    Returns:
        Distances in float64 and indices. Among equal distances at the ``k``-th place the choice is arbitrary.

    Raises:
        TypeError: If the points are not floating point.
        ValueError: If the shapes differ, a value is not finite, ``k`` is not in ``1 .. n - 1``, or ``exclude`` is out
            of range.

    Cost:
        Up to 10 dimensions a k-d tree; above, ``2 q n d`` float32 operations in blocks, and as many float64 ones for
        queries among points nearer to each other than float32 can tell (a line, a crowd of near copies): up to five
        times slower. Memory above the data and the result: under 0.5 GiB, whatever ``n``.

    Example:
        >>> line = np.array([[0.0], [1.0], [3.0], [3.0]])
        >>> nearest(line, line, 2, exclude=np.arange(4)).distances.tolist()
        [[1.0, 3.0], [1.0, 2.0], [0.0, 2.0], [0.0, 2.0]]
    """
    x, y = as_vectors(queries, "queries"), as_vectors(reference, "reference")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"queries have {x.shape[1]} values an item, reference has {y.shape[1]}; encode both alike")
    if not 1 <= k < len(y):
        raise ValueError(f"k is {k}, but it must be at least 1 and below the {len(y)} reference points; lower k")
    own = check_exclude(exclude, len(x), len(y))
    if len(x) == 0:
        return Neighbors(np.zeros((0, k)), np.zeros((0, k), dtype=np.int64))
    if x.shape[1] <= TREE_MAX_DIMENSIONS:
        return tree_search(x, y, k, own)
    return blocked_search(x, y, k, own)


def as_vectors(data: Float[np.ndarray | Tensor, "n *event"], name: str = "points") -> Floating:
    """Return the items as checked rows of float32 or float64, without a copy where possible."""
    array = data.detach().cpu().numpy() if isinstance(data, Tensor) else data
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{name} must be floating point, got {array.dtype}; encode images first")
    if array.ndim < 2 or array[:1].size == 0 < len(array):
        raise ValueError(f"{name} must have shape (n, *event) with values in each item, got {array.shape}")
    rows = array.reshape(len(array), int(np.prod(array.shape[1:])))
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float32)
    for part in range(0, len(rows), block_of(rows.shape[1])):
        if not np.isfinite(rows[part : part + block_of(rows.shape[1])]).all():
            raise ValueError(f"{name} hold NaN or infinity; leave those items out, or mend them, before the search")
    return rows


def check_exclude(exclude: Int[np.ndarray, " q"] | None, q: int, n: int) -> NDArray[np.int64]:
    """Return the index that each query may not have as a neighbour, -1 for none."""
    if exclude is None:
        return np.full(q, -1)
    own = np.asarray(exclude)
    if own.shape != (q,):
        raise ValueError(f"exclude must name one reference index a query, shape ({q},), got {own.shape}")
    if q and not (own.min() >= -1 and own.max() < n):
        raise ValueError(f"exclude holds indices from {own.min()} to {own.max()}; the reference has 0 to {n - 1}")
    return own.astype(np.int64)


def block_of(values_an_item: int) -> int:
    """Return how many items of so many values are worked on at a time."""
    return max(1, BLOCK_VALUES // max(1, values_an_item))


def tree_search(x: Floating, y: Floating, k: int, own: NDArray[np.int64]) -> Neighbors:
    """Search a k-d tree; ``own`` is dropped where found, the farthest neighbour otherwise."""
    tree = KDTree(y)
    distances, indices = np.empty((len(x), k)), np.empty((len(x), k), dtype=np.int64)
    for start in range(0, len(x), block_of(k + 1)):
        part = slice(start, start + block_of(k + 1))
        answer = tree.query(x[part], k=np.arange(1, k + 2))
        far, found = np.asarray(answer[0]), np.asarray(answer[1])
        is_own = found == own[part, None]
        is_own[~is_own.any(1), k] = True
        distances[part], indices[part] = far[~is_own].reshape(-1, k), found[~is_own].reshape(-1, k)
    return Neighbors(distances, indices)


def blocked_search(x: Floating, y: Floating, k: int, own: NDArray[np.int64]) -> Neighbors:
    """Nominate by products in float32, measure by differences, and repeat in float64 where rounding could decide."""
    center = center_of(y)
    huge = max(float(points.max()) - float(points.min()) for points in (x, y)) > FLOAT32_SAFE
    fast: np.dtype[np.floating] = np.dtype(np.float64) if huge else np.dtype(np.float32)
    distances, indices = np.empty((len(x), k)), np.empty((len(x), k), dtype=np.int64)
    for start in range(0, len(x), BLOCK_QUERIES):
        rows = np.arange(start, min(start + BLOCK_QUERIES, len(x)))
        distances[rows], indices[rows], proven = nominate(x[rows], y, k, own[rows], center, fast)
        again = rows[~proven]
        if len(again):
            distances[again], indices[again], _ = nominate(x[again], y, k, own[again], center, np.dtype(np.float64))
    return Neighbors(distances, indices)


def center_of(y: Floating) -> NDArray[np.float64]:
    """Return about the mean, the same number in float32 and float64."""
    return np.asarray(y.mean(0, dtype=np.float64).astype(np.float32), dtype=np.float64)


class Nominated(NamedTuple):
    """The neighbours of a block of queries, and whether rounding cannot have hidden a nearer one."""

    distances: NDArray[np.float64]
    indices: NDArray[np.int64]
    proven: NDArray[np.bool_]


def nominate(
    x: Floating, y: Floating, k: int, own: NDArray[np.int64], center: NDArray[np.float64], dtype: np.dtype[np.floating]
) -> Nominated:
    """Search one block of queries with products in ``dtype``."""
    n, d = y.shape
    wanted = min(k + MARGIN, n - 1)
    shifted = shift(x, center, dtype)
    square_x = shifted[:, -1].copy()
    left = shifted * dtype.type(-2)
    left[:, -1] = 1  # a row of left times a row of shifted y is |y|^2 - 2 x y, in one product
    best, largest = None, 0.0
    size = max(wanted + 1, min(BLOCK_REFERENCE, block_of(d)))
    for start in range(0, n, size):
        right = shift(y[start : start + size], center, dtype)
        largest = max(largest, float(right[:, -1].max()))
        block = left @ right.T
        mine = np.flatnonzero((own >= start) & (own < start + size))
        block[mine, own[mine] - start] = np.inf
        best = smallest(block, wanted) if best is None else merged(best, block, start)
    assert best is not None  # there is at least one block
    exact, indices = measure(x, y, best.indices), best.indices
    order = np.argsort(exact, axis=1, kind="stable")[:, :k]
    exact, indices = np.take_along_axis(exact, order, 1), np.take_along_axis(indices, order, 1)
    if wanted == n - 1:
        return Nominated(exact, indices, np.full(len(x), True))
    # dot products round like a random walk of d steps; 4 standard deviations, and the roundings of the sum
    rounding = float(np.finfo(dtype).eps) * (2 * np.sqrt(d) + 4) * (np.sqrt(square_x) + np.sqrt(largest)) ** 2
    proven = (exact[:, -1] == 0) | (exact[:, -1] ** 2 < best.values.max(1).astype(np.float64) + square_x - rounding)
    return Nominated(exact, indices, proven)


def shift(points: Floating, center: NDArray[np.float64], dtype: np.dtype[np.floating]) -> Floating:
    """Return the points about ``center`` in ``dtype``, with their squared lengths as one more column."""
    shifted = np.empty((len(points), points.shape[1] + 1), dtype=dtype)
    np.subtract(points, center.astype(points.dtype), out=shifted[:, :-1], casting="same_kind")
    np.einsum("nd,nd->n", shifted[:, :-1], shifted[:, :-1], out=shifted[:, -1])
    return shifted


class Smallest(NamedTuple):
    """The smallest values of each row so far, in no order, and where in the reference they are."""

    values: Floating
    indices: NDArray[np.int64]


def smallest(values: Floating, wanted: int) -> Smallest:
    """Return the smallest of each row and their columns."""
    best = torch.topk(torch.from_numpy(values), wanted, largest=False, sorted=False)
    return Smallest(best.values.numpy(), best.indices.numpy())


def merged(best: Smallest, block: Floating, start: int) -> Smallest:
    """Merge in a block of values that begins at ``start``; only what beats the worst so far is looked at."""
    row, column = np.divmod(np.flatnonzero(block < best.values.max(1, keepdims=True)), block.shape[1])
    if len(row) == 0:
        return best
    counts = np.bincount(row, minlength=len(block))
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    better = np.full((len(block), int(counts.max())), np.inf, dtype=block.dtype)
    where = np.zeros(better.shape, dtype=np.int64)
    better[row, place], where[row, place] = block[row, column], column + start
    values, indices = np.concatenate([best.values, better], 1), np.concatenate([best.indices, where], 1)
    kept = smallest(values, best.values.shape[1])
    return Smallest(kept.values, np.take_along_axis(indices, kept.indices, 1))


def measure(x: Floating, y: Floating, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the distances of each row of ``x`` to its rows of ``y``, by differences in float64."""
    distances = np.empty(indices.shape)
    size = max(1, CACHED_VALUES // (indices.shape[1] * x.shape[1]))
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        difference = y[indices[part]] - x[part, None].astype(np.float64)
        distances[part] = np.sqrt(np.einsum("qkd,qkd->qk", difference, difference))
    return distances
