import pytest
import torch
from scipy import stats
from torch import Tensor

from pointland import draws, exact
from pointland.lid.flipd import Flipd, flipd_exact
from pointland.lid.trace import FlipdLowRank, flipd_low_rank

Exact = exact.Circle | exact.Gaussian | exact.Mixture | exact.Points


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("d", "k"), [(4, 0), (20, 5), (48, 40), (100, 30), (1024, 4), (16_384, 3)])
def test_two_probes_more_than_the_dimension_are_exact(d: int, k: int, dtype: torch.dtype) -> None:
    plane = exact.subspace(d=d, k=k)
    x = plane.sample(2, seed=0, dtype=dtype)
    found = FlipdLowRank(0.05, k + 2)(plane, x, names(2))
    soft = plane.soft_count(torch.tensor([0.05], dtype=dtype)) * torch.ones(2, dtype=dtype)
    torch.testing.assert_close(found.parts["trace"], soft, rtol=1e-5, atol=1e-5)
    assert (found.stderr < 1e-3).all()
    torch.testing.assert_close(found.parts["trace"] + found.parts["residual"], found.value)
    # k sigma^2 = 0.1 of 40; float32 points of size 1 in 16,384 coordinates are off the plane by 1e-7 / 0.05 each
    assert ((found.value - k).abs() < 0.01 + 0.005 * k).all()


def test_a_memorizer_is_zero_without_error() -> None:
    x0 = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    found = FlipdLowRank(0.1, 4)(exact.points(x0), x0[:3], names(3))
    assert found.value.abs().max() < 1e-4
    assert found.stderr.max() < 1e-4


def test_any_jacobian_has_its_trace_in_the_mean_and_within_the_error() -> None:
    """Not symmetric, not low-rank, of both signs."""
    matrix = torch.randn(20, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x @ matrix.T

    x = torch.zeros(1000, 20, dtype=torch.float64)
    for n in (2, 3, 10, 20):
        found = FlipdLowRank(1.0, n)(denoise, x, names(1000))
        error = found.value - matrix.trace()
        assert abs(float(error.mean())) < 4.5 * float(error.std()) / 1000**0.5
        assert error.square().mean() < 1.2 * found.stderr.square().mean()  # the jackknife errs on the large side


def test_one_jackknifed_estimate_is_that_of_fewer_probes() -> None:
    """With three probes the jackknife sees the three estimates of two probes each."""
    mixture = exact.mixture(d=16, dims=(6, 5), seed=0)
    x, sigma = mixture.sample(2, seed=0, dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)
    probes = draws.signs(x, names(2), 3, 0)
    pairs = torch.stack(
        [flipd_low_rank(mixture, x, sigma, probes=probes[rows]).parts["trace"] for rows in ([1, 2], [0, 2], [0, 1])]
    )
    wanted = (pairs.var(0, correction=0) * 2).sqrt()
    torch.testing.assert_close(flipd_low_rank(mixture, x, sigma, probes=probes).stderr, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("k", "n"), [(8, 4), (32, 4), (32, 8), (60, 4)])
def test_intervals_cover(k: int, n: int) -> None:
    plane = exact.subspace(d=64, k=k)
    x = plane.sample(1, seed=0).expand(1000, 64)
    found = FlipdLowRank(0.01, n)(plane, x, names(1000))
    covered = (found.value - k).abs() <= float(stats.t.ppf(0.975, n - 1)) * found.stderr + 1e-2
    assert 0.9 <= covered.float().mean() <= 0.99


def test_it_beats_plain_probes_of_the_same_cost_once_it_sees_the_rank() -> None:
    plane = exact.subspace(d=200, k=12)
    x = plane.sample(1, seed=0).expand(50, 200)
    low = (FlipdLowRank(0.01, 14)(plane, x, names(50)).value - 12).std()
    plain = (Flipd(0.01, 28)(plane, x, names(50)).value - 12).std()
    assert low < 0.01 * plain


def test_every_exact_model_within_the_error_and_low_ranks_exactly(exact_model: Exact) -> None:
    x, sigma = exact_model.sample(3, seed=4, dtype=torch.float64), torch.tensor([0.4, 0.1, 1.0], dtype=torch.float64)
    d = x[0].numel()
    # sign probes repeat in 2 and 3 dimensions, and repeated draws show no spread
    found = flipd_low_rank(exact_model, x, sigma, probes=draws.normal(x, names(3), d, 0))
    error = (found.value - flipd_exact(exact_model, x, sigma).value).abs()
    assert (error <= 6 * found.stderr + 1e-3).all()
    if isinstance(exact_model, exact.Gaussian) and len(exact_model.variances) < d - 1:
        assert (error < 1e-6).all()


def test_batch_order_and_neighbours_change_nothing() -> None:
    model = exact.mixture(d=24, dims=(0, 3, 9), seed=0)
    x, keys = model.sample(5, seed=0, dtype=torch.float64), names(5)
    found = FlipdLowRank(0.3, 6)(model, x, keys)
    for rows in ([4, 3, 2, 1, 0], [2], [0, 3]):
        again = FlipdLowRank(0.3, 6)(model, x[rows], [keys[i] for i in rows])
        torch.testing.assert_close(again.value, found.value[rows], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(again.stderr, found.stderr[rows], rtol=1e-4, atol=1e-5)
    picture = FlipdLowRank(0.3, 6)(model, x.reshape(5, 2, 3, 4), keys)
    torch.testing.assert_close(picture.value, found.value, rtol=1e-6, atol=1e-6)


def test_errors() -> None:
    plane = exact.subspace(d=4, k=1)
    x = plane.sample(1, seed=0)
    for n in (1, 5):
        with pytest.raises(ValueError, match=f"2 to 4 probes, got {n}"):
            FlipdLowRank(0.1, n)(plane, x, ["a"])
    with pytest.raises(ValueError, match="sigma must be positive and finite"):
        FlipdLowRank(0.0)(plane, x, ["a"])
