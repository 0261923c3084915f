from types import ModuleType

import numpy as np
import pytest

from lid_data.pieces import covered, everyone, plane, power_law
from pointland.lid.data import Mle, Neighbors, mle, mle_average, nearest


@pytest.mark.parametrize("dim", [0.5, 2, 8, 40])
def test_intervals_cover_and_the_value_is_right_on_average(dim: float) -> None:
    found = mle(power_law(dim, 1000, 20))
    assert 0.9 <= covered(found, dim) <= 0.99
    # E[value] = d (k - 1) / (k - 2); 5 standard errors of 1,000 draws of relative deviation 0.25
    assert abs(found.value.mean() / (dim * 19 / 18) - 1) < 0.04


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-5)])
@pytest.mark.parametrize("d", [8, 40])
def test_agrees_with_scikit_dimension(skdim: ModuleType, d: int, dtype: type[np.floating], tolerance: float) -> None:
    x = plane(400, 6, d).astype(dtype)
    oracle = skdim.id.MLE().fit(x, n_neighbors=20)
    near = nearest(x, x, 20, exclude=everyone(400))
    np.testing.assert_allclose(mle(near).value, oracle.dimension_pw_, rtol=tolerance)
    assert mle_average(near).value == pytest.approx(oracle.dimension_, rel=tolerance)


def test_one_pass_serves_a_ladder() -> None:
    x = plane(300, 3, 12)
    near = nearest(x, x, 40, exclude=everyone(300))
    for k in (5, 20, 40):
        np.testing.assert_array_equal(mle(near, k).value, Mle(k)(x, x, everyone(300)).value)


def test_copies_are_zero_and_ties_infinite() -> None:
    distances = np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    found = mle(Neighbors(distances, np.zeros((3, 3), dtype=np.int64)))
    assert found.value.tolist() == [0, 0, np.inf]
    assert found.low.tolist() == [0, 0, np.inf]


def test_the_average_leaves_out_queries_with_copies() -> None:
    near = power_law(5, 200, 20)
    clean = mle_average(near)
    near.distances[:50, 0] = 0
    assert mle_average(near).n_used == 150
    assert mle_average(near).value == pytest.approx(5, rel=0.1)
    assert clean.low < 5 < clean.high
    near.distances[:] = 0
    assert mle_average(near) == (0, 0, 0, 0)


def test_too_few_neighbours_are_refused() -> None:
    near = power_law(5, 3, 4)
    for k in (1, 5):
        with pytest.raises(ValueError, match="search for more"):
            mle(near, k)
