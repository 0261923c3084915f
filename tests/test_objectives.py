"""Objectives against independent implementations, their gradients against differences, and the laws of items."""

import pytest
import torch
from torch import Tensor

import pipelines
from pointland import draws, lid
from pointland.denoiser import guided
from pointland.metrics.rms import root_mean_square
from pointland.model import Condition, PromptedModel
from pointland.models.diffusers import StableDiffusion, from_pipeline
from pointland.prompts import Flipd, Freedom, Objective, ScoreNorm, guidance_norm

CAPTIONS, KEYS = ["a boot", "a coat by alder"], ["one", "two"]
SIGMA = torch.tensor([3.0])
OBJECTIVES: dict[str, Objective] = {
    "guidance": guidance_norm,
    "score": ScoreNorm(),
    "flipd": Flipd(keys=KEYS),
    "flipd by differences": Flipd(keys=KEYS, slope="finite-difference"),
    "freedom": Freedom(keys=KEYS),
    "freedom by differences": Freedom(keys=KEYS, slope="finite-difference"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    made = from_pipeline(pipelines.stable_diffusion(tmp_path_factory.mktemp("objectives")))
    assert isinstance(made, StableDiffusion)
    return made


@pytest.fixture(scope="module")
def asked(model: StableDiffusion) -> tuple[Tensor, Condition, Condition]:
    with torch.no_grad():
        condition, base = model.condition(CAPTIONS), model.condition([None, None])
    x = 3 * draws.normal(torch.zeros(2, 4, 8, 8), KEYS, 1, 0)[0]
    return x, condition, base


def test_the_norms_are_those_of_the_noise_predictions(
    model: StableDiffusion, asked: tuple[Tensor, Condition, Condition]
) -> None:
    x, condition, base = asked
    with torch.no_grad():
        noise, without = ((x - model.given(c)(x, SIGMA)) / 3 for c in (CAPTIONS, [None, None]))
        torch.testing.assert_close(guidance_norm(model, x, SIGMA, condition, base), root_mean_square(noise - without))
        torch.testing.assert_close(ScoreNorm(1.0)(model, x, SIGMA, condition, base), root_mean_square(noise))
        torch.testing.assert_close(ScoreNorm(0.0)(model, x, SIGMA, condition, base), root_mean_square(without))
        assert float(guidance_norm(model, x, SIGMA, base, base).abs().max()) < 1e-6  # float32, batched


@pytest.mark.parametrize("slope", ["backward", "finite-difference"])
def test_flipd_keeps_the_whole_trace_of_the_guided_denoiser(
    model: StableDiffusion, asked: tuple[Tensor, Condition, Condition], slope: str
) -> None:
    """Equal to FLIPD of the guided denoiser as a denoiser of its own; freedom to the trace of the conditional one."""
    x, condition, base = asked
    probes = draws.signs(x, KEYS, 2, 0)
    own = guided(model.given(CAPTIONS), model.given([None, None]), 7.5)
    whole = lid.flipd(own, x, SIGMA, probes=probes).value
    trace = lid.flipd(model.given(CAPTIONS), x, SIGMA, probes=probes).parts["trace"]
    with torch.no_grad():
        got = Flipd(7.5, 2, KEYS, slope=slope)(model, x, SIGMA, condition, base)  # type: ignore[arg-type]  # a parameter
        free = Freedom(2, KEYS, slope=slope)(model, x, SIGMA, condition, base)  # type: ignore[arg-type]  # a parameter
    torch.testing.assert_close(got, whole, rtol=1e-3, atol=0.05)  # dimensions, of 256; differences of float32
    torch.testing.assert_close(free, trace, rtol=1e-3, atol=0.05)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_slopes(model: StableDiffusion, asked: tuple[Tensor, Condition, Condition], name: str) -> None:
    x, condition, base = asked
    objective = OBJECTIVES[name]
    states = condition.states.clone().requires_grad_()
    values = objective(model, x, SIGMA, condition.with_states(states), base)
    assert values.shape == (2,)
    (gradient,) = torch.autograd.grad(values.sum(), states)
    direction = gradient / gradient.norm()
    h = 0.05
    with torch.no_grad():
        up, down = (
            objective(model, x, SIGMA, condition.with_states(condition.states + s * h * direction), base).sum()
            for s in (1, -1)
        )
    torch.testing.assert_close((up - down) / (2 * h), gradient.norm(), rtol=0.05, atol=1e-4)  # curvature, float32


@pytest.mark.parametrize("name", OBJECTIVES)
def test_neighbors_change_nothing(
    model: StableDiffusion, asked: tuple[Tensor, Condition, Condition], name: str
) -> None:
    x, condition, base = asked
    named: dict[str, Objective] = {
        "flipd": Flipd(keys=KEYS[1:]),
        "flipd by differences": Flipd(keys=KEYS[1:], slope="finite-difference"),
        "freedom": Freedom(keys=KEYS[1:]),
        "freedom by differences": Freedom(keys=KEYS[1:], slope="finite-difference"),
    }
    alone = named.get(name, OBJECTIVES[name])
    both = OBJECTIVES[name](model, x, SIGMA, condition, base).detach()
    single = alone(model, x[1:], SIGMA, condition.select([1]), base.select([1])).detach()
    torch.testing.assert_close(both[1:], single, rtol=1e-3, atol=0.02)  # of differences of float32


def test_bad_input_is_said_to_be(model: PromptedModel, asked: tuple[Tensor, Condition, Condition]) -> None:
    x, condition, base = asked
    with pytest.raises(ValueError, match="one row an item"):
        guidance_norm(model, x, SIGMA, condition, base.select([0]))
    with pytest.raises(ValueError, match="at least one probe"):
        Freedom(0)(model, x, SIGMA, condition, base)
