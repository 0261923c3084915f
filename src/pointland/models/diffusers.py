"""Models made with diffusers: Stable Diffusion 1.x and 2.x, and unconditional pixel-space U-Nets (DDPM).

The schedule is read from the loaded scheduler, the time map is ours: ``sigma^2 = (1 - a_t) / a_t`` with ``a_t`` the
scheduler's ``alphas_cumprod``. The network runs in its own dtype; its output meets ``x`` in the dtype of ``x``
(float32).

:mod:`pointland.models.loading` reads them from a directory or the hub.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from pointland.denoiser import Denoiser, Prediction, denoised_from, output_from, per_item
from pointland.model import Condition
from pointland.noise import Levels, levels_from_alphas

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel, UNet2DModel
    from transformers import CLIPTextModel, CLIPTokenizer

PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}


@dataclass(frozen=True)
class LatentCodec:
    """An autoencoder's posterior mean, scaled as the diffusion model was trained."""

    vae: "AutoencoderKL"
    size: tuple[int, int]
    channels: int

    @property
    def space(self) -> str:
        """What the points are."""
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return f"latents {self.channels} x {self.size[0] // factor} x {self.size[1] // factor}"

    def encode(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b c i j"]:
        """Encode pictures to scaled latents, float32; the posterior's mean, so nothing is random."""
        x = images.to(self.vae.device, self.vae.dtype) / 127.5 - 1
        with torch.no_grad():
            mean: Tensor = self.vae.encode(x).latent_dist.mode().float()
        shift, scale = self.vae.config.shift_factor or 0.0, float(self.vae.config.scaling_factor)
        return (mean - shift) * scale

    def decode(self, x: Float[Tensor, "b c i j"]) -> UInt8[Tensor, "b 3 h w"]:
        """Decode scaled latents to pictures."""
        latents = x / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0.0)
        with torch.no_grad():
            images = self.vae.decode(latents.to(self.vae.dtype)).sample.float()
        return to_bytes(images)


@dataclass(frozen=True)
class PixelCodec:
    """Pictures as they are, scaled to [-1, 1]; grey for a network of one channel."""

    size: tuple[int, int]
    channels: int
    device: torch.device

    @property
    def space(self) -> str:
        """What the points are."""
        return f"pixels {self.channels} x {self.size[0]} x {self.size[1]}"

    def encode(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Scale pictures to [-1, 1]; one channel takes the luminance of ITU-R 601."""
        x = images.to(self.device).float()
        if self.channels == 1:
            weights = torch.tensor([0.299, 0.587, 0.114], device=self.device)
            x = (x * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)
        return x / 127.5 - 1

    def decode(self, x: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b 3 h w"]:
        """Scale back to bytes."""
        return to_bytes(x.expand(-1, 3, -1, -1))


@dataclass(frozen=True)
class StableDiffusion:
    """A latent text-to-image model with one text encoder: Stable Diffusion 1.x and 2.x."""

    unet: "UNet2DConditionModel"
    codec: LatentCodec
    text_encoder: "CLIPTextModel"
    tokenizer: "CLIPTokenizer"
    levels: Levels
    prediction: Prediction
    identity: dict[str, str]

    @property
    def conditional(self) -> bool:
        """It takes captions."""
        return True

    @property
    def network(self) -> "UNet2DConditionModel":
        """The U-Net."""
        return self.unet

    @property
    def unconditional(self) -> Denoiser:
        """The denoiser under the empty caption, for any batch."""
        with torch.no_grad():
            nothing = self.condition([None])
        return lambda x, sigma: self.denoise(x, sigma, nothing.select([0] * len(x)))

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        """Bind one caption an item; ``None`` is the empty caption. Long captions are cut as the pipeline cuts them."""
        with torch.no_grad():
            condition = self.condition(captions)

        def denoise(x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
            if len(x) != len(condition):
                raise ValueError(
                    f"this denoiser is bound to {len(condition)} captions and got {len(x)} items; bind one an item"
                )
            return self.denoise(x, sigma, condition)

        return denoise

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """Return the text encoder's states, as the diffusers pipeline computes them."""
        words = self._words(captions)
        device = self.text_encoder.device
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        mask = words.attention_mask.to(device) if masked else None
        return Condition(self.text_encoder(words.input_ids.to(device), attention_mask=mask)[0])

    def tokens(self, caption: str | None) -> list[str]:
        """Return the text of every position of the states."""
        return [self.tokenizer.decode([token]) for token in self._words([caption]).input_ids[0].tolist()]

    def is_cut(self, caption: str) -> bool:
        """Whether the caption is longer than the text encoder takes."""
        words = self.tokenizer(caption, truncation=False, verbose=False).input_ids
        return bool(len(words) > self.tokenizer.model_max_length)

    def denoise(
        self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], condition: Condition
    ) -> Float[Tensor, "b *event"]:
        """Estimate the clean latents given text states."""
        scaled, t = network_input(self.levels, x, sigma, self.unet.dtype)
        output = self.unet(scaled, t, encoder_hidden_states=condition.states.to(self.unet.dtype)).sample
        return denoised_from(self.prediction, output, x, sigma)

    def noised(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Float[Tensor, "b *event"], Tensor]:
        """Read a call of the U-Net back."""
        scaled = (args[0] if args else kwargs["sample"]).float()
        t = torch.as_tensor(args[1] if len(args) > 1 else kwargs["timestep"]).reshape(-1)
        sigma = self.levels.at(t).to(scaled).expand(len(scaled))
        return scaled * (1 + per_item(sigma, scaled) ** 2).sqrt(), sigma

    def denoised(
        self, output: Tensor, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]
    ) -> Float[Tensor, "b *event"]:
        """Turn what the U-Net gave into the denoised latents."""
        return denoised_from(self.prediction, output, x, sigma)

    def output(
        self, denoised: Float[Tensor, "b *event"], x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]
    ) -> Tensor:
        """Turn denoised latents into what the U-Net would have given."""
        return output_from(self.prediction, denoised, x, sigma)

    def _words(self, captions: Sequence[str | None]) -> Any:
        return self.tokenizer(
            ["" if caption is None else caption for caption in captions],
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )


