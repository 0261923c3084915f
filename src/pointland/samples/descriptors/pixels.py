"""Raw pixels: what the published distances were defined on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True)
class Pixels:
    """RGB in [0, 1].

    Attributes:
        side: Height and width that pictures are fitted to.
    """

    side: int = 32

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures it takes."""
        return self.side, self.side

    @property
    def identity(self) -> dict[str, str]:
        """What it is."""
        return {
            "name": "pixels",
            "weights": "none",
            "preprocessing": f"shorter side to {self.side}, center crop, Lanczos; RGB in [0, 1]",
        }

    def __call__(self, images: UInt8[np.ndarray, "b 3 h w"]) -> Float[np.ndarray, "b d"]:
        """Scale and flatten."""
        return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
