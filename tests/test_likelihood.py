import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pointland import draws, exact
from pointland.exact.vectors import normal_vectors, random_axes
from pointland.lid import flipd_exact
from pointland.lid.likelihood import DiffusionLidl, Lidl, lidl, slope
from pointland.lid.probability_flow import flow_log_density

DELTAS = tuple(0.01 * 10 ** (i / 7) for i in range(8))  # 0.01 to 0.1, the published eight


def log_density(mixture: exact.Mixture, x: Tensor, sigma: Tensor) -> Tensor:
    logs = [piece.log_density(x, sigma) for piece in mixture.pieces]
    return (torch.stack(logs) + torch.tensor(mixture.weights).double().log()[:, None]).logsumexp(0)


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


@pytest.mark.parametrize("powers", [0, 1, 2])
@pytest.mark.parametrize(("d", "k"), [(3, 0), (3, 3), (20, 5), (100, 30), (1024, 4)])
def test_a_plane_gives_its_dimension_within_the_stated_error(d: int, k: int, powers: int) -> None:
    plane = exact.subspace(d=d, k=k)
    x = plane.sample(8, seed=0, dtype=torch.float64)
    found = Lidl(DELTAS, powers)(plane.log_density, x)
    rounding = 1e-9 * d
    assert ((found.value - k).abs() <= 2 * found.stderr + rounding).all()
    assert (found.stderr <= (0.02 * (k + 1) if powers == 0 else 1e-3 * (k + 1))).all()
    torch.testing.assert_close(
        found.stderr**2, sum((part**2 for part in found.parts.values()), torch.zeros(8).double()), rtol=1e-6, atol=0
    )


def test_scatter_alone_would_claim_too_much() -> None:
    plane = exact.subspace(d=20, k=5)
    found = lidl(plane.log_density, plane.sample(8, seed=0, dtype=torch.float64), DELTAS, powers=0)
    assert ((found.value - 5).abs() > 3 * found.parts["regression"]).any()


@pytest.mark.parametrize("powers", [0, 1])
def test_the_error_covers_flows_that_are_each_a_little_wrong(powers: int) -> None:
    wrong = normal_vectors(8, 4000, 3)
    plane = exact.subspace(d=20, k=5)
    x = plane.sample(1, seed=0, dtype=torch.float64).expand(4000, -1)
    right = torch.stack([plane.log_density(x, torch.tensor([delta], dtype=torch.float64)) for delta in DELTAS])
    found = slope(right + 0.5 * wrong, DELTAS, powers=powers)
    errors = 20 + found.value - 5
    assert errors.mean().abs() < 4 * errors.std() / math.sqrt(4000) + 0.02  # the bias of a straight line
    # scatter is an unbiased variance: 4,000 draws give it to 3 per cent
    assert found.regression.square().mean().sqrt().item() == pytest.approx(errors.std().item(), rel=0.05)
    stated = (found.regression**2 + found.curvature**2).sqrt()
    assert 0.90 < (errors.abs() < 1.96 * stated).double().mean() <= 1


def test_a_union_gives_the_dimension_of_the_piece() -> None:
    mixture = exact.mixture(d=10, dims=(0, 1, 4))
    x = mixture.sample(12, seed=0, dtype=torch.float64)
    found = lidl(partial(log_density, mixture), x, (0.005, 0.01, 0.02, 0.04))
    torch.testing.assert_close(found.value, mixture.lid(x), atol=1e-3, rtol=0)


def test_shifts_of_the_log_density_and_other_constants_change_nothing() -> None:
    plane = exact.subspace(d=6, k=2)
    x = plane.sample(3, seed=0, dtype=torch.float64)
    found = lidl(plane.log_density, x, DELTAS)
    moved = lidl(lambda x, delta: plane.log_density(x, delta) + 17, x, DELTAS[::-1])
    torch.testing.assert_close(moved.value, found.value, rtol=0, atol=1e-7)
    order = [2, 0, 1]
    torch.testing.assert_close(lidl(plane.log_density, x[order], DELTAS).value, found.value[order])
    torch.testing.assert_close(lidl(plane.log_density, x[:1], DELTAS).value[0], found.value[0])


FULL = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.2]]).double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize(
    "model",
    [exact.gaussian(FULL, torch.tensor([1.0, -2.0, 3.0])), exact.subspace(d=8, k=3), exact.subspace(d=5, k=0)],
    ids=["full", "plane", "point"],
)
def test_the_probability_flow_gives_the_exact_log_density(
    model: exact.Gaussian, spread: float, dtype: torch.dtype
) -> None:
    sigma = torch.tensor([0.02, 0.1, 0.5, 2.0], dtype=dtype)
    noise = normal_vectors(4, len(model.mean), 9).to(dtype)
    x = model.sample(4, seed=1).to(dtype) + spread * sigma[:, None] * noise
    found = flow_log_density(model, x, sigma)
    truth = model.log_density(x, sigma)
    assert found.value.dtype == torch.float64
    assert (found.stderr == 0).all()
    torch.testing.assert_close(found.value, truth, rtol=0, atol=2e-3)  # float32, 64 steps
    assert ((found.value - truth).abs() <= found.steps + 2e-3).all()


def test_steps_converge_and_mixtures_agree() -> None:
    mixture = exact.mixture(d=4, dims=(1, 2), seed=0)
    sigma = torch.tensor([0.1], dtype=torch.float64)
    x = mixture.sample(4, seed=0, dtype=torch.float64)
    truth = log_density(mixture, x, sigma)
    errors = [
        (flow_log_density(mixture, x, sigma, n_steps=n, sigma_max=400.0).value - truth).abs().max().item()
        for n in (24, 48, 96)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]  # better than the square
    assert errors[2] < 1e-3