@dataclass(frozen=True)
class Unconditional:
    """A pixel-space U-Net without captions, such as a ``DDPMPipeline``'s."""

    unet: "UNet2DModel"
    codec: PixelCodec
    levels: Levels
    prediction: Prediction
    identity: dict[str, str]

    @property
    def conditional(self) -> bool:
        """It takes no captions."""
        return False

    @property
    def unconditional(self) -> Denoiser:
        """The denoiser itself."""
        return self.denoise

    def is_cut(self, caption: str) -> bool:
        """Never: it reads no captions."""
        return False

    def given(self, captions: Sequence[str | None]) -> Denoiser:
        """Return the denoiser, refusing captions."""
        if any(caption is not None for caption in captions):
            raise ValueError(f"{self.identity['class']} takes no captions; use model.unconditional")
        return self.denoise

    def denoise(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        """Estimate the clean pictures."""
        scaled, t = network_input(self.levels, x, sigma, self.unet.dtype)
        return denoised_from(self.prediction, self.unet(scaled, t).sample, x, sigma)


def from_pipeline(pipe: "DiffusionPipeline") -> StableDiffusion | Unconditional:
    """Make a model of a loaded pipeline, whose modules it shares; nothing is copied, moved or switched.

    Raises:
        ValueError: If the pipeline is of an unsupported class; the message names those that are supported.
    """
    kind, name = type(pipe).__name__, str(getattr(pipe, "name_or_path", "") or type(pipe).__name__)
    if hasattr(pipe, "text_encoder"):
        parts = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.scheduler)
        return from_parts(*parts, name=name, kind=kind)
    return from_unet(pipe.unet, pipe.scheduler, name=name, kind=kind)


