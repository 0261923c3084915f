r"""The nearest neighbours of every point of a large set among all of them, shard by shard.

The set is read by slices, one shard at a time; an index of the shard is made
(:mod:`pointland.lid.data.neighbor_index`), all points are looked up in it, and what is found is merged with that of
other shards (:mod:`pointland.lid.data.merging`). Shards are independent: they may be dealt to several machines, and
with a folder each is kept when it is done, written whole or not at all, so that an interrupted search continues and
machines that share the folder share the work.

A sample of the points is looked up exactly as well, in the same pass, so the recall is measured and not assumed.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointland.lid.data.merging import Recall, merge, recall_of
from pointland.lid.data.neighbor_cells import Cells
from pointland.lid.data.neighbor_index import (
    NeighborIndex,
    build_index,
    check_settings,
    exact_index,
    open_index,
    search_index,
)
from pointland.lid.data.neighbor_store import load_arrays, save_arrays
from pointland.lid.data.neighbors import Floating, Neighbors, as_vectors, block_of

SHARD_VALUES = 2**28  # a GiB in float32
MEASURED_ON = 256  # queries

Read = Callable[[slice], NDArray[np.float32] | NDArray[np.float64]]


class Found(NamedTuple):
    """The nearest neighbours of every point, and how far to trust them.

    Attributes:
        neighbors: Of every point among the shards searched.
        recall: Share of the true neighbours found, on a sample of the points.
        n_shards: Shards searched.
        n_exact: Of those, searched exactly.
    """

    neighbors: Neighbors
    recall: Recall
    n_shards: int
    n_exact: int


def nearest_among(
    read: Read,
    n: int,
    k: int,
    *,
    recall: float = 0.99,
    seed: int = 0,
    part: tuple[int, int] = (0, 1),
    folder: Path | None = None,
    shard_values: int = SHARD_VALUES,
) -> Found:
    """Find the nearest neighbours of every point of a set among all others.

    Args:
        read: Returns the points of a slice, float32 or float64, the same whenever it is asked:
            ``lambda rows: points[rows]`` for an array, also one that is mapped from disk.
        n: Points.
        k: Neighbours, fewer than ``n``.
        recall: Share of the neighbours to be found, which each shard's index is tuned for.
        seed: Of k-means and samples.
        part: ``(i, m)`` searches every ``m``-th shard from the ``i``-th, one of ``m`` machines' work. The results of
            all, merged (:func:`merge`), are those of ``(0, 1)``.
        folder: Where finished shards are kept. A search that stops goes on there, and parts of other machines are
            taken from it. Nothing is kept if left out.
        shard_values: Values a shard, which bounds memory; a larger shard is searched faster.

    Returns:
        Distances in float64 and indices, by distance, then index; a copy is at distance 0, and no point its own
        neighbour. In a part with fewer than ``k`` others: infinity and -1. ``recall`` is that of this part.

    Raises:
        ImportError: If FAISS is needed and not installed.
        TypeError: If the points are not floating point.
        ValueError: If ``n``, ``k`` or a setting is out of range, a value is not finite, or the folder holds the search
            of other points or settings.

    Cost:
        For each shard, :func:`~pointland.lid.data.neighbor_index.build_index` and ``n`` queries, and ``512 n d`` for
        the recall. Memory: two to three shards and ``16 n k`` bytes twice; in ``folder``, ``16 n k`` bytes a shard.

    Example:
        >>> points = np.random.default_rng(0).standard_normal((500, 12))
        >>> found = nearest_among(lambda rows: points[rows], 500, 3)
        >>> found.neighbors.distances.shape, found.recall.value, found.n_exact
        ((500, 3), 1.0, 1)
    """
    check_settings(k, recall)
    if not k < n:
        raise ValueError(f"k is {k}, but it must be below the {n} points; lower k")
    if not 0 <= part[0] < part[1]:
        raise ValueError(f"part is (which, of how many machines), from (0, m) to (m - 1, m), got {part}")
    d = as_vectors(read(slice(0, 1))).shape[1]
    size = -(-n // -(-n * d // shard_values))  # shards alike: the last one is no small remainder
    record: dict[str, object] = {"n": n, "k": k, "recall": recall, "seed": seed, "size": size}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        record["points"] = digest(read, n, block_of(d))
    sample = np.sort(np.random.default_rng(seed).choice(n, min(n, MEASURED_ON), replace=False))
    asked = np.concatenate([as_vectors(read(slice(i, i + 1))) for i in sample.tolist()])
    neighbors, truth = nothing(n, k), nothing(len(sample), k)
    numbers = range(part[0], -(-n // size), part[1])
    n_exact = 0
    for number in numbers:
        path = None if folder is None else folder / f"neighbors-{number:06d}.npz"
        done = load_arrays(path, record)
        if done is None:
            start = number * size
            points = as_vectors(read(slice(start, min(start + size, n))))
            index = indexed(points, start, k, recall, seed, path and path.with_name(f"cells-{number:06d}.npz"), record)
            found = looked_up(index, read, n, block_of(d))
            true = search_index(exact_index(points, k, start=start), asked, exclude=sample)
            done = {
                "distances": found.distances,
                "indices": found.indices,
                "true_distances": true.distances,
                "true_indices": true.indices,
                "exact": np.array(index.exact),
            }
            save_arrays(path, record, done)
        neighbors = merge(neighbors, Neighbors(done["distances"], done["indices"]))
        truth = merge(truth, Neighbors(done["true_distances"], done["true_indices"]))
        n_exact += bool(done["exact"])
    measured = recall_of(Neighbors(neighbors.distances[sample], neighbors.indices[sample]), truth)
    return Found(neighbors, measured, len(numbers), n_exact)


def indexed(
    points: Floating, start: int, k: int, recall: float, seed: int, path: Path | None, record: Mapping[str, object]
) -> NeighborIndex:
    """Build the index of one shard, or take its cells from where they were kept."""
    kept = load_arrays(path, record)
    if kept is None:
        index = build_index(points, k, start=start, recall=recall, seed=seed)
        save_arrays(path, record, {name: np.asarray(value) for name, value in index.cells._asdict().items()})
        return index
    cells = Cells(
        kept=kept["kept"],
        axes=kept["axes"],
        centers=kept["centers"],
        cell=kept["cell"],
        n_probe=int(kept["n_probe"]),
        origin=kept["origin"],
        scale=float(kept["scale"]),
    )
    return open_index(points, k, cells, start=start)


def looked_up(index: NeighborIndex, read: Read, n: int, size: int) -> Neighbors:
    """Look all points of the set up in one shard."""
    found = nothing(n, index.k)
    for s in range(0, n, size):
        rows = slice(s, min(s + size, n))
        found.distances[rows], found.indices[rows] = search_index(
            index, read(rows), exclude=np.arange(rows.start, rows.stop)
        )
    return found


def nothing(q: int, k: int) -> Neighbors:
    """Return what a search of no points finds."""
    return Neighbors(np.full((q, k), np.inf), np.full((q, k), -1))


def digest(read: Read, n: int, size: int) -> str:
    """Name the points by their content."""
    content = hashlib.sha256()
    for s in range(0, n, size):
        points = read(slice(s, min(s + size, n)))
        content.update(f"{points.dtype} {points.shape[1:]}".encode())
        content.update(np.ascontiguousarray(points).tobytes())
    return content.hexdigest()
