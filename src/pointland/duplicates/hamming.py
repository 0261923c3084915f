r"""Components of 64-bit hashes that differ in few bits, by multi-index hashing.

Two hashes within ``distance`` bits agree wholly on at least one of ``distance + 1`` bands of bits, by the pigeonhole
principle, so only hashes that share a band are compared (Norouzi et al. 2012). Buckets of one band that grow huge are
split again by the bits that are left, with bands of those: the same principle holds inside.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pointland.duplicates.joining import Ints, Pairs, join, stacked

Hashes = NDArray[np.uint64]

N_BITS = 64
HUGE = 2048  # a bucket above this size is split again by its other bits
MANY = 1_000_000
MAX_DISTANCE = 16


def parse_hashes(hashes: Sequence[str]) -> Hashes:
    """Read hashes of 16 hexadecimal digits, the highest bit first.

    Raises:
        ValueError: If one is something else.
    """
    try:
        joined = np.frombuffer(b"".join(map(bytes.fromhex, hashes)), dtype=">u8").astype(np.uint64)
    except ValueError:
        joined = np.empty(0, np.uint64)
    if len(joined) != len(hashes) or any(len(text) != N_BITS // 4 for text in hashes):
        raise ValueError("a perceptual hash is not 16 hexadecimal digits; pass what perceptual_hash returns")
    return joined


def hash_components(hashes: Hashes, distance: int) -> Ints:
    """Label hashes by connected component of the graph of pairs within ``distance`` bits.

    Nearness is not transitive: a component holds everything joined by a chain.

    Args:
        hashes: 64 bits an item.
        distance: 0 to 16 bits.

    Returns:
        One label an item, equal within a component.

    Raises:
        ValueError: If ``distance`` is out of range.

    Cost:
        No table of all pairs. 100,000 unlike hashes take under a second at distance 4; time grows with the number of
        pairs that share a band, memory with the number of items. Hashes made to collide can take half a minute.
    """
    if not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"distance {distance} is out of range; expected 0 to {MAX_DISTANCE} bits")
    values, inverse = np.unique(hashes, return_inverse=True)
    labels = np.arange(len(values))
    work: list[tuple[Ints, Ints]] = [(labels, np.arange(N_BITS))]
    while work:
        members, bits = work.pop()
        if len(np.unique(labels[members])) < 2:
            continue  # already joined: this is what keeps one dense cluster cheap
        for band in range(distance + 1):
            mask = np.bitwise_or.reduce(
                np.uint64(1) << bits[band :: distance + 1].astype(np.uint64), initial=np.uint64(0)
            )
            shared = values[members] & mask
            order = members[np.argsort(shared, kind="stable")]
            starts = np.unique(values[order] & mask, return_index=True)[1]
            lengths = np.diff(starts, append=len(order))
            split = (lengths > HUGE) & (mask > 0)
            rest = np.delete(bits, np.s_[band :: distance + 1])
            work += [(order[s : s + n], rest) for s, n in zip(starts[split], lengths[split], strict=True)]
            for pairs in _near(values, order, starts[~split], lengths[~split], distance):
                labels = join(labels, pairs)
    return labels[inverse]


def _near(values: Hashes, order: Ints, starts: Ints, lengths: Ints, distance: int) -> Iterator[Pairs]:
    """Yield the pairs within ``distance`` inside runs of ``order``: each place with the k-th after it, k = 1, 2, ..."""
    ends = np.zeros(len(order), np.int64)
    places = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - starts, lengths)
    ends[places] = np.repeat(starts + lengths, lengths)
    sorted_values = values[order]
    pairs: list[Pairs] = []
    n, k = 0, 1
    while len(places := places[places + k < ends[places]]):
        near = places[np.bitwise_count(sorted_values[places] ^ sorted_values[places + k]) <= distance]
        pairs.append(Pairs(order[near], order[near + k]))
        n, k = n + len(near), k + 1
        if n > MANY:
            yield stacked(pairs)
            pairs, n = [], 0
    if n:
        yield stacked(pairs)
