"""Unconditional U-Nets: DDPM and its kin in pixels, and latent diffusion with an autoencoder (``LDMPipeline``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float
from torch import Tensor

from pointland.denoiser import Denoiser
from pointland.models.codec import LatentCodec, PixelCodec, QuantizedCodec
from pointland.models.diffusers.schedule import Schedule, variance_preserving
from pointland.models.diffusers.sizes import pixels, two
from pointland.models.origin import Origin
from pointland.noise import Levels

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, UNet2DModel


@dataclass(frozen=True, eq=False)
class Unconditional:
    """A U-Net without captions, in pixel space or in an autoencoder's."""

    conditional: ClassVar[bool] = False

    unet: "UNet2DModel"
    codec: PixelCodec | LatentCodec | QuantizedCodec
    schedule: Schedule
    origin: Origin

    @property
    def network(self) -> "UNet2DModel":
        """The U-Net."""
        return self.unet

    @property
    def levels(self) -> Levels:
        """The levels of its scheduler's ``alphas_cumprod``."""
        return self.schedule.levels

    @property
    def identity(self) -> dict[str, str]:
        """Its record; the first reading hashes every weight."""
        return dict(self.origin.record)

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
            raise ValueError(f"{self.origin.kind} takes no captions; use model.unconditional")
        return self.denoise

    def denoise(self, x: Float[Tensor, "b *event"], sigma: Float[Tensor, "#b"]) -> Float[Tensor, "b *event"]:
        """Estimate the clean pictures or latents."""
        scaled, t = self.schedule.scaled(x, sigma, self.unet.dtype)
        with self.origin.execution.calling(x.device):
            output = self.unet(scaled, t).sample
        return self.schedule.denoised(output, x, sigma)


def unconditional(pipe: "DiffusionPipeline", *, name: str, kind: str) -> Unconditional:
    """Make a model of a ``DDPMPipeline``, ``DDIMPipeline`` or ``PNDMPipeline``."""
    return from_unet(pipe.unet, pipe.scheduler, name=name, kind=kind)


def from_unet(unet: "UNet2DModel", scheduler: object, *, name: str, kind: str = "UNet2DModel") -> Unconditional:
    """Make a model of an unconditional pixel-space U-Net and its scheduler.

    Args:
        unet: The network.
        scheduler: Whose noise schedule it was trained with.
        name: For a run's record.
        kind: Class, for the record.

    Raises:
        ValueError: If the U-Net has other than 1 or 3 channels, or is conditioned on a class.
    """
    channels = unet.config.in_channels
    if channels not in (1, 3) or unet.config.out_channels != channels:
        raise ValueError(
            f"{name}: a pixel-space U-Net has 1 or 3 channels in and out, this one "
            f"{channels} and {unet.config.out_channels}"
        )
    _check_classless(name, unet)
    codec, schedule = PixelCodec(two(unet.config.sample_size), channels, unet.device), variance_preserving(scheduler)
    settings = [schedule.prediction, codec.size]
    origin = Origin(name, kind, codec.space, unet, {"unet": unet}, schedule.levels, settings)
    return Unconditional(unet, codec, schedule, origin)


def latent(pipe: "DiffusionPipeline", *, name: str, kind: str) -> Unconditional:
    """Make a model of an ``LDMPipeline``, whose autoencoder is a ``VQModel`` or an ``AutoencoderKL``.

    Raises:
        ValueError: If the U-Net is conditioned on a class, or does not take the autoencoder's channels.
    """
    from diffusers import VQModel

    unet, autoencoder = pipe.unet, pipe.vqvae
    quantized = isinstance(autoencoder, VQModel)
    channels = (autoencoder.config.vq_embed_dim if quantized else None) or autoencoder.config.latent_channels
    if (unet.config.in_channels, unet.config.out_channels) != (channels, channels):
        raise ValueError(
            f"{name}: the U-Net takes {unet.config.in_channels} channels and puts out {unet.config.out_channels}, the "
            f"autoencoder has {channels}; image-conditioned models are not supported"
        )
    _check_classless(name, unet)
    size = pixels(autoencoder, unet.config.sample_size)
    codec = (QuantizedCodec if quantized else LatentCodec)(autoencoder, size, channels)
    schedule = variance_preserving(pipe.scheduler)
    settings = [schedule.prediction, codec.size, autoencoder.config.scaling_factor]
    modules = {"unet": unet, "vqvae": autoencoder}
    return Unconditional(
        unet, codec, schedule, Origin(name, kind, codec.space, unet, modules, schedule.levels, settings)
    )


def _check_classless(name: str, unet: "UNet2DModel") -> None:
    if unet.config.class_embed_type is not None or unet.config.num_class_embeds is not None:
        raise ValueError(
            f"{name}: class-conditional U-Nets have no agreed label for no class; wrap the U-Net with "
            "pointland.models.from_module and say which label that is"
        )
