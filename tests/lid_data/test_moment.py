from types import ModuleType

import numpy as np
import pytest

from lid_data.pieces import covered, everyone, plane, power_law
from pointland.lid.data import Moment, Neighbors, moment, nearest


@pytest.mark.parametrize("dim", [0.5, 2, 8, 40])
def test_intervals_cover_and_the_value_is_right_on_average(dim: float) -> None:
    found = moment(power_law(dim, 1000, 20))
    assert 0.9 <= covered(found, dim) <= 0.99
    # the mean of (value + 1) (k - 1) / k is d + 1 but for its own variance, up to 1 / (k - 2)
    assert 0.97 < np.mean((found.value + 1) * 19 / 20) / (dim + 1) < 1.08


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-5)])
@pytest.mark.parametrize("d", [8, 40])
def test_agrees_with_scikit_dimension(skdim: ModuleType, d: int, dtype: type[np.floating], tolerance: float) -> None:
    x = plane(400, 6, d).astype(dtype)
    oracle = skdim.id.MOM().fit(x, n_neighbors=20)
    np.testing.assert_allclose(Moment(20)(x, x, everyone(400)).value, oracle.dimension_pw_, rtol=tolerance)


def test_one_pass_serves_a_ladder() -> None:
    x = plane(300, 3, 12)
    near = nearest(x, x, 40, exclude=everyone(300))
    np.testing.assert_array_equal(moment(near, 5).value, Moment(5)(x, x, everyone(300)).value)


def test_copies_are_zero_and_ties_infinite() -> None:
    distances = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0], [1.0, 1.0, 1.0]])
    found = moment(Neighbors(distances, np.zeros((3, 3), dtype=np.int64)))
    assert found.value.tolist() == [0, 0.5, np.inf]
    assert found.high[0] == 0
    assert not np.isnan(np.stack(found)).any()


def test_too_few_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="search for more"):
        moment(power_law(5, 3, 4), 1)
