"""Steering changes nothing when idle, exactly what it says otherwise, and leaves no trace behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pipelines
from pointland.mitigate import Step, counting, steered
from pointland.model import PromptedModel
from pointland.models.diffusers import StableDiffusion, from_pipeline

PROMPTS = ["a boot", "a coat by alder"]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = pipelines.stable_diffusion(tmp_path_factory.mktemp("steering"))
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def model(pipe: Any) -> StableDiffusion:
    made = from_pipeline(pipe)
    assert isinstance(made, StableDiffusion)
    return made


def sample(pipe: Any, **settings: Any) -> Any:
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(PROMPTS))]
    given = {"num_inference_steps": 4, "output_type": "np", "guidance_scale": 7.5, **settings}
    return pipe(PROMPTS, generator=generators, **given).images


def test_a_prompted_model_is_one(model: StableDiffusion) -> None:
    assert isinstance(model, PromptedModel)
    assert len(model.tokens("a boot")) == model.condition(["a boot"]).states.shape[1]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_what_was_read_is_what_the_model_says(tmp_path: Path, prediction: str) -> None:
    pipe = pipelines.stable_diffusion(tmp_path, prediction=prediction)
    pipe.set_progress_bar_config(disable=True)
    model = from_pipeline(pipe)
    assert isinstance(model, StableDiffusion)
    seen: list[Step] = []
    with steered(pipe, model, seen.append):  # append returns None
        sample(pipe)
    assert [step.index for step in seen] == [0, 1, 2, 3]
    for step in seen:
        for captions, read in ((PROMPTS, step.conditional), ([None, None], step.unconditional)):
            with torch.no_grad():
                torch.testing.assert_close(read, model.given(captions)(step.x, step.sigma), rtol=1e-4, atol=1e-4)


def test_a_rule_that_changes_nothing_changes_no_byte(pipe: Any, model: StableDiffusion) -> None:
    plain = sample(pipe)
    with steered(pipe, model, lambda step: None):
        np.testing.assert_array_equal(sample(pipe), plain)
    np.testing.assert_array_equal(sample(pipe), plain)
    assert not pipe.unet._forward_hooks


def test_the_wanted_point_is_what_the_sampler_gets(pipe: Any, model: StableDiffusion) -> None:
    """No guidance by rule is the pipeline without guidance; another scale is the pipeline at that scale."""
    with steered(pipe, model, lambda step: step.conditional):
        np.testing.assert_allclose(sample(pipe), sample_at(pipe, 1.0), atol=1e-4)

    def stronger(step: Step) -> Tensor:
        return step.unconditional + 3 * (step.conditional - step.unconditional)

    with steered(pipe, model, stronger):
        steered_images = sample(pipe)
    np.testing.assert_allclose(steered_images, sample_at(pipe, 3.0), atol=1e-4)


def sample_at(pipe: Any, scale: float) -> Any:
    handles = pipe.unet._forward_hooks.copy()
    pipe.unet._forward_hooks.clear()
    try:
        return sample(pipe, guidance_scale=scale)
    finally:
        pipe.unet._forward_hooks.update(handles)


def test_calls_of_the_rule_itself_are_not_steered(pipe: Any, model: StableDiffusion) -> None:
    def rule(step: Step) -> None:
        with torch.no_grad():
            model.given(PROMPTS)(step.x, step.sigma)

    with counting(pipe.unet) as counter, steered(pipe, model, rule):
        sample(pipe)
    assert counter.rows == 4 * (4 + 2)


def test_without_guidance_there_is_nothing_to_steer_by(pipe: Any, model: StableDiffusion) -> None:
    with pytest.raises(ValueError, match="guidance_scale"), steered(pipe, model, lambda step: None):
        sample(pipe, guidance_scale=1.0)
    assert not pipe.unet._forward_hooks
