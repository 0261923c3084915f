r"""Local copying: in how many windows of a sample, and how clearly, is the same training image the nearest?

A template copy shares a part of its pixels with a training image and nothing else, so distances of whole images do not
see it. Here a thumbnail is cut into overlapping windows. In each window :math:`w` with anything in it, let :math:`d_1`
be the distance of the sample to the nearest training image at the same place and :math:`d_2` to the nearest image of
another group of copies. The window votes for the nearest with

.. math:: v_w = \log \frac{d_2 + f}{d_1 + f},

where the floor :math:`f` is what recompression may do. Votes for one training image (or group of copies) are added,
and the *local evidence* of the sample is the largest sum. Chance gives every window another winner by a little; a
copied region gives several windows one winner by much. Ratios are calibrated to how crowded each window is.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray

SIDE, WINDOW, STRIDE = 32, 8, 4
QUIET = 4.0  # gray levels of contrast below which a window has nothing in it
FLOOR = 2.5  # gray levels a pixel
BLOCK_QUERIES, BLOCK_TRAIN = 512, 1024  # a block of distances stays in the cache


class Local(NamedTuple):
    """What the windows of each sample say together.

    Attributes:
        evidence: The largest sum of votes for one training image or group, at least 0, shape ``(m,)``; NaN where the
            sample is flat.
        nearest: Index of a training image of that sum.
        share: Share of the sample's busy windows that voted for it.
    """

    evidence: Float[np.ndarray, " m"]
    nearest: Int[np.ndarray, " m"]
    share: Float[np.ndarray, " m"]


def local_evidence(
    queries: UInt8[np.ndarray, "m 32 32"], train: UInt8[np.ndarray, "n 32 32"], groups: Int[np.ndarray, " n"]
) -> Local:
    """Add up, for each sample, the votes of its windows.

    Args:
        queries: Thumbnails of samples.
        train: Thumbnails of training images.
        groups: Group of copies of each training image, -1 where it is alone.

    Raises:
        ValueError: If the training images are all copies of one.

    Cost:
        49 searches of ``m n`` distances of 64 values in float32; memory of a few blocks.

    Source:
        Ours.
    """
    names = distinct(groups)
    m = len(queries)
    places = range(0, SIDE - WINDOW + 1, STRIDE)
    voted = [np.empty(0, np.int64)]
    winners, votes = [np.empty(0, np.int64)], [np.empty(0)]
    busy_windows = np.zeros(m)
    for y in places:
        for x in places:
            cut = np.s_[:, y : y + WINDOW, x : x + WINDOW]
            a, b = (images[cut].reshape(len(images), -1).astype(np.float32) for images in (queries, train))
            busy = np.flatnonzero(a.std(axis=1) >= QUIET)
            busy_windows[busy] += 1
            near = two_nearest(a[busy], b, names)
            floor = FLOOR * WINDOW
            voted.append(busy)
            winners.append(near.nearest)
            votes.append(np.log((near.second + floor) / (near.first + floor)) ** 2)
    who, winner, vote = np.concatenate(voted), np.concatenate(winners), np.concatenate(votes)
    order = np.lexsort((names[winner], who))
    who, winner, vote = who[order], winner[order], vote[order]
    of = names[winner]
    starts = np.flatnonzero(np.concatenate([[True], (who[1:] != who[:-1]) | (of[1:] != of[:-1])]))[: len(who)]
    sums = np.add.reduceat(vote, starts) if len(who) else np.empty(0)
    counts = np.diff(starts, append=len(who))
    evidence, nearest, share = np.full(m, np.nan), np.zeros(m, np.int64), np.zeros(m)
    best = np.lexsort((sums, who[starts]))  # ascending: the largest of a sample comes last
    evidence[who[starts][best]] = sums[best]
    nearest[who[starts][best]] = winner[starts][best]
    share[who[starts][best]] = counts[best] / busy_windows[who[starts][best]]
    return Local(evidence, nearest, share)


def distinct(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Name groups so that an image that is alone is a group of its own."""
    names = groups.copy()
    alone = np.flatnonzero(groups < 0)
    names[alone] = groups.max(initial=-1) + 1 + np.arange(len(alone))
    return names


class TwoNearest(NamedTuple):
    """Distances to the nearest training vector and to the nearest one of another group, and the first one's index."""

    first: Float[np.ndarray, " m"]
    second: Float[np.ndarray, " m"]
    nearest: Int[np.ndarray, " m"]


def two_nearest(
    queries: Float[np.ndarray, "m d"], train: Float[np.ndarray, "n d"], names: Int[np.ndarray, " n"]
) -> TwoNearest:
    """Find the nearest training vector and the nearest of another group, by blocks of products in float32.

    The distance to the first is measured again by differences; the second is right to float32's rounding.

    Raises:
        ValueError: If all training vectors are of one group.
    """
    if len(train) == 0 or (names == names[0]).all():
        raise ValueError("the training images are all copies of one image, so there is no second to compare with")
    center = train.mean(0)
    b = np.concatenate([train - center, np.zeros((len(train), 1), np.float32)], axis=1)
    b[:, -1] = np.einsum("nd,nd->n", b, b)
    inverse = np.unique(names, return_inverse=True)[1]
    several = np.bincount(inverse)[inverse] > 1
    m = len(queries)
    first, second, nearest = np.full(m, np.inf, np.float32), np.full(m, np.inf, np.float32), np.zeros(m, np.int64)
    for start in range(0, m, BLOCK_QUERIES):
        rows = np.arange(start, min(start + BLOCK_QUERIES, m))
        a = np.ones((len(rows), b.shape[1]), np.float32)
        a[:, :-1] = -2 * (queries[rows] - center)
        one, two, at = first[rows], second[rows], nearest[rows]
        each = np.arange(len(rows))
        for left in range(0, len(b), BLOCK_TRAIN):
            part = slice(left, left + BLOCK_TRAIN)
            square = a @ b[part].T
            i = square.argmin(1)
            v = square[each, i]
            square[each, i] = np.inf
            again = np.flatnonzero(several[left + i])  # other members of the winner's group
            square[again] = np.where(names[part] == names[left + i[again]][:, None], np.inf, square[again])
            w = square.min(1)
            same = (names[left + i] == names[at]) & np.isfinite(one)
            closer = v < one
            two = np.where(same, np.minimum(w, two), np.minimum(np.maximum(v, one), np.where(closer, w, two)))
            at, one = np.where(closer, left + i, at), np.minimum(v, one)
        second[rows] = two + np.einsum("md,md->m", a[:, :-1], a[:, :-1]) / 4
        nearest[rows] = at
        first[rows] = np.square(queries[rows] - train[at]).sum(1)
    nearer = np.sqrt(first.astype(np.float64))
    return TwoNearest(nearer, np.maximum(np.sqrt(np.maximum(second, 0).astype(np.float64)), nearer), nearest)
