"""Funnels by their laws: Tweedie, the posterior by brute force, normalization, and the dimension they state."""

import math

import pytest
import torch
from torch import Tensor

from pointland import derivatives, exact
from pointland.denoiser import score
from pointland.exact.funnel import Funnel, Funnels, funnel, funnels
from pointland.lid.flipd import flipd_exact
from pointland.lid.jacobian_spectrum import JacobianRank

MODELS: dict[str, Funnel | Funnels] = {
    "flat": funnel(6, 3, twist=0.0),
    "twisted": funnel(9, 4, seed=1),
    "steep": funnel(40, 15, seed=2, spread=5.0, twist=0.78),
    "mixture": funnels(30, (2, 5, 11), seed=3),
}


def noised(model: Funnel | Funnels, sigma: float, n: int = 6) -> Tensor:
    x = model.sample(n, seed=4, dtype=torch.float64)
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 8.0])
def test_the_score_is_the_gradient_of_the_log_density(name: str, sigma: float) -> None:
    model, at = MODELS[name], torch.tensor([sigma], dtype=torch.float64)
    x = noised(model, sigma).requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_density(x, at).sum(), x)
    found = score(model, x.detach(), at)
    # float64; numbers up to 1e3 are squared and divided by sigma^2 before they nearly cancel
    torch.testing.assert_close(found, gradient, rtol=1e-6, atol=1e-7 / sigma**2 * float(x.detach().abs().max()))


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("sigma", [0.02, 0.5, 5.0])
def test_the_jacobian_is_symmetric_positive_and_below_that_of_no_data(name: str, sigma: float) -> None:
    model, at = MODELS[name], torch.tensor([sigma], dtype=torch.float64)
    jacobian = derivatives.jacobian(model, noised(model, sigma, 3), at)
    torch.testing.assert_close(jacobian, jacobian.mT, rtol=1e-6, atol=1e-6)
    values = torch.linalg.eigvalsh(jacobian)
    assert float(values.min()) > -1e-6  # a posterior covariance over sigma^2


@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
@pytest.mark.parametrize("twist", [0.0, 0.7])
def test_the_posterior_mean_agrees_with_brute_force(sigma: float, twist: float) -> None:
    model = funnel(7, 3, seed=6, twist=twist, spread=2.0)
    x, at = noised(model, sigma, 4), torch.tensor([sigma], dtype=torch.float64)
    v = torch.linspace(-24, 24, 200_001, dtype=torch.float64)[:, None]
    angle = twist * (v / 2.0).tanh()
    means, logs = [], []
    for row in x:  # given v a Gaussian: its covariance whole, inverted by the library
        y = row - model.center
        turned = model.turned if twist else torch.zeros_like(model.axes)
        p, q = y @ model.axes, y @ turned
        along = angle.cos() * p + angle.sin() * q  # (nodes, 2)
        total = v.exp() + sigma**2
        across = y.square().sum() - (y @ model.neck) ** 2 - along.square().sum(1, keepdim=True)
        log = -0.5 * (
            v**2 / 4
            + ((v - y @ model.neck) ** 2 + across) / sigma**2
            + 2 * total.log()
            + along.square().sum(1)[:, None] / total
        )
        gain = along * v.exp() / total
        mean = v * model.neck + (gain * angle.cos()) @ model.axes.T + (gain * angle.sin()) @ turned.T
        means.append(model.center + (log.softmax(0) * mean).sum(0))
        constant = -4 * math.log(2 * math.pi) - 5 * math.log(sigma) - math.log(2.0) + math.log(48 / 200_000)
        logs.append(log.logsumexp(0)[0] + constant)
    torch.testing.assert_close(model(x, at), torch.stack(means), rtol=0, atol=1e-9)
    # across is a difference of squares over sigma^2
    torch.testing.assert_close(model.log_density(x, at), torch.stack(logs), rtol=0, atol=1e-7)


def test_the_posterior_mean_agrees_with_samples() -> None:
    model, sigma = funnel(3, 2, seed=7, spread=1.0), 1.0
    x = noised(model, sigma, 3)
    clean = model.sample(400_000, seed=8, dtype=torch.float64)
    weight = (-(x[:, None] - clean).square().sum(2) / 2).softmax(1)
    n_effective = 1 / weight.square().sum(1)
    error = 6 * (2 / n_effective).sqrt().max().item()  # six standard errors of points about 1 apart
    torch.testing.assert_close(model(x, torch.tensor([sigma], dtype=torch.float64)), weight @ clean, rtol=0, atol=error)
    assert error < 0.1


def test_the_density_has_mass_one() -> None:
    model, sigma = funnel(3, 2, seed=9, spread=0.5), torch.tensor([0.7], dtype=torch.float64)
    side = torch.linspace(-7.5, 7.5, 25, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side, side)
    mass = model.log_density(grid, sigma).exp().sum() * (15 / 24) ** 3
    assert float(mass) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_stated_dimension_is_that_of_the_jacobian(name: str) -> None:
    model = MODELS[name]
    x = model.sample(6, seed=10, dtype=torch.float64)
    keys, sigma = [str(i) for i in range(6)], 1e-4  # the narrowest of these has width 0.02
    assert JacobianRank(sigma)(model, x, keys).value.tolist() == model.lid(x).tolist()
    found = flipd_exact(model, x, torch.tensor([sigma], dtype=torch.float64)).value
    torch.testing.assert_close(found, model.lid(x), rtol=0, atol=0.02)


def test_no_plane_holds_a_twisted_funnel_and_one_holds_a_flat_one() -> None:
    for twist, dimensions in ((0.0, 4), (0.7, 7)):
        x = funnel(20, 4, twist=twist, spread=1.0).sample(500, dtype=torch.float64)
        assert int(torch.linalg.matrix_rank(x, rtol=1e-9)) == dimensions


def test_samples_belong_to_their_piece_and_are_seeded() -> None:
    model = funnels(30, (2, 5, 11), seed=3)
    x = torch.cat([piece.sample(3, seed=1) for piece in model.pieces])
    assert model.component(x).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert model.lid(x).tolist() == [2.0] * 3 + [5.0] * 3 + [11.0] * 3
    assert torch.equal(model.sample(5, seed=2), model.sample(5, seed=2))


def test_float32_and_one_sigma_an_item_change_nothing() -> None:
    model = funnel(9, 4, seed=1)
    x, at = noised(model, 0.3, 3), torch.tensor([0.3, 0.5, 0.1], dtype=torch.float64)
    together = model(x, at)
    for i in range(3):
        torch.testing.assert_close(model(x[i : i + 1], at[i : i + 1]), together[i : i + 1], rtol=1e-9, atol=1e-9)
    single = model(x.float(), at.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), together, rtol=1e-4, atol=1e-4)


def test_bad_funnels_are_refused() -> None:
    with pytest.raises(ValueError, match="2 k - 1"):
        funnel(6, 4)
    with pytest.raises(ValueError, match="spread"):
        funnel(6, 2, spread=0.0)
    with pytest.raises(ValueError, match="pi / 4"):
        funnel(6, 2, twist=1.0)
    with pytest.raises(ValueError, match="1 to 6 funnels"):
        funnels(6, ())
    with pytest.raises(ValueError, match="one a funnel"):
        exact.Funnels((funnel(6, 2),), (0.5, 0.5))
