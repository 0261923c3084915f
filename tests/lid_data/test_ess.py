from types import ModuleType

import numpy as np
import pytest
from scipy.special import gammaln

from lid_data.pieces import covered, everyone, plane
from pointland.lid.data import Ess, Neighbors, ess, nearest
from pointland.lid.data.ess import dimension_of, reference_table


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-5)])
@pytest.mark.parametrize(("dim", "d"), [(2, 8), (6, 40), (60, 100)])
def test_agrees_with_scikit_dimension(
    skdim: ModuleType, dim: int, d: int, dtype: type[np.floating], tolerance: float
) -> None:
    x = plane(200, dim, d).astype(dtype)
    near = nearest(x[:12], x, 40, exclude=everyone(12))
    estimator = skdim.id.ESS(random_state=0)
    # all 780 pairs: the oracle draws only beyond 5,000; its float32 answer is compared with in float64
    oracle = [estimator.fit_once(x[row].astype(np.float64)).dimension_ for row in near.indices]
    np.testing.assert_allclose(ess(near, x).value, oracle, rtol=tolerance)


def test_the_reference_is_a_ratio_of_gamma_functions() -> None:
    n = np.arange(2, 16385)
    wanted = np.exp(2 * gammaln(n / 2) - gammaln((n + 1) / 2) - gammaln((n - 1) / 2))
    table = reference_table()
    assert table[0] == 0
    np.testing.assert_allclose(table[1:], wanted, rtol=1e-9)  # gammaln of 8,192 has 12 digits left after cancelling
    assert (np.diff(table) > 0).all()
    np.testing.assert_allclose(dimension_of(table, table[[0, 4, 99]]), [1, 5, 100])


@pytest.mark.parametrize("dim", [2, 8, 64])
def test_intervals_cover_in_a_ball(dim: int) -> None:
    rng = np.random.default_rng(dim)
    direction = rng.standard_normal((1000, 100, dim))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    x = (direction * rng.random((1000, 100, 1)) ** (1 / dim)).reshape(-1, dim)
    near = Neighbors(np.ones((1000, 100)), np.arange(100_000).reshape(1000, 100))
    found = ess(near, x)
    # leaving one out overstates the error of a mean over pairs a little, so towards the upper end
    assert 0.9 <= covered(found, dim) <= 0.995
    assert found.value.mean() == pytest.approx(dim, rel=0.02)


@pytest.mark.parametrize("dim", [1, 3, 30])
def test_planes(dim: int) -> None:
    x = plane(3000, dim, 50)
    assert Ess(k=100)(x[:100], x, everyone(100)).value.mean() == pytest.approx(dim, rel=0.05, abs=0.05)


def test_copies_are_zero_only_when_all_are() -> None:
    x = np.concatenate([np.full((60, 7), 0.1), plane(60, 3, 7)])
    assert np.stack(ess(nearest(x[:1], x, 20, exclude=np.array([0])), x)).tolist() == [[0], [0], [0]]
    some = ess(nearest(x[:1], x, 80, exclude=np.array([0])), x)
    assert np.isfinite(np.stack(some)).all()
    assert some.value[0] >= 1


def test_too_few_neighbours_are_refused() -> None:
    x = plane(30, 2, 4)
    with pytest.raises(ValueError, match="three neighbours"):
        ess(nearest(x, x, 2), x)
