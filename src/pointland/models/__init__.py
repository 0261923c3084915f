"""Models of every ecosystem, behind one protocol."""

from pointland.models.diffusers import StableDiffusion, Unconditional, from_parts, from_unet
from pointland.models.loading import load

__all__ = ["StableDiffusion", "Unconditional", "from_parts", "from_unet", "load"]
