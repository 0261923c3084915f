"""Every family loads offline, conforms, and agrees with its scheduler's and its pipeline's own arithmetic."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pipelines
from pointland.lid import Flipd
from pointland.mitigate import Step, steered
from pointland.model import Condition, PromptedModel
from pointland.models import from_module, from_pipeline, load
from pointland.models.conditions import Conditions
from pointland.models.diffusers.binding import remembering
from pointland.models.precision import in_float32
from pointland.testing import check_denoiser, check_model

MAKERS: dict[str, Callable[[Path], Any]] = {
    "sdxl": pipelines.stable_diffusion_xl,
    "sdxl-empty": lambda folder: pipelines.stable_diffusion_xl(folder, zeros=False),
    "sd3": pipelines.stable_diffusion_3,
    "sd3-without-t5": lambda folder: pipelines.stable_diffusion_3(folder, long=False),
    "flux": pipelines.flux,
    "flux-schnell": lambda folder: pipelines.flux(folder, guidance=False),
    "pixart": lambda folder: pipelines.pixart(),
    "pixart-untold": lambda folder: pipelines.pixart(told_size=False),
    "dit": lambda folder: pipelines.dit(),
    "latent": lambda folder: pipelines.latent(),
}
FLOWS = ("sd3", "sd3-without-t5", "flux", "flux-schnell")
PROMPTED = tuple(name for name in MAKERS if name != "latent")
STACKED = tuple(name for name in PROMPTED if not name.startswith("flux") and name != "pixart")  # told sizes at 1024


@pytest.fixture(scope="module")
def pipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made = {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}
    for pipe in made.values():
        pipe.set_progress_bar_config(disable=True)
    return made


def size(name: str) -> tuple[int, int] | None:
    return (16, 16) if name.startswith("flux") else None


def captions(name: str) -> list[str]:
    return ["goldfish", "7"] if name == "dit" else ["a boot", "A coat by alder"]


def pictures(n: int = 2) -> Tensor:
    return torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def noise(channels: int = 4, n: int = 2) -> Tensor:
    return torch.randn(n, channels, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MAKERS)
def test_it_loads_from_a_directory_and_conforms(pipes: dict[str, Any], name: str, tmp_path: Path) -> None:
    pipes[name].save_pretrained(tmp_path / "saved")
    if name == "dit":  # as the published index has it; save_pretrained leaves it out
        index = tmp_path / "saved" / "model_index.json"
        labels = {"0": "tench, Tinca tinca", "1": "goldfish"}
        index.write_text(json.dumps({**json.loads(index.read_text()), "id2label": labels}))
    model = load(tmp_path / "saved", size=size(name), device="cpu")
    check_model(model, pictures(), captions=captions(name))
    fresh = from_pipeline(pipes[name], size=size(name))
    assert model.identity["weights_sha256"] == fresh.identity["weights_sha256"]
    assert model.identity["settings_sha256"] == fresh.identity["settings_sha256"]
    x = model.codec.encode(pictures())
    assert Flipd(1.0)(model.unconditional, x, ["a", "b"]).value.isfinite().all()  # forward-mode derivatives too


@pytest.mark.parametrize("name", [name for name in PROMPTED if name not in FLOWS])
@pytest.mark.parametrize("step", [1, 400, 999])
def test_denoise_is_ddims_own_arithmetic(pipes: dict[str, Any], name: str, step: int) -> None:
    pipe, scheduler = pipes[name], pipelines.ddim()
    model = from_pipeline(pipe)
    assert isinstance(model, PromptedModel)
    noised, texts = noise(), captions(name)
    condition = model.condition(texts)
    alpha = scheduler.alphas_cumprod[step].sqrt()
    scheduler.set_timesteps(1000)
    with torch.no_grad():
        raw = network_called(pipe, name, noised, torch.tensor([step] * 2), condition)
        wanted = scheduler.step(raw[:, :4], step, noised).pred_original_sample
        got = model.given(texts)(noised / alpha, model.levels.sigmas[step : step + 1].float())
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5 / float(alpha))  # float32; divided by alpha


def network_called(pipe: Any, name: str, noised: Tensor, t: Tensor, condition: Condition) -> Any:
    """Call the network with the pipeline's own conditions, as the pipeline does."""
    texts, n = captions(name), noised.shape[-1]
    if name.startswith("sdxl"):
        states, _, pooled, _ = pipe.encode_prompt(texts, device="cpu", do_classifier_free_guidance=False)
        ids = pipe._get_add_time_ids((16, 16), (0, 0), (16, 16), states.dtype, 16).repeat(2, 1)
        added = {"text_embeds": pooled, "time_ids": ids}
        return pipe.unet(noised, t, encoder_hidden_states=states, added_cond_kwargs=added).sample
    if name.startswith("pixart"):
        states, mask, _, _ = pipe.encode_prompt(texts, do_classifier_free_guidance=False, device="cpu")
        told = pipe.transformer.use_additional_conditions
        added = {
            "resolution": torch.full((2, 2), 2.0 * n) if told else None,
            "aspect_ratio": torch.ones(2, 1) if told else None,
        }
        return pipe.transformer(
            noised, states, encoder_attention_mask=mask, timestep=t, added_cond_kwargs=added, return_dict=False
        )[0]
    return pipe.transformer(noised, timestep=t, class_labels=torch.tensor([1, 7])).sample


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("step", [1, 250, 999])
def test_denoise_is_the_flows_own_arithmetic(pipes: dict[str, Any], name: str, step: int) -> None:
    """x0 = x_t - t v, through the raw network and the pipeline's own prompts."""
    pipe, texts, noised, t = pipes[name], captions(name), noise(), step / 1000
    model = from_pipeline(pipe, size=size(name))
    with torch.no_grad():
        if name.startswith("flux"):
            states, pooled, text_ids = pipe.encode_prompt(texts, device="cpu")
            packed = pipe._pack_latents(noised, 2, 4, 8, 8)
            v = pipe.transformer(
                hidden_states=packed,
                timestep=torch.full((2,), t),
                guidance=torch.full((2,), 3.5) if name == "flux" else None,
                pooled_projections=pooled,
                encoder_hidden_states=states,
                txt_ids=text_ids,
                img_ids=pipe._prepare_latent_image_ids(2, 4, 4, "cpu", torch.float32),
                return_dict=False,
            )[0]
            v = pipe._unpack_latents(v, 16, 16, 2)
        else:
            states, _, pooled, _ = pipe.encode_prompt(texts, texts, texts, device="cpu")
            v = pipe.transformer(noised, states, pooled, torch.full((2,), float(step))).sample
        got = model.given(texts)(noised / (1 - t), torch.tensor([t / (1 - t)]))
    torch.testing.assert_close(got, noised - t * v, rtol=1e-4, atol=1e-4)  # float32, sigma up to 999
    assert len(model.levels.sigmas) == 999


