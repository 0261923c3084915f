"""How simple a picture is, as the size of its PNG: the control for a LID that is low because there is little to see."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pointland.metrics.evaluations import Evaluations
from pointland.metrics.metric import Column


def png_bytes(pixels: NDArray[np.uint8]) -> int:
    """Return the size of a picture's PNG file, compressed as far as zlib goes (level 9).

    A simple picture has a low LID without being memorized; this number tells how simple. Few bytes: flat, regular,
    little noise.

    Args:
        pixels: The picture as the model sees it, shape ``(3, h, w)``.

    Returns:
        Bytes, positive. Compare pictures of one size and one installation only: another zlib packs a little
        differently.

    Raises:
        ValueError: If the shape is another.

    Source:
        Ross et al. 2024, arXiv:2411.00113, appendix A. There PNG size stands for complexity in the same way.
    """
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"a picture of shape {pixels.shape} was given; expected (3, h, w)")
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(
        stream, "PNG", optimize=False, compress_level=9
    )
    return stream.tell()


@dataclass(frozen=True)
class PngSize:
    """The size of the fitted picture as PNG at level 9: the confounder of every LID, as the paper measures it."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column."""
        return (
            Column(
                "png_bytes",
                "PNG size",
                "bytes",
                "low",
                "nothing",
                None,
                "Bytes of the picture as PNG at level 9: its complexity.",
                "Ross et al. 2024, appendix A",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image: none, whatever the number of conditions."""
        return 0.0 * n_conditions

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compress every picture; no network call."""
        return {"png_bytes": torch.tensor([float(png_bytes(image.numpy())) for image in batch.images])}
