import math

import pytest
import torch

from pointland import exact
from pointland.lid.denoising_loss import DenoisingLoss
from pointland.lid.flipd import Flipd
from pointland.lid.plateau import OnPlateau, common_plateau, knee, plateau

Exact = exact.Circle | exact.Gaussian | exact.Mixture | exact.Points
SIGMAS = tuple(torch.logspace(-2, math.log10(0.5), 13, dtype=torch.float64).tolist())


def names(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def whole(sigma: float) -> Flipd:
    return Flipd(sigma, "exact")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_exact_model_gives_its_own_dimension(exact_model: Exact, dtype: torch.dtype) -> None:
    x = exact_model.sample(6, seed=4, dtype=dtype)
    found = OnPlateau(whole, SIGMAS)(exact_model, x, names(6))
    assert (found.value - exact_model.lid(x)).abs().mean() <= 0.05
    assert (found.parts["width"] > 1).all()
    assert found.value.dtype == dtype


@pytest.mark.parametrize("dims", [(0, 2, 8, 30), (10, 25, 50)])
def test_planes_in_a_hundred_dimensions(dims: tuple[int, ...]) -> None:
    model = exact.mixture(100, dims)
    x = model.sample(4, seed=0)
    found = OnPlateau(whole, SIGMAS)(model, x, names(4))
    assert (found.value - model.lid(x)).abs().mean() <= 0.05


def test_a_circle_in_space_and_a_memorizer() -> None:
    circle = exact.circle(d=20)
    found = OnPlateau(whole, SIGMAS)(circle, circle.sample(16, seed=0), names(16))
    assert (found.value - 1).abs().mean() <= 0.05
    x0 = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    memorizer = exact.points(x0)
    assert OnPlateau(whole, SIGMAS)(memorizer, x0[:16], names(16)).value.abs().mean() <= 0.05


def test_two_scales_have_two_plateaus_and_the_grid_says_which() -> None:
    """A sheet of thickness 0.001 around a plane: 12 dimensions below it, 3 above."""
    sheet = exact.subspace(d=12, k=12, variances=[1.0] * 3 + [1e-6] * 9)
    x = sheet.sample(3, seed=0, dtype=torch.float64)
    for low, high, k in ((-6, -4, 12), (-2.3, -0.3, 3)):
        sigmas = tuple(torch.logspace(low, high, 11, dtype=torch.float64).tolist())
        found = OnPlateau(whole, sigmas)(sheet, x, names(3))
        assert (found.value - k).abs().max() < 0.3


def test_a_model_that_resolves_nothing_below_a_scale_is_read_above_it() -> None:
    sigmas = torch.logspace(-3, 0, 25, dtype=torch.float64)
    curve = 5 / (1 + sigmas**2) + (0.01 / sigmas) ** 1.5
    found = plateau(sigmas, curve[:, None])
    assert abs(found.value.item() - 5) < 0.3
    assert 0.03 < found.sigma.item() < 0.3
    assert found.width.item() > 1


def test_a_sample_agrees_on_the_scale_where_single_items_err() -> None:
    """Sixty items of 2, 4 or 8 dimensions; below 0.05 all ten directions are counted, and every curve is noisy."""
    sigmas = torch.logspace(-2, -0.3, 13, dtype=torch.float64)
    truth = torch.tensor([2.0, 4.0, 8.0]).double().repeat(20)
    seen = torch.sigmoid(8 * (sigmas / 0.05).log())[:, None]
    noise = 0.2 * torch.randn(13, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    curves = truth / (1 + sigmas[:, None] ** 2) * seen + 10 * (1 - seen)
    sigma = common_plateau(sigmas, curves + noise * seen, d=10)
    assert 0.08 < sigma < 0.35
    assert (curves[sigmas == sigma] - truth).abs().mean() < 0.3
    everywhere = torch.full((13, 4), 10.0, dtype=torch.float64)
    assert common_plateau(sigmas, everywhere, d=10) == float(sigmas[2])  # a full-rank model has that plateau alone


def test_no_plateau_has_no_width() -> None:
    sigmas = torch.logspace(-2, 0, 17, dtype=torch.float64)
    found = plateau(sigmas, -20 * sigmas.log()[:, None])
    assert found.width.item() < 0.5
    assert found.slope.item() == pytest.approx(-20)


def test_one_bad_value_does_not_become_the_answer() -> None:
    sigmas = torch.logspace(-2, -0.5, 13)
    curve = 5 / (1 + sigmas**2)
    curve[1] = 400.0
    found = plateau(sigmas, curve[:, None])
    assert abs(found.value.item() - 5) < 0.2


def test_the_knee_of_a_hull() -> None:
    x = torch.linspace(0, 1, 101, dtype=torch.float64)
    curve = torch.where(x < 0.2, 10 - 45 * x, 1.25 - 1.25 * x)
    bumpy = curve.clone()
    bumpy[30] += 5  # above the hull: no matter
    assert knee(x, torch.stack([curve, bumpy], 1)).tolist() == [20, 20]


def test_items_are_alone_and_any_estimator_will_do() -> None:
    model = exact.mixture(16, dims=(0, 2, 6))
    x, keys = model.sample(5, seed=0), names(5)
    estimator = OnPlateau(lambda sigma: DenoisingLoss(sigma, 64), SIGMAS)
    found = estimator(model, x, keys)
    assert ((found.value - model.lid(x)).abs() <= 4 * found.stderr + 0.05).all()
    back = estimator(model, x.flip(0), keys[::-1])
    torch.testing.assert_close(back.value.flip(0), found.value, rtol=1e-4, atol=1e-4)
    alone = estimator(model, x[1:2], keys[1:2])
    torch.testing.assert_close(alone.value[0], found.value[1], rtol=1e-4, atol=1e-4)
    assert torch.equal(alone.parts["sigma"][0], found.parts["sigma"][1])


def test_errors() -> None:
    sigmas = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    with pytest.raises(ValueError, match="at least 5 scales"):
        plateau(sigmas[:4], torch.zeros(4, 1))
    with pytest.raises(ValueError, match="must increase"):
        plateau(sigmas.flip(0), torch.zeros(5, 1))
    with pytest.raises(ValueError, match="must be finite"):
        plateau(sigmas, torch.full((5, 1), torch.nan))
