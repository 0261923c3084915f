import warnings
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lid_data.pieces import covered, everyone, plane
from pointland.lid.data import LocalPca, explained_variance, fukunaga_olsen, local_pca, nearest, soft_count


def oracle_counts(skdim: ModuleType, x: NDArray[np.floating], indices: NDArray[np.int64], ver: str) -> list[int]:
    estimator = skdim.id.lPCA(ver=ver, alphaRatio=0.95)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 0 / 0 in its gaps
        return [int(estimator.fit(x[row]).dimension_) for row in indices]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("dim", "d", "k"), [(5, 20, 50), (5, 80, 30), (12, 12, 40), (30, 60, 25)])
def test_counts_equal_scikit_dimension(skdim: ModuleType, dim: int, d: int, k: int, dtype: type[np.floating]) -> None:
    x = (plane(300, dim, d) + 0.02 * np.random.default_rng(1).standard_normal((300, d))).astype(dtype)
    near = nearest(x[:60], x, k, exclude=everyone(60))
    eigenvalues = local_pca(near, x)
    assert eigenvalues.shape == (60, min(k, d))
    assert fukunaga_olsen(eigenvalues, k).value.tolist() == oracle_counts(skdim, x, near.indices, "FO")
    assert explained_variance(eigenvalues, k).value.tolist() == oracle_counts(skdim, x, near.indices, "ratio")
    wanted = np.stack([np.linalg.svd(p - p.mean(0), compute_uv=False) ** 2 / (k - 1) for p in x[near.indices]])
    # eigenvalues of a Gram matrix are exact to rounding of the largest; the svd here is in the dtype of x
    np.testing.assert_allclose(eigenvalues, wanted, atol=float(np.finfo(dtype).eps) * 50 * wanted.max())


@pytest.mark.parametrize("dim", [1, 4, 9])
def test_a_plane_has_its_dimension(dim: int) -> None:
    x = plane(500, dim, 40)
    found = LocalPca(k=60)(x, x, everyone(500))
    assert found.value.tolist() == [dim] * 500
    assert covered(found, dim) == 1


def test_intervals_cover_where_directions_fade() -> None:
    """Eigenvalues of a Gaussian falling past the threshold: the count itself is uncertain."""
    spread = np.sqrt(np.geomspace(1, 0.005, 20))
    exact = int((spread**2 > 0.05).sum())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 100, 20)) * spread
    eigenvalues = np.linalg.eigvalsh(np.einsum("qki,qkj->qij", x, x))[:, ::-1] / 99
    # the interval allows for ratios of two eigenvalues each free by itself: conservative
    assert covered(fukunaga_olsen(eigenvalues, 100), exact) >= 0.95


def test_copies_are_zero_everywhere() -> None:
    x = np.concatenate([np.full((60, 7), 0.1), plane(60, 3, 7)])
    near = nearest(x[:1], x, 20, exclude=np.array([0]))
    eigenvalues = local_pca(near, x)
    assert eigenvalues.tolist() == [[0] * 7]
    assert fukunaga_olsen(eigenvalues, 20).value.tolist() == [0]
    assert explained_variance(eigenvalues, 20).value.tolist() == [0]
    assert soft_count(eigenvalues, 0.1).tolist() == [0]


def test_the_soft_count_is_a_count_of_directions_wider_than_sigma() -> None:
    x = plane(2000, 6, 30)
    eigenvalues = local_pca(nearest(x[:20], x, 100, exclude=everyone(20)), x)
    np.testing.assert_allclose(soft_count(eigenvalues, 1e-4), 6, rtol=1e-6)
    assert (soft_count(eigenvalues, 100.0) < 0.01).all()
    assert soft_count(np.array([[1.0, 0.0]]), 1.0).tolist() == [0.5]
    assert soft_count(torch.tensor([[4.0, 0.0]]), 2.0).tolist() == [0.5]


def test_bad_input_is_refused() -> None:
    x = plane(30, 2, 4)
    with pytest.raises(ValueError, match="two neighbours"):
        local_pca(nearest(x, x, 1), x)
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match="share"):
            fukunaga_olsen(np.ones((1, 3)), 9, share)
        with pytest.raises(ValueError, match="share"):
            explained_variance(np.ones((1, 3)), 9, share)
    with pytest.raises(ValueError, match="sigma"):
        soft_count(np.ones((1, 3)), 0.0)
