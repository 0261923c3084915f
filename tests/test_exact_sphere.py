import pytest
import torch
from scipy.special import ive

from pointland import derivatives, exact
from pointland.exact.sphere import bessel_ratio
from pointland.lid import Flipd, JacobianRank


@pytest.mark.parametrize("p", [2, 3, 17, 129])
def test_the_ratio_is_that_of_scipy(p: int) -> None:
    kappa = torch.logspace(0.5, 6, 40, dtype=torch.float64)
    wanted = torch.from_numpy(ive(p / 2, kappa.numpy()) / ive(p / 2 - 1, kappa.numpy()))
    torch.testing.assert_close(bessel_ratio(p, kappa), wanted, rtol=1e-9, atol=0)


def test_a_1_sphere_is_the_uniform_circle() -> None:
    circle, sphere = exact.circle(0.0, d=5, seed=3), exact.sphere(1, 5, seed=3)
    x = sphere.sample(6, dtype=torch.float64) * 1.1 + 0.05
    for sigma in (0.01, 0.3, 2.0):
        at = torch.tensor([sigma], dtype=torch.float64)
        torch.testing.assert_close(sphere(x, at), circle(x, at), rtol=1e-9, atol=1e-9)
        theirs = derivatives.jacobian(circle, x, at)
        torch.testing.assert_close(derivatives.jacobian(sphere, x, at), theirs, rtol=1e-6, atol=1e-9 / sigma**2)


@pytest.mark.parametrize(("k", "d"), [(1, 2), (2, 3), (16, 64), (50, 100)])
def test_every_dimension_is_found(k: int, d: int) -> None:
    sphere = exact.sphere(k, d, seed=1)
    x, keys = sphere.sample(4, dtype=torch.float64), [str(i) for i in range(4)]
    assert sphere.lid(x).tolist() == [float(k)] * 4
    torch.testing.assert_close(x.norm(dim=1), torch.ones(4, dtype=torch.float64))
    # curvature takes k^2 sigma^2 / 4 off and the like; at sigma 1e-3 that is far below 0.01
    assert float((Flipd(1e-3, "exact")(sphere, x, keys).value - k).abs().max()) < 0.01
    assert JacobianRank(1e-3)(sphere, x, keys).value.tolist() == [float(k)] * 4


def test_the_center_is_regular_and_bad_spheres_are_refused() -> None:
    sphere, sigma = exact.sphere(2, 4), torch.tensor([0.5], dtype=torch.float64)
    x = torch.zeros(1, 4, dtype=torch.float64)
    torch.testing.assert_close(sphere(x, sigma), x)
    wanted = sphere.axes @ sphere.axes.T / 3 / 0.25
    torch.testing.assert_close(derivatives.jacobian(sphere, x, sigma)[0], wanted.double(), rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match="does not fit"):
        exact.sphere(3, 3)
