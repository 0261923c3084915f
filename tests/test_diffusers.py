import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import pipelines
from pointland.models import StableDiffusion, from_parts, from_unet, load
from pointland.models.diffusers import to_bytes
from pointland.models.loading import Dtype
from pointland.testing import check_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    pipelines.stable_diffusion(folder).save_pretrained(folder / "sd")
    pipelines.ddpm().save_pretrained(folder / "ddpm")
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved / "sd", tmp_path / "sd")
    return tmp_path / "sd"


def pictures(n: int = 3, side: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def scheduler(kind: str, prediction: str) -> Any:
    import diffusers

    settings: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction,
    }
    if kind in ("DDIMScheduler", "DDPMScheduler"):
        settings["clip_sample"] = False
    return getattr(diffusers, kind)(**settings)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("step", [0, 1, 300, 999])
def test_denoise_is_the_schedulers_own_arithmetic(saved: Path, prediction: str, step: int) -> None:
    """Against DDIMScheduler.step's predicted original sample, in every parametrisation, at both ends."""
    pipeline = pipelines.stable_diffusion(saved / "again")
    ddim = scheduler("DDIMScheduler", prediction)
    ddim.set_timesteps(1000)
    model = from_parts(pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, ddim, name="tiny")
    captions = ["a boot", None]
    noised = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    alpha = ddim.alphas_cumprod[step].sqrt()
    with torch.no_grad():
        output = pipeline.unet(noised, step, encoder_hidden_states=model.condition(captions).states).sample
        wanted = ddim.step(output, step, noised).pred_original_sample
        got = model.given(captions)(noised / alpha, model.levels.sigmas[step : step + 1].float())
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5 / float(alpha))  # float32; divided by alpha


@pytest.mark.parametrize(
    "kind", ["PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "DDPMScheduler"]
)
def test_every_scheduler_of_one_schedule_gives_the_same_levels(saved: Path, kind: str) -> None:
    pipeline = pipelines.stable_diffusion(saved / "again")
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.tokenizer)
    levels = [from_parts(*parts, scheduler(k, "epsilon"), name="x").levels.sigmas for k in ("DDIMScheduler", kind)]
    torch.testing.assert_close(levels[0], levels[1])
    assert 0.029 < levels[0][0] < 0.0293
    assert 14.6 < levels[0][-1] < 14.62


def test_the_empty_caption_is_the_pipelines_negative_prompt(saved: Path) -> None:
    pipeline = pipelines.stable_diffusion(saved / "again")
    model = load(saved / "sd")
    assert isinstance(model, StableDiffusion)
    wanted, nothing = pipeline.encode_prompt("a boot", "cpu", 1, True)
    torch.testing.assert_close(model.condition(["a boot"]).states, wanted)
    torch.testing.assert_close(model.condition([None]).states, nothing)


@pytest.mark.parametrize("name", ["sd", "ddpm"])
def test_loaded_models_conform(saved: Path, name: str) -> None:
    check_model(load(saved / name), pictures())


def test_the_codec_is_the_posterior_mean_scaled(saved: Path) -> None:
    model = load(saved / "sd")
    assert isinstance(model, StableDiffusion)
    images = pictures()
    vae = model.codec.vae
    with torch.no_grad():
        wanted = vae.encode(images / 127.5 - 1).latent_dist.mean * vae.config.scaling_factor
    torch.testing.assert_close(model.codec.encode(images), wanted)
    assert model.codec.space == "latents 4 x 8 x 8"


def test_the_pixel_codec_loses_nothing(saved: Path) -> None:
    model = load(saved / "ddpm")
    images = pictures()
    assert torch.equal(model.codec.decode(model.codec.encode(images)), images)
    grey = from_unet(pipelines.ddpm(channels=1).unet, scheduler("DDPMScheduler", "epsilon"), name="grey")
    assert grey.codec.encode(images).shape == (3, 1, 16, 16)
    flat = torch.full((1, 3, 16, 16), 77, dtype=torch.uint8)
    assert torch.equal(grey.codec.decode(grey.codec.encode(flat)), flat)


