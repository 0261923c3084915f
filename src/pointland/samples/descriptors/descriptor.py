"""What images are compared by: something that turns pictures into vectors, and can say exactly what it is.

"Similarity" alone is many numbers: the literature's SSCD is used with six combinations of weights, geometry and
normalization. So a descriptor names itself by name, weights and preprocessing, and that goes into every result.
"""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8


@runtime_checkable
class Descriptor(Protocol):
    """A map from pictures to vectors whose Euclidean distance means how unlike they are."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures it takes."""
        ...

    @property
    def identity(self) -> dict[str, str]:
        """Its ``name``, ``weights`` (a SHA-256, or ``none``) and ``preprocessing``."""
        ...

    def __call__(self, images: UInt8[np.ndarray, "b 3 h w"]) -> Float[np.ndarray, "b d"]:
        """Describe pictures, float32, one at a time: a result never depends on the others of the batch."""
        ...
