import warnings
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from lid_data.pieces import covered, everyone, plane, power_law
from pointland.lid.data import CensoredHill, DataLid, Neighbors, censored_hill, mle, nearest, rounding_floor

JITTER = 1e-3
Kind = Literal["exact", "near", "template"]


def planted(kind: Kind, copies: int, d: int = 64) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Three pieces of different dimension with groups of copies: exact, jittered, or jittered in a part only."""
    x = np.concatenate([plane(700, dim, d, seed) for seed, dim in enumerate((4, 8, 32))])
    rng = np.random.default_rng(9)
    chosen = rng.choice(len(x), 10, replace=False)
    more = np.repeat(x[chosen], copies, axis=0)
    changed = {"exact": 0, "near": d, "template": 8}[kind]
    more[:, :changed] += JITTER * rng.standard_normal((len(more), changed))
    label = np.zeros(len(x) + len(more), dtype=bool)
    label[chosen], label[len(x) :] = True, True
    return np.concatenate([x, more]), label


@pytest.mark.parametrize("copies", [1, 3, 30])
@pytest.mark.parametrize("kind", ["exact", "near", "template"])
def test_planted_duplicates_are_told_apart(kind: Kind, copies: int) -> None:
    x, label = planted(kind, copies)
    floor = 2 * JITTER * np.sqrt(64)
    found = CensoredHill(floor)(x, x, everyone(len(x)))
    assert all(np.isfinite(part).all() for part in found)
    assert roc_auc_score(label, -found.value) >= 0.99
    assert (found.value[label] == 0).mean() > 0.6
    assert (found.value[~label] > 0).mean() > 0.999


@given(st.integers(0, 2**32 - 1), st.floats(0, 2), st.sampled_from([2, 3, 20]), st.booleans())
def test_finite_and_ordered_always(seed: int, floor: float, k: int, grid: bool) -> None:
    rng = np.random.default_rng(seed)
    distances = np.sort(rng.random((30, k)) * 2, axis=1)
    if grid:
        distances = np.round(distances * 2) / 2  # ties, zeros
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a floor far too high
        found = censored_hill(Neighbors(distances, np.zeros((30, k), dtype=np.int64)), floor)
    assert all(np.isfinite(part).all() for part in found)
    assert ((found.low <= found.value) & (found.value <= found.high) & (found.low >= 0)).all()


@pytest.mark.parametrize("dim", [0.5, 2, 8, 40])
@pytest.mark.parametrize("share", [0, 0.5, 0.9])
@pytest.mark.filterwarnings("ignore:.*lower floor:UserWarning")
def test_intervals_cover_whatever_is_censored(dim: float, share: float) -> None:
    found = censored_hill(power_law(dim, 1000, 20), float(share ** (1 / dim)))
    # conservative at the upper end by one event, as the exact interval for a count is
    assert 0.9 <= covered(DataLid(*found[:3]), dim) <= 0.995


def test_equals_the_mle_above_the_floor() -> None:
    near = power_law(5, 100, 20)
    floor = float(near.distances.min()) / 2
    np.testing.assert_allclose(censored_hill(near, floor).value, mle(near).value, rtol=1e-14)


def test_copies_are_zero_and_nobody_else_changes() -> None:
    x = plane(400, 5, 20)
    for copies in (1, 4, 30, 150):
        more = np.concatenate([x, np.repeat(x[:1], copies, axis=0)])
        before = nearest(x, x, 20, exclude=everyone(400))
        found = CensoredHill()(more, more, everyone(len(more)))
        group = np.r_[0, 400 : 400 + copies]
        assert (found.value[group] == 0).all()
        assert (found.high[group] == 0).all()
        assert (found.copies[group] == min(copies, 20)).all()
        away = ~(before.indices == 0).any(1)
        away[0] = False
        np.testing.assert_allclose(found.value[:400][away], censored_hill(before, 0.0).value[away], rtol=1e-13)


def test_a_floor_above_the_sampling_gap_warns() -> None:
    x = plane(500, 1, 6)
    with pytest.warns(UserWarning, match="pass a lower floor"):
        found = CensoredHill(0.05)(x, x, everyone(500))
    assert found.censored > 0.05


def test_the_floor_of_rounding_is_the_distance_to_the_rounded_self() -> None:
    x = np.random.default_rng(0).random((200, 3072))
    moved = np.linalg.norm(x - np.round(x * 255) / 255, axis=1).mean()
    assert rounding_floor(3072) == pytest.approx(moved, rel=0.01)


def test_bad_floors_are_refused() -> None:
    for floor in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="floor must be"):
            censored_hill(power_law(2, 3, 5), floor)
