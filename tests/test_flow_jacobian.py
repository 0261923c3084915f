import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pointland import exact
from pointland.lid.flow_jacobian import FlowJacobian, flow_jacobian, flow_spectrum, shares_at


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("d", "k"), [(1, 1), (3, 0), (12, 3), (8, 8)])
def test_a_plane_gives_its_dimension_at_every_scale(d: int, k: int, dtype: torch.dtype) -> None:
    plane = exact.subspace(d=d, k=k, seed=1)
    x = plane.sample(2, dtype=dtype)
    for sigma in (0.3, 0.02):
        found = FlowJacobian(sigma, n_steps=16)(plane, x, ["a", "b"])
        assert found.value.tolist() == [k, k]
        assert found.value.dtype == dtype
        wanted = torch.full((2,), k / (1 + sigma**2), dtype=dtype)
        torch.testing.assert_close(found.parts["soft_count"], wanted, rtol=5e-3, atol=5e-3)  # Heun, 16 steps


def test_along_the_manifold_singular_values_stay_and_across_they_fall_as_sigma() -> None:
    plane = exact.subspace(d=10, k=3, variances=[0.5, 1.0, 2.0])
    x = plane.sample(1, dtype=torch.float64)
    ends = []
    for sigma in (0.1, 0.01, 0.001):
        found = flow_spectrum(plane, x, torch.tensor([sigma], dtype=torch.float64), sigma_max=50.0, n_steps=48)
        ends.append(found.singular_values[-1, 0])
        torch.testing.assert_close(ends[-1][3:], torch.full((7,), sigma, dtype=torch.float64), rtol=1e-6, atol=0)
    wanted = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64).sqrt()
    torch.testing.assert_close(ends[-1][:3], wanted, rtol=2e-2, atol=0)
    assert (ends[0][3:] / ends[2][3:]).min() > 99


def test_over_the_path_the_formula_holds_at_every_scale() -> None:
    plane = exact.subspace(d=6, k=2, variances=[0.3, 2.0])
    x, sigma = plane.sample(1, dtype=torch.float64), torch.tensor([0.1], dtype=torch.float64)
    found = flow_spectrum(plane, x, sigma, sigma_max=10.0, n_steps=100)
    variances = torch.tensor([2.0, 0.3, 0, 0, 0, 0], dtype=torch.float64)
    for scale, singular in zip(found.sigmas[:, 0], found.singular_values[:, 0], strict=True):
        wanted = scale * ((variances + 0.01) / (variances + scale**2)).sqrt()
        torch.testing.assert_close(singular, wanted, rtol=5e-3, atol=0)  # Heun, 100 steps
    shares = variances / (variances + 0.01)
    for place in (40, 100):  # whatever the noise begins at
        torch.testing.assert_close(shares_at(found, place)[0], shares, rtol=0, atol=5e-3)


def test_pieces_a_curve_and_a_memorizer_have_their_own() -> None:
    mixed = exact.mixture(20, (0, 2, 8))
    x = mixed.sample(6, dtype=torch.float64)
    assert FlowJacobian(0.02)(mixed, x, list("abcdef")).value.tolist() == mixed.lid(x).tolist()
    ring = exact.circle(d=6, seed=3)
    assert FlowJacobian(0.02)(ring, ring.sample(3), list("abc")).value.tolist() == [1, 1, 1]
    x0 = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    found = FlowJacobian(0.02)(exact.points(x0), x0[:3], list("abc"))
    assert found.value.tolist() == [0, 0, 0]


def test_the_jacobian_is_that_of_the_steps_taken() -> None:
    """Against differences of the whole path, on a model that bends it."""
    mixed = exact.mixture(4, (1, 2), separation=3.0)
    x, sigma = mixed.sample(1, dtype=torch.float64), torch.tensor([0.2], dtype=torch.float64)
    found = flow_spectrum(mixed, x, sigma, sigma_max=5.0, n_steps=40)

    def up(point: Tensor) -> Tensor:
        for here, there in pairwise(torch.logspace(math.log10(0.2), math.log10(5.0), 81, dtype=torch.float64)):
            speed = (point - mixed(point, here[None])) / here
            ahead = point + (there - here) * speed
            point = point + (there - here) * (speed + (ahead - mixed(ahead, there[None])) / there) / 2
        return point

    axes = 1e-5 * torch.eye(4, dtype=torch.float64)
    ends = up(torch.cat([x + axes, x - axes]))
    columns = (ends[:4] - ends[4:]).T / 2e-5
    wanted = 5.0 / torch.linalg.svdvals(columns).flip(-1)
    torch.testing.assert_close(found.singular_values[-1, 0], wanted, rtol=2e-2, atol=0)


def test_items_are_alone_and_have_their_own_sigma() -> None:
    mixed = exact.mixture(8, (1, 3))
    x, sigma = mixed.sample(3, dtype=torch.float64), torch.tensor([0.05, 0.1, 0.2], dtype=torch.float64)
    together = flow_spectrum(mixed, x, sigma, n_steps=8)
    for i in range(3):
        alone = flow_spectrum(mixed, x[i : i + 1], sigma[i : i + 1], n_steps=8)
        torch.testing.assert_close(alone.singular_values[:, 0], together.singular_values[:, i], rtol=1e-8, atol=0)
    pictures = exact.points(torch.randn(5, 1, 2, 3, generator=torch.Generator().manual_seed(0)))
    assert FlowJacobian(0.1, n_steps=4)(pictures, pictures.x0[:2], ["a", "b"]).value.shape == (2,)


def test_errors() -> None:
    plane = exact.subspace(d=4, k=1)
    x, sigma = plane.sample(1), torch.tensor([0.1])
    with pytest.raises(ValueError, match="sigma must be positive and finite"):
        flow_jacobian(plane, x, -sigma)
    with pytest.raises(ValueError, match="below sigma_max"):
        flow_jacobian(plane, x, sigma, sigma_max=0.1)
    with pytest.raises(ValueError, match="n_steps must be at least 1"):
        flow_jacobian(plane, x, sigma, n_steps=0)
    with pytest.raises(ValueError, match="points must be finite"):
        flow_jacobian(plane, x * torch.nan, sigma)
    with pytest.raises(ValueError, match="left the finite numbers"):
        flow_jacobian(lambda point, s: point.square() * torch.inf, x, sigma)
