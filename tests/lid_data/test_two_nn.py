from types import ModuleType

import numpy as np
import pytest

from lid_data.pieces import everyone, plane, power_law
from pointland.lid.data import Neighbors, TwoNn, two_nn


@pytest.mark.parametrize("dim", [0.5, 2, 8, 40])
def test_intervals_cover(dim: float) -> None:
    found = [two_nn(power_law(dim, 500, 2, seed)) for seed in range(1000)]
    assert 0.9 <= np.mean([f.low <= dim <= f.high for f in found]) <= 0.99
    assert np.mean([f.value for f in found]) == pytest.approx(dim, rel=0.02)  # bias of order 1 / n, and its error


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-5)])
@pytest.mark.parametrize("d", [8, 40])
def test_agrees_with_scikit_dimension(skdim: ModuleType, d: int, dtype: type[np.floating], tolerance: float) -> None:
    x = plane(400, 6, d).astype(dtype)
    # float32 distances of the oracle at d = 40 come from products; it is given float64 there
    oracle = skdim.id.TwoNN(discard_fraction=0.2).fit(x.astype(np.float64)).dimension_
    assert TwoNn(0.2)(x, x, everyone(400)).value == pytest.approx(oracle, rel=tolerance)


def test_copies_are_left_out_and_counted() -> None:
    x = plane(400, 4, 9)
    more = np.concatenate([x, x[:30]])
    found = TwoNn()(more, more, everyone(430))
    assert found.n_used == 370
    assert found.low < 4 < found.high
    assert TwoNn()(np.ones((9, 3)), np.ones((9, 3)), everyone(9)) == (0, 0, 0, 0)
    ties = Neighbors(np.ones((30, 2)), np.zeros((30, 2), dtype=np.int64))
    assert two_nn(ties).value == np.inf


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="k = 2"):
        two_nn(power_law(2, 10, 1))
    for discard in (0.0, 1.0):
        with pytest.raises(ValueError, match="discard"):
            two_nn(power_law(2, 10, 2), discard)
    with pytest.raises(ValueError, match="add more"):
        two_nn(power_law(2, 2, 2))
