r"""FLUX.1: a rectified flow on packed latents, distilled so that guidance is inside the network.

Every 2 x 2 patch of the 16 latent channels is one token of 64 numbers; ``x`` is kept as latents, ``(b, 16, h, w)``. The
states are T5's; CLIP gives a pooled state.

What a distilled network cannot give: the difference between a conditional and an unconditional prediction, from which
guidance norms and everything like them are made. ``guidance_scale`` (in FLUX.1-dev) is a number that the network was
shown in training, not a factor in a sum, and without a caption means the empty caption, under which the network was
never asked to be a generic model. Such differences can be computed, and are not what their papers measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointland.model import Condition
from pointland.models.codec import LatentCodec, downscaling
from pointland.models.conditions import Conditions
from pointland.models.diffusers.binding import Captioned
from pointland.models.diffusers.schedule import Schedule, called_with, rectified_flow
from pointland.models.diffusers.sizes import check_latent
from pointland.models.diffusers.text import Reader, clip_reader, default_length, t5_reader
from pointland.models.origin import Origin

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, FluxTransformer2DModel

GUIDANCE = 3.5
"""The scale that the pipeline shows the network by default."""


@dataclass(frozen=True, eq=False)
class Flux(Captioned):
    """A latent rectified flow with distilled guidance, CLIP and T5: FLUX.1 dev and schnell.

    Attributes:
        guidance: The scale shown to the network, or ``None`` where it takes none (schnell).
        distilled: Guidance is inside the network: see this module.
    """

    distilled: ClassVar[bool] = True

    network: "FluxTransformer2DModel"
    codec: LatentCodec
    clip: Reader
    t5: Reader
    guidance: float | None
    schedule: Schedule
    origin: Origin
    kept: Conditions | None = None

    @property
    def text_encoders(self) -> tuple[nn.Module, ...]:
        """CLIP and T5."""
        return self.clip.encoder, self.t5.encoder

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """Return T5's states, and by name ``pooled_projections`` and, where the network takes it, ``guidance``."""
        states = self.t5.encoder(self.t5.numbers(captions))[0]
        others = {"pooled_projections": self.clip.encoder(self.clip.numbers(captions)).pooler_output}
        if self.guidance is not None:
            others["guidance"] = torch.full((len(captions),), self.guidance, device=states.device)
        return Condition(states, others)

    def tokens(self, caption: str | None) -> list[str]:
        """Return the text of every position of T5's states."""
        return self.t5.names(caption)

    def is_cut(self, caption: str) -> bool:
        """Whether the caption is longer than T5 takes."""
        return self.t5.is_cut(caption)

    def denoise(
        self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], condition: Condition
    ) -> Float[Tensor, "b *event"]:
        """Estimate the clean latents given T5's states and the rest."""
        dtype = self.network.dtype
        scaled, t = self.schedule.scaled(x, sigma, dtype)
        states = condition.states.to(x.device, dtype)
        with self.origin.execution.calling(x.device):
            output = self.network(
                packed(scaled),
                encoder_hidden_states=states,
                timestep=t / self.schedule.n_steps,
                img_ids=places(x).to(dtype),
                txt_ids=states.new_zeros(states.shape[1], 3),
                return_dict=False,
                **{name: value.to(x.device) for name, value in condition.others.items()},
            )[0]
        return self.denoised(output, x, sigma)

    def noised(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Float[Tensor, "b *event"], Tensor]:
        """Read a call of the transformer back; the first step, of infinite noise, at the highest trained level."""
        tokens, t = called_with(args, kwargs, "hidden_states")
        _, rows, columns = kwargs["img_ids"].amax(0).long().tolist()
        return self.schedule.read(unpacked(tokens, 2 * rows + 2, 2 * columns + 2), t * self.schedule.n_steps)

    def denoised(
        self, output: Tensor, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]
    ) -> Float[Tensor, "b *event"]:
        """Turn the transformer's packed velocity into the denoised latents."""
        return self.schedule.denoised(unpacked(output, x.shape[2], x.shape[3]), x, sigma)

    def taken(self, latents: Float[Tensor, "b *event"]) -> Tensor:
        """Return latents as the pipeline takes them, one token of every 2 x 2 patch."""
        return packed(latents)

    def output(
        self, denoised: Float[Tensor, "b *event"], x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]
    ) -> Tensor:
        """Turn denoised latents into the transformer's packed velocity."""
        return packed(self.schedule.output(denoised, x, sigma))


def flux(
    pipe: "DiffusionPipeline",
    *,
    name: str,
    kind: str,
    size: tuple[int, int] | None = None,
    guidance: float = GUIDANCE,
) -> Flux:
    """Make a model of a ``FluxPipeline``.

    Args:
        pipe: The pipeline, whose modules are shared.
        name: Of the model.
        kind: Of the pipeline.
        size: Height and width of the pictures in pixels; the pipeline's default, 1024 x 1024, if ``None``.
        guidance: What the network is told of guidance, if it takes it.

    Raises:
        ValueError: If its parts do not fit each other, or pictures of that size cannot be cut into patches.
    """
    network, vae = pipe.transformer, pipe.vae
    clip = clip_reader(name, pipe.text_encoder, pipe.tokenizer)
    t5 = t5_reader(name, pipe.text_encoder_2, pipe.tokenizer_2, default_length(pipe))
    check_latent(name, network.config.in_channels // 4, vae)
    factor = downscaling(vae)
    side = pipe.default_sample_size * factor
    height, width = (side, side) if size is None else size
    if height % (2 * factor) or width % (2 * factor):
        raise ValueError(
            f"{name}: pictures of {height} x {width} pixels cannot be cut into patches; give multiples of {2 * factor}"
        )
    codec = LatentCodec(vae, (height, width), vae.config.latent_channels)
    schedule, shown = rectified_flow(pipe.scheduler), float(guidance) if network.config.guidance_embeds else None
    origin = Origin(
        name,
        kind,
        codec.space,
        network,
        {"transformer": network, "vae": vae, "text_encoder": clip.encoder, "text_encoder_2": t5.encoder},
        schedule.levels,
        [schedule.prediction, codec.size, vae.config.scaling_factor, vae.config.shift_factor, t5.length, shown],
        [clip.tokenizer, t5.tokenizer],
    )
    return Flux(network, codec, clip, t5, shown, schedule, origin)


def packed(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
    """Make one token of every 2 x 2 patch, channels outermost."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def unpacked(tokens: Float[Tensor, "b n d"], h: int, w: int) -> Float[Tensor, "b c h w"]:
    """Put the patches back: the inverse of :func:`packed`."""
    b, _, d = tokens.shape
    return tokens.reshape(b, h // 2, w // 2, d // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, d // 4, h, w)


def places(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "n 3"]:
    """Return every token's place for the rotary embedding: 0, row, column."""
    rows, columns = (torch.arange(n // 2, device=x.device) for n in x.shape[2:])
    return torch.cartesian_prod(torch.zeros(1, device=x.device, dtype=torch.long), rows, columns).float()