@pytest.mark.parametrize("name", [name for name in PROMPTED if name != "dit"])
def test_conditions_are_the_pipelines_own(pipes: dict[str, Any], name: str) -> None:
    pipe, texts = pipes[name], captions(name)
    model = from_pipeline(pipe, size=size(name))
    assert isinstance(model, PromptedModel)
    with torch.no_grad():
        told, nothing = model.condition(texts), model.condition([None, None])
        if name.startswith("flux"):
            wanted = pipe.encode_prompt(texts, device="cpu")[:2]
            without = pipe.encode_prompt(["", ""], device="cpu")[:2]
            pooled = "pooled_projections"
        elif name.startswith("pixart"):
            states, mask, empty, empty_mask = pipe.encode_prompt(texts, device="cpu")
            wanted, without, pooled = (states, mask), (empty, empty_mask), "encoder_attention_mask"
        else:
            prompts = (texts, texts, texts) if name.startswith("sd3") else (texts, texts)
            states, empty, first, second = pipe.encode_prompt(*prompts, device="cpu")
            pooled = "pooled_projections" if name.startswith("sd3") else "text_embeds"
            wanted, without = (states, first), (empty, second)
    for got, expected in ((told, wanted), (nothing, without)):
        torch.testing.assert_close(got.states, expected[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got.others[pooled], expected[1], rtol=1e-5, atol=1e-5)
    for text in texts:
        assert len(model.tokens(text)) == told.states.shape[1]


@pytest.mark.parametrize("name", PROMPTED)
def test_conditions_that_are_kept_are_those_computed_whoever_is_beside(pipes: dict[str, Any], name: str) -> None:
    model = from_pipeline(pipes[name], size=size(name))
    assert isinstance(model, PromptedModel)
    kept, (first, second) = Conditions(), captions(name)
    with torch.no_grad():
        kept.of([first], model.condition)
        for texts in ([second, None, first], [None, first, first]):
            wanted, got = model.condition(texts), kept.of(texts, model.condition)
            assert got.others.keys() == wanted.others.keys()
            pairs = [(got.states, wanted.states), *((got.others[part], wanted.others[part]) for part in got.others)]
            for mine, computed in pairs:
                torch.testing.assert_close(mine, computed, rtol=1e-5, atol=1e-5)  # float32; the order of sums
    assert list(kept.kept) == [second, None, first]
    x, sigma = noise(), torch.tensor([2.0])
    with torch.no_grad():
        denoised = remembering(model).given([first, None])(x, sigma)
        torch.testing.assert_close(denoised, model.given([first, None])(x, sigma), rtol=1e-4, atol=1e-4)
    assert in_float32(model) is None


@pytest.mark.parametrize("name", MAKERS)
def test_a_half_precision_copy_of_every_family_runs_in_float32(pipes: dict[str, Any], name: str) -> None:
    pipe = deepcopy(pipes[name])
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            part.to(torch.bfloat16)
    full = in_float32(from_pipeline(pipe, size=size(name)))
    assert full is not None
    assert full.identity["dtype"] == "float32"
    x, told = full.codec.encode(pictures()), [captions(name)[0] if full.conditional else None, None]
    with torch.no_grad():
        denoised = full.given(told)(x, torch.tensor([2.0]))
    assert denoised.dtype == torch.float32
    assert bool(denoised.isfinite().all())


@pytest.mark.parametrize("name", PROMPTED)
def test_gradients_reach_states_and_output_inverts_denoised(pipes: dict[str, Any], name: str) -> None:
    model = from_pipeline(pipes[name], size=size(name))
    assert isinstance(model, PromptedModel)
    condition = model.condition(captions(name))
    states = condition.states.detach().requires_grad_()
    x, sigma = noise() * 3, torch.tensor([2.0, 3.0])
    denoised = model.denoise(x, sigma, condition.with_states(states))
    (gradient,) = torch.autograd.grad(denoised.square().sum(), [states])
    assert float(gradient.abs().max()) > 0
    again = model.denoised(model.output(denoised, x, sigma), x, sigma)
    torch.testing.assert_close(again, denoised, rtol=1e-5, atol=1e-5)


def sample(pipe: Any, name: str, scale: float) -> Any:
    generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
    given: dict[str, Any] = {
        "num_inference_steps": 4,
        "output_type": "np",
        "guidance_scale": scale,
        "generator": generators,
    }
    if name == "dit":
        return pipe(class_labels=[1, 7], **given).images
    if name.startswith("pixart"):
        given |= {"use_resolution_binning": False, "clean_caption": False}
    return pipe(captions(name), **given).images


@pytest.mark.parametrize("name", STACKED)
def test_steering_reads_what_the_model_says(pipes: dict[str, Any], name: str) -> None:
    pipe = pipes[name]
    model = from_pipeline(pipe)
    assert isinstance(model, PromptedModel)
    seen: list[Step] = []
    with steered(pipe, model, seen.append, scale=4.0):  # append returns None
        plain = sample(pipe, name, 4.0)
    assert len(seen) == 4
    for step in seen:
        if float(step.sigma[0]) > 900:  # a flow's first step, of infinite noise, is read at the level below
            continue
        with torch.no_grad():
            for texts, read in ((captions(name), step.conditional), ([None, None], step.unconditional)):
                torch.testing.assert_close(read, model.given(texts)(step.x, step.sigma), rtol=1e-3, atol=1e-3)
    with steered(pipe, model, lambda step: step.guided, scale=4.0):
        same = sample(pipe, name, 4.0)
    torch.testing.assert_close(torch.as_tensor(same), torch.as_tensor(plain), rtol=0, atol=1e-3)
    weaker = sample(pipe, name, 2.0)
    with steered(pipe, model, lambda s: s.unconditional + 2 * (s.conditional - s.unconditional), scale=4.0):
        steered_images = sample(pipe, name, 4.0)
    torch.testing.assert_close(torch.as_tensor(steered_images), torch.as_tensor(weaker), rtol=0, atol=1e-3)


def test_steering_says_what_it_cannot(pipes: dict[str, Any]) -> None:
    flux = from_pipeline(pipes["flux"], size=(16, 16))
    assert isinstance(flux, PromptedModel)
    with pytest.raises(ValueError, match="distilled"), steered(pipes["flux"], flux, lambda step: None):
        pass
    dit = from_pipeline(pipes["dit"])
    assert isinstance(dit, PromptedModel)
    with pytest.raises(ValueError, match="scale"), steered(pipes["dit"], dit, lambda step: None):
        pass


def test_bad_input_is_refused(pipes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no class"):
        from_pipeline(pipes["dit"]).given(["a cat"])
    with pytest.raises(ValueError, match="only FLUX"):
        from_pipeline(pipes["dit"], size=(32, 32))
    with pytest.raises(ValueError, match="patches"):
        from_pipeline(pipes["flux"], size=(18, 16))

    class SomethingElse:
        pass

    with pytest.raises(ValueError, match="StableDiffusionXLPipeline"):
        from_pipeline(SomethingElse())


def test_wrapping_reads_no_weights(pipes: dict[str, Any]) -> None:
    model = from_pipeline(pipes["sdxl"])
    assert "record" not in vars(model.origin)
    assert model.identity == model.identity
    assert "record" in vars(model.origin)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_lora_is_base_plus_scaled_product(tmp_path: Path, scale: float) -> None:
    pytest.importorskip("peft")
    from safetensors.torch import save_file

    pipe = pipelines.stable_diffusion(tmp_path / "made")
    pipe.save_pretrained(tmp_path / "sd")
    layers = {
        name: module
        for name, module in pipe.unet.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(("to_q", "to_v"))
    }
    weights: dict[str, Tensor] = {}
    for name, module in layers.items():
        down, up = torch.randn(2, module.in_features), torch.randn(module.out_features, 2)
        weights |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
        module.weight.data += scale * up @ down
    save_file(weights, tmp_path / "lora.safetensors")
    base = load(tmp_path / "sd", device="cpu")
    adapted = load(tmp_path / "sd", lora=tmp_path / "lora.safetensors", lora_scale=scale, device="cpu")
    wanted = from_pipeline(pipe)
    x, sigma = noise(), torch.tensor([2.0])
    with torch.no_grad():
        got = adapted.given(["a boot", None])(x, sigma)
        torch.testing.assert_close(got, wanted.given(["a boot", None])(x, sigma), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(got, base.given(["a boot", None])(x, sigma), atol=1e-3)
    assert adapted.identity["weights_sha256"] != base.identity["weights_sha256"]
    save_file({"unet.nowhere.lora_A.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="LoRA"):
        load(tmp_path / "sd", lora=tmp_path / "other.safetensors", device="cpu")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(tmp_path / "sd", lora=tmp_path / "missing.safetensors", device="cpu")


class Gaussian(nn.Module):
    """The optimal network for standard normal data, in any convention and prediction."""

    def __init__(self, prediction: str, convention: str) -> None:
        super().__init__()
        self.prediction, self.convention, self.unused = prediction, convention, nn.Parameter(torch.ones(1))

    def forward(self, point: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        levels = torch.logspace(-2, 1, 50)
        sigma = {"variance_preserving": lambda: levels[time], "flow": lambda: time / (1 - time), "edm": lambda: time}
        s = sigma[self.convention]().reshape(-1, 1, 1, 1)
        scale = {"variance_preserving": (1 + s**2).sqrt(), "flow": 1 + s, "edm": torch.ones(1)}[self.convention]
        x = point * scale
        mean = 0.0 if labels is None else labels.reshape(-1, 1, 1, 1).float()
        denoised = (x + s**2 * mean) / (1 + s**2)
        epsilon, alpha = (x - denoised) / s, 1 / (1 + s**2).sqrt()
        return {
            "epsilon": epsilon,
            "sample": denoised,
            "velocity": epsilon - denoised,
            "v": alpha * epsilon - alpha * s * denoised,
        }[self.prediction]


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample", "velocity"])
@pytest.mark.parametrize("convention", ["variance_preserving", "flow", "edm"])
@pytest.mark.parametrize("classes", [False, True])
def test_any_module_is_a_model(prediction: Any, convention: Any, classes: bool) -> None:
    """Every parametrisation of one network gives one denoiser: x / (1 + sigma^2), moved by the class's mean."""
    sigmas = torch.logspace(-2, 1, 50)
    named: dict[str, Any] = {"captions": {"one": 1, "two": 2}, "nothing": 0} if classes else {}
    network = Gaussian(prediction, convention)
    model = from_module(
        network, prediction=prediction, convention=convention, sigmas=sigmas, size=(16, 16), name="g", **named
    )
    check_model(model, pictures(), captions=["one", "two"])
    check_denoiser(model.unconditional, noise(3), sigmas[30:31])
    x, sigma = noise(3), sigmas[[20, 30]]
    s = sigma.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(model.unconditional(x, sigma), x / (1 + s**2), rtol=1e-4, atol=1e-5)
    if classes:
        mean = torch.tensor([1.0, 2.0]).reshape(-1, 1, 1, 1)
        got = model.given(["one", "two"])(x, sigma)
        torch.testing.assert_close(got, (x + s**2 * mean) / (1 + s**2), rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match="no class"):
            model.given(["three"])


def test_settings_of_a_module_are_checked() -> None:
    given: dict[str, Any] = {"sigmas": torch.tensor([0.1, 1.0]), "size": (8, 8)}
    for wrong, message in (
        ({"prediction": "noise"}, "noise"),
        ({"prediction": "v", "convention": "karras"}, "karras"),
        ({"prediction": "v", "channels": 4}, "give a codec"),
        ({"prediction": "v", "captions": {"a": 1}}, "go together"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            from_module(nn.Identity(), **{**given, **wrong})
