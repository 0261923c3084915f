r"""The data-copying test :math:`C_T`: are samples nearer to the training set than held-out images are?

The space is cut into cells by k-means on the training set (after PCA). In each cell the distances to the nearest
training image of :math:`n` samples and :math:`m` held-out images are compared by Mann and Whitney's

.. math::
    U = \#\{(g, t) : d(g) > d(t)\}, \qquad Z = \frac{U - (nm/2 - 1/2)}{\sqrt{nm(n + m + 1)/12}},

and :math:`C_T` is the average of :math:`Z` weighted by the held-out share of cells, over cells with enough samples
(Meehan et al. 2020, arXiv:2004.05675). Far below 0 is copying of the whole population; it does not see 1 % of copies.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

PUBLISHED = -3.0  # standard deviations; Meehan et al. speak of "far below zero"
ENOUGH = 20


class DataCopying(NamedTuple):
    """The test's result.

    Attributes:
        value: :math:`C_T`, in standard deviations; NaN if no cell has enough samples.
        cells: :math:`Z` of each cell, NaN where it has too few.
    """

    value: float
    cells: list[float]


def data_copying(
    generated: Float[np.ndarray, " g"],
    held_out: Float[np.ndarray, " h"],
    cell_of_generated: Int[np.ndarray, " g"],
    cell_of_held_out: Int[np.ndarray, " h"],
) -> DataCopying:
    """Compute the statistic.

    Args:
        generated: Distance of each sample to the nearest training image.
        held_out: The same for held-out images.
        cell_of_generated: Cell of each sample, from 0; see :func:`cells`.
        cell_of_held_out: Cell of each held-out image.
    """
    m_all = len(held_out)
    z, weights = [], []
    for cell in range(int(max(cell_of_generated.max(initial=0), cell_of_held_out.max(initial=0))) + 1):
        g, t = generated[cell_of_generated == cell], held_out[cell_of_held_out == cell]
        n, m = len(g), len(t)
        enough = m > 0 and n > 0 and n / len(generated) > min(ENOUGH / m_all, 1.0) and n >= 2 and m >= 2
        if enough:
            u = rankdata(np.concatenate([g, t]))[:n].sum() - n * (n + 1) / 2
            z.append(float((u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12)))
        else:
            z.append(float("nan"))
        weights.append(m / m_all if enough else 0.0)
    known = np.array(weights) > 0
    if not known.any():
        return DataCopying(float("nan"), z)
    return DataCopying(float(np.average(np.array(z)[known], weights=np.array(weights)[known])), z)


def cells(
    train: Float[np.ndarray, "n d"], *others: Float[np.ndarray, "_ d"], n_cells: int = 3, seed: int = 0
) -> list[Int[np.ndarray, " _"]]:
    """Cut the space by k-means on the training set, after PCA to at most 64 values; return the cell of each other.

    At most 10,000 training images are used.

    Args:
        train: Descriptors of the training set.
        others: Sets of descriptors to assign.
        n_cells: Cells.
        seed: Of k-means.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(seed)
    some = train[rng.choice(len(train), min(len(train), 10_000), replace=False)]
    pca = PCA(min(64, *some.shape), random_state=seed).fit(some)
    means = KMeans(min(n_cells, len(some)), n_init=4, random_state=seed).fit(pca.transform(some))
    return [means.predict(pca.transform(other).astype(some.dtype)).astype(np.int64) for other in others]
