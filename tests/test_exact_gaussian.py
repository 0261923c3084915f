import pytest
import torch

from pointland import exact
from pointland.exact import Gaussian

SIGMAS = [1e-3, 1e-2, 0.1, 1.0, 10.0]
COVARIANCE = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.2]], dtype=torch.float64)


def pieces() -> list[Gaussian]:
    return [
        exact.gaussian(COVARIANCE, torch.tensor([3.0, 0.0, -1.0])),
        exact.subspace(9, 4, variances=[0.1, 0.5, 1.0, 4.0]),
    ]


@pytest.mark.parametrize("model", pieces())
@pytest.mark.parametrize("sigma", SIGMAS)
def test_denoised_is_the_textbook_posterior_mean(model: Gaussian, sigma: float) -> None:
    covariance = (model.axes * model.variances) @ model.axes.T
    scale = torch.tensor([sigma], dtype=torch.float64)
    x = model.sample(5, dtype=torch.float64)
    x = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total = covariance + sigma**2 * torch.eye(len(model.mean), dtype=torch.float64)
    solved = torch.linalg.solve(total, (x - model.mean).T).T
    # the textbook form solves a system of condition 4 / sigma^2
    torch.testing.assert_close(model(x, scale), model.mean + solved @ covariance, rtol=0, atol=1e-15 / sigma**2 + 1e-13)
    normal = torch.distributions.MultivariateNormal(model.mean, total)
    density = normal.log_prob(x)  # type: ignore[no-untyped-call]  # torch
    torch.testing.assert_close(model.log_density(x, scale), density, rtol=1e-14 / sigma**2 + 1e-12, atol=0)


@pytest.mark.parametrize("model", pieces())
def test_soft_count_is_the_trace_and_the_expected_denoising_loss(model: Gaussian) -> None:
    n, sigma = 20_000, torch.tensor([0.5], dtype=torch.float64)
    count = float(model.soft_count(sigma))
    kept = torch.func.jacrev(lambda point: model(point[None], sigma)[0])(model.mean.clone())
    assert float(kept.trace()) == pytest.approx(count, rel=1e-12)
    x0 = model.sample(n, seed=3, dtype=torch.float64)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    loss = (model(x0 + sigma * noise, sigma) - x0).square().sum(1) / float(sigma) ** 2
    assert abs(float(loss.mean()) - count) < 4 * float(loss.std()) / n**0.5


def test_soft_count_falls_from_the_rank_to_zero() -> None:
    plane = exact.subspace(20, 5, variances=[0.1, 0.5, 1.0, 2.0, 4.0])
    counts = plane.soft_count(torch.tensor([1e-4, 0.1, 1.0, 10.0, 1e4]))
    assert counts.dtype == torch.float32
    assert float(counts[0]) == pytest.approx(5, abs=1e-5)
    assert bool((counts.diff() < 0).all())
    assert float(counts[-1]) == pytest.approx(0, abs=1e-6)


def test_samples_have_the_covariance_and_are_the_same_for_the_same_seed() -> None:
    model = exact.gaussian(COVARIANCE, torch.tensor([3.0, 0.0, -1.0]))
    x = model.sample(100_000, seed=5)
    assert x.dtype == torch.float32
    # 5 standard errors, 2 sqrt(2 / n)
    torch.testing.assert_close(torch.cov(x.T.double()), COVARIANCE, rtol=0, atol=0.045)
    assert torch.equal(x[:10], model.sample(100_000, seed=5)[:10])
    assert not torch.equal(x[:10], model.sample(10, seed=6))


def test_a_singular_covariance_keeps_its_rank_in_either_dtype() -> None:
    a = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert len(exact.gaussian(a @ a.T).variances) == 3
    assert len(exact.gaussian((a @ a.T).float()).variances) == 3
    assert len(exact.gaussian(torch.zeros(4, 4)).variances) == 0


@pytest.mark.parametrize("bad", [[[1.0, 1.0], [0.0, 1.0]], [[1.0, 2.0], [2.0, 1.0]]])
def test_what_is_no_covariance_is_refused(bad: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="symmetric"):
        exact.gaussian(torch.tensor(bad))


def test_points_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lives in 20 dimensions, got x of shape \(2, 3, 7\)"):
        exact.subspace()(torch.zeros(2, 3, 7), torch.tensor([1.0]))
