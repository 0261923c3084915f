r"""Nearest neighbours in one shard of a large set, through an index that is tuned until it finds enough.

The shard is split into cells (:mod:`pointland.lid.data.neighbor_cells`); a query is compared with the points of the
``n_probe`` cells whose centers are nearest, some :math:`n_\mathrm{probe} \sqrt n / 4` instead of :math:`n`. That only
nominates: candidates are measured again by differences of all values in float64, and a query is told from its own entry
by identity, both as in :func:`~pointland.lid.data.neighbors.nearest`. Equal points are nominated by a hash of their
bytes as well, so that copies, the core case, are found at distance 0 whatever the cells do.

How many cells are enough depends on the dimension of the data, which is the question here, so nothing is fixed:
``n_probe`` doubles until a sample of the shard's own points finds the share of neighbours asked for. A shard is
searched exactly where products with all points would be faster, as in truly high-dimensional data, and where it is
small. Of many equal points only as many as can matter are indexed: they would be a crowd in one cell, whose cost is a
square.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pointland.lid.data.equal_rows import EqualRows, at_most, equal_rows
from pointland.lid.data.merging import first_of, merge, recall_of
from pointland.lid.data.neighbor_cells import Cells, cut, filled, import_faiss, uncut
from pointland.lid.data.neighbors import MARGIN, Floating, Neighbors, as_vectors, measure, nearest

if TYPE_CHECKING:
    import faiss

EXACT_BELOW = 10_000  # points; products with so few cost less than making cells
SCAN = 8  # a value scanned in a cell costs at most so many times one in a product with all points
WIDER = 4  # times as many candidates where axes nominate
TUNED_ON = 256  # queries
BLOCK_QUERIES = 4096


@dataclass(frozen=True)
class NeighborIndex:
    """One shard of a reference set, ready to be searched by :func:`search_index`.

    Attributes:
        points: Those that are indexed.
        indices: Theirs in the whole set, ascending.
        k: Neighbours that it is made for.
        cells: How it is split.
        lists: FAISS's inverted lists; None if the shard is searched exactly.
        equal: The points by their hash, if there are lists.
    """

    points: Float[np.ndarray, "m d"]
    indices: Int[np.ndarray, " m"]
    k: int
    cells: Cells
    lists: "faiss.IndexIVFFlat | None"
    equal: EqualRows

    @property
    def exact(self) -> bool:
        """Whether every point is compared with every query."""
        return self.lists is None


def build_index(
    points: Float[np.ndarray | Tensor, "n *event"],
    k: int,
    *,
    start: int = 0,
    recall: float = 0.99,
    seed: int = 0,
) -> NeighborIndex:
    """Make one shard of a reference set ready for search.

    Args:
        points: The shard, float32 or float64, finite; held, not copied, unless it has many copies of one point.
        k: Neighbours that will be asked for.
        start: Index of its first point in the whole set.
        recall: Share of the ``k`` nearest in this shard to be found, on average over 256 of its points, above 0 and
            at most 1.
        seed: Of k-means and of that sample.

    Returns:
        An index of cells, or an exact one: where there are under 10,000 different points, or where so many cells would
        be needed that products with all points are faster.

    Raises:
        ImportError: If FAISS is needed and not installed.
        TypeError: If the points are not floating point.
        ValueError: If there is none, a value is not finite, or a setting is out of range.

    Cost:
        With ``r`` values, all ``d`` or 96 axes: k-means, about ``1500 n r`` float32 operations, the cells of all
        points, ``8 n^1.5 r``, and the search of the sample, ``512 n d``. Memory: ``4 n r`` bytes for the lists,
        ``60 n`` for the hashes, and while it is built ``768 sqrt(n) r``.

    Do not trust:
        The recall for queries unlike the points: it is tuned on these. Measure it (:func:`recall_of`). In a crowd of
        more than some hundred near copies that differ by noise, the axes do not see which are nearer; distances
        there are a little long, those of exact copies 0.

    Source:
        Inverted files: Sivic and Zisserman 2003, in FAISS (Douze et al. 2024, arXiv:2401.08281). The tuning is ours.
    """
    rows = as_vectors(points)
    check_settings(k, recall)
    if not len(rows) or start < 0:
        raise ValueError(f"a shard needs points and a start of at least 0, got {len(rows)} points from {start}")
    kept = at_most(rows, k + 1) if len(rows) >= EXACT_BELOW else np.arange(len(rows))
    if len(kept) >= EXACT_BELOW:
        rng = np.random.default_rng([seed, start])
        index = open_index(rows, k, cut(rows if len(kept) == len(rows) else rows[kept], kept, rng), start=start)
        n_probe = probes_for(index, recall, rng)
        if n_probe:
            return replace(index, cells=index.cells._replace(n_probe=n_probe))
    return open_index(rows, k, uncut(rows, kept), start=start)


def exact_index(points: Float[np.ndarray | Tensor, "n *event"], k: int, *, start: int = 0) -> NeighborIndex:
    """Make one shard ready for a search that compares every point with every query; see :func:`build_index`.

    Args:
        points: The shard, one a row.
        k: Neighbours that will be asked for.
        start: Number of its first point in the whole set.
    """
    rows = as_vectors(points)
    return open_index(rows, k, uncut(rows, np.arange(len(rows))), start=start)


def search_index(
    index: NeighborIndex,
    queries: Float[np.ndarray | Tensor, "q *event"],
    *,
    exclude: Int[np.ndarray, " q"] | None = None,
) -> Neighbors:
    """Find the nearest points of one shard, as many as its index was built for.

    Args:
        index: From :func:`build_index`.
        queries: Points, shape ``(q, *event)``.
        exclude: The index in the whole set of each query itself, which is then no neighbour; -1 for none. It may lie in
            another shard.

    Returns:
        Distances in float64, measured by differences, and indices into the whole set, by distance, then index. Where
        the shard has too few points: distance infinity, index -1. Feed :func:`merge` with it.

    Raises:
        TypeError: If the points are not floating point.
        ValueError: If the shapes differ, a value is not finite, or ``exclude`` is out of range.

    Cost:
        A query: ``8 sqrt(n) r`` float32 operations for the cells, ``3 r`` for each point in those looked into, and
        ``2 k`` measured distances, ``8 k`` on axes. Memory: under 0.5 GiB above index and result.
    """
    x = as_vectors(queries, "queries")
    if x.shape[1] != index.points.shape[1]:
        raise ValueError(f"queries have {x.shape[1]} values an item, the index {index.points.shape[1]}; encode alike")
    own = np.full(len(x), -1) if exclude is None else np.asarray(exclude)
    if own.shape != (len(x),) or (len(own) and own.min() < -1):
        raise ValueError(f"exclude must name one index of at least -1 a query, shape ({len(x)},), got {own.shape}")
    if index.lists is None:
        return search_all(index, x, own)
    parts = [
        search_cells(index, index.lists, x[s : s + BLOCK_QUERIES], own[s : s + BLOCK_QUERIES])
        for s in range(0, max(1, len(x)), BLOCK_QUERIES)
    ]
    return Neighbors(np.concatenate([p.distances for p in parts]), np.concatenate([p.indices for p in parts]))


def check_settings(k: int, recall: float) -> None:
    """Raise ``ValueError`` if these are no settings of an index."""
    if k < 1 or not 0 < recall <= 1:
        raise ValueError(f"an index needs k of at least 1 and a recall above 0 and at most 1, got {k} and {recall}")


def open_index(points: Floating, k: int, cells: Cells, *, start: int = 0) -> NeighborIndex:
    """Fill the cells of a split shard with its points."""
    kept = points if len(cells.kept) == len(points) else points[cells.kept]
    if not cells.n_probe:
        return NeighborIndex(kept, cells.kept + start, k, cells, None, equal_rows(kept[:0]))
    return NeighborIndex(kept, cells.kept + start, k, cells, filled(kept, cells), equal_rows(kept))


def probes_for(index: NeighborIndex, recall: float, rng: np.random.Generator) -> int:
    """Return how many cells to look into, 0 where products with all points are faster."""
    points, cells = index.points, index.cells
    sample = np.sort(rng.choice(len(points), TUNED_ON, replace=False))
    truth = nearest(points[sample], points, index.k, exclude=sample)
    n_cells, width = cells.centers.shape
    while cells.n_probe <= min(n_cells / 2, n_cells * points.shape[1] / width / SCAN):
        found = search_index(replace(index, cells=cells), points[sample], exclude=index.indices[sample])
        if recall_of(found, truth).value >= recall:
            return cells.n_probe
        cells = cells._replace(n_probe=2 * cells.n_probe)
    return 0


def search_cells(index: NeighborIndex, lists: "faiss.IndexIVFFlat", x: Floating, own: NDArray[np.int64]) -> Neighbors:
    """Nominate from the nearest cells, measure, and search exactly for queries whose cells hold too few points."""
    faiss = import_faiss()
    wider = WIDER if len(index.cells.axes) else 1
    wanted = min(wider * (index.k + 1) + MARGIN, len(index.points))
    settings = faiss.SearchParametersIVF(nprobe=index.cells.n_probe)
    _, places = lists.search(index.cells.standard(x), wanted, params=settings)
    found = measured(index, x, own, places)
    copies = index.equal.places(np.asarray(x, dtype=index.points.dtype))
    rows = np.flatnonzero(((copies >= 0) & (index.indices[copies] != own[:, None])).any(1))
    if len(rows):
        also = measured(index, x[rows], own[rows], copies[rows])
        found.distances[rows], found.indices[rows] = merge(Neighbors(found.distances[rows], found.indices[rows]), also)
    few = np.flatnonzero(found.indices[:, -1] < 0)
    if len(few):
        mended = search_all(index, x[few], own[few])
        found.distances[few], found.indices[few] = mended
    return found


def search_all(index: NeighborIndex, x: Floating, own: NDArray[np.int64]) -> Neighbors:
    """Compare every query with every point."""
    n = len(index.points)
    if n <= index.k:
        return measured(index, x, own, np.tile(np.arange(n), (len(x), 1)))
    place = np.minimum(np.searchsorted(index.indices, own), n - 1)
    here = np.where(index.indices[place] == own, place, -1)
    found = nearest(x, index.points, index.k, exclude=here)
    return first_of(found.distances, index.indices[found.indices], index.k)


def measured(index: NeighborIndex, x: Floating, own: NDArray[np.int64], places: NDArray[np.int64]) -> Neighbors:
    """Measure the points at some places of a shard, -1 for none, by differences in float64."""
    indices = np.where(places < 0, -1, index.indices[places])
    distances = measure(x, index.points, np.maximum(places, 0))
    missing = (places < 0) | (indices == own[:, None])
    return first_of(np.where(missing, np.inf, distances), np.where(missing, -1, indices), index.k)
