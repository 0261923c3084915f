"""Stable Diffusion 3 and 3.5: a rectified flow whose transformer attends jointly to latents and text.

The states are CLIP's positions, both encoders' last layers but one side by side and widened by zeros, then T5's. A
model loaded without T5 has zeros in its place, as its pipeline does. The pooled states are both CLIP
encoders' projections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointland.model import Condition
from pointland.models.codec import LatentCodec
from pointland.models.conditions import Conditions
from pointland.models.diffusers.binding import Captioned
from pointland.models.diffusers.schedule import Schedule, rectified_flow
from pointland.models.diffusers.sizes import check_latent, pixels
from pointland.models.diffusers.text import Reader, clip_reader, default_length, t5_reader
from pointland.models.origin import Origin

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SD3Transformer2DModel


@dataclass(frozen=True, eq=False)
class StableDiffusion3(Captioned):
    """A latent rectified flow with two CLIP encoders and T5, or without T5: Stable Diffusion 3 and 3.5."""

    network: "SD3Transformer2DModel"
    codec: LatentCodec
    first: Reader
    second: Reader
    t5: Reader | None
    t5_length: int
    schedule: Schedule
    origin: Origin
    kept: Conditions | None = None

    @property
    def text_encoders(self) -> tuple[nn.Module, ...]:
        """Both CLIP encoders, and T5 where it is loaded."""
        clips = (self.first.encoder, self.second.encoder)
        return clips if self.t5 is None else (*clips, self.t5.encoder)

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """Return CLIP's and T5's states, and by name the ``pooled_projections``."""
        first, second = self.first.clip(captions), self.second.clip(captions)
        clips = torch.cat([first.states, second.states.to(first.states)], -1)
        if self.t5 is None:
            width = self.network.config.joint_attention_dim
            long = clips.new_zeros(len(captions), self.t5_length, width)
        else:
            long = self.t5.encoder(self.t5.numbers(captions))[0].to(clips)
        clips = nn.functional.pad(clips, (0, long.shape[-1] - clips.shape[-1]))
        pooled = torch.cat([first.pooled, second.pooled.to(first.pooled)], -1)
        return Condition(torch.cat([clips, long], 1), {"pooled_projections": pooled})

    def tokens(self, caption: str | None) -> list[str]:
        """Return the text of every position of the states, CLIP's first; nothing where T5 is not loaded."""
        long = [""] * self.t5_length if self.t5 is None else self.t5.names(caption)
        return [*self.first.names(caption), *long]

    def is_cut(self, caption: str) -> bool:
        """Whether the caption is longer than every text encoder takes; T5 takes the longest."""
        return (self.first if self.t5 is None else self.t5).is_cut(caption)

    def denoise(
        self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], condition: Condition
    ) -> Float[Tensor, "b *event"]:
        """Estimate the clean latents given states and pooled projections."""
        scaled, t = self.schedule.scaled(x, sigma, self.network.dtype)
        pooled = condition.others["pooled_projections"].to(x.device, self.network.dtype)
        states = condition.states.to(x.device, self.network.dtype)
        with self.origin.execution.calling(x.device):
            output = self.network(scaled, states, pooled, t, return_dict=False)[0]
        return self.denoised(output, x, sigma)


def stable_diffusion_3(pipe: "DiffusionPipeline", *, name: str, kind: str) -> StableDiffusion3:
    """Make a model of a ``StableDiffusion3Pipeline``, with or without T5.

    Raises:
        ValueError: If its parts do not fit each other, or its scheduler is of no rectified flow.
    """
    network, vae, t5 = pipe.transformer, pipe.vae, None
    first = clip_reader(name, pipe.text_encoder, pipe.tokenizer)
    second = clip_reader(name, pipe.text_encoder_2, pipe.tokenizer_2, first.length)
    length = default_length(pipe)
    if pipe.text_encoder_3 is not None:
        t5 = t5_reader(name, pipe.text_encoder_3, pipe.tokenizer_3, length)
    check_latent(name, network.config.in_channels, vae)
    codec = LatentCodec(vae, pixels(vae, network.config.sample_size), vae.config.latent_channels)
    schedule, readers = rectified_flow(pipe.scheduler), [first, second, *([] if t5 is None else [t5])]
    encoders = {f"text_encoder_{i}": reader.encoder for i, reader in enumerate(readers, 1)}
    origin = Origin(
        name,
        kind,
        codec.space,
        network,
        {"transformer": network, "vae": vae, **encoders},
        schedule.levels,
        [schedule.prediction, codec.size, vae.config.scaling_factor, vae.config.shift_factor, length],
        [reader.tokenizer for reader in readers],
    )
    return StableDiffusion3(network, codec, first, second, t5, length, schedule, origin)
