"""Stable Diffusion XL: a latent U-Net told the states of two CLIP encoders, a pooled state, and sizes in pixels.

The states are both encoders' last layers but one, side by side. The pooled state is the second encoder's. The sizes
are six numbers: the original's, the crop's corner and the target's, here the model's native size without a crop, as
the pipeline takes them by default. No caption is zeros where the pipeline's ``force_zeros_for_empty_prompt`` says so,
else the empty caption.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
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
    from diffusers import DiffusionPipeline, UNet2DConditionModel


@dataclass(frozen=True, eq=False)
class StableDiffusionXL(Captioned):
    """A latent text-to-image model with two CLIP text encoders and added conditions: SDXL."""

    points: ClassVar[str] = "sample"

    network: "UNet2DConditionModel"
    codec: LatentCodec
    first: Reader
    second: Reader
    zeros_for_none: bool
    schedule: Schedule
    origin: Origin
    kept: Conditions | None = None

    @property
    def text_encoders(self) -> tuple[nn.Module, ...]:
        """Both CLIP encoders."""
        return self.first.encoder, self.second.encoder

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """Return states, and by name what the U-Net calls ``text_embeds`` and ``time_ids``."""
        first, second = self.first.clip(captions), self.second.clip(captions)
        states, pooled = torch.cat([first.states, second.states.to(first.states)], -1), second.pooled
        if self.zeros_for_none:
            told = torch.tensor([caption is not None for caption in captions], device=pooled.device)
            states = torch.where(told[:, None, None], states, 0.0)
            pooled = torch.where(told[:, None], pooled, 0.0)
        sizes = states.new_tensor([*self.codec.size, 0, 0, *self.codec.size])
        return Condition(states, {"text_embeds": pooled, "time_ids": sizes.expand(len(captions), -1)})

    def tokens(self, caption: str | None) -> list[str]:
        """Return the text of every position of the states; both tokenizers cut a caption alike."""
        return self.first.names(caption)

    def is_cut(self, caption: str) -> bool:
        """Whether the caption is longer than the text encoders take."""
        return self.first.is_cut(caption)

    def denoise(
        self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], condition: Condition
    ) -> Float[Tensor, "b *event"]:
        """Estimate the clean latents given states and added conditions."""
        scaled, t = self.schedule.scaled(x, sigma, self.network.dtype)
        added = {name: value.to(x.device, self.network.dtype) for name, value in condition.others.items()}
        states = condition.states.to(x.device, self.network.dtype)
        with self.origin.execution.calling(x.device):
            output = self.network(scaled, t, encoder_hidden_states=states, added_cond_kwargs=added).sample
        return self.denoised(output, x, sigma)


def stable_diffusion_xl(pipe: "DiffusionPipeline", *, name: str, kind: str) -> StableDiffusionXL:
    """Make a model of a ``StableDiffusionXLPipeline``.

    Raises:
        ValueError: If it is a refiner, or its parts do not fit each other.
    """
    settings = pipe.unet.config
    if settings.addition_embed_type != "text_time" or settings.time_cond_proj_dim is not None:
        raise ValueError(
            f"{name}: the U-Net of SDXL takes pooled text and sizes (addition_embed_type text_time), this one "
            f"{settings.addition_embed_type}, or an embedded guidance scale; give the base model"
        )
    if pipe.text_encoder is None:
        raise ValueError(f"{name}: without the first text encoder this is an SDXL refiner; give the base model")
    first = clip_reader(name, pipe.text_encoder, pipe.tokenizer)
    second = clip_reader(name, pipe.text_encoder_2, pipe.tokenizer_2)
    check_latent(name, settings.in_channels, pipe.vae)
    codec = LatentCodec(pipe.vae, pixels(pipe.vae, settings.sample_size), pipe.vae.config.latent_channels)
    schedule, zeros = variance_preserving(pipe.scheduler), bool(pipe.config.force_zeros_for_empty_prompt)
    origin = Origin(
        name,
        kind,
        codec.space,
        pipe.unet,
        {"unet": pipe.unet, "vae": pipe.vae, "text_encoder": first.encoder, "text_encoder_2": second.encoder},
        schedule.levels,
        [schedule.prediction, codec.size, pipe.vae.config.scaling_factor, zeros],
        [first.tokenizer, second.tokenizer],
    )
    return StableDiffusionXL(pipe.unet, codec, first, second, zeros, schedule, origin)