def from_parts(
    unet: "UNet2DConditionModel",
    vae: "AutoencoderKL",
    text_encoder: "CLIPTextModel",
    tokenizer: "CLIPTokenizer",
    scheduler: object,
    *,
    name: str,
    kind: str = "StableDiffusionPipeline",
) -> StableDiffusion:
    """Make a model of the parts of a loaded ``StableDiffusionPipeline``; nothing is copied, moved or switched.

    Raises:
        ValueError: If the U-Net needs more than text states (SDXL), or the scheduler is not variance-preserving.
    """
    if unet.config.addition_embed_type is not None or unet.config.class_embed_type is not None:
        raise ValueError(
            f"{name}: this U-Net needs added conditions "
            f"({unet.config.addition_embed_type or unet.config.class_embed_type}); "
            "Stable Diffusion 1.x and 2.x are supported"
        )
    longest = text_encoder.config.max_position_embeddings
    if tokenizer.model_max_length > longest or len(tokenizer) < 256:
        raise ValueError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens and a length of {tokenizer.model_max_length:.4g}, the "
            f"text encoder takes {longest}; the tokenizer's files are missing or of another model"
        )
    if unet.config.in_channels != vae.config.latent_channels:
        raise ValueError(
            f"{name}: the U-Net takes {unet.config.in_channels} channels, the autoencoder has "
            f"{vae.config.latent_channels}; "
            "inpainting and image-conditioned models are not supported"
        )
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    height, width = _two(unet.config.sample_size)
    codec = LatentCodec(vae, (height * factor, width * factor), vae.config.latent_channels)
    levels, prediction = _levels(scheduler), _prediction(scheduler)
    settings = [prediction, codec.size, vae.config.scaling_factor, sorted(tokenizer.get_vocab().items())]
    modules = {"unet": unet, "vae": vae, "text_encoder": text_encoder}
    identity = _identity(name, kind, modules, codec.space, levels, settings)
    return StableDiffusion(unet, codec, text_encoder, tokenizer, levels, prediction, identity)


def from_unet(unet: "UNet2DModel", scheduler: object, *, name: str, kind: str = "UNet2DModel") -> Unconditional:
    """Make a model of an unconditional pixel-space U-Net and its scheduler.

    Raises:
        ValueError: If the U-Net has other than 1 or 3 channels, or is conditioned on a class.
    """
    channels = unet.config.in_channels
    if channels not in (1, 3) or unet.config.out_channels != channels:
        raise ValueError(
            f"{name}: a pixel-space U-Net has 1 or 3 channels in and out, this one "
            f"{channels} and {unet.config.out_channels}"
        )
    if unet.config.class_embed_type is not None or unet.config.num_class_embeds is not None:
        raise ValueError(f"{name}: class-conditional U-Nets are not supported yet")
    codec = PixelCodec(_two(unet.config.sample_size), channels, unet.device)
    levels, prediction = _levels(scheduler), _prediction(scheduler)
    identity = _identity(name, kind, {"unet": unet}, codec.space, levels, [prediction, codec.size])
    return Unconditional(unet, codec, levels, prediction, identity)


def network_input(
    levels: Levels, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], dtype: torch.dtype
) -> tuple[Float[Tensor, "b *event"], Tensor]:
    """Return the scaled input and the timestep of every item.

    Raises:
        ValueError: If a sigma is outside the trained levels.
    """
    for edge in {float(sigma.min()), float(sigma.max())}:
        levels.nearest(edge)
    t = levels.index(sigma).to(x.device).expand(len(x))
    return (x / (1 + per_item(sigma, x) ** 2).sqrt()).to(dtype), t


def to_bytes(images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    """Turn [-1, 1] into bytes, clipped and rounded."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _levels(scheduler: object) -> Levels:
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(alphas, Tensor):
        raise ValueError(
            f"{type(scheduler).__name__} has no alphas_cumprod, so it is not variance-preserving; "
            "flow-matching models are not supported yet"
        )
    return levels_from_alphas(alphas)


def _prediction(scheduler: object) -> Prediction:
    name = scheduler.config.prediction_type  # type: ignore[attr-defined]  # every diffusers scheduler has a config
    if name not in PREDICTIONS:
        raise ValueError(f"prediction_type {name!r} is not one of {', '.join(PREDICTIONS)}; fix scheduler_config.json")
    return PREDICTIONS[name]


def _identity(
    name: str, kind: str, modules: dict[str, nn.Module], space: str, levels: Levels, settings: Sequence[object]
) -> dict[str, str]:
    """Hash the weights, and apart from them what else decides a value: levels, prediction, sizes, vocabulary."""
    digest = hashlib.sha256()
    for part, module in sorted(modules.items()):
        for key, tensor in sorted(module.state_dict().items()):
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise ValueError(
                    f"{name}: {part} weight {key} has values that are not finite; the checkpoint is damaged or "
                    "overflowed in half precision, save it again in float32"
                )
            digest.update(f"{part}.{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    dtype = str(next(iter(modules["unet"].parameters())).dtype).removeprefix("torch.")
    others = hashlib.sha256(levels.sigmas.numpy().tobytes() + repr(settings).encode())
    return {
        "name": name,
        "class": kind,
        "dtype": dtype,
        "space": space,
        "weights_sha256": digest.hexdigest(),
        "settings_sha256": others.hexdigest(),
    }


def _two(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
