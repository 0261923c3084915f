"""Codecs: pictures as points of the space in which a model diffuses, and back, without randomness.

A latent model's points are its autoencoder's, shifted and scaled as the network was trained:
``x = (encoding - shift) * scale``, where the encoding is a KL autoencoder's posterior mean, or what a vector-quantizing
one gives before it quantizes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, VQModel

OVERFLOW = "the autoencoder's latents are not finite; load the model in float32"
"""Why a picture has no point."""


@dataclass(frozen=True)
class LatentCodec:
    """An autoencoder's posterior mean, scaled as the diffusion model was trained."""

    vae: "AutoencoderKL"
    size: tuple[int, int]
    channels: int

    @property
    def space(self) -> str:
        """What the points are."""
        return latent_space(self.channels, self.size, downscaling(self.vae))

    def encode(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b c i j"]:
        """Encode pictures to scaled latents, float32; the posterior's mean, so nothing is random.

        Where the autoencoder overflows, as some do in float16, that picture's point is NaN, and no other's.
        """
        x = images.to(self.vae.device, self.vae.dtype) / 127.5 - 1
        with torch.no_grad():
            mean = all_or_nan(self.vae.encode(x).latent_dist.mode().float())
        shift, scale = self.vae.config.shift_factor or 0.0, float(self.vae.config.scaling_factor)
        return (mean - shift) * scale

    def decode(self, x: Float[Tensor, "b c i j"]) -> UInt8[Tensor, "b 3 h w"]:
        """Decode scaled latents to pictures."""
        latents = x / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0.0)
        with torch.no_grad():
            images = self.vae.decode(latents.to(self.vae.dtype)).sample.float()
        return to_bytes(images)


@dataclass(frozen=True)
class QuantizedCodec:
    """A vector-quantizing autoencoder's encoding before it is quantized; decoding quantizes first."""

    vqvae: "VQModel"
    size: tuple[int, int]
    channels: int

    @property
    def space(self) -> str:
        """What the points are."""
        return latent_space(self.channels, self.size, downscaling(self.vqvae))

    def encode(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b c i j"]:
        """Encode pictures to scaled latents, float32; NaN for a picture whose encoding overflows."""
        x = images.to(self.vqvae.device, self.vqvae.dtype) / 127.5 - 1
        with torch.no_grad():
            latents = all_or_nan(self.vqvae.encode(x).latents.float())
        return latents * float(self.vqvae.config.scaling_factor)

    def decode(self, x: Float[Tensor, "b c i j"]) -> UInt8[Tensor, "b 3 h w"]:
        """Quantize scaled latents and decode them to pictures."""
        latents = (x / self.vqvae.config.scaling_factor).to(self.vqvae.dtype)
        with torch.no_grad():
            return to_bytes(self.vqvae.decode(latents).sample.float())


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


def encoded(x: Float[Tensor, "b *event"]) -> Bool[Tensor, " b"]:
    """Return which pictures have a point: an encoding that overflowed in half precision is NaN."""
    return x.flatten(1).isfinite().all(1)


def check_encoded(x: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
    """Return points as they are, for callers that need every picture's.

    Raises:
        ValueError: If a picture has none.
    """
    missing = int((~encoded(x)).sum())
    if missing:
        raise ValueError(f"{missing} of {len(x)} pictures: {OVERFLOW}")
    return x


def all_or_nan(latents: Float[Tensor, "b *event"]) -> Float[Tensor, "b *event"]:
    """Return latents with every number of an item NaN if one is not finite."""
    fine = encoded(latents).reshape(-1, *(1,) * (latents.ndim - 1))
    return latents.where(fine, torch.nan)


def to_bytes(images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    """Turn [-1, 1] into bytes, clipped and rounded.

    Args:
        images: Shape ``(b, 3, h, w)``.
    """
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def downscaling(autoencoder: "AutoencoderKL | VQModel") -> int:
    """Return how many pixels along each side become one latent."""
    return int(2 ** (len(autoencoder.config.block_out_channels) - 1))


def latent_space(channels: int, size: tuple[int, int], factor: int) -> str:
    """Name the space of latents for people."""
    return f"latents {channels} x {size[0] // factor} x {size[1] // factor}"
