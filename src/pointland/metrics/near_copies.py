r"""Copies within a data set: the common cause of memorization.

Byte-identical files share their SHA-256. Near copies share most of a perceptual hash: 64 signs of the lowest cosine
frequencies of the luminance. They are grouped by :mod:`pointland.duplicates`, without a table of all pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from pointland.duplicates import hash_components, numbered, parse_hashes

Ints = NDArray[np.int64]

SIDE = 32
N_BITS = 64
# The 64 lowest frequencies but the mean, by i + j; a picture that varies in one direction alone still has signs.
ROWS, COLUMNS = np.array(
    sorted(((i, j) for i in range(SIDE) for j in range(SIDE) if i + j), key=lambda ij: (sum(ij), ij))[:N_BITS]
).T
QUIET = 0.5  # a coefficient; a wave of one gray level has 16, rounding errors 1e-4


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
    labels = hash_components(parse_hashes(hashes), distance)
    files = np.unique(np.array(sha256, dtype=np.str_), return_inverse=True)[1]
    return NearCopies(numbered(files), numbered(labels))
