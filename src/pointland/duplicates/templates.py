"""Template groups: pictures that share most of their pixels and differ in a part, as advertisements and covers do.

A thumbnail is cut into 4 x 4 cells. Two pictures agree in a cell when their gray levels differ there by at most
``tolerance`` (root mean square), and the share of the picture that they share is the share of agreeing cells, among
those where either of the two has anything in it. Candidates are pictures that agree in one cell, found cell by cell by
the forest; each is then compared in all cells.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray

from pointland.duplicates.forest import near_pairs
from pointland.duplicates.joining import Ints, Pairs, join, numbered
from pointland.duplicates.portrait import CELLS, SIDE

CELL = SIDE // CELLS
QUIET = 4.0  # gray levels of contrast below which a cell has nothing in it
BLOCK = 2**14


def template_groups(
    thumbs: UInt8[np.ndarray, "n 32 32"],
    *,
    share: float = 0.5,
    tolerance: float = 4.0,
    n_trees: int = 4,
    seed: int = 0,
) -> Int[np.ndarray, " n"]:
    """Group pictures of which at least ``share`` is the same, place for place.

    Args:
        thumbs: See :func:`~pointland.duplicates.portrait.thumbnails`.
        share: Of the cells with anything in them, in (0, 1].
        tolerance: Gray levels, root mean square over a cell.
        n_trees: Of the forest of each cell.
        seed: Of the forests.

    Returns:
        Groups numbered from 0 in the order of their first picture, -1 where there is none. Copies are in one too.

    Raises:
        ValueError: If ``share`` is not in (0, 1].

    Cost:
        16 forests of 64 values an item.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share:g} is not in (0, 1]; 0.5 is half of the picture")
    cells, busy = _cells(thumbs)
    labels = np.arange(len(thumbs))
    for place in range(CELLS * CELLS):
        items = np.flatnonzero(busy[:, place])
        vectors = cells[items, place].astype(np.float32)
        for pairs in near_pairs(vectors, tolerance * CELL, n_trees=n_trees, seed=seed + place):
            a, b = items[pairs.a], items[pairs.b]
            apart = labels[a] != labels[b]
            for some in _agreeing(cells, busy, a[apart], b[apart], share, tolerance):
                labels = join(labels, some)
    return numbered(labels)


def shared_share(
    one: UInt8[np.ndarray, "b 32 32"], other: UInt8[np.ndarray, "b 32 32"], tolerance: float = 4.0
) -> Float[np.ndarray, " b"]:
    """Return the share of cells in which two pictures agree, pair by pair; 0 where both are flat everywhere.

    Args:
        one: Thumbnails.
        other: As many, each to be compared with that of the same place.
        tolerance: Gray levels within which cells agree.
    """
    (a, busy_a), (b, busy_b) = _cells(one), _cells(other)
    return _share(a, b, busy_a | busy_b, tolerance)


def _agreeing(
    cells: NDArray[np.uint8], busy: NDArray[np.bool_], a: Ints, b: Ints, share: float, tolerance: float
) -> Iterator[Pairs]:
    for start in range(0, len(a), BLOCK):
        i, j = a[start : start + BLOCK], b[start : start + BLOCK]
        same = _share(cells[i], cells[j], busy[i] | busy[j], tolerance) >= share
        yield Pairs(i[same], j[same])


def _share(
    a: NDArray[np.uint8], b: NDArray[np.uint8], busy: NDArray[np.bool_], tolerance: float
) -> NDArray[np.float64]:
    difference = a.astype(np.float32) - b
    agree = np.einsum("ncp,ncp->nc", difference, difference) <= np.float32((tolerance * CELL) ** 2)
    return np.asarray((agree & busy).sum(1) / np.maximum(busy.sum(1), 1), dtype=np.float64)


def _cells(thumbs: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut thumbnails into cells, shape ``(n, 16, 64)``, and say which have anything in them."""
    split = thumbs.reshape(-1, CELLS, CELL, CELLS, CELL).swapaxes(2, 3)
    cells = np.ascontiguousarray(split).reshape(len(thumbs), CELLS * CELLS, CELL * CELL)
    return cells, cells.std(axis=2, dtype=np.float32) >= QUIET
