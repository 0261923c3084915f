from types import ModuleType

import numpy as np
import pytest

from lid_data.pieces import everyone, plane, power_law
from pointland.lid.data import Gride, Neighbors, gride, gride_set, nearest


@pytest.mark.parametrize("dim", [0.5, 2, 8, 40])
def test_intervals_of_single_queries_cover_at_every_scale(dim: float) -> None:
    found = gride(power_law(dim, 1000, 64))
    inside = ((found.low <= dim) & (dim <= found.high)).mean(0)
    assert inside.shape == (6,)
    assert ((inside >= 0.9) & (inside <= 0.99)).all()
    assert (1 / found.value).mean(0) == pytest.approx(1 / dim, rel=0.15)  # 5 standard errors at n1 = 1


@pytest.mark.parametrize("n1", [1, 8])
def test_intervals_of_sets_cover(n1: int) -> None:
    found = [gride_set(power_law(4, 100, 2 * n1, seed), [n1])[0] for seed in range(1000)]
    assert 0.9 <= np.mean([f.low <= 4 <= f.high for f in found]) <= 0.99


@pytest.mark.parametrize("d", [8, 40])
def test_agrees_with_scikit_dimension(skdim: ModuleType, d: int) -> None:
    x = plane(400, 6, d)
    oracle = skdim.id.GRIDE(multiscale=True, range_max=64).fit(x)
    found = gride_set(nearest(x, x, 64, exclude=everyone(400)))
    assert [f.n_used for f in found] == [400] * 6
    np.testing.assert_allclose([f.value for f in found], oracle.dimension_scales_, rtol=1e-9)


def test_a_group_of_near_copies_is_a_dip_in_the_curve() -> None:
    x = plane(2000, 5, 30)
    x = np.concatenate([x, x[:1] + 1e-3 * np.random.default_rng(0).standard_normal((12, 30))])
    curve = Gride()(x[:1], x, np.array([0])).value[0]
    assert curve[3] < 1  # from the 8th to the 16th neighbour the radius jumps
    assert curve[:3].max() > 5  # inside, the dimension of the jitter


def test_copies_are_zero_and_ties_infinite() -> None:
    distances = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    near = Neighbors(distances, np.zeros((3, 2), dtype=np.int64))
    assert gride(near, [1]).value[:, 0].tolist() == [0, 0, np.inf]
    assert gride_set(near, [1]) == [(0, 0, 0, 0)]


def test_bad_ladders_are_refused() -> None:
    for ladder in ([], [0], [5]):
        with pytest.raises(ValueError, match="ladder"):
            gride(power_law(2, 3, 8), ladder)
