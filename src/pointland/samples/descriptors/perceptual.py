"""A perceptual descriptor without a network: portraits, which light, contrast, noise, recompression hardly change."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from pointland.duplicates import portraits, thumbnails


@dataclass(frozen=True)
class Perceptual:
    """The lowest 16 x 16 cosine frequencies of the luminance, without the mean, of length 1.

    A crop changes it; where crops matter, give a network's descriptor. Color does not count.
    """

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures it takes."""
        return 32, 32

    @property
    def identity(self) -> dict[str, str]:
        """What it is."""
        return {
            "name": "perceptual",
            "weights": "none",
            "preprocessing": "shorter side to 32, center crop, Lanczos; luminance; 16 x 16 cosine waves; length 1",
        }

    def __call__(self, images: UInt8[np.ndarray, "b 3 h w"]) -> Float[np.ndarray, "b d"]:
        """Describe; all zeros where a picture is flat."""
        return portraits(thumbnails(images))
