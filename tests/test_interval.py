"""The 95 % intervals contain the true dimension in 90 to 99 % of draws; benchmarks/lid_coverage.py has more."""

from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from pointland import draws, exact
from pointland.denoiser import Denoiser
from pointland.lid import (
    DenoisingLoss,
    DiffusionLidl,
    FilteredSpectrum,
    Flipd,
    FlipdLowRank,
    JacobianRank,
    LidEstimate,
    NormalBundle,
    NormalBundleSketch,
)
from pointland.lid.flipd import flipd_exact
from pointland.lid.interval import SLACK, count_interval, normal_interval, sampled_dispersion, trace_interval

Estimator = Callable[[Denoiser, Tensor, list[str]], LidEstimate]

RANDOM: dict[str, Estimator] = {
    "loss 2": DenoisingLoss(0.01, 2),
    "loss 8": DenoisingLoss(0.01, 8),
    "loss 8 antithetic": DenoisingLoss(0.01, 8, antithetic=True),
    "flipd 1": Flipd(0.01, 1),
    "flipd 4": Flipd(0.01, 4),
    "spectrum 4x2": FilteredSpectrum(0.01, 4, n_steps=2),
}


def covered(estimator: Estimator, denoise: Denoiser, x: Tensor, k: int) -> float:
    found = estimator(denoise, x, [str(i) for i in range(len(x))])
    return float(((found.low <= k) & (k <= found.high)).double().mean())


@pytest.mark.parametrize("name", list(RANDOM))
@pytest.mark.parametrize(("d", "k"), [(64, 1), (64, 2), (64, 8), (256, 200)])
def test_intervals_of_random_counts_cover(name: str, d: int, k: int) -> None:
    plane = exact.subspace(d=d, k=k, seed=1)
    # 400 draws: 0.9 to 0.99 less and more two standard errors of a share of 0.95
    assert 0.9 <= covered(RANDOM[name], plane, plane.sample(400, seed=2), k) <= 1 - 1 / 400


@pytest.mark.parametrize("name", list(RANDOM))
def test_dimension_zero_is_certain(name: str) -> None:
    point = exact.subspace(d=64, k=0)
    found = RANDOM[name](point, point.sample(3), list("abc"))
    assert found.low.tolist() == [0, 0, 0]
    assert float(found.high.max()) <= 2 * SLACK


def test_the_circle_and_the_likelihood() -> None:
    ring = exact.circle(d=20, seed=3)
    assert covered(DenoisingLoss(0.01, 4), ring, ring.sample(300, seed=2), 1) >= 0.9
    plane = exact.subspace(d=16, k=2, seed=1)
    lidl = DiffusionLidl((0.01, 0.014, 0.02, 0.028), n_probes=4, n_steps=8)
    assert covered(lidl, plane, plane.sample(150, seed=2), 2) >= 0.9


@pytest.mark.parametrize("n", [4, 16])
def test_the_low_rank_trace_errs_on_the_long_side(n: int) -> None:
    plane = exact.subspace(d=128, k=40, seed=1)
    assert covered(FlipdLowRank(0.01, n), plane, plane.sample(200, seed=2), 40) >= 0.93
    small = exact.subspace(d=128, k=2, seed=1)
    found = FlipdLowRank(0.01, n)(small, small.sample(4, seed=2), list("abcd"))
    torch.testing.assert_close(found.high - found.low, torch.full((4,), 2 * SLACK), rtol=0, atol=5e-3)


@pytest.mark.parametrize("estimator", [JacobianRank(0.1), NormalBundle(0.1), NormalBundleSketch(0.1)])
def test_a_clear_count_has_no_width_and_one_without_a_gap_has(
    estimator: JacobianRank | NormalBundle | NormalBundleSketch,
) -> None:
    clear = exact.subspace(d=24, k=5)
    found = estimator(clear, clear.sample(2), ["a", "b"])
    assert found.low.tolist() == found.value.tolist() == found.high.tolist() == [5, 5]
    vague = exact.subspace(d=24, k=24, variances=torch.logspace(-4, 0, 24).tolist())
    found = estimator(vague, vague.sample(2), ["a", "b"])
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()
    assert (found.low < found.high).all()


def test_too_few_directions_leave_the_upper_end_open() -> None:
    plane = exact.subspace(d=64, k=30)
    found = JacobianRank(0.01, n_most=8)(plane, plane.sample(1), ["a"])
    assert (found.low.item(), found.high.item()) == (8, 64)


def test_an_exact_trace_is_its_own_interval() -> None:
    plane = exact.subspace(d=12, k=3)
    found = flipd_exact(plane, plane.sample(2), torch.tensor([0.01]))
    torch.testing.assert_close(found.high - found.low, torch.full((2,), 2 * SLACK))


def test_the_chi_square_is_inverted() -> None:
    value, n = torch.tensor([0.5, 1.0, 7.0, 300.0], dtype=torch.float64), 6
    found = count_interval(value, n)
    for v, low, high in zip(value.tolist(), found.low.tolist(), found.high.tolist(), strict=True):
        assert stats.chi2.sf(n * v, n * (low + SLACK)) == pytest.approx(0.025, abs=1e-6)
        assert stats.chi2.cdf(n * v, n * (high - SLACK)) == pytest.approx(0.025, abs=1e-6)


def test_signs_in_many_dimensions_are_as_noise_and_in_few_are_shorter() -> None:
    value = torch.tensor([4.0], dtype=torch.float64)
    noise, many, few = (count_interval(value, 4, d=d) for d in (None, 10**6, 5))
    torch.testing.assert_close(many.high, noise.high, rtol=1e-4, atol=0)
    assert few.high <= 5 < noise.high
    assert few.low > noise.low
    every = count_interval(torch.tensor([5.0], dtype=torch.float64), 4, d=5)
    assert every.high.item() == 5


def test_dispersion_widens_and_a_spread_below_the_planes_does_not_narrow() -> None:
    value = torch.tensor([10.0, 10.0])
    wide = count_interval(value, 4, dispersion=torch.tensor([1.0, 9.0]))
    # nine times the variance is three times the width, and more above than below
    assert 2.5 < float((wide.high[1] - wide.low[1]) / (wide.high[0] - wide.low[0])) < 3.5
    assert sampled_dispersion(torch.full((4, 1), 10.0)).item() == 1
    assert sampled_dispersion(torch.full((1, 1), 10.0)).item() == 1
    assert sampled_dispersion(torch.tensor([[0.0], [20.0]])).item() == pytest.approx(200 / 20)


def test_a_network_with_eigenvalues_outside_is_covered_and_a_negative_trace_is_normal() -> None:
    d = 200
    axes = exact.subspace(d=d, k=d, seed=0).axes
    values = torch.zeros(d, dtype=torch.float64)
    values[:10], values[10:60], values[60:110] = 1.0, 0.5, -0.5
    matrix = axes @ torch.diag(values) @ axes.T
    probes = draws.signs(torch.zeros(400, d, dtype=torch.float64), [str(i) for i in range(400)], 4, 0)
    products = probes @ matrix
    for shift, truth in ((0.0, 10.0), (-30.0, -20.0)):
        traces = (probes * products).sum(-1) + shift
        found = trace_interval(traces, products.square().sum(-1), d, signs=True)
        assert 0.9 <= float(((found.low <= truth) & (truth <= found.high)).double().mean()) <= 1


def test_students_interval() -> None:
    found = normal_interval(torch.tensor([1.0]), torch.tensor([2.0]), freedom=3)
    assert found.high.item() == pytest.approx(1 + 2 * stats.t.ppf(0.975, 3) + SLACK)
