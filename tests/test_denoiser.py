import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from pointland import exact
from pointland.denoiser import Denoiser, denoised_from, from_network, guided, per_item, score

Exact = exact.Circle | exact.Gaussian | exact.Mixture | exact.Points


def test_exact_models_and_functions_are_denoisers(exact_model: Exact) -> None:
    assert isinstance(exact_model, Denoiser)
    assert isinstance(from_network(exact_model, "sample"), Denoiser)


@pytest.mark.parametrize("shape", [(3, 4), (3, 1, 2, 2)])
@pytest.mark.parametrize("n", [1, 3])
def test_per_item_broadcasts_over_the_event(shape: tuple[int, ...], n: int) -> None:
    x = torch.ones(shape, dtype=torch.float64)
    found = per_item(torch.arange(1.0, n + 1), x)
    assert found.dtype == x.dtype
    assert found.shape == (n, *(1,) * (len(shape) - 1))
    assert (found * x).flatten(1)[:, 0].tolist() == ([1.0, 1.0, 1.0] if n == 1 else [1.0, 2.0, 3.0])


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample", "velocity"])
@pytest.mark.parametrize("sigma", [[0.3], [0.01, 1.0, 80.0]])
def test_the_network_s_own_target_gives_the_clean_point(prediction: str, sigma: list[float]) -> None:
    x0, noise = torch.randn(2, 3, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = torch.tensor(sigma, dtype=torch.float64)
    s = scale.reshape(-1, 1, 1)
    target = {
        "epsilon": noise,
        "v": (noise - s * x0) / (1 + s**2).sqrt(),
        "sample": x0,
        "velocity": noise - x0,
    }[prediction]
    denoised = denoised_from(prediction, target, x0 + s * noise, scale)  # type: ignore[arg-type]  # one of four
    # float64; x0 is a difference of numbers of size sigma = 80
    torch.testing.assert_close(denoised, x0, rtol=0, atol=1e-13)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_networks_are_combined_in_the_dtype_of_x(half: torch.dtype) -> None:
    x = torch.tensor([[1.0, 1.001]])
    denoised = denoised_from("epsilon", torch.ones(1, 2, dtype=half), x, torch.tensor([1e-3]))
    assert denoised.dtype == torch.float32
    # float32 keeps a step of 1e-3 beside 1, bfloat16 would not
    torch.testing.assert_close(denoised, torch.tensor([[0.999, 1.0]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample", "velocity"])
def test_the_dtype_of_x_is_kept_for_every_prediction(prediction: str) -> None:
    x, half = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bfloat16)
    denoised = denoised_from(prediction, half, x, torch.tensor([0.5]))  # type: ignore[arg-type]  # one of four
    assert denoised.dtype == torch.float32


def test_guidance_is_linear_in_its_scale() -> None:
    one, other = exact.subspace(6, 2, seed=0), exact.subspace(6, 2, seed=9)
    x, sigma = one.sample(4, dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    torch.testing.assert_close(guided(one, other, 1.0)(x, sigma), one(x, sigma))
    torch.testing.assert_close(guided(one, other, 0.0)(x, sigma), other(x, sigma))
    torch.testing.assert_close(guided(one, other, 7.5)(x, sigma), 7.5 * one(x, sigma) - 6.5 * other(x, sigma))


def test_score_is_the_gradient_of_the_log_density() -> None:
    plane = exact.subspace(7, 3, variances=[0.1, 1.0, 4.0])
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    sigma = torch.tensor([0.1, 0.3, 1.0, 5.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(plane.log_density(x, sigma).sum(), x)
    # float64, scores of size 1 / sigma^2 = 100
    torch.testing.assert_close(score(plane, x, sigma), gradient, rtol=1e-12, atol=1e-12)


def test_from_network_hands_the_network_its_scaled_input() -> None:
    seen: list[Tensor] = []

    def network(scaled: Tensor, sigma: Tensor) -> Tensor:
        seen.append(scaled)
        return scaled

    x, sigma = torch.full((2, 3), 6.0, dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)
    for prediction in ("epsilon", "v", "sample", "velocity"):
        from_network(network, prediction)(x, sigma)
    wanted = [6 / 5**0.5] * 3 + [2.0]
    assert [float(s[0, 0]) for s in seen] == pytest.approx(wanted)


def test_shapes_are_checked_at_run_time_in_tests() -> None:
    with pytest.raises(TypeCheckError):
        score(exact.subspace(4, 1), torch.ones(3, 4), torch.ones(2))


def test_sigma_one_value_or_per_item_on_an_exact_model(exact_model: Exact) -> None:
    x, sigma = exact_model.sample(3), torch.tensor([0.2])
    assert torch.equal(exact_model(x, sigma), exact_model(x, sigma.expand(3)))
