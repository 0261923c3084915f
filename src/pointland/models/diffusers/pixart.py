"""PixArt-alpha and -sigma: latent diffusion transformers told the states of a T5 encoder, with their mask.

Captions are put into lower case and stripped, as the pipeline's ``encode_prompt`` does; a pipeline asked to
``clean_caption`` cleans them of more. The network also puts out a variance, which is left out of ``denoised``. The
larger PixArt-alpha is told the picture's size and shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn

from pointland.model import Condition
from pointland.models.codec import LatentCodec
from pointland.models.conditions import Conditions
from pointland.models.diffusers.binding import Captioned
from pointland.models.diffusers.schedule import Schedule, variance_preserving
from pointland.models.diffusers.sizes import check_latent, pixels
from pointland.models.diffusers.text import Reader, default_length, t5_reader
from pointland.models.origin import Origin

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, PixArtTransformer2DModel


@dataclass(frozen=True, eq=False)
class PixArt(Captioned):
    """A latent diffusion transformer with a T5 encoder: PixArt-alpha and PixArt-sigma."""

    network: "PixArtTransformer2DModel"
    codec: LatentCodec
    t5: Reader
    schedule: Schedule
    origin: Origin
    kept: Conditions | None = None

    @property
    def text_encoders(self) -> tuple[nn.Module, ...]:
        """T5."""
        return (self.t5.encoder,)

    def condition(self, captions: Sequence[str | None]) -> Condition:
        """Return T5's states, and by name their mask and, where the network is told them, size and shape."""
        words = self.t5.words([_plain(caption) for caption in captions])
        states = self.t5.encoder(words.input_ids, attention_mask=words.attention_mask)[0]
        others = {"encoder_attention_mask": words.attention_mask}
        if self.network.use_additional_conditions:
            height, width = self.codec.size
            others["resolution"] = states.new_tensor([height, width]).expand(len(states), -1)
            others["aspect_ratio"] = states.new_tensor([height / width]).expand(len(states), -1)
        return Condition(states, others)

    def tokens(self, caption: str | None) -> list[str]:
        """Return the text of every position of the states."""
        return self.t5.names(_plain(caption))

    def is_cut(self, caption: str) -> bool:
        """Whether the caption is longer than the pipeline lets T5 read."""
        return self.t5.is_cut(_plain(caption))

    def denoise(
        self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"], condition: Condition
    ) -> Float[Tensor, "b *event"]:
        """Estimate the clean latents given T5's states and their mask."""
        scaled, t = self.schedule.scaled(x, sigma, self.network.dtype)
        others = {name: value.to(x.device) for name, value in condition.others.items()}
        with self.origin.execution.calling(x.device):
            output = self.network(
                scaled,
                encoder_hidden_states=condition.states.to(x.device, self.network.dtype),
                encoder_attention_mask=others["encoder_attention_mask"],
                timestep=t,
                added_cond_kwargs={name: others.get(name) for name in ("resolution", "aspect_ratio")},
                return_dict=False,
            )[0]
        return self.denoised(output, x, sigma)


def pixart(pipe: "DiffusionPipeline", *, name: str, kind: str) -> PixArt:
    """Make a model of a ``PixArtAlphaPipeline`` or ``PixArtSigmaPipeline``.

    Raises:
        ValueError: If its parts do not fit each other, or its scheduler is not variance-preserving.
    """
    network, vae = pipe.transformer, pipe.vae
    t5 = t5_reader(name, pipe.text_encoder, pipe.tokenizer, default_length(pipe))
    check_latent(name, network.config.in_channels, vae)
    codec = LatentCodec(vae, pixels(vae, network.config.sample_size), vae.config.latent_channels)
    schedule = variance_preserving(pipe.scheduler)
    origin = Origin(
        name,
        kind,
        codec.space,
        network,
        {"transformer": network, "vae": vae, "text_encoder": t5.encoder},
        schedule.levels,
        [schedule.prediction, codec.size, vae.config.scaling_factor, t5.length],
        [t5.tokenizer],
    )
    return PixArt(network, codec, t5, schedule, origin)


def _plain(caption: str | None) -> str:
    return "" if caption is None else caption.lower().strip()
