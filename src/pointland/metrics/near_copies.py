r"""Copies within a data set: the common cause of memorization.

Byte-identical files share their SHA-256. Near copies share most of a perceptual hash: 64 signs of the lowest cosine
frequencies of the luminance. Two hashes within ``distance`` bits agree wholly on at least one of ``distance + 1`` bands
of bits, by the pigeonhole principle, so only pictures that share a band are compared (Norouzi et al. 2012, multi-index
hashing).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

SIDE = 32
N_BITS = 64
# The 64 lowest frequencies but the mean, by i + j; a picture that varies in one direction alone still has signs.
ROWS, COLUMNS = np.array(
    sorted(((i, j) for i in range(SIDE) for j in range(SIDE) if i + j), key=lambda ij: (sum(ij), ij))[:N_BITS]
).T
QUIET = 0.5  # a coefficient; a wave of one gray level has 16, rounding errors 1e-4
HUGE = 2048  # a bucket above this size is split again by its other bits
MANY = 1_000_000
MAX_DISTANCE = 16


class NearCopies(NamedTuple):
    """Which pictures are copies of each other: groups numbered from 0 in the order of their first picture; -1 is alone.

    Attributes:
        exact: Group of byte-identical files, shape ``(n,)``.
        near: Group of pictures joined by chains of near copies, exact ones included, shape ``(n,)``.
    """

    exact: Ints
    near: Ints


def perceptual_hash(pixels: NDArray[np.uint8]) -> str:
    """Return a 64-bit hash that hardly changes under scaling, recompression, brightness and contrast.

    The luminance (Rec. 601) is brought to 32 x 32 and cosine transformed; each of the 64 lowest frequencies, the mean
    left out, gives one bit: is its coefficient above their median? Coefficients too weak to see count as zero, so a
    flat picture of any color has the hash ``0000000000000000``. Pictures with little in them (flat, a soft ramp, a
    thin frame) therefore differ in few bits and are near copies of each other: read a group together with the PNG size.
    A mirrored or rotated copy has another hash.

    Args:
        pixels: A picture, shape ``(3, h, w)``.

    Returns:
        16 hexadecimal digits, the lowest frequency first.

    Raises:
        ValueError: If the shape is another.

    Source:
        The DCT hash of Zauner 2010 (pHash), with a triangle of frequencies in place of a square and the mean left out.
    """
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"a picture of shape {pixels.shape} was given; expected (3, h, w)")
    luminance = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), pixels.astype(np.float32), 1)
    small = np.asarray(Image.fromarray(luminance).resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float64)
    waves = dctn(small, norm="ortho")[ROWS, COLUMNS]
    waves = np.where(np.abs(waves) < QUIET, 0.0, waves)
    return np.packbits(waves > np.median(waves)).tobytes().hex()


def copy_groups(sha256: Sequence[str], hashes: Sequence[str], distance: int = 2) -> NearCopies:
    """Group pictures that are copies or near copies of each other.

    Nearness is not transitive: a group holds everything joined by a chain, so its ends may differ by more than
    ``distance``.

    Args:
        sha256: Hash of every file's bytes.
        hashes: :func:`perceptual_hash` of every picture.
        distance: The most bits, of 64, in which near copies differ, 0 to 16. Unrelated photographs differ in about 32;
            small pictures of one kind, centered on black, in far fewer: 4 already chains them.

    Returns:
        Groups in the order of the pictures.

    Raises:
        ValueError: If the two lists differ in length, a hash is not 16 hexadecimal digits, or ``distance`` is out of
            range.

    Cost:
        No table of all pairs. 100,000 unlike hashes take under a second at distance 4; time grows with the number of
        pairs that share a band, memory with the number of pictures. Hashes made to collide can take half a minute.

    Example:
        >>> copy_groups(["a", "b", "a"], ["00" * 8, "00" * 7 + "01", "00" * 8])
        NearCopies(exact=array([ 0, -1,  0]), near=array([0, 0, 0]))
    """
    if len(sha256) != len(hashes):
        raise ValueError(
            f"{len(sha256)} file hashes and {len(hashes)} perceptual hashes; expected one of each a picture"
        )
    if not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"distance {distance} is out of range; expected 0 to {MAX_DISTANCE} bits")
    values, inverse = np.unique(_parse(hashes), return_inverse=True)
    files = np.unique(np.array(sha256, dtype=np.str_), return_inverse=True)[1]
    return NearCopies(_numbered(files), _numbered(_components(values, distance)[inverse]))


def _parse(hashes: Sequence[str]) -> Hashes:
    """Read hexadecimal digits."""
    try:
        joined = np.frombuffer(b"".join(map(bytes.fromhex, hashes)), dtype=">u8").astype(np.uint64)
    except ValueError:
        joined = np.empty(0, np.uint64)
    if len(joined) != len(hashes) or any(len(text) != N_BITS // 4 for text in hashes):
        raise ValueError("a perceptual hash is not 16 hexadecimal digits; pass what perceptual_hash returns")
    return joined


def _components(values: Hashes, distance: int) -> Ints:
    """Label different hashes by connected component of the graph of pairs within ``distance``."""
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
            for a, b in _near_pairs(values, order, starts[~split], lengths[~split], distance):
                labels = _join(labels, a, b)
    return labels


def _near_pairs(values: Hashes, order: Ints, starts: Ints, lengths: Ints, distance: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield the pairs within ``distance`` inside runs of ``order``: each place with the k-th after it, k = 1, 2, ..."""
    ends = np.zeros(len(order), np.int64)
    places = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - starts, lengths)
    ends[places] = np.repeat(starts + lengths, lengths)
    sorted_values = values[order]
    pairs: list[tuple[Ints, Ints]] = []
    n, k = 0, 1
    while len(places := places[places + k < ends[places]]):
        near = places[np.bitwise_count(sorted_values[places] ^ sorted_values[places + k]) <= distance]
        pairs.append((order[near], order[near + k]))
        n, k = n + len(near), k + 1
        if n > MANY:
            yield _stacked(pairs)
            pairs, n = [], 0
    if n:
        yield _stacked(pairs)


def _stacked(pairs: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """Join lists of pairs."""
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def _join(labels: Ints, a: Ints, b: Ints) -> Ints:
    """Give everything that the pairs connect one label."""
    a, b = labels[a], labels[b]
    apart = a != b
    if not apart.any():
        return labels
    edges = coo_array((np.ones(apart.sum(), np.bool_), (a[apart], b[apart])), shape=(len(labels), len(labels)))
    found: Ints = connected_components(edges, directed=False)[1].astype(np.int64)
    return found[labels]


def _numbered(labels: Ints) -> Ints:
    """Number the labels that occur more than once by first occurrence; -1 for the others."""
    _, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    numbers = np.full(len(counts), -1, np.int64)
    several = np.flatnonzero(counts > 1)
    numbers[several[np.argsort(first[several])]] = np.arange(len(several))
    return numbers[inverse]
