"""Which family a diffusers pipeline belongs to."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pointland.models.diffusers.dit import DiT, dit
from pointland.models.diffusers.flux import Flux, flux
from pointland.models.diffusers.pixart import PixArt, pixart
from pointland.models.diffusers.stable_diffusion import StableDiffusion, stable_diffusion
from pointland.models.diffusers.stable_diffusion_3 import StableDiffusion3, stable_diffusion_3
from pointland.models.diffusers.stable_diffusion_xl import StableDiffusionXL, stable_diffusion_xl
from pointland.models.diffusers.unconditional import Unconditional, latent, unconditional

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Family = StableDiffusion | StableDiffusionXL | StableDiffusion3 | Flux | PixArt | DiT | Unconditional
"""A model of any of the families that diffusers pipelines are loaded as."""

FAMILIES: dict[str, Callable[..., Family]] = {
    "StableDiffusionPipeline": stable_diffusion,
    "StableDiffusionImg2ImgPipeline": stable_diffusion,
    "StableDiffusionXLPipeline": stable_diffusion_xl,
    "StableDiffusionXLImg2ImgPipeline": stable_diffusion_xl,
    "StableDiffusion3Pipeline": stable_diffusion_3,
    "StableDiffusion3Img2ImgPipeline": stable_diffusion_3,
    "FluxPipeline": flux,
    "FluxImg2ImgPipeline": flux,
    "PixArtAlphaPipeline": pixart,
    "PixArtSigmaPipeline": pixart,
    "DiTPipeline": dit,
    "DDPMPipeline": unconditional,
    "DDIMPipeline": unconditional,
    "PNDMPipeline": unconditional,
    "LDMPipeline": latent,
}
"""How a model is made of each supported class of pipeline."""


def from_pipeline(pipe: "DiffusionPipeline", *, name: str | None = None, size: tuple[int, int] | None = None) -> Family:
    """Make a model of a loaded pipeline, whose modules it shares; nothing is copied, moved, switched or read.

    Args:
        pipe: A pipeline of a supported class, or of a class derived from one.
        name: For a run's record; where the pipeline was loaded from if ``None``.
        size: Height and width in pixels of the pictures to look at, for FLUX, which has no native size.

    Raises:
        ValueError: If the pipeline is of an unsupported class, the message names those that are supported; if its parts
            do not fit each other; if a size is given for a model that has its own.
    """
    kind = next((parent.__name__ for parent in type(pipe).__mro__ if parent.__name__ in FAMILIES), None)
    if kind is None:
        raise ValueError(unsupported(type(pipe).__name__, "this pipeline"))
    make, known = FAMILIES[kind], name or str(getattr(pipe, "name_or_path", "") or kind)
    if size is None:
        return make(pipe, name=known, kind=kind)
    if make is not flux:
        raise ValueError(f"{known} has its own size; only FLUX, which has none, takes a size")
    return flux(pipe, name=known, kind=kind, size=size)


def unsupported(kind: str, what: str) -> str:
    """Say that a class of pipeline is not supported, and which are."""
    return f"{what} is a {kind}; supported are {', '.join(FAMILIES)}; other networks by pointland.models.from_module"
