"""Mitigations: nothing is changed that need not be, every image is its own, costs are what the network counts."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pipelines
from pointland import draws, mitigate
from pointland.mitigate import Mitigation, NormalLevel, Signal, Step, Trigger, counting
from pointland.mitigate.freedom import Traces, largest_scale
from pointland.mitigate.nearest import moved_out, nearest
from pointland.models.diffusers import StableDiffusion, from_pipeline
from pointland.prompts import Flipd, ScoreNorm, guidance_norm

PROMPTS = ["a boot", "a coat by alder , named zu", "a red bag"]
STEPS = 4
JUMP = Signal(sigma=0.5, n_steps=1)
NEVER, ALWAYS = Trigger(1e9, JUMP), Trigger(-1.0, JUMP)
OUT_OF_REACH = NormalLevel((0.1,), (1e9,))


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = pipelines.stable_diffusion(tmp_path_factory.mktemp("mitigate"))
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def model(pipe: Any) -> StableDiffusion:
    made = from_pipeline(pipe)
    assert isinstance(made, StableDiffusion)
    return made


def generators(n: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(n)]


def methods(trigger: Trigger) -> dict[str, Mitigation]:
    return {
        "tokens": mitigate.AddedWords("tokens", trigger=trigger),
        "numbers": mitigate.AddedWords("numbers", trigger=trigger),
        "repeats": mitigate.AddedWords("repeats", trigger=trigger),
        "noise": mitigate.EmbeddingNoise(1.0, trigger),
        "embedding": mitigate.OptimizedEmbedding(trigger, n_steps=2),
        "embedding-flipd": mitigate.OptimizedEmbedding(
            trigger, descend=Signal(Flipd(slope="finite-difference"), "low", 0.5, 1), n_steps=2, fall_back=False
        ),
        "dropped": mitigate.DroppedWords(trigger),
        "rewritten": mitigate.Rewritten(trigger, lambda prompt, n: f"{prompt} {n}", 2, fall_back=False),
        "late": mitigate.LateGuidance(trigger=trigger),
        "opposite": mitigate.LateGuidance(3.2, -2.0, trigger),
        "minimum": mitigate.GuidanceAfterMinimum(trigger=trigger),
        "attention": mitigate.ScaledAttention(3.0, trigger),
        "sail": mitigate.Sail(trigger, target=0.0, n_steps=1, n_candidates=2),
        "han": mitigate.HanPerImage(trigger, target=0.0, n_steps=2),
        "han-steps": mitigate.HanSteps(trigger, unguided=2),
    }


def stepwise(level: float) -> dict[str, Mitigation]:
    return {
        "clipped": mitigate.ClippedGuidance(NormalLevel((0.1,), (level,))),
        "clipped-score": mitigate.ClippedGuidance(NormalLevel((0.1,), (level,)), "score"),
        "freedom": mitigate.HeldFreedom(NormalLevel((0.1,), (-level if level > 1 else 1e9,))),
        "nearest": mitigate.AwayFromNearest(torch.zeros(1, 4, 8, 8), 0.0 if level > 1 else 1e3),
    }


EVERY = [*methods(NEVER), *stepwise(1e9)]


def made(name: str, *, acting: bool) -> Mitigation:
    return (methods(ALWAYS if acting else NEVER) | stepwise(1e-6 if acting else 1e9))[name]


def sample(method: Mitigation, pipe: Any, model: Any, prompts: list[str] = PROMPTS, first: int = 0, **more: Any) -> Any:
    settings = {"num_inference_steps": STEPS, "guidance_scale": 7.5, "output_type": "np", **more}
    return method(pipe, prompts, generators(len(prompts), first), model=model, **settings)


def test_plain_sampling_is_the_pipeline_itself(pipe: Any, model: Any) -> None:
    direct = pipe(PROMPTS, generator=generators(3), num_inference_steps=STEPS, output_type="np", guidance_scale=7.5)
    found = sample(mitigate.Plain(), pipe, model)
    np.testing.assert_array_equal(np.stack(found.images), direct.images)
    assert found.evaluations == [2.0 * STEPS] * 3


@pytest.mark.parametrize("name", EVERY)
def test_a_prompt_that_is_not_acted_on_stays_as_it_was_to_the_byte(name: str, pipe: Any, model: Any) -> None:
    plain = sample(mitigate.Plain(), pipe, model)
    found = sample(made(name, acting=False), pipe, model)
    np.testing.assert_array_equal(np.stack(found.images), np.stack(plain.images))
    assert not any(decision.acted for decision in found.decisions)
    assert [decision.prompt for decision in found.decisions] == PROMPTS


@pytest.mark.parametrize("name", EVERY)
def test_acting_changes_images_and_leaves_no_trace(name: str, pipe: Any, model: Any) -> None:
    before = {key: value.clone() for key, value in pipe.unet.state_dict().items()}
    plain = sample(mitigate.Plain(), pipe, model)
    found = sample(made(name, acting=True), pipe, model)
    assert all(decision.acted for decision in found.decisions)
    assert not np.array_equal(np.stack(found.images), np.stack(plain.images))
    assert not pipe.unet._forward_hooks
    assert not pipe.unet._forward_pre_hooks
    assert all(torch.equal(before[key], value) for key, value in pipe.unet.state_dict().items())
    assert all(parameter.grad is None for parameter in pipe.unet.parameters())
    again = sample(mitigate.Plain(), pipe, model)
    np.testing.assert_array_equal(np.stack(again.images), np.stack(plain.images))


@pytest.mark.parametrize("name", EVERY)
def test_every_image_is_independent_of_its_batch(name: str, pipe: Any, model: Any) -> None:
    together = sample(made(name, acting=True), pipe, model)
    for i, prompt in enumerate(PROMPTS):
        alone = sample(made(name, acting=True), pipe, model, [prompt], i)
        np.testing.assert_allclose(alone.images[0], together.images[i], atol=2e-3)  # float32, through an optimizer
        assert alone.decisions[0].prompt == together.decisions[i].prompt
        assert alone.evaluations[0] == together.evaluations[i]


@pytest.mark.parametrize("name", EVERY)
def test_what_is_charged_is_what_the_network_did(name: str, pipe: Any, model: Any) -> None:
    with counting(pipe.unet) as counter:
        found = sample(made(name, acting=True), pipe, model)
    forward = {"embedding", "embedding-flipd", "sail", "han"}  # these go backward too, which counts double
    assert sum(found.evaluations) >= counter.rows
    assert (sum(found.evaluations) == pytest.approx(counter.rows)) == (name not in forward)


@pytest.mark.parametrize("name", EVERY)
def test_the_users_callback_is_called_at_every_step(name: str, pipe: Any, model: Any) -> None:
    seen = []

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(step)
        return tensors

    made(name, acting=True)(
        pipe, PROMPTS, generators(3), callback, model=model, num_inference_steps=STEPS, output_type="np"
    )
    assert seen == list(range(STEPS))


def test_given_latents_and_embeddings_are_where_sampling_starts(pipe: Any, model: Any) -> None:
    plain = sample(mitigate.Plain(), pipe, model)
    latents = torch.cat([torch.randn(1, 4, 8, 8, generator=g) for g in generators(3)])
    with torch.no_grad():
        states = model.condition(PROMPTS).states
    found = sample(mitigate.Plain(), pipe, model, first=7, latents=latents, prompt_embeds=states)
    np.testing.assert_array_equal(np.stack(found.images), np.stack(plain.images))


def test_an_abnormal_embedding_without_words_falls_back_to_no_prompt(pipe: Any, model: Any) -> None:
    with torch.no_grad():
        states, nothing = model.condition(PROMPTS).states, model.condition([None] * 3).states
    found = sample(mitigate.DroppedWords(ALWAYS), pipe, model, prompt_embeds=states)
    without = sample(mitigate.Plain(), pipe, model, prompt_embeds=nothing)
    np.testing.assert_array_equal(np.stack(found.images), np.stack(without.images))


def test_calibration_leaves_normal_prompts_alone_at_its_rate(pipe: Any, model: Any) -> None:
    normal = [f"a {word} {i}" for i in range(10) for word in ("boot", "bag")]
    settings = {"num_inference_steps": STEPS, "model": model}
    trigger = mitigate.calibrated(JUMP, pipe, normal, generators(20), rate=0.1, batch_size=7, **settings)
    values = mitigate.signals(JUMP, pipe, normal, generators(20), batch_size=3, **settings)
    assert len(trigger.above(values)) <= 2
    assert trigger.threshold == pytest.approx(sorted(values)[18], rel=1e-4)  # ceil(21 * 0.9) - 1
    with pytest.raises(ValueError, match="at least 99"):
        mitigate.calibrated(JUMP, pipe, normal, generators(20), rate=0.01, **settings)


@pytest.mark.parametrize("measure", [mitigate.norm_of("guidance"), mitigate.GuidedFreedom()])
def test_a_normal_level_is_crossed_by_as_few_normal_prompts_as_asked(measure: Any, pipe: Any, model: Any) -> None:
    normal = [f"a {word} {i}" for i in range(10) for word in ("boot", "bag")]
    freedom = isinstance(measure, mitigate.GuidedFreedom)
    level = mitigate.normal_level(
        measure,
        pipe,
        normal,
        generators(20),
        beyond="below" if freedom else "above",
        rate=0.2,
        model=model,
        num_inference_steps=STEPS,
    )
    assert len(level.sigmas) == STEPS
    method = mitigate.HeldFreedom(level) if freedom else mitigate.ClippedGuidance(level)
    found = method(pipe, normal, generators(20), model=model, num_inference_steps=STEPS, output_type="np")
    # what is beyond stays beyond: 16 of 20 are left; rounding of another batch size may move the one on the edge
    assert 3 <= sum(decision.acted for decision in found.decisions) <= 5


@pytest.mark.parametrize("norm", ["guidance", "score"])
def test_clipped_norms_are_at_the_level_and_the_guidance_no_lower_than_it_must(
    norm: Any, pipe: Any, model: Any
) -> None:
    x, sigma = torch.randn(5, 4, 8, 8) * 3, torch.full((5,), 3.0)
    unconditional, conditional = torch.randn(5, 4, 8, 8), torch.randn(5, 4, 8, 8) * 4
    step = Step(0, sigma, x, conditional, unconditional, 7.5)
    measure = mitigate.norm_of(norm)
    start = mitigate.opening(pipe, PROMPTS, generators(3), None, model, {"num_inference_steps": STEPS})
    level = 1.2
    share = mitigate.ClippedGuidance(OUT_OF_REACH, norm)._share(step, torch.full((5,), level))
    pulled = unconditional + share.reshape(5, 1, 1, 1) * (conditional - unconditional)
    after = measure(start, Step(0, sigma, x, pulled, unconditional, 7.5))
    torch.testing.assert_close(after, torch.full((5,), level), rtol=1e-3, atol=1e-3)


def test_the_largest_scale_is_where_freedom_meets_its_level() -> None:
    traces = Traces(torch.tensor([1.0, 1.0, 9.0, 0.0]), torch.tensor([5.0, 5.0, 5.0, 1.0]))
    level = torch.tensor([3.0, -99.0, 4.0, 2.0])
    found = largest_scale(traces, level, 7.5)
    torch.testing.assert_close(found, torch.tensor([0.5, 7.5, 7.5, 0.0]))
    torch.testing.assert_close(traces.guided(1.0) + 0, traces.conditional)


def test_traces_by_differences_agree_with_the_jacobian(pipe: Any, model: Any) -> None:
    from pointland import derivatives

    start = mitigate.opening(pipe, PROMPTS, generators(3), None, model, {"num_inference_steps": STEPS})
    sigma = torch.full((3,), float(model.levels.nearest(2.0).sigma))
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * sigma[0]
    with torch.no_grad():
        both = [model.denoise(x, sigma, c) for c in (start.condition, start.base)]
    found = mitigate.GuidedFreedom(n_probes=3).traces(start, Step(0, sigma, x, both[0], both[1], 7.5))
    for value, c in zip(found, (start.condition, start.base), strict=True):
        probes = draws.signs(x[:1], ["freedom"], 3, 0).expand(3, *x.shape)
        rows = derivatives.products(lambda y, s, c=c: model.denoise(y, s, c), x, sigma, probes=probes)
        exact = derivatives.quadratic(probes, rows.products).mean(0)
        torch.testing.assert_close(value, exact, rtol=2e-2, atol=0.5)  # one-sided differences in float32


def test_no_point_is_left_within_the_margin_and_none_outside_is_moved() -> None:
    training = torch.zeros(1, 2, 3, 3)
    points = torch.randn(6, 2, 3, 3) * torch.tensor([0.01, 0.1, 0.5, 1.0, 2.0, 3.0]).reshape(6, 1, 1, 1)
    before = nearest(points, training).distance
    moved = moved_out(points, training, 0.6)
    torch.testing.assert_close(nearest(moved, training).distance, before.clamp(min=0.6))
    assert torch.equal(moved[before >= 0.6], points[before >= 0.6])


def test_optimizing_lowers_what_it_descends(pipe: Any, model: Any) -> None:
    signal = Signal()
    before = mitigate.signals(signal, pipe, PROMPTS, generators(3), model=model, num_inference_steps=STEPS)
    target = 0.5 * min(before)
    method = mitigate.OptimizedEmbedding(Trigger(target, signal), n_steps=30, fall_back=False)
    found = sample(method, pipe, model)
    for decision, value in zip(found.decisions, before, strict=True):
        assert decision.signal == pytest.approx(value, rel=1e-3)
        assert decision.after is not None
        assert decision.after < value


def test_dropping_every_trigger_word_ends_below_the_threshold(pipe: Any, model: Any) -> None:
    values = mitigate.signals(JUMP, pipe, PROMPTS, generators(3), model=model, num_inference_steps=STEPS)
    trigger = Trigger(sorted(values)[1] * 0.999, JUMP)
    found = sample(mitigate.DroppedWords(trigger, fall_back=False, share=1.0), pipe, model)
    for value, decision in zip(values, found.decisions, strict=True):
        assert decision.acted == (value > float(trigger.threshold or 0))
        if decision.acted and decision.prompt != "":
            assert decision.after is not None
            assert decision.after <= float(trigger.threshold or 0) or len(str(decision.prompt).split()) <= 1


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"num_images_per_prompt": 2}, "repeat the prompt"),
        ({"prompt": "x"}, "second argument"),
        ({"callback_on_step_end": print}, "both"),
    ],
)
def test_what_cannot_be_passed_on_is_refused(arguments: dict[str, Any], what: str, pipe: Any, model: Any) -> None:
    with pytest.raises(ValueError, match=what):
        mitigate.Plain()(pipe, ["a"], generators(1), lambda *_: {}, model=model, **arguments)


def test_one_generator_a_prompt(pipe: Any, model: Any) -> None:
    with pytest.raises(ValueError, match="2 generators for 3 prompts"):
        mitigate.Plain()(pipe, PROMPTS, generators(2), model=model)
    with pytest.raises(ValueError, match="list"):
        mitigate.Plain()(pipe, "a boot", generators(1), model=model)


def test_a_signal_elsewhere_needs_steps_and_a_level_that_can_be_reached(pipe: Any, model: Any) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        Signal(sigma=0.5)
    with pytest.raises(ValueError, match="between 0"):
        mitigate.signals(Signal(guidance_norm, sigma=99.0, n_steps=1), pipe, PROMPTS, generators(3), model=model)
    with pytest.raises(ValueError, match="until a target"):
        mitigate.OptimizedEmbedding(Trigger())


def test_objectives_signed_so_that_memorized_is_high(pipe: Any, model: Any) -> None:
    start = mitigate.opening(pipe, PROMPTS, generators(3), None, model, {"num_inference_steps": STEPS})
    high = Signal(ScoreNorm())(start, start.condition, range(3))
    low = Signal(ScoreNorm(), "low")(start, start.condition, range(3))
    assert isinstance(high, Tensor)
    torch.testing.assert_close(high, -low)
    assert start.spent == [4.0] * 3


def test_scaled_attention_is_the_attention_with_that_logit_and_mask(pipe: Any, model: Any) -> None:
    """Factor 1 and no padding to mask is plain sampling; where there is padding it is not."""
    full = " ".join("abcdefghijklmnopqrstuvwxyz"[i % 26] for i in range(40))
    arguments: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}
    plain = mitigate.Plain()(pipe, [full], generators(1), model=model, **arguments)
    same = mitigate.ScaledAttention(1.0)(pipe, [full], generators(1), model=model, **arguments)
    np.testing.assert_allclose(plain.images[0], same.images[0], atol=1e-5)
    short = mitigate.ScaledAttention(1.0)(pipe, ["a"], generators(1), model=model, **arguments)
    assert (
        np.abs(short.images[0] - mitigate.Plain()(pipe, ["a"], generators(1), model=model, **arguments).images[0]).max()
        > 1e-4
    )
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in pipe.unet.modules())
