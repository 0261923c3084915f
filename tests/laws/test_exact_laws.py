"""The standing laws of every estimator, on exact models, by exact Jacobians."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pointland import draws, exact
from pointland.denoiser import Denoiser, from_network, per_item
from pointland.derivatives import jacobian, products, quadratic

Exact = exact.Circle | exact.Gaussian | exact.Mixture | exact.Points
seeds = st.integers(0, 10_000)
sigmas = st.floats(0.05, 5.0)


def lid(denoise: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """Trace of the Jacobian plus squared residual over sigma squared."""
    residual = (denoise(x, sigma) - x) / per_item(sigma, x)
    return jacobian(denoise, x, sigma).diagonal(dim1=1, dim2=2).sum(1) + residual.square().flatten(1).sum(1)


def one(sigma: float) -> Tensor:
    return torch.tensor([sigma], dtype=torch.float64)


def turn(d: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    axes: Tensor = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    return axes


@given(d=st.integers(1, 24), share=st.floats(0, 1), seed=seeds, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_a_k_plane_gives_k(d: int, share: float, seed: int, dtype: torch.dtype) -> None:
    k = round(share * d)
    plane = exact.subspace(d, k, seed)
    x, sigma = plane.sample(3, seed, dtype), torch.tensor([1e-3], dtype=dtype)
    # a soft count misses k sigma^2 = 2e-5; float32 points of size 5 are off the plane by 5e-7 in each of 24 coordinates
    torch.testing.assert_close(lid(plane, x, sigma), plane.lid(x), rtol=0, atol=1e-3)


@given(d=st.integers(1, 30), seed=seeds, sigma=st.floats(1e-3, 10.0))
def test_a_point_mass_gives_zero_at_every_scale(d: int, seed: int, sigma: float) -> None:
    point = exact.subspace(d, 0, seed)
    assert lid(point, point.sample(2, dtype=torch.float64), one(sigma)).abs().max() == 0
    alone = exact.points(point.sample(1, dtype=torch.float64))
    assert lid(alone, alone.sample(2, dtype=torch.float64), one(sigma)).abs().max() == 0


@given(d=st.integers(2, 12), seed=seeds, concentration=st.floats(0.0, 10.0))
def test_a_circle_gives_one(d: int, seed: int, concentration: float) -> None:
    circle = exact.circle(concentration, d, seed)
    # curvature and density bend the answer by (1 + concentration) sigma^2
    found = lid(circle, circle.sample(3, seed, torch.float64), one(1e-3))
    torch.testing.assert_close(found, torch.ones(3, dtype=torch.float64), rtol=0, atol=3e-5)


@given(seed=seeds, dims=st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_each_piece_of_a_mixture_gives_its_own_dimension(seed: int, dims: list[int]) -> None:
    model = exact.mixture(12, dims, seed)
    x = model.sample(6, seed, torch.float64)
    torch.testing.assert_close(lid(model, x, one(1e-3)), model.lid(x), rtol=0, atol=1e-3)


def test_every_exact_model_gives_its_own_dimension(exact_model: Exact) -> None:
    x = exact_model.sample(8, seed=4, dtype=torch.float64)
    torch.testing.assert_close(lid(exact_model, x, one(1e-3)), exact_model.lid(x), rtol=0, atol=1e-3)


@given(seed=seeds, sigma=sigmas)
def test_every_parametrization_of_one_model_agrees(exact_model: Exact, seed: int, sigma: float) -> None:
    x0, scale = exact_model.sample(3, seed, torch.float64), torch.tensor([sigma, 2 * sigma, 0.5], dtype=torch.float64)
    s = per_item(scale, x0)
    x = x0 + s * draws.normal(x0, ["a", "b", "c"], 1, seed)[0]

    def eps(scaled: Tensor, sigma: Tensor) -> Tensor:
        point = scaled * (1 + per_item(sigma, scaled) ** 2).sqrt()
        return (point - exact_model(point, sigma)) / per_item(sigma, scaled)

    def v(scaled: Tensor, sigma: Tensor) -> Tensor:
        own = per_item(sigma, scaled)
        denoised = exact_model(scaled * (1 + own**2).sqrt(), sigma)
        return (eps(scaled, sigma) - own * denoised) / (1 + own**2).sqrt()

    def sample(scaled: Tensor, sigma: Tensor) -> Tensor:
        return exact_model(scaled * (1 + per_item(sigma, scaled) ** 2).sqrt(), sigma)

    def velocity(scaled: Tensor, sigma: Tensor) -> Tensor:
        own = per_item(sigma, scaled)
        point = scaled * (1 + own)
        denoised = exact_model(point, sigma)
        return (point - denoised) / own - denoised

    wanted, slopes = exact_model(x, scale), jacobian(exact_model, x, scale)
    for network, prediction in ((eps, "epsilon"), (v, "v"), (sample, "sample"), (velocity, "velocity")):
        denoise = from_network(network, prediction)  # type: ignore[arg-type]  # one of four
        # float64: the input moves by 1e-15, the denoiser multiplies that by its slope, at most 400 at sigma = 0.05
        torch.testing.assert_close(denoise(x, scale), wanted, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(jacobian(denoise, x, scale), slopes, rtol=1e-8, atol=1e-8)


@given(seed=seeds, sigma=sigmas)
def test_turning_and_shifting_the_data_changes_nothing(exact_model: Exact, seed: int, sigma: float) -> None:
    x = exact_model.sample(3, seed, torch.float64)
    d = x[0].numel()
    q, shift = turn(d, seed), 3 * turn(d, seed + 1)[0] * (not isinstance(exact_model, exact.Circle))
    turned = moved(exact_model, q, shift)
    there = (x.flatten(1) @ q.T + shift).reshape(x.shape)
    torch.testing.assert_close(
        turned(there, one(sigma)).flatten(1), exact_model(x, one(sigma)).flatten(1) @ q.T + shift, rtol=0, atol=1e-10
    )
    # residuals of size 1 over sigma^2 = 0.0025, float64 with log densities of size 1e4
    torch.testing.assert_close(lid(turned, there, one(sigma)), lid(exact_model, x, one(sigma)), rtol=1e-8, atol=1e-8)


@given(seed=seeds, sigma=sigmas, extra=st.integers(1, 5))
def test_constant_dimensions_change_nothing(exact_model: Exact, seed: int, sigma: float, extra: int) -> None:
    x = exact_model.sample(3, seed, torch.float64).flatten(1)
    constant = turn(extra, seed)[0] * (not isinstance(exact_model, exact.Circle))
    more = torch.cat([x, constant.expand(3, -1)], 1)
    found = lid(padded(exact_model, constant), more, one(sigma))
    torch.testing.assert_close(found, lid(flat(exact_model), x, one(sigma)), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=seeds, sigma=sigmas)
def test_order_batch_and_neighbors_change_nothing(
    exact_model: Exact, dtype: torch.dtype, seed: int, sigma: float
) -> None:
    x, keys = exact_model.sample(5, seed, dtype), ["a", "b", "c", "d", "e"]
    scale = torch.tensor([sigma, 0.1, 1.0, sigma, 3.0], dtype=dtype)

    def estimate(rows: list[int]) -> Tensor:
        probes = draws.signs(x[rows], [keys[i] for i in rows], 2, 0)
        found = products(exact_model, x[rows], scale[rows], probes=probes)
        return quadratic(probes, found.products).mean(0)

    whole = estimate([0, 1, 2, 3, 4])
    # float64 inside; float32 rounds slopes of size d
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-9}[dtype]
    for rows in ([4, 3, 2, 1, 0], [2], [0, 3]):
        torch.testing.assert_close(estimate(rows), whole[rows], rtol=tolerance, atol=tolerance)


@given(seed=seeds)
def test_the_same_seed_gives_the_same_bytes(exact_model: Exact, seed: int) -> None:
    def run() -> bytes:
        x = exact_model.sample(3, seed)
        noised = x + 0.3 * draws.normal(x, ["a", "b", "c"], 1, seed)[0]
        return exact_model(noised, torch.tensor([0.3])).numpy().tobytes()

    assert run() == run()


@pytest.mark.parametrize("method", ["vjp", "jvp", "finite-difference"])
@given(seed=seeds, sigma=st.floats(0.2, 3.0))
def test_every_derivative_gives_the_same_quadratic_form(
    exact_model: Exact, method: str, seed: int, sigma: float
) -> None:
    x = exact_model.sample(2, seed, torch.float64)
    probes = draws.signs(x, ["a", "b"], 2, seed)
    found = products(exact_model, x, one(sigma), probes=probes, method=method)  # type: ignore[arg-type]
    full = jacobian(exact_model, x, one(sigma))
    wanted = torch.einsum("nbi,bij,nbj->nb", probes.flatten(2), full, probes.flatten(2))
    # a step of 0.01 sigma d^(1/2) across posteriors that switch within sigma
    tolerance = 2e-2 if method == "finite-difference" else 1e-9
    torch.testing.assert_close(quadratic(probes, found.products), wanted, rtol=tolerance, atol=tolerance)


def moved(model: Exact, q: Tensor, shift: Tensor) -> Exact:
    match model:
        case exact.Gaussian():
            return exact.Gaussian(q @ model.mean.double() + shift, q @ model.axes.double(), model.variances)
        case exact.Mixture():
            return exact.Mixture(tuple(gaussian_of(moved(piece, q, shift)) for piece in model.pieces), model.weights)
        case exact.Points():
            there = model.x0.double().flatten(1) @ q.T + shift
            return exact.Points(there.reshape(model.x0.shape), model.weights)
        case exact.Circle():
            return exact.Circle(model.concentration, q @ model.axes)


def padded(model: Exact, constant: Tensor) -> Exact:
    def wider(columns: Tensor) -> Tensor:
        return torch.cat([columns, columns.new_zeros(len(constant), columns.shape[1])])

    match model:
        case exact.Gaussian():
            return exact.Gaussian(torch.cat([model.mean, constant]), wider(model.axes), model.variances)
        case exact.Mixture():
            return exact.Mixture(tuple(gaussian_of(padded(piece, constant)) for piece in model.pieces), model.weights)
        case exact.Points():
            x0 = model.x0.double().flatten(1)
            return exact.Points(torch.cat([x0, constant.expand(len(x0), -1)], 1), model.weights)
        case exact.Circle():
            return exact.Circle(model.concentration, wider(model.axes))


def flat(model: Exact) -> Exact:
    return exact.Points(model.x0.flatten(1), model.weights) if isinstance(model, exact.Points) else model


def gaussian_of(model: Exact) -> exact.Gaussian:
    assert isinstance(model, exact.Gaussian)
    return model
