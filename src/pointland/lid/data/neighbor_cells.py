r"""A shard of points split into cells by k-means, about :math:`4\sqrt n` of them, and FAISS's inverted lists of it.

Points are standardized first, so that no square overflows or vanishes in float32 and no common offset takes its digits.
Those of more than 192 values are projected on their first 96 principal axes: k-means and scanning then cost a fraction,
and for pictures, whose energy is in few directions, the nearest are among the best there.
"""

from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pointland.lid.data.neighbors import Floating, block_of, center_of

if TYPE_CHECKING:
    import faiss

AXES = 96
AXES_FROM = 4096  # points
CELLS = 4  # times the square root of the points
TRAINING = 48  # points a cell that k-means sees
ROUNDS = 8  # of k-means


class Cells(NamedTuple):
    """A shard split by k-means: what is worth keeping of an index, besides the points.

    Attributes:
        kept: Which points of the shard are indexed, ascending.
        axes: What they are projected on; none if all values are compared.
        centers: Of the cells, standardized; none if the shard is searched exactly.
        cell: Of every kept point.
        n_probe: Cells looked into; 0 if the shard is searched exactly.
        origin: What standardizing takes off: about the mean.
        scale: What it then divides by.
    """

    kept: Int[np.ndarray, " m"]
    axes: Float[np.ndarray, "r d"]
    centers: Float[np.ndarray, "c _"]
    cell: Int[np.ndarray, " _"]
    n_probe: int
    origin: Float[np.ndarray, " d"]
    scale: float

    def standard(self, points: Floating) -> NDArray[np.float32]:
        """Return points in the coordinates of the centers."""
        standard = np.asarray((points - self.origin) / self.scale, dtype=np.float32)
        return standard @ self.axes.T if len(self.axes) else standard


def import_faiss() -> ModuleType:
    """Import FAISS, or name the extra that brings it."""
    try:
        import faiss
    except ImportError:
        raise ImportError("an index of neighbours needs FAISS: pip install 'pointland[faiss]'") from None
    found: ModuleType = faiss
    return found


def uncut(points: Floating, kept: NDArray[np.int64]) -> Cells:
    """Return no cells, for a shard that is searched exactly."""
    none = np.zeros((0, points.shape[1]), np.float32)
    return Cells(kept, none, none, np.zeros(0, np.int64), 0, center_of(points), 1.0)


def cut(points: Floating, kept: NDArray[np.int64], rng: np.random.Generator) -> Cells:
    """Split the kept points of a shard, given as such, into cells, of which one is looked into."""
    n, d = points.shape
    size = block_of(d)
    cells = uncut(points, kept)
    far = max(float(np.abs(points[s : s + size] - cells.origin).max()) for s in range(0, n, size))
    cells = cells._replace(scale=far)
    n_cells = int(CELLS * np.sqrt(n))
    seen = rng.permutation(n)[: TRAINING * n_cells]
    if d > 2 * AXES:
        cells = cells._replace(axes=principal_axes(cells.standard(points[seen[:AXES_FROM]]), rng))
    faiss = import_faiss()
    seed = int(rng.integers(2**31))
    kmeans = faiss.Kmeans(len(cells.axes) or d, n_cells, niter=ROUNDS, seed=seed, min_points_per_centroid=1)
    kmeans.train(np.concatenate([cells.standard(points[seen[s : s + size]]) for s in range(0, len(seen), size)]))
    cells = cells._replace(centers=kmeans.centroids)
    centers = flat(cells)
    cell = [centers.search(cells.standard(points[s : s + size]), 1)[1][:, 0] for s in range(0, n, size)]
    return cells._replace(cell=np.concatenate(cell), n_probe=1)


def principal_axes(points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the directions in which points about 0 vary most, one a row."""
    from sklearn.utils.extmath import randomized_svd

    found = randomized_svd(points, AXES, n_iter=3, random_state=int(rng.integers(2**31)))
    return np.asarray(found[2], dtype=np.float32)


def filled(points: Floating, cells: Cells) -> "faiss.IndexIVFFlat":
    """Return inverted lists of the kept points, each in its cell."""
    package = import_faiss()
    lists: faiss.IndexIVFFlat = package.IndexIVFFlat(flat(cells), cells.centers.shape[1], len(cells.centers))
    lists.is_trained = True
    size = block_of(points.shape[1])
    for s in range(0, len(points), size):
        part = np.ascontiguousarray(cells.standard(points[s : s + size]))
        cell = np.ascontiguousarray(cells.cell[s : s + size], dtype=np.int64)
        places = np.arange(s, s + len(part))
        lists.add_core(len(part), *(package.swig_ptr(array) for array in (part, places, cell)))
    return lists


def flat(cells: Cells) -> "faiss.IndexFlatL2":
    """Return the centers as something to search."""
    centers: faiss.IndexFlatL2 = import_faiss().IndexFlatL2(cells.centers.shape[1])
    centers.add(np.ascontiguousarray(cells.centers, dtype=np.float32))
    return centers
