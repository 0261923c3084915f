import math

import pytest
import torch

from pointland import exact


@pytest.mark.parametrize("sigma", [1e-2, 0.1, 1.0, 5.0, 30.0])
def test_denoised_is_the_posterior_mean_of_full_covariances(sigma: float) -> None:
    model = exact.Mixture(exact.mixture(12, dims=(0, 2, 5), separation=4.0).pieces, (0.6, 0.3, 0.1))
    scale = torch.tensor([sigma], dtype=torch.float64)
    x = model.sample(8, dtype=torch.float64)
    x = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logs, means = [], []
    for piece, weight in zip(model.pieces, model.weights, strict=True):
        covariance = (piece.axes * piece.variances) @ piece.axes.T
        total = covariance + sigma**2 * torch.eye(12, dtype=torch.float64)
        normal = torch.distributions.MultivariateNormal(piece.mean, total)
        logs.append(normal.log_prob(x) + math.log(weight))  # type: ignore[no-untyped-call]  # torch
        means.append(piece.mean + torch.linalg.solve(total, (x - piece.mean).T).T @ covariance)
    wanted = torch.einsum("jb,jbd->bd", torch.stack(logs).softmax(0), torch.stack(means))
    # float64 through systems of condition 1 / sigma^2 = 1e4
    torch.testing.assert_close(model(x, scale), wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stable_at_small_noise(dtype: torch.dtype) -> None:
    model = exact.mixture(30, dims=(2, 4, 8))
    x, sigma = model.sample(50, dtype=dtype), torch.tensor([1e-3], dtype=dtype)
    responsible = model.responsibilities(x, sigma)
    assert bool(responsible.isfinite().all())
    torch.testing.assert_close(responsible.max(1).values, torch.ones(50, dtype=torch.float64))
    # the pull to the center is sigma^2 of the distance; float32 rounds points of size 10 to 1e-6
    torch.testing.assert_close(model(x, sigma), x, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lid_is_that_of_the_piece(dtype: torch.dtype) -> None:
    model = exact.mixture(20, dims=(2, 4, 8, 0))
    for piece in model.pieces:
        x = piece.sample(10, seed=3, dtype=dtype)
        assert model.lid(x).tolist() == [len(piece.variances)] * 10
    drawn = model.lid(model.sample(400))
    # each piece is drawn about 100 times; 5 standard deviations are 43
    assert all(57 < int((drawn == k).sum()) < 143 for k in (0, 2, 4, 8))


def test_a_point_on_a_line_inside_a_full_gaussian_has_the_line_s_dimension() -> None:
    line, whole = exact.subspace(5, 1), exact.subspace(5, 5)
    model = exact.Mixture((whole, line), (0.9, 0.1))
    assert model.lid(line.sample(6)).tolist() == [1.0] * 6
    assert model.lid(whole.sample(6)).tolist() == [5.0] * 6


def test_centers_are_apart_as_asked() -> None:
    centers = torch.stack([piece.mean for piece in exact.mixture(9, separation=7.0).pieces])
    torch.testing.assert_close(torch.pdist(centers), torch.full((3,), 7.0, dtype=torch.float64))


def test_bad_mixtures_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 2 planes, got 3"):
        exact.mixture(2, dims=(1, 1, 1))
    with pytest.raises(ValueError, match="sum to 1"):
        exact.Mixture((exact.subspace(),), (0.5,))
    with pytest.raises(ValueError, match="2 weights for 1 pieces"):
        exact.Mixture((exact.subspace(),), (0.5, 0.5))
