"""Groups of copies: exact ones by content, near ones by candidates that are confirmed by a distance.

Candidates come from two sides: from a perceptual hash (every pair within a few bits), and from the vectors themselves
(a forest of random projections). A candidate becomes a pair when its vectors are within the radius; pairs become
groups by connected components. Nothing here costs a square of the number of pictures: exact copies are one item from
the start, and pictures that crowd into one hash (flat ones, ramps, frames) are compared through the forest.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from pointland.duplicates.forest import measured, near_pairs
from pointland.duplicates.hamming import hash_components, parse_hashes
from pointland.duplicates.joining import Ints, Pairs, join, numbered
from pointland.duplicates.portrait import flat

CROWD = 64  # items in one component of hashes, above which not every pair is compared


class Duplicates(NamedTuple):
    """Which items are copies of each other; groups are numbered from 0 in the order of their first item, -1 is alone.

    Attributes:
        exact: Group of items with the same content, shape ``(n,)``.
        near: Group of items joined by chains of near copies, exact ones included, shape ``(n,)``.
        flat: Items with nothing in them to compare: they are in no near group but with their exact copies.
        crowded: Items whose hash chains with more than 64 others, compared through the forest only.
    """

    exact: Int[np.ndarray, " n"]
    near: Int[np.ndarray, " n"]
    flat: Bool[np.ndarray, " n"]
    crowded: Bool[np.ndarray, " n"]


def duplicate_groups(
    content: Sequence[str],
    hashes: Sequence[str] | None = None,
    vectors: Float[np.ndarray, "n d"] | None = None,
    *,
    distance: int = 2,
    radius: float = 0.08,
    n_trees: int = 8,
    seed: int = 0,
) -> Duplicates:
    """Group items that are copies or near copies of each other.

    Args:
        content: A name of every item's content, such as :func:`~pointland.duplicates.portrait.content_hash`.
        hashes: A perceptual hash of 16 hexadecimal digits an item; without vectors, near is what they say.
        vectors: Descriptors that confirm a candidate, such as :func:`~pointland.duplicates.portrait.portraits`, or
            features of a network; all zeros is flat.
        distance: The most bits in which the hashes of candidates differ, 0 to 16.
        radius: Largest distance of near copies, in the unit of ``vectors``; 0.08 is for portraits.
        n_trees: Of the forest; more find more of the pairs near the radius.
        seed: Of the forest.

    Returns:
        Groups in the order of the items. Nearness is not transitive: the ends of a chain may differ by more.

    Raises:
        ValueError: If lengths differ, or a setting is out of range.

    Cost:
        ``n log n``; figures in ``benchmarks/duplicates.json``.

    Example:
        >>> duplicate_groups(["a", "b", "a"], ["00" * 8, "00" * 7 + "01", "00" * 8]).near.tolist()
        [0, 0, 0]
    """
    n = len(content)
    for name, given in (("hashes", hashes), ("vectors", vectors)):
        if given is not None and len(given) != n:
            raise ValueError(f"{n} names of content and {len(given)} {name}; expected one of each an item")
    labels = np.unique(np.array(content, dtype=np.str_), return_inverse=True)[1].astype(np.int64)
    exact = numbered(labels)
    crowded = np.zeros(n, np.bool_)
    candidates = None if hashes is None else hash_components(parse_hashes(hashes), distance)
    if vectors is None:
        if candidates is not None:
            labels = join(labels, chains(candidates))
        return Duplicates(exact, numbered(labels), np.zeros(n, np.bool_), crowded)
    nothing = flat(vectors)
    once = np.unique(labels, return_index=True)[1]  # one item for each content
    kept = np.sort(once[~nothing[once]])
    if candidates is not None:
        sizes = np.bincount(candidates)
        crowded = sizes[candidates] > CROWD
    seen = vectors[kept]
    for pairs in _pairs(seen, None if candidates is None else candidates[kept], radius, n_trees, seed):
        labels = join(labels, Pairs(kept[pairs.a], kept[pairs.b]))
    return Duplicates(exact, numbered(labels), nothing, crowded)


def _pairs(x: NDArray[np.float32], candidates: Ints | None, radius: float, n_trees: int, seed: int) -> Iterator[Pairs]:
    yield from near_pairs(x, radius, n_trees=n_trees, seed=seed)
    if candidates is not None:
        order = np.argsort(candidates, kind="stable")
        of = candidates[order]
        small = np.bincount(candidates, minlength=1)[of] <= CROWD
        for k in range(1, CROWD):
            places = np.flatnonzero(small[:-k] & (of[:-k] == of[k:]))
            if not len(places):
                break
            yield measured(x, order[places], order[places + k], radius)


def chains(labels: Ints) -> Pairs:
    """Return pairs that join all items of one label: each with the next."""
    order = np.argsort(labels, kind="stable")
    same = np.flatnonzero(labels[order][:-1] == labels[order][1:])
    return Pairs(order[same], order[same + 1])
