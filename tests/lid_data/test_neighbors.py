import tracemalloc
from inspect import unwrap

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lid_data.pieces import everyone, plane
from pointland.lid.data import nearest
from pointland.lid.data import neighbors as module
from pointland.lid.data.neighbors import as_vectors

FLOATS = [np.float32, np.float64]


def brute_force(
    x: NDArray[np.floating], y: NDArray[np.floating], k: int, own: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    distances = cdist(x.astype(np.float64), y.astype(np.float64))
    if own is not None:
        distances[np.flatnonzero(own >= 0), own[own >= 0]] = np.inf
    return np.sort(distances, 1)[:, :k]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("d", [1, 3, 10, 11, 60])
def test_agrees_with_brute_force(d: int, dtype: type[np.floating]) -> None:
    y = (plane(700, min(d, 5), d) + 3).astype(dtype)
    x = np.concatenate([y[:50], plane(50, min(d, 5), d, seed=5).astype(dtype)])
    own = np.concatenate([np.arange(50), np.full(50, -1)])
    for exclude in (None, own):
        found = nearest(x, y, 12, exclude=exclude)
        np.testing.assert_allclose(found.distances, brute_force(x, y, 12, exclude), rtol=1e-12, atol=0)
        again = np.linalg.norm(x[:, None].astype(np.float64) - y[found.indices], axis=-1)
        np.testing.assert_allclose(found.distances, again, rtol=1e-12, atol=0)
        assert exclude is None or not (found.indices == own[:, None]).any()


@pytest.mark.parametrize("d", [4, 40])
def test_blocks_change_nothing(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    y = plane(900, 4, d).astype(np.float32)
    whole = nearest(y, y, 9, exclude=everyone(900))
    monkeypatch.setattr(module, "BLOCK_QUERIES", 64)
    monkeypatch.setattr(module, "BLOCK_REFERENCE", 37)
    monkeypatch.setattr(module, "BLOCK_VALUES", 500)
    parts = nearest(y, y, 9, exclude=everyone(900))
    np.testing.assert_allclose(parts.distances, whole.distances, rtol=1e-14)
    np.testing.assert_array_equal(parts.indices, whole.indices)


@pytest.mark.parametrize("d", [3, 30])
def test_copies_count_and_the_query_itself_does_not(d: int) -> None:
    y = plane(300, 3, d)
    y[100:130] = y[0]  # more copies than neighbours
    found = nearest(y, y, 10, exclude=everyone(300))
    copies = np.r_[0, 100:130]
    assert (found.distances[copies] == 0).all()
    assert (found.indices != everyone(300)[:, None]).all()
    others = np.setdiff1d(everyone(300), copies)
    assert (found.distances[others] > 0).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("gap", [1e-3, 1e-6])
def test_near_duplicates_survive_float32_products(gap: float, dtype: type[np.floating]) -> None:
    y = 20 + 5 * plane(500, 30, 200)
    crowd = y[0] + gap * np.random.default_rng(3).standard_normal((60, 200))
    y = np.concatenate([y, crowd]).astype(dtype)
    found = nearest(y[:1], y, 15, exclude=np.array([0]))
    np.testing.assert_allclose(found.distances, brute_force(y[:1], y, 15, np.array([0])), rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 15]), st.floats(-6, 6))
def test_exact_whatever_the_scale_and_the_offset(seed: int, d: int, exponent: float) -> None:
    rng = np.random.default_rng(seed)
    y = 10**exponent * (rng.standard_normal((80, d)) + rng.standard_normal(d) * 100)
    # far from the origin the last digits of the differences are gone before anybody measures
    np.testing.assert_allclose(nearest(y, y, 5).distances, brute_force(y, y, 5, None), rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_products_may_not_overflow(scale: float) -> None:
    y = scale * plane(300, 5, 40)
    np.testing.assert_allclose(nearest(y, y, 5).distances, brute_force(y, y, 5, None), rtol=1e-12)


def test_queries_and_reference_of_different_precision() -> None:
    y = 1e4 + plane(300, 5, 40)
    x = y[:40].astype(np.float32)
    np.testing.assert_allclose(nearest(x, y, 5).distances, brute_force(x, y, 5, None), rtol=1e-12)
    single = y.astype(np.float32)
    np.testing.assert_allclose(nearest(y[:40], single, 5).distances, brute_force(y[:40], single, 5, None), rtol=1e-12)


def test_constant_data_are_all_copies() -> None:
    for d in (2, 50):
        assert (nearest(np.ones((40, d)), np.ones((40, d)), 5, exclude=everyone(40)).distances == 0).all()


def test_tensors_pictures_and_half_precision() -> None:
    y = torch.randn(60, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = nearest(y, y, 4, exclude=everyone(60))
    flat = y.flatten(1).numpy()
    np.testing.assert_array_equal(found.distances, nearest(flat, flat, 4, exclude=everyone(60)).distances)
    assert nearest(y.half(), y.half(), 4).distances.shape == (60, 4)
    assert nearest(y[:0], y, 4).distances.shape == (0, 4)


def test_memory_above_the_data() -> None:
    y = np.random.default_rng(0).standard_normal((6000, 512)).astype(np.float32)
    tracemalloc.start()
    nearest(y, y, 20, exclude=everyone(6000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**29


def test_bad_input_is_refused() -> None:
    y = np.zeros((10, 3))
    with pytest.raises(TypeError, match="encode images first"):
        unwrap(as_vectors)(np.zeros((10, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="lower k"):
        nearest(y, y, 10)
    with pytest.raises(ValueError, match="at least 1"):
        nearest(y, y, 0)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="reference hold NaN or infinity"):
            nearest(y, np.where(np.arange(10)[:, None] == 4, bad, y), 2)
    with pytest.raises(ValueError, match="queries hold NaN"):
        nearest(y * np.nan, y, 2)
    with pytest.raises(ValueError, match="encode both alike"):
        unwrap(nearest)(np.zeros((10, 4)), y, 2)  # unwrapped: what a user runs, without the shape checks of the tests
    with pytest.raises(ValueError, match="shape"):
        as_vectors(np.zeros(10))
    with pytest.raises(ValueError, match="exclude must name"):
        unwrap(nearest)(y, y[:5], 2, exclude=np.arange(3))
    with pytest.raises(ValueError, match="exclude holds"):
        nearest(y, y, 2, exclude=np.arange(10) + 1)
