"""Models made with diffusers, one file a family."""

from pointland.models.codec import LatentCodec, PixelCodec, to_bytes
from pointland.models.diffusers.dit import DiT
from pointland.models.diffusers.families import FAMILIES, Family, from_pipeline
from pointland.models.diffusers.flux import Flux
from pointland.models.diffusers.pixart import PixArt
from pointland.models.diffusers.stable_diffusion import StableDiffusion, from_parts
from pointland.models.diffusers.stable_diffusion_3 import StableDiffusion3
from pointland.models.diffusers.stable_diffusion_xl import StableDiffusionXL
from pointland.models.diffusers.unconditional import Unconditional, from_unet

__all__ = [
    "FAMILIES",
    "DiT",
    "Family",
    "Flux",
    "LatentCodec",
    "PixArt",
    "PixelCodec",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
    "Unconditional",
    "from_parts",
    "from_pipeline",
    "from_unet",
    "to_bytes",
]
