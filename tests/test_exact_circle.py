import math

import pytest
import torch
from scipy.special import ive

from pointland import derivatives, exact


def angles(n: int = 40_000) -> torch.Tensor:
    return torch.linspace(0, 2 * math.pi, n + 1, dtype=torch.float64)[:-1]


@pytest.mark.parametrize("sigma", [1e-2, 0.1, 1.0, 10.0])
@pytest.mark.parametrize(("concentration", "d"), [(0.0, 2), (2.0, 2), (30.0, 6)])
def test_posterior_mean_and_covariance_agree_with_quadrature(sigma: float, concentration: float, d: int) -> None:
    model, scale = exact.circle(concentration, d, seed=1), torch.tensor([sigma], dtype=torch.float64)
    x = model.sample(4, dtype=torch.float64)
    x = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theta = angles()
    u = torch.stack([theta.cos(), theta.sin()], 1) @ model.axes.T
    belief = (concentration * theta.cos() + x @ u.T / sigma**2).softmax(1)
    mean = belief @ u
    second = torch.einsum("bm,md,me->bde", belief, u, u) - mean[:, :, None] * mean[:, None]
    # the trapezoid rule on a circle converges faster than any power; what is left is rounding
    torch.testing.assert_close(model(x, scale), mean, rtol=0, atol=1e-12)
    # the covariance is a difference of sums of 40,000 terms, 1e-13
    jacobian = derivatives.jacobian(model, x, scale)
    torch.testing.assert_close(jacobian, second / sigma**2, rtol=0, atol=1e-13 / sigma**2)


@pytest.mark.parametrize("sigma", [1e-4, 1e-3, 0.3, 100.0])
def test_the_shrinkage_is_the_bessel_ratio_of_scipy(sigma: float) -> None:
    model = exact.circle(0.0)
    x = torch.tensor([[0.6, 0.8], [3.0, 4.0]], dtype=torch.float64)
    r = torch.tensor([1.0, 5.0], dtype=torch.float64) / sigma**2
    wanted = torch.from_numpy(ive(1, r.numpy()) / ive(0, r.numpy()))
    found = model(x, torch.tensor([sigma], dtype=torch.float64)).norm(dim=1)
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=0)


def test_nothing_is_singular_at_the_center() -> None:
    model, sigma = exact.circle(0.0, d=3), torch.tensor([0.5], dtype=torch.float64)
    x = torch.zeros(1, 3, dtype=torch.float64)
    plane = model.axes @ model.axes.T
    torch.testing.assert_close(model(x, sigma), x)
    torch.testing.assert_close(derivatives.jacobian(model, x, sigma)[0], 0.5 / 0.25 * plane)


def test_samples_lie_on_the_circle_with_the_von_mises_mean() -> None:
    model = exact.circle(2.0, d=4)
    x = model.sample(20_000, dtype=torch.float64)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(20_000, dtype=torch.float64))
    # 5 standard errors; the mean length is I1(2) / I0(2)
    assert abs(float((x @ model.axes)[:, 0].mean()) - ive(1, 2.0) / ive(0, 2.0)) < 5 * 0.4 / 20_000**0.5
    assert model.lid(x[:3]).tolist() == [1.0, 1.0, 1.0]
    assert torch.equal(model.sample(5, seed=3), model.sample(5, seed=3))


def test_bad_circles_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        exact.circle(-1.0)
    with pytest.raises(ValueError, match="got 2"):
        exact.circle(1.0, d=1)
