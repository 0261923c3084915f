"""The nearest training images of every sample, where a group of copies counts once.

Every published neighbour metric divides by the distance to *another* training image. A copy of the nearest one is not
another: with a duplicate in the training set the second distance is the first, and a verbatim copy of the duplicated
image, the one most likely to be memorized, passes as new. So neighbours here are groups of copies.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pointland.lid.data import nearest
from pointland.samples.windows import distinct


class Neighborhood(NamedTuple):
    """The nearest groups of training images of each query.

    Attributes:
        distances: To the nearest ``k`` groups, ascending, shape ``(q, k)``. The first is to the nearest member; others
            are to their first members, which is the same but for spread-out groups.
        nearest: Index of the nearest training image, shape ``(q,)``.
    """

    distances: Float[np.ndarray, "q k"]
    nearest: Int[np.ndarray, " q"]


def neighborhood(
    queries: Float[np.ndarray, "q d"],
    train: Float[np.ndarray, "n d"],
    groups: Int[np.ndarray, " n"],
    k: int = 50,
    *,
    exclude: Int[np.ndarray, " q"] | None = None,
) -> Neighborhood:
    """Find the nearest ``k`` groups of every query, exactly.

    Args:
        queries: Descriptors of samples.
        train: Descriptors of training images.
        groups: Group of copies of each training image, -1 where it is alone.
        k: Neighbours, at least 2; fewer if there are fewer groups.
        exclude: A training image whose whole group is no neighbour, one a query, for queries from the training set.

    Raises:
        ValueError: If the training images make fewer than 3 groups.

    Cost:
        One exact search of ``q n d``, and one more among repeated images; blocks, never a table of all pairs.
    """
    names = distinct(groups)
    values, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    if len(values) < 3:
        raise ValueError(
            f"{len(train)} training images are {len(values)} different ones, and a neighbour ratio needs at least 3; "
            "give more training images"
        )
    own = np.full(len(queries), -1) if exclude is None else inverse[exclude]
    k = min(k, len(values) - 1)
    near = nearest(queries, train[first], k, exclude=own)
    distances, at = near.distances.copy(), near.indices  # places in `values`
    found = first[at[:, 0]]
    others = np.setdiff1d(np.arange(len(train)), first)
    if len(others):
        extra = _extra(queries, train, others, inverse, own)
        e, who = extra.distances[:, 0], extra.nearest
        closer = e < distances[:, 0]
        group = inverse[who]
        place = np.where((at == group[:, None]).any(1), (at == group[:, None]).argmax(1), k - 1)
        for row in np.flatnonzero(closer):
            distances[row, 1 : place[row] + 1] = distances[row, : place[row]]
            distances[row, 0] = e[row]
        found = np.where(closer, who, found)
    return Neighborhood(distances, found)


def _extra(
    queries: Float[np.ndarray, "q d"],
    train: Float[np.ndarray, "n d"],
    others: Int[np.ndarray, " o"],
    group: Int[np.ndarray, " n"],
    own: Int[np.ndarray, " q"],
) -> Neighborhood:
    """Find the nearest image among those that are not the first of their group, and not of the query's own group."""
    distances, found = np.full((len(queries), 1), np.inf), np.full(len(queries), others[0])
    mine, left = np.arange(len(queries)), 8
    while len(mine):
        wanted = min(left, len(others))
        padded = np.concatenate([train[others], train[others[:1]]])  # so that `wanted` is below the number of points
        near = nearest(queries[mine], padded, wanted, exclude=np.full(len(mine), len(others)))
        who = others[near.indices]
        allowed = group[who] != own[mine][:, None]
        some = allowed.any(1)
        place = allowed.argmax(1)
        distances[mine[some], 0] = near.distances[some, place[some]]
        found[mine[some]] = who[some, place[some]]
        mine = mine[~some] if wanted < len(others) else mine[:0]
        left *= 8
    return Neighborhood(distances, found)
