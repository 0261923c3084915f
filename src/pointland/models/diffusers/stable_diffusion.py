"""Stable Diffusion 1.x and 2.x: a latent U-Net and one CLIP text encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from pointland.model import Condition
from pointland.models.codec import LatentCodec
from pointland.models.conditions import Conditions
from pointland.models.diffusers.binding import Captioned
from pointland.models.diffusers.schedule import Schedule, variance_preserving
from pointland.models.diffusers.sizes import check_latent, pixels
from pointland.models.diffusers.text import Reader, clip_reader
from pointland.models.origin import Origin

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer


@dataclass(frozen=True, eq=False)
class StableDiffusion(Captioned):
    """A latent text-to-image model with one text encoder: Stable Diffusion 1.x and 2.x."""

    points: ClassVar[str] = "sample"

    unet: "UNet2DConditionModel"
    codec: LatentCodec
    text_encoder: "CLIPTextModel"
    tokenizer: "CLIPTokenizer"
    schedule: Schedule
    origin: Origin
    kept: Conditions | None = None

    @property
    def network(self) -> "UNet2DConditionModel":
        """The U-Net."""
        return self.unet

    @property
    def text_encoders(self) -> tuple[nn.Module, ...]:
        """The text encoder."""
        return (self.text_encoder,)

    @property
    def reader(self) -> Reader:
        """The text encoder and its tokenizer."""
        return Reader(self.text_encoder, self.tokenizer, self.tokenizer.model_max_length)

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """Return the text encoder's states, as the diffusers pipeline computes them."""
        words = self.reader.words(captions)
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        return Condition(self.text_encoder(words.input_ids, attention_mask=words.attention_mask if masked else None)[0])

    def tokens(self, caption: str | None) -> list[str]:
        """Return the text of every position of the states."""
        return self.reader.names(caption)

    def is_cut(self, caption: str) -> bool:
        """Whether the caption is longer than the text encoder takes."""
        return self.reader.is_cut(caption)

    def denoise(
        self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], condition: Condition
    ) -> Float[Tensor, "b *event"]:
        """Estimate the clean latents given text states."""
        scaled, t = self.schedule.scaled(x, sigma, self.unet.dtype)
        states = condition.states.to(x.device, self.unet.dtype)
        with self.origin.execution.calling(x.device):
            output = self.unet(scaled, t, encoder_hidden_states=states).sample
        return self.denoised(output, x, sigma)


def stable_diffusion(pipe: "DiffusionPipeline", *, name: str, kind: str) -> StableDiffusion:
    """Make a model of a ``StableDiffusionPipeline``."""
    parts = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.scheduler)
    return from_parts(*parts, name=name, kind=kind)


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

    Args:
        unet: The network.
        vae: The autoencoder.
        text_encoder: Of captions.
        tokenizer: Of captions.
        scheduler: Whose noise schedule the network was trained with.
        name: For a run's record.
        kind: Class of the pipeline, for the record.

    Raises:
        ValueError: If the U-Net needs more than text states, the parts do not fit each other, or the scheduler is not
            variance-preserving.
    """
    settings = unet.config
    needed = settings.addition_embed_type or settings.class_embed_type
    if settings.time_cond_proj_dim is not None:
        needed = "an embedded guidance scale"
    if needed is not None:
        raise ValueError(
            f"{name}: this U-Net needs added conditions ({needed}), which a StableDiffusionPipeline does not give; "
            "SDXL loads as a StableDiffusionXLPipeline"
        )
    reader = clip_reader(name, text_encoder, tokenizer)
    check_latent(name, settings.in_channels, vae)
    codec = LatentCodec(vae, pixels(vae, settings.sample_size), vae.config.latent_channels)
    schedule = variance_preserving(scheduler)
    origin = Origin(
        name,
        kind,
        codec.space,
        unet,
        {"unet": unet, "vae": vae, "text_encoder": text_encoder},
        schedule.levels,
        [schedule.prediction, codec.size, vae.config.scaling_factor],
        [reader.tokenizer],
    )
    return StableDiffusion(unet, codec, text_encoder, tokenizer, schedule, origin)