def test_the_slope_of_the_flow_is_flipd() -> None:
    plane = exact.subspace(d=6, k=2)
    x = plane.sample(2, seed=0, dtype=torch.float64) + 0.05
    sigma, step = torch.tensor([0.2], dtype=torch.float64), 0.01
    up, down = (flow_log_density(plane, x, sigma * math.exp(by), n_steps=200).value for by in (step, -step))
    torch.testing.assert_close(
        6 + (up - down) / (2 * step), flipd_exact(plane, x, sigma).value, rtol=0, atol=2e-2
    )  # differences of a tabulated integral


def test_probes_are_unbiased_and_their_error_is_the_stated_one() -> None:
    plane = exact.subspace(d=16, k=4)
    x = plane.sample(6, seed=0)
    sigma = torch.tensor([0.05])
    probes = draws.signs(x, names(6), 64, 0)
    found = flow_log_density(plane, x, sigma, probes=probes, n_steps=32)
    truth = flow_log_density(plane, x, sigma, n_steps=32)
    assert ((found.value - truth.value).abs() < 4.5 * found.stderr).all()
    assert (found.stderr > 0).all()
    assert flow_log_density(plane, x, sigma, probes=probes[:1], n_steps=4).stderr.isnan().all()


@pytest.mark.parametrize("k", [0, 3, 8])
def test_lidl_of_one_diffusion_model_gives_the_dimension_of_a_plane(k: int) -> None:
    plane = exact.subspace(d=8, k=k)
    x = plane.sample(3, seed=0, dtype=torch.float64).reshape(3, 2, 4)
    estimate = DiffusionLidl((0.01, 0.02, 0.04, 0.08), n_probes="exact", n_steps=48)
    found = estimate(plane, x, names(3))
    assert ((found.value - k).abs() <= 2 * found.stderr + 1e-9).all()
    assert (found.stderr < 0.02).all()
    assert (found.parts["trace"] == 0).all()


def test_lidl_with_probes_states_their_error() -> None:
    plane = exact.subspace(d=32, k=6)
    x = plane.sample(4, seed=0, dtype=torch.float64)
    estimate = DiffusionLidl((0.02, 0.04, 0.08, 0.16), n_probes=8, n_steps=24)
    found = estimate(plane, x, names(4))
    assert ((found.value - 6).abs() < 4.5 * found.stderr).all()
    assert (found.parts["trace"] > 0.1).all()
    torch.testing.assert_close(estimate(plane, x[2:3], ["2"]).value[0], found.value[2])


@given(k=st.integers(0, 4), seed=st.integers(0, 1000))
def test_rotation_and_shift_change_nothing(k: int, seed: int) -> None:
    plane, turn = exact.subspace(4, k, seed), random_axes(4, 4, seed + 5)
    x, sigma = plane.sample(2, seed, torch.float64), torch.tensor([0.1], dtype=torch.float64)

    def moved(x: Tensor, sigma: Tensor) -> Tensor:
        return plane((x - 2) @ turn.T, sigma) @ turn + 2

    found = flow_log_density(plane, x, sigma, n_steps=12).value
    torch.testing.assert_close(
        flow_log_density(moved, x @ turn + 2, sigma, n_steps=12).value, found, rtol=1e-8, atol=1e-8
    )


def test_errors() -> None:
    plane = exact.subspace(d=4, k=1)
    x = plane.sample(2, seed=0)
    sigma = torch.tensor([0.1])
    with pytest.raises(ValueError, match="takes 4 different deltas"):
        lidl(plane.log_density, x, (0.1, 0.2, 0.2, 0.1))
    with pytest.raises(ValueError, match="powers must be at least 0"):
        lidl(plane.log_density, x, DELTAS, powers=-1)
    with pytest.raises(ValueError, match="sigma must be positive and finite"):
        lidl(plane.log_density, x, (*DELTAS, 0.0))
    with pytest.raises(ValueError, match="points must be finite"):
        lidl(plane.log_density, x * torch.nan, DELTAS)
    with pytest.raises(ValueError, match=r"at delta 0\.01 is not finite"):
        lidl(lambda x, delta: plane.log_density(x, delta) / 0, x, DELTAS)
    with pytest.raises(ValueError, match=r"it must be \(b,\)"):
        lidl(lambda x, delta: plane.log_density(x, delta).sum(0, keepdim=True), x, DELTAS)
    with pytest.raises(ValueError, match="below sigma_max"):
        flow_log_density(plane, x, sigma, sigma_max=0.05)
    with pytest.raises(ValueError, match="n_steps must be even"):
        flow_log_density(plane, x, sigma, n_steps=7)
    with pytest.raises(ValueError, match="at least one probe"):
        flow_log_density(plane, x, sigma, probes=torch.empty(0, 2, 4))
    with pytest.raises(ValueError, match="points must be finite"):
        flow_log_density(plane, x * torch.nan, sigma)
    with pytest.raises(ValueError, match="left the finite numbers"):
        flow_log_density(lambda x, sigma: plane(x, sigma) * 1e30, x, sigma)
    with pytest.raises(ValueError, match="takes 4 different deltas"):
        DiffusionLidl((0.1, 0.2, 0.3))(plane, x, names(2))
