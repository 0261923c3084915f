import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from lid_data.pieces import everyone, plane
from pointland import exact
from pointland.lid.data import Kernel, kernel
from pointland.lid.data.kernel import block_of_queries
from pointland.lid.flipd import flipd_exact


def cloud(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0])
def test_equals_flipd_of_the_perfect_memorizer(sigma: float, dtype: torch.dtype) -> None:
    x0 = cloud(50, dtype)
    x = x0[:8] + 0.3
    scale = torch.tensor([sigma], dtype=torch.float64)
    wanted = flipd_exact(exact.points(x0.double()), x.double(), scale).value.numpy()
    np.testing.assert_allclose(kernel(x, x0, sigma).value, wanted, rtol=1e-9)
    at_the_points = flipd_exact(exact.points(x0.double()), x0[:8].double(), scale).value.numpy()
    np.testing.assert_allclose(kernel(x0[:8], x0, sigma).value, at_the_points, rtol=1e-9, atol=1e-12)


def test_leaving_out_is_as_if_the_point_were_not_there() -> None:
    x = plane(60, 3, 20)
    out = kernel(x, x, 0.7, exclude=everyone(60))
    for i in (0, 31, 59):
        alone = kernel(x[i : i + 1], np.delete(x, i, axis=0), 0.7)
        for left, right in zip(out, alone, strict=True):
            assert left[i] == pytest.approx(right[0], rel=1e-12)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = plane(90, 3, 20)
    whole = kernel(x, x, 0.3, exclude=everyone(90))
    settings = block_of_queries.__globals__
    monkeypatch.setitem(settings, "BLOCK_QUERIES", 7)
    monkeypatch.setitem(settings, "BLOCK_REFERENCE", 1)  # blocks that hold nothing but the query itself
    parts = kernel(x, x, 0.3, exclude=everyone(90))
    np.testing.assert_allclose(np.stack(parts), np.stack(whole), rtol=1e-9)


def test_intervals_cover_inside_a_plane() -> None:
    rng = np.random.default_rng(0)
    covering = []
    for _ in range(1000):
        sample = rng.random((400, 2)) * 2 - 1
        found = kernel(np.zeros((1, 2)), sample, 0.12)
        covering.append(bool(found.low[0] <= 2 <= found.high[0]))
        assert 5 < found.n_eff[0] < 100
    assert 0.9 <= np.mean(covering) <= 0.99


def test_copies_are_zero_without_a_division_by_zero() -> None:
    x = 30 + plane(50, 4, 100)
    x = np.concatenate([x, x[:1], x[:1] + 1e-9])
    found = kernel(x, x, 1e-3, exclude=everyone(52))
    assert all(np.isfinite(part).all() for part in found)
    assert found.value[[0, 50, 51]] == pytest.approx([0, 0, 0], abs=1e-9)
    assert found.n_eff[0] == pytest.approx(2)
    assert (found.value[1:50] > 1000).all()  # nothing within sigma: no dimension, and n_eff says so
    assert (found.n_eff[1:50] < 4).all()


def test_near_duplicates_are_measured_by_differences() -> None:
    x = np.random.default_rng(0).standard_normal((30, 50)) * 1e3
    x[1:4] = x[0] + 1e-6 * np.random.default_rng(1).standard_normal((3, 50))
    t = cdist(x[:1], x[1:]) ** 2 / 1e-10
    w = np.exp(-(t - t.min()) / 2)
    wanted = (w * t).sum() / w.sum()
    assert kernel(x[:1], x, 1e-5, exclude=np.array([0])).value[0] == pytest.approx(wanted, rel=1e-9)


def test_bad_input_is_refused() -> None:
    x = plane(10, 2, 4)
    for sigma in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match="sigma"):
            Kernel(sigma)(x, x)
    with pytest.raises(ValueError, match="no reference point"):
        kernel(x[:1], x[:1], 1.0, exclude=np.array([0]))
    with pytest.raises(ValueError, match="NaN"):
        kernel(x, x * np.nan, 1.0)
