"""Models of every ecosystem, behind one protocol."""

from pointland.models.diffusers import StableDiffusion, Unconditional, from_parts, from_pipeline, from_unet
from pointland.models.loading import load
from pointland.models.module import from_module

__all__ = ["StableDiffusion", "Unconditional", "from_module", "from_parts", "from_pipeline", "from_unet", "load"]
