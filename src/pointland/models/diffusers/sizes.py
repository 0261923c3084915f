"""Sizes that must fit: a network's latents and its autoencoder's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pointland.models.codec import downscaling

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


def two(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width of a size given as one number or two."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def pixels(vae: "AutoencoderKL", sample_size: int | Sequence[int]) -> tuple[int, int]:
    """Return the size in pixels of the pictures whose latents have this size."""
    height, width = two(sample_size)
    return height * downscaling(vae), width * downscaling(vae)


def check_latent(name: str, channels: int, vae: "AutoencoderKL") -> None:
    """Raise ``ValueError`` unless the network takes exactly the autoencoder's channels."""
    if channels != vae.config.latent_channels:
        raise ValueError(
            f"{name}: the network takes {channels} channels, the autoencoder has {vae.config.latent_channels}; "
            "inpainting and image-conditioned models are not supported"
        )