def test_bytes_are_clipped_and_rounded() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 5).expand(-1, 3, -1, -1)
    assert to_bytes(values)[0, 0, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs_and_answers_in_float32(saved: Path, dtype: Dtype) -> None:
    model, reference = load(saved / "sd", dtype=dtype), load(saved / "sd")
    x = reference.codec.encode(pictures())
    sigma = torch.tensor([1.0])
    with torch.no_grad():
        got, wanted = model.unconditional(x, sigma), reference.unconditional(x, sigma)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, wanted, rtol=0.1, atol=0.05)  # bfloat16 keeps 3 digits
    assert model.codec.encode(pictures()).dtype == torch.float32
    assert model.identity["weights_sha256"] != reference.identity["weights_sha256"]


def test_identity_is_that_of_weights_and_settings(saved: Path, copied: Path) -> None:
    before = load(saved / "sd").identity
    assert load(copied).identity == before
    scheduler("DDIMScheduler", "v_prediction").save_pretrained(copied / "scheduler")
    after = load(copied).identity
    assert after["weights_sha256"] == before["weights_sha256"]
    assert after["settings_sha256"] != before["settings_sha256"]


def test_an_unconditional_model_goes_through_a_whole_audit(saved: Path, tmp_path: Path) -> None:
    """Random weights that predict the clean picture as nothing: a poor denoiser, but one."""
    from PIL import Image

    from pointland.auditing import audit

    model = from_unet(pipelines.ddpm().unet, scheduler("DDPMScheduler", "sample"), name="tiny")
    (tmp_path / "images").mkdir()
    for i, picture in enumerate(pictures(5, 20)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / "images" / f"{i}.png")
    run = audit(model, tmp_path / "images", out=tmp_path / "run", sigma=2.0, n_draws=2, n_probes=1)
    assert run.rows.num_rows == 5
    assert run.rows["flipd_unconditional"].null_count == 0
    assert "flipd_conditional" not in run.rows.column_names
    assert run.record["model"]["space"] == "pixels 3 x 16 x 16"


def test_sigma_outside_the_schedule_is_refused(saved: Path) -> None:
    model = load(saved / "sd")
    x = model.codec.encode(pictures())
    with pytest.raises(ValueError, match="below the model's lowest trained level"):
        model.unconditional(x, torch.tensor([0.01]))


def test_captions_of_another_number_are_refused(saved: Path) -> None:
    model = load(saved / "sd")
    with pytest.raises(ValueError, match="bound to 1 captions"):
        model.given(["a"])(model.codec.encode(pictures()), torch.tensor([1.0]))
    with pytest.raises(ValueError, match="takes no captions"):
        load(saved / "ddpm").given(["a"])


def test_long_captions_are_cut_and_said_so(saved: Path) -> None:
    model = load(saved / "sd")
    assert isinstance(model, StableDiffusion)
    assert model.condition(["word " * 100]).states.shape == (1, 16, 16)
    assert model.is_cut("word " * 100)
    assert not model.is_cut("word")


