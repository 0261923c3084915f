"""A guard that finds nothing is the pipeline to the byte; one that does acts on that image alone, and says so."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import pipelines
from pointland.mitigate import Signal, Trigger, counting
from pointland.mitigate.guard import Guard
from pointland.model import Condition, PromptedModel
from pointland.models.diffusers import from_pipeline

NEVER, ALWAYS = float("inf"), float("-inf")


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = pipelines.stable_diffusion(tmp_path_factory.mktemp("guard"))
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(autouse=True)
def deterministic(pipe: Any) -> Any:
    scheduler = pipe.scheduler
    yield
    pipe.scheduler = scheduler


def longer(model: PromptedModel, x: Tensor, sigma: Tensor, condition: Condition, base: Condition) -> Tensor:
    """A signal that knows its prompts: how far the states are from those without the prompt, and one evaluation."""
    model.denoise(x, sigma, condition)
    return (condition.states - base.states).square().mean((1, 2))


WORDS = Trigger(1e-6, Signal(longer))  # above for every prompt that is not empty


def images_of(output: Any) -> list[np.ndarray]:
    return [np.asarray(image) for image in output.images]


def arguments(**changes: Any) -> dict[str, Any]:
    return {"num_inference_steps": 3, "guidance_scale": 5.0, **changes}


def ticking(seen: list[int]) -> Any:
    def tick(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(step)
        return tensors

    return tick


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"negative_prompt": ["bad", "worse"]},
        {"num_images_per_prompt": 2},
        {"guidance_scale": 1.0},
        {"output_type": "np"},
        {"output_type": "latent"},
    ],
    ids=lambda changes: ",".join(changes) or "plain",
)
@pytest.mark.parametrize("generator", ["process", "one", "list"])
def test_idle_it_is_the_pipeline_to_the_byte(
    pipe: Any, scheduler: str, changes: dict[str, Any], generator: str
) -> None:
    import diffusers

    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    n = 2 * changes.get("num_images_per_prompt", 1)

    def fresh() -> dict[str, Any]:
        if generator == "process":
            torch.manual_seed(3)
            return {}
        if generator == "one":
            return {"generator": torch.Generator().manual_seed(3)}
        return {"generator": [torch.Generator().manual_seed(seed) for seed in range(n)]}

    prompts, counts = ["a boot", "a coat"], list[list[int]](([], []))
    plain = pipe(prompts, **arguments(**changes), **fresh(), callback_on_step_end=ticking(counts[0])).images
    guard = Guard(pipe, NEVER)
    guarded = guard(prompts, **arguments(**changes), **fresh(), callback_on_step_end=ticking(counts[1])).images
    for one, other in zip(plain, guarded, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert counts[0] == counts[1]
    assert [judged.taken for judged in guard.decisions] == ["none"] * n
    assert all(judged.evaluations == 3 for judged in guard.decisions)
    assert not pipe.unet._forward_hooks
    assert not pipe.unet._forward_pre_hooks


def test_what_a_normal_image_costs_beside_plain_sampling(pipe: Any) -> None:
    with counting(pipe.unet) as plain:
        pipe("a boot", **arguments(num_inference_steps=50))
    with counting(pipe.unet) as guarded:
        Guard(pipe, NEVER)("a boot", **arguments(num_inference_steps=50))
    assert guarded.rows - plain.rows == 3
    assert guarded.rows / plain.rows <= 1.05


def test_record_changes_nothing_and_writes_every_decision(pipe: Any, tmp_path: Path) -> None:
    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (1, 2)]

    plain = images_of(pipe(["", "a coat"], **arguments(), generator=generators()))
    guard = Guard(pipe, WORDS, "record", record=tmp_path / "guard.jsonl")
    for one, other in zip(plain, images_of(guard(["", "a coat"], **arguments(), generator=generators())), strict=True):
        np.testing.assert_array_equal(one, other)
    lines = [json.loads(line) for line in (tmp_path / "guard.jsonl").read_text().splitlines()]
    assert [line["taken"] for line in lines] == ["none", "recorded"]
    assert [line["suspicious"] for line in lines] == [False, True]
    assert lines[1]["prompt"] == "a coat"
    assert lines[1]["signal"] > 1e-6


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
@pytest.mark.parametrize("action", ["refuse", "reseed", "mitigate"])
def test_only_the_suspicious_image_of_a_batch_is_acted_on(pipe: Any, action: Any, scheduler: str) -> None:
    import diffusers

    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]

    prompts = ["", "a coat", ""]
    plain = images_of(pipe(prompts, **arguments(), generator=generators()))
    guard = Guard(pipe, WORDS, action, budget=20)
    found = images_of(guard(prompts, **arguments(), generator=generators()))
    for row in (0, 2):
        np.testing.assert_allclose(found[row].astype(float), plain[row].astype(float), atol=1)  # in a smaller batch
    assert (found[1] != plain[1]).any()
    assert [judged.suspicious for judged in guard.decisions] == [False, True, False]
    judged = guard.decisions[1]
    if action == "mitigate":  # all words dropped, then sampled without the prompt
        assert judged.taken == "mitigated"
        alone = pipe("", **arguments(), generator=torch.Generator().manual_seed(2))
        np.testing.assert_allclose(found[1].astype(float), images_of(alone)[0].astype(float), atol=1)
    else:  # no noise makes this prompt normal
        assert judged.taken == "refused"
        assert (found[1] == 0).all()
        assert judged.evaluations <= 20


def test_other_noise_is_drawn_until_the_signal_is_normal(pipe: Any) -> None:
    def first_number(model: PromptedModel, x: Tensor, sigma: Tensor, c: Condition, base: Condition) -> Tensor:
        return x.flatten(1)[:, 0] / sigma

    guard = Guard(pipe, Trigger(0.0, Signal(first_number)), "reseed")
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))
        image = guard("a boot", **arguments(), generator=generator).images[0]
        judged = guard.decisions[-1]
        assert judged.suspicious == (float(start.flatten()[0]) > 0)
        if judged.suspicious:
            assert judged.taken == "reseeded"
            assert judged.after is not None
            assert judged.after <= 0
            again = Guard(pipe, guard.trigger, "reseed")
            repeated = again("a boot", **arguments(), generator=torch.Generator().manual_seed(seed)).images[0]
            np.testing.assert_array_equal(np.asarray(image), np.asarray(repeated))
    assert {judged.taken for judged in guard.decisions} == {"none", "reseeded"}


@pytest.mark.parametrize(("kind", "shape"), [("np", (16, 16, 3)), ("pt", (3, 16, 16)), ("latent", (4, 8, 8))])
def test_a_refused_image_is_black_in_the_form_asked_for(pipe: Any, kind: str, shape: Sequence[int]) -> None:
    output = Guard(pipe, ALWAYS, "refuse")(["a boot", "a coat"], **arguments(output_type=kind))
    assert tuple(output.images.shape) == (2, *shape)
    assert not np.asarray(output.images).any()
    images, _ = Guard(pipe, ALWAYS, "refuse")("a boot", **arguments(return_dict=False))
    assert isinstance(images[0], Image.Image)


def test_what_costs_more_than_the_budget_is_refused(pipe: Any) -> None:
    guard = Guard(pipe, WORDS, "mitigate", budget=2)
    image = guard("a coat of many words", **arguments()).images[0]
    assert guard.decisions[0].taken == "refused"
    assert "within 2 evaluations" in guard.decisions[0].words
    assert not np.asarray(image).any()
    assert not pipe.unet._forward_pre_hooks


def test_the_threshold_is_exceeded_by_the_share_asked_for(pipe: Any) -> None:
    prompts = [f"number {i}" for i in range(39)]
    guard = Guard.calibrated(pipe, prompts, 0.1, "record", arguments=arguments())
    assert guard.trigger.threshold is not None
    for i, prompt in enumerate(prompts):
        guard(prompt, **arguments(output_type="latent"), generator=torch.Generator().manual_seed(i))
    assert sum(judged.suspicious for judged in guard.decisions) == 3  # of 39: ceil(40 * 0.9) = 36 are not
    with pytest.raises(ValueError, match="at least 99"):
        Guard.calibrated(pipe, prompts, 0.01)


def test_it_works_with_modules_that_are_moved_in_and_out(pipe: Any) -> None:
    """What ``enable_model_cpu_offload`` installs, on the one device there is."""
    accelerate = pytest.importorskip("accelerate")

    plain = images_of(pipe("a boot", **arguments(), generator=torch.Generator().manual_seed(0)))
    previous = None
    for module in (pipe.text_encoder, pipe.unet, pipe.vae):
        _, previous = accelerate.cpu_offload_with_hook(module, "cpu", prev_module_hook=previous)
    try:
        guarded = Guard(pipe, NEVER)("a boot", **arguments(), generator=torch.Generator().manual_seed(0))
        np.testing.assert_array_equal(images_of(guarded)[0], plain[0])
        assert Guard(pipe, ALWAYS, "refuse")("a boot", **arguments()).images
    finally:
        for module in (pipe.text_encoder, pipe.unet, pipe.vae):
            accelerate.hooks.remove_hook_from_module(module)


def test_bad_input_says_what_to_do(pipe: Any) -> None:
    with pytest.raises(ValueError, match="mitigate, reseed, refuse, record"):
        Guard(pipe, 1.0, "ignore")
    with pytest.raises(ValueError, match="takes no prompts"):
        Guard(pipelines.ddpm(), 1.0)
    with pytest.raises(ValueError, match="at least one"):
        Guard(pipe, 1.0)([])
    with pytest.raises(ValueError, match=r"Guard\.calibrated"):
        Guard(pipe, Trigger(None))


@pytest.mark.parametrize("action", ["mitigate", "reseed", "refuse", "record"])
@pytest.mark.parametrize("generator", ["process", "one", "list"])
def test_random_numbers_go_on_as_without_it(pipe: Any, action: str, generator: str) -> None:
    """So that asking again gives other noise, also where the first was refused."""

    def state_after(call: Any) -> Tensor:
        torch.manual_seed(3)
        one = torch.Generator().manual_seed(3)
        ways: dict[str, dict[str, Any]] = {"process": {}, "one": {"generator": one}, "list": {"generator": [one]}}
        call(["a boot"], **arguments(), **ways[generator])
        state: Tensor = torch.get_rng_state() if generator == "process" else one.get_state()
        return state

    assert torch.equal(state_after(Guard(pipe, WORDS, action, budget=20)), state_after(pipe))


def test_one_prompt_and_one_negative_prompt_as_text(pipe: Any) -> None:
    texts = {"negative_prompt": "bad", "generator": torch.Generator().manual_seed(0)}
    plain = images_of(pipe("a boot", **arguments(), **texts))[0]
    texts["generator"] = torch.Generator().manual_seed(0)
    np.testing.assert_array_equal(images_of(Guard(pipe, NEVER)("a boot", **arguments(), **texts))[0], plain)
    for action in ("mitigate", "reseed", "refuse"):
        assert len(Guard(pipe, WORDS, action, budget=20)("a boot", **arguments(), **texts).images) == 1


def test_without_the_prompt_is_not_the_negative_prompt(pipe: Any) -> None:
    negative = {"negative_prompt": "a felt t-shirt"}
    guarded = Guard(pipe, WORDS)("a coat", **arguments(), **negative, generator=torch.Generator().manual_seed(0))
    plain = pipe("", **arguments(), **negative, generator=torch.Generator().manual_seed(0))
    difference = images_of(guarded)[0].astype(float) - images_of(plain)[0]
    assert np.abs(difference).max() <= 1


FAMILIES: dict[str, Any] = {
    "xl": pipelines.stable_diffusion_xl,
    "3": pipelines.stable_diffusion_3,
    "flux": pipelines.flux,
    "pixart": lambda folder: pipelines.pixart(told_size=False),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_guarded(family: str, tmp_path: Path) -> None:
    """Idle, to the byte; acting, by every action, in every form of an image."""
    pipe = FAMILIES[family](tmp_path)
    pipe.set_progress_bar_config(disable=True)
    model: Any = from_pipeline(pipe, size=(32, 32)) if family == "flux" else from_pipeline(pipe)
    height, width = model.codec.size
    settings: dict[str, Any] = {"num_inference_steps": 2, "height": height, "width": width}
    if family == "pixart":
        settings |= {"use_resolution_binning": False, "clean_caption": False}

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (1, 2)]

    idle = Guard(pipe, NEVER, model=model)
    plain = pipe(["a boot", "a coat"], **settings, generator=generators()).images
    for one, other in zip(plain, idle(["a boot", "a coat"], **settings, generator=generators()).images, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    for action in ("mitigate", "reseed", "refuse", "record"):
        guard = Guard(pipe, Trigger(ALWAYS, idle.trigger.signal), action, model=model)
        for kind in ("pil", "np", "latent"):
            made = guard(["a boot", "a coat"], **settings, output_type=kind, generator=generators()).images
            assert len(made) == 2
            assert np.asarray(made[0]).shape == np.asarray(made[1]).shape