class TestRefused:
    def test_nothing_there(self) -> None:
        with pytest.raises(FileNotFoundError, match="does not exist; give a diffusers directory"):
            load("./no-such-model")

    def test_a_single_file(self, tmp_path: Path) -> None:
        (tmp_path / "model.ckpt").write_bytes(b"\x80\x02.")
        with pytest.raises(ValueError, match=r"is a file; give a diffusers directory"):
            load(tmp_path / "model.ckpt")

    def test_a_folder_without_an_index(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no model_index.json"):
            load(tmp_path)

    def test_a_broken_index(self, copied: Path) -> None:
        (copied / "model_index.json").write_text("{")
        with pytest.raises(ValueError, match="not valid JSON"):
            load(copied)

    def test_another_pipeline(self, copied: Path) -> None:
        self.edit(copied / "model_index.json", _class_name="KandinskyPipeline")
        with pytest.raises(ValueError, match="is a KandinskyPipeline; supported are"):
            load(copied)

    def test_code_of_its_own(self, copied: Path) -> None:
        self.edit(copied / "model_index.json", unet=["my_unet", "Evil"])
        (copied / "unet" / "my_unet.py").write_text("raise SystemExit('ran')")
        with pytest.raises(ValueError, match="code of its own, not run"):
            load(copied)

    def test_no_weights(self, copied: Path) -> None:
        for path in (copied / "unet").glob("*.safetensors"):
            path.unlink()
        with pytest.raises(FileNotFoundError, match="has no weights"):
            load(copied)

    def test_a_missing_component(self, copied: Path) -> None:
        shutil.rmtree(copied / "vae")
        with pytest.raises(FileNotFoundError, match="vae is missing"):
            load(copied)

    @pytest.mark.parametrize("damage", ["truncate", "empty", "garbage"])
    def test_damaged_weights(self, copied: Path, damage: str) -> None:
        (path,) = (copied / "unet").glob("*.safetensors")
        data = path.read_bytes()
        path.write_bytes({"truncate": data[: len(data) // 2], "empty": b"", "garbage": b"\xff" * 1000}[damage])
        with pytest.raises(ValueError, match="weights of unet cannot be loaded"):
            load(copied)

    def test_weights_that_are_not_finite(self, copied: Path) -> None:
        from safetensors.torch import load_file, save_file

        (path,) = (copied / "unet").glob("*.safetensors")
        weights = load_file(path)
        name = sorted(weights)[3]
        weights[name].view(-1)[0] = float("nan")
        save_file(weights, path, {"format": "pt"})
        with pytest.raises(ValueError, match="not finite"):
            load(copied)

    def test_incomplete_weights(self, copied: Path) -> None:
        from safetensors.torch import load_file, save_file

        (path,) = (copied / "unet").glob("*.safetensors")
        weights = load_file(path)
        del weights[sorted(weights)[3]]
        save_file(weights, path, {"format": "pt"})
        with pytest.raises(ValueError, match=r"incomplete|cannot be loaded"):
            load(copied)

    def test_a_pickle_is_not_opened(self, copied: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.write_text, (copied / "canary", "ran"))

        for path in (copied / "unet").glob("*.safetensors"):
            path.unlink()
        torch.save({"weight": Bomb()}, copied / "unet" / "diffusion_pytorch_model.bin")
        with pytest.raises(ValueError, match="pickle"):
            load(copied)
        assert not (copied / "canary").exists()

    @pytest.mark.parametrize("part", ["tokenizer", "scheduler"])
    def test_a_part_without_its_files(self, copied: Path, part: str) -> None:
        for path in (copied / part).iterdir():
            path.unlink()
        with pytest.raises(ValueError, match=part):
            load(copied)

    def test_a_device_that_is_not_there(self, copied: Path) -> None:
        with pytest.raises(ValueError, match="cannot be used"):
            load(copied, device="warp")

    def test_a_flow_scheduler(self, copied: Path) -> None:
        from diffusers import FlowMatchEulerDiscreteScheduler

        FlowMatchEulerDiscreteScheduler().save_pretrained(copied / "scheduler")
        self.edit(copied / "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
        with pytest.raises(ValueError, match="not variance-preserving"):
            load(copied)

    @staticmethod
    def edit(path: Path, **entries: Any) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_nothing_of_the_users_is_touched(saved: Path) -> None:
    pipeline = pipelines.stable_diffusion(saved / "again")
    pipeline.unet.train()
    before = {name: (p.requires_grad, p.dtype, p.device) for name, p in pipeline.unet.named_parameters()}
    model = from_parts(
        pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, pipeline.scheduler, name="tiny"
    )
    from pointland.lid import Flipd

    Flipd(1.0)(model.unconditional, model.codec.encode(pictures()), ["a", "b", "c"])
    assert pipeline.unet.training
    assert before == {name: (p.requires_grad, p.dtype, p.device) for name, p in pipeline.unet.named_parameters()}
    assert all(p.grad is None for p in pipeline.unet.parameters())
